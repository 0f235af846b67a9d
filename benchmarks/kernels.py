"""Main tiles alone, hot in L1: percent of multiply-add peak, measured (x86) or by models (NEON).

    python3 build.py bench kernels [--json FILE] [--isa NAME ...]

x86: each kernel is timed in turns with a loop of register-only multiply-adds; least of many repetitions.  NEON: the k
loop's instructions through llvm-mca (LLVM 22) on its models of Kunpeng 920 (tsv110) and Neoverse N1, which assume L1
hits and perfect prediction.  A main tile is the largest one of each number of full-width columns (x86) or of rows
(NEON), in modes nn and nt, if its sums fill at least half of the registers.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from tilewright.generator.abi import ARGS
from tilewright.generator.compile import host_arch
from tilewright.generator.kernel import Kernel, kernels_of, spec_files

ROOT = Path(__file__).resolve().parent.parent
K = 256
NUMPY = {"s": np.float32, "d": np.float64, "c": np.complex64, "z": np.complex128}
POINTERS = {"a": "x0", "b": "x1", "c": "x2", "args": "x3"}
MODELS = ("tsv110", "neoverse-n1")


def main_tiles(isa: str) -> list[Kernel]:
    """The kernels to look at."""
    (path,) = [path for path in spec_files() if path.stem == isa]
    best: dict[tuple[str, str, object], Kernel] = {}
    for kernel in kernels_of(path):
        tile = kernel.tile
        full_width = set(tile.widths) <= {getattr(kernel.isa, "widths", "")[:1]}
        if tile.mode.name not in ("nn", "nt") or tile.transposed or not full_width:
            continue
        key = (kernel.dtype.letter, tile.mode.name, tile.widths or tile.mr)
        if key not in best or tile.nr > best[key].tile.nr:
            best[key] = kernel
    return [kernel for kernel in best.values() if sums(kernel) * 2 >= kernel.isa.vector_registers]


def sums(kernel: Kernel) -> int:
    """Registers that hold C."""
    return int(len(kernel.program.columns) * kernel.tile.scalar_size * kernel.isa.parts_per_accumulator)


class Timer:
    """The compiled clock, and the library it times."""

    def __init__(self, folder: Path) -> None:
        arch = ROOT / "build" / host_arch()
        shared = folder / "kernel_timer.so"
        source = Path(__file__).with_name("kernel_timer.c")
        flags = ["-O2", "-shared", "-fPIC", f"-I{arch / 'generated'}"]
        subprocess.run(["cc", *flags, str(source), "-o", str(shared)], check=True)
        self.clock = ctypes.CDLL(str(shared))
        self.library = ctypes.CDLL(str(arch / "lib" / "libtilewright.so"))
        self.library.tw_find_kernel.restype = ctypes.c_void_p
        self.clock.time_kernel.restype = ctypes.c_double
        self.clock.time_multiply_add.restype = ctypes.c_double

    def peak(self, kernel: Kernel) -> float:
        """GFLOP/s of register-only multiply-adds as wide as the ISA's."""
        lanes = kernel.isa.lanes
        return float(2 * lanes / self.clock.time_multiply_add(int(kernel.isa.name == "avx512"), 20_000, 10))

    def rate(self, kernel: Kernel, k: int) -> float:
        """GFLOP/s of the kernel."""
        tile, kind = kernel.tile, NUMPY[kernel.dtype.letter]
        shapes = (tile.mr, k), ((tile.nr, k) if tile.mode.b_transposed else (k, tile.nr)), (tile.mr, tile.nr)
        a, b, c = (np.ones(shape, kind, order="F") for shape in shapes)
        args = np.zeros(sum(size for _, size, _ in ARGS.values()), np.uint8)
        args[:32].view(np.int64)[:] = k, a.strides[1], b.strides[1], c.strides[1]
        pair = np.array([-1, 1], np.float32 if kernel.dtype.real_bytes == 4 else np.float64)
        args[96 : 96 + pair.nbytes] = pair.view(np.uint8)
        flops = 2 * tile.mr * tile.nr * k * (4 if kernel.dtype.complex else 1)
        address = self.library.tw_find_kernel(str(kernel.name).encode())
        pointers = (ctypes.c_void_p(array.ctypes.data) for array in (a, b, c, args))
        calls = max(1, 2_000_000 // flops)
        nanoseconds = float(self.clock.time_kernel(ctypes.c_void_p(address), *pointers, calls, 20))
        if not np.array_equal(c, np.full_like(c, k)):
            raise SystemExit(f"{kernel.name}: wrong result")
        return float(flops / nanoseconds)


def native(kernels: Iterable[Kernel], rounds: int = 5) -> list[dict[str, Any]]:
    """Percent of peak for kernels this CPU runs."""
    with tempfile.TemporaryDirectory() as folder:
        timer = Timer(Path(folder))
        rows = []
        for kernel in kernels:
            # Operands of one k loop must fit half of a 32 KB L1.
            k = min(K, 16_384 // ((kernel.tile.mr + kernel.tile.nr) * kernel.dtype.bytes) // 4 * 4)
            pairs = [(timer.rate(kernel, k), timer.peak(kernel)) for _ in range(rounds)]
            rate, peak = max(rate for rate, _ in pairs), max(peak for _, peak in pairs)
            rows.append({"kernel": str(kernel.name), "k": k, "gflops": rate, "percent": 100 * rate / peak})
    return rows


def modelled(kernels: Iterable[Kernel], mca: str) -> list[dict[str, Any]]:
    """Percent of two vector multiply-adds a cycle in the k loop, by model."""
    rows = []
    for kernel in kernels:
        first, last = kernel.program.loop
        code = kernel.program.code[first:last]
        lines = [line.replace("%=", "") for line in kernel.listing[first:last]]
        text = re.sub(r"%\[(\w+)\]", lambda match: POINTERS[match[1]], "\n".join(lines))
        row: dict[str, Any] = {"kernel": str(kernel.name)}
        for model in MODELS:
            command = [mca, "-mtriple=aarch64-linux-gnu", f"-mcpu={model}", "-iterations=300"]
            said = subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout
            found = re.search(r"Total Cycles:\s+(\d+)", said)
            assert found, said
            row[model] = 100 * sum(i.op.kind == "fma" for i in code) / 2 / (int(found[1]) / 300)
        rows.append(row)
    return rows


def main() -> None:
    """Print the tables; write JSON if asked."""
    parser = argparse.ArgumentParser(prog="build.py bench kernels", description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--isa", nargs="+", default=["avx512", "avx2", "neon"])
    options = parser.parse_args()
    flags = Path("/proc/cpuinfo").read_text()
    found: dict[str, Any] = {}
    for isa in options.isa:
        if isa == "neon":
            mca = shutil.which("llvm-mca-22")
            if mca is None:
                print("neon: not assessed: llvm-mca-22 is missing (Debian's llvm-22)\n")
                continue
            found[isa] = modelled(main_tiles(isa), mca)
            print(f"{'neon, percent of two FMAs a cycle':42}" + "".join(f"{model:>14}" for model in MODELS))
            for row in found[isa]:
                print(f"{row['kernel']:42}" + "".join(f"{row[model]:13.1f}%" for model in MODELS))
        elif {"avx512": "avx512dq", "avx2": "fma"}.get(isa, "?") in flags:
            found[isa] = native(main_tiles(isa))
            print(f"{isa + ', hot in L1':42}{'k':>6}{'GFLOP/s':>10}{'of peak':>9}")
            for row in found[isa]:
                print(f"{row['kernel']:42}{row['k']:6}{row['gflops']:10.1f}{row['percent']:8.1f}%")
            worst = min(found[isa], key=lambda row: float(row["percent"]))
            print(f"worst: {worst['kernel']} {worst['percent']:.1f}%")
        else:
            print(f"{isa}: not assessed: this CPU lacks it")
        print()
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
