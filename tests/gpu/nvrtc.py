#!/usr/bin/env python3
"""Compiles every kernel for GPUs that a CUDA 13 toolkit has given up or that are not built for by default: compute_70 (V100) and 75, with NVRTC 12
and ptxas 12 of PyPI's wheels, which need neither a toolkit nor a GPU. Prints of each source how many kernels there are, the most registers of
one, and bytes spilled. Fails where a kernel is not compiled; exit status 77 where the wheels cannot be had.

    nvrtc.py SOURCE_DIR FOLDER      FOLDER: where the wheels are, or are installed to"""
import ctypes
import itertools
import pathlib
import re
import subprocess
import sys
import tempfile

ARCHITECTURES = 70, 75
WHEELS = "nvidia-cuda-nvrtc-cu12", "nvidia-cuda-nvcc-cu12", "nvidia-cuda-runtime-cu12"
SOURCES = "attention", "attention_mma", "columns", "flat", "linear", "loss", "norm", "rows"
# What a template's parameter may be, by its declaration.
VALUES = {
    "class T": ("float", "bf16", "fp16"),
    "class D": ("float", "bf16", "fp16"),
    "class OWNER": ("of_warp<1>", "of_warp<3>", "of_warp<4>", "of_block"),
    "enum kind KIND": ("PLAIN", "ADD", "EMBED"),
    "bool ALIGNED": ("true", "false"),
    "int WIDTH": ("32", "64", "128"),
}
ONLY_HALF = {"attention_mma"}  # sources without kernels for float
# NVRTC has no system's headers; of the runtime's host side kernels' sources need names alone.
HEADERS = {
    "stdint.h": """#pragma once
typedef signed char int8_t; typedef unsigned char uint8_t; typedef short int16_t; typedef unsigned short uint16_t; typedef int int32_t;
typedef unsigned uint32_t; typedef long int64_t; typedef unsigned long uint64_t; typedef unsigned long uintptr_t;
#define UINT32_MAX 0xffffffffu
#define INFINITY __int_as_float(0x7f800000)
#define NAN __int_as_float(0x7fffffff)
""",
    "stddef.h": "#pragma once\ntypedef unsigned long size_t;\n#ifndef NULL\n#define NULL 0\n#endif\n",
    "stdbool.h": "",
    "cuda_runtime.h": """#pragma once
cudaError_t cudaGetLastError(void);
template <class K> cudaError_t cudaFuncSetAttribute(K, int, int);
""",
}
KERNEL = re.compile(r"(?:template\s*<([^>]*)>\s*)?__global__\s+void\s+(?:__launch_bounds__\([^)]*\)\s*)?(\w+)\(")


def folder_of_wheels(folder):
    """Where libnvrtc, ptxas and the headers are; None: they cannot be had."""
    def find(name):
        return next(iter(sorted(folder.rglob(name))), None)

    if not find("libnvrtc.so.12"):
        r = subprocess.run(["timeout", "240", sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-input", "--target", str(folder), *WHEELS],
                           stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if r.returncode:
            print("no wheels:", (r.stderr.strip().splitlines() or ["pip failed"])[-1])
            return None
    return find("libnvrtc.so.12"), find("ptxas"), find("cuda_fp16.h").parent


def instances(name, text):
    """Every kernel of a source as C++ names it, with all that its parameters may be."""
    for declared, kernel in KERNEL.findall(text):
        parameters = [p.strip() for p in declared.split(",")] if declared else []
        values = [VALUES[p][1 if p == "class T" and name in ONLY_HALF else 0:] for p in parameters]
        for chosen in itertools.product(*values):
            yield f"{kernel}<{', '.join(chosen)}>" if chosen else kernel


class Nvrtc:
    def __init__(self, library):
        for path in sorted(library.parent.glob("libnvrtc-builtins.so*")):
            ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
        self.library = ctypes.CDLL(str(library))

    def text(self, what, program):
        size = ctypes.c_size_t()
        getattr(self.library, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
        text = ctypes.create_string_buffer(size.value)
        getattr(self.library, f"nvrtcGet{what}")(program, text)
        return text.value.decode(errors="replace")

    def ptx(self, source, name, kernels, options):
        """The PTX of the kernels, or what is wrong with the source as an exception."""
        program = ctypes.c_void_p()
        names = (ctypes.c_char_p * len(HEADERS))(*(n.encode() for n in HEADERS))
        texts = (ctypes.c_char_p * len(HEADERS))(*(t.encode() for t in HEADERS.values()))
        self.library.nvrtcCreateProgram(ctypes.byref(program), source.encode(), name.encode(), len(HEADERS), texts, names)
        for kernel in kernels:
            self.library.nvrtcAddNameExpression(program, kernel.encode())
        words = (ctypes.c_char_p * len(options))(*(o.encode() for o in options))
        failed = self.library.nvrtcCompileProgram(program, len(options), words)
        if failed:
            raise SystemExit(f"{name}: {self.text('ProgramLog', program)}")
        ptx = self.text("PTX", program)
        self.library.nvrtcDestroyProgram(ctypes.byref(program))
        return ptx


def main():
    root, folder = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    found = folder_of_wheels(folder)
    if not found:
        return 77
    library, ptxas, include = found
    ptxas.chmod(0o755)
    nvrtc = Nvrtc(library)
    print("| source | architecture | kernels | most registers | bytes spilled, all kernels together |\n|---|---|---|---|---|")
    for source, arch in itertools.product(SOURCES, ARCHITECTURES):
        path = next(root.glob(f"trainer/ops/cuda/{source}.cu"))
        kernels = list(instances(source, path.read_text()))
        ptx = nvrtc.ptx(path.read_text(), path.name, kernels, [
            f"--gpu-architecture=compute_{arch}", "--std=c++20", "--device-as-default-execution-space", f"-I{root}", f"-I{root}/include",
            f"-I{include}", "-w"])
        with tempfile.NamedTemporaryFile("w", suffix=".ptx") as file:
            file.write(ptx)
            file.flush()
            said = subprocess.run([str(ptxas), f"-arch=sm_{arch}", "-v", "-o", "/dev/null", file.name], check=True, stderr=subprocess.PIPE,
                                  text=True).stderr
        used = [int(n) for n in re.findall(r"Used (\d+) registers", said)]
        spilled = sum(int(n) for n in re.findall(r"(\d+) bytes spill stores", said))
        if len(used) != len(kernels):
            raise SystemExit(f"{source}: {len(used)} kernels of {len(kernels)}")
        print(f"| {source}.cu | sm_{arch} | {len(used)} | {max(used)} | {spilled} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
