#!/usr/bin/env python3
"""What the compiler made of the kernels that a step's time goes to, without a GPU: instructions of the inner loop, what they are, registers.
A kernel that grew shows here. The inner loop is the smallest that has tensor-core products; without any, the smallest that has half of the
kernel's loads from global memory, or the whole kernel.

    sass.py CUOBJDUMP FOLDER            prints a table (Markdown) of the kernels in FOLDER/*.o, as nvcc compiles them for one architecture
    sass.py CUOBJDUMP BEFORE AFTER      of two folders: "before → after", one number where they are the same"""
import pathlib
import re
import subprocess
import sys

KERNELS = {  # as they are called in a step of bf16 with rows of 1,024 and heads of 64 columns
    "attention forward": r"attention_mma_forward.*bfloat16.*Li64E",
    "attention dq": r"attention_mma_dq.*bfloat16.*Li64E",
    "attention dk, dv": r"attention_mma_dkv.*bfloat16.*Li64E",
    "sum and norm forward": r"norm_forward.*bfloat16.*Li4EE?L\d*4kind1E(Lb1E)?E",
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
    for text in run(cuobjdump, "-sass", str(path)).split("Function : ")[1:]:
        name = text.split("\n", 1)[0].strip()
        code = [(int(m[1], 16), m[2], m[3]) for line in text.splitlines() if (m := INSTRUCTION.match(line))]
        yield name, [i for i in code if not i[1].startswith("NOP")]


def registers(cuobjdump, path):
    return {m[1]: int(m[2]) for m in re.finditer(r"Function (\S+?):\s*REG:(\d+)", run(cuobjdump, "-res-usage", str(path)))}


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


COLUMNS = ("registers", "instructions", "of them inner loop", "HMMA in it", "MUFU", "F2F", "LDS", "global accesses of 16 bytes")


def figures(code, used):
    loop = inner_loop(code)
    wide = sum(op.startswith(("LDG", "STG")) and ".128" in op for _, op, _ in code)
    return [used, len(code), len(loop) if loop is not code else "none", count(loop, "HMMA"), count(loop, "MUFU"), count(loop, "F2F"),
            count(loop, "LDS", "LDSM"), f"{wide} of {count(code, 'LDG', 'STG')}"]


def of_folder(cuobjdump, folder):
    """Of each of KERNELS its figures; one that the folder lacks is not in it."""
    kernels = {}
    for path in sorted(pathlib.Path(folder).glob("*.o")):
        used = registers(cuobjdump, path)
        for name, code in functions(cuobjdump, path):
            for title, pattern in KERNELS.items():
                if re.search(pattern, name):
                    kernels[title] = figures(code, used.get(name, 0))
    return kernels


def cell(values):
    values = [str(v) for v in dict.fromkeys(values)]
    return " → ".join(values)


def main():
    folders = [of_folder(sys.argv[1], folder) for folder in sys.argv[2:]]
    print("| kernel | " + " | ".join(COLUMNS) + " |\n|" + "---|" * (len(COLUMNS) + 1))
    for title in KERNELS:
        found = [folder[title] for folder in folders if title in folder]
        if found:
            print(f"| {title} | " + " | ".join(cell(values) for values in zip(*found)) + " |")


if __name__ == "__main__":
    main()
