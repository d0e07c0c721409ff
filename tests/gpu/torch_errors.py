#!/usr/bin/env python3
"""The error of PyTorch's own bf16 and fp16 operations against fp64, as NMSE, on shapes like those of tests/ops/ops_checks.c: what the limits
in test_gpu_ops.c are four times of (twice the error). On the GPU where PyTorch sees one, else on the CPU. Prints a table."""
import torch
import torch.nn.functional as F

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def nmse(a, b):
    a, b = a.detach().double().cpu(), b.detach().cpu()
    return float(((a - b) ** 2).sum() / (b ** 2).sum())


def errors(function, arguments, gradient, dtype):
    """Of the output, then of the greatest of the arguments' gradients."""
    exact = [x.clone().requires_grad_() for x in arguments]
    narrow = [x.to(DEVICE, dtype).requires_grad_() for x in arguments]
    y, z = function(*exact), function(*narrow)
    y.backward(gradient)
    z.backward(gradient.to(DEVICE, dtype))
    return nmse(z, y), max(nmse(b.grad, a.grad) for a, b in zip(exact, narrow))


def main():
    torch.manual_seed(0)
    print(f"| operation, PyTorch {torch.__version__} on {DEVICE} | bf16: output | gradients | fp16: output | gradients |\n|---|---|---|---|---|")
    h = 768
    rows = {
        "linear": (F.linear, [(129, 200), (65, 200), (65,)], (129, 65)),
        "linear, GELU": (lambda x, w, b: F.gelu(F.linear(x, w, b)), [(129, 200), (65, 200), (65,)], (129, 65)),
        "linear, tanh GELU": (lambda x, w, b: F.gelu(F.linear(x, w, b), approximate="tanh"), [(129, 200), (65, 200), (65,)], (129, 65)),
        "sum, LayerNorm": (lambda x, r: F.layer_norm(x + r, (h,)), [(129, h), (129, h)], (129, h)),
        "attention": (F.scaled_dot_product_attention, [(2, 2, 70, 64)] * 3, (2, 2, 70, 64)),
        "cross-entropy": (lambda x: F.log_softmax(x, 1), [(50, 300)], (50, 300)),
    }
    for name, (function, shapes, out) in rows.items():
        cells = []
        for dtype in (torch.bfloat16, torch.float16):
            draw = lambda shape: (2 * torch.rand(*shape, dtype=torch.float64) - 1).to(dtype).double()
            cells += errors(function, [draw(shape) for shape in shapes], draw(out), dtype)
        print(f"| {name} | " + " | ".join(f"{cell:.1e}" for cell in cells) + " |")


if __name__ == "__main__":
    main()
