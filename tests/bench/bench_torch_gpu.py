#!/usr/bin/env python3
"""PyTorch on the GPU beside gpu-check's rows: transformers' BertForPreTraining, SDPA, bf16 autocast, fused AdamW, steps of four micro-batches
of full samples. Its layers are compiled, one compilation for all of them. Prints a Markdown row; TFLOP/s counts what bert-trainer counts.

    bench_torch_gpu.py base|large LENGTH SAMPLES"""
import statistics
import sys
import time

import torch
from transformers import BertConfig, BertForPreTraining

MICRO, STEPS, VOCABULARY = 4, 8, 30528
MODELS = {"base": {}, "large": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}}


def flops(config, length, masked):
    """Of a sample, forward and backward: the decoder's of masked positions only, whatever is computed."""
    h, f = config.hidden_size, config.intermediate_size
    layer = 8 * length * h * h + 4 * length * h * f + 4 * length * length * h
    return 3 * (config.num_hidden_layers * layer + 2 * h * h + masked * (2 * h * h + 2 * h * VOCABULARY))


def main():
    name, length, samples = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    masked = length * 15 // 100 + 1
    torch.manual_seed(1)
    config = BertConfig(vocab_size=VOCABULARY, max_position_embeddings=512, attn_implementation="sdpa", **MODELS[name])
    model = BertForPreTraining(config).cuda().train()
    for layer in model.bert.encoder.layer:
        layer.compile(dynamic=False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    ids = torch.randint(1, 30522, (samples, length), device="cuda")
    labels = torch.full_like(ids, -100)
    labels[:, :masked] = 5
    sentence = torch.zeros(samples, dtype=torch.long, device="cuda")

    def step():
        torch.cuda.synchronize()
        begin = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        for _ in range(MICRO):
            with torch.autocast("cuda", dtype=torch.bfloat16):
                loss = model(input_ids=ids, labels=labels, next_sentence_label=sentence).loss / MICRO
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        torch.cuda.synchronize()
        return time.perf_counter() - begin
    for _ in range(2):
        step()
    rate = MICRO * samples / statistics.median(step() for _ in range(STEPS))
    rate_flops = rate * flops(config, length, masked)
    print(f"| {name}-{length}, PyTorch {torch.__version__} | {samples} | {rate:.1f} | {length} | {rate_flops / 1e12:.1f} | {rate_flops / 989e10:.1f} % |", flush=True)


if __name__ == "__main__":
    main()
