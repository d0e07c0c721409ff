#!/usr/bin/env python3
"""What the compiler made of the kernels that a step's time goes to, without a GPU: instructions of the inner loop, what they are, registers.
A kernel that grew shows here. The inner loop is the smallest that has tensor-core products; without any, the smallest that has half of the
kernel's loads from global memory, or the whole kernel.

    sass.py CUOBJDUMP OBJECT...     prints a table (Markdown) of the kernels of OBJECTs, as nvcc compiles them for one architecture"""
import re
import subprocess
import sys

KERNELS = {  # as they are called in a step of bf16 with rows of 1,024 and heads of 64 columns
    "attention forward": r"attention_mma_forward.*bfloat16.*Li64E",
    "attention dq": r"attention_mma_dq.*bfloat16.*Li64E",
    "attention dk, dv": r"attention_mma_dkv.*bfloat16.*Li64E",
    "sum and norm forward": r"norm_forward.*bfloat16Li4EL\d*4kind1E(Lb1E)?E",
    "sum and norm backward": r"norm_backward.*bfloat16(Li4E)?L\d*4kind1E(Lb1E)?E",
    "GELU backward": r"times_derivative.*bfloat16(Lb1E)?E",
    "column sums": r"(sum_strip|sum_rows).*bfloat16(Lb1E)?E",
    "AdamW": r"update_adamw.*bfloat16",
    "LAMB directions": r"update_direction",
    "LAMB descent": r"update_descend.*bfloat16",
}
INSTRUCTION = re.compile(r"^\s+/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\d+ )?([A-Z][\w.]*)(.*?);")


def run(*command):
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def functions(cuobjdump, path):
    """Of each kernel its name and instructions: (address, operation, operands)."""
    for text in run(cuobjdump, "-sass", path).split("Function : ")[1:]:
        name = text.split("\n", 1)[0].strip()
        code = [(int(m[1], 16), m[2], m[3]) for line in text.splitlines() if (m := INSTRUCTION.match(line))]
        yield name, [i for i in code if not i[1].startswith("NOP")]


def registers(cuobjdump, path):
    return {m[1]: int(m[2]) for m in re.finditer(r"Function (\S+?):\s*REG:(\d+)", run(cuobjdump, "-res-usage", path))}


def count(code, *operations):
    return sum(op.split(".")[0] in operations for _, op, _ in code)


def inner_loop(code):
    loops = []
    for address, op, operands in code:
        target = re.search(r"0x([0-9a-f]+)", operands) if op.startswith("BRA") else None
        if target and int(target[1], 16) < address:
            loops.append([i for i in code if int(target[1], 16) <= i[0] <= address])
    products = [loop for loop in loops if count(loop, "HMMA")]
    loads = [loop for loop in loops if 2 * count(loop, "LDG") >= count(code, "LDG") > 0]
    return min(products or loads or [code], key=len)


def row(title, code, used):
    loop = inner_loop(code)
    wide = sum(op.startswith(("LDG", "STG")) and ".128" in op for _, op, _ in code)
    cells = [used, len(code), len(loop) if loop is not code else "", count(loop, "HMMA"), count(loop, "MUFU"), count(loop, "F2F"),
             count(loop, "LDS", "LDSM"), f"{wide} of {count(code, 'LDG', 'STG')}"]
    return f"| {title} | " + " | ".join(map(str, cells)) + " |"


def main():
    cuobjdump, paths = sys.argv[1], sys.argv[2:]
    found = {}
    for path in paths:
        used = registers(cuobjdump, path)
        found |= {name: (code, used.get(name, 0)) for name, code in functions(cuobjdump, path)}
    print("| kernel | registers | instructions | of them inner loop | HMMA in it | MUFU | F2F | LDS | global accesses of 16 bytes |\n|---|---|---|---|---|---|---|---|---|")
    for title, pattern in KERNELS.items():
        for name, (code, used) in sorted(found.items()):
            if re.search(pattern, name):
                print(row(title, code, used))


if __name__ == "__main__":
    main()
