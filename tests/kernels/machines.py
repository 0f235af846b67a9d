"""Which kernels are listed, what can run them here, and the workers that do."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

from ..support import BUILD, Unavailable, tool
from .worker import Worker

HERE = Path(__file__).parent
ARCHES = ("x86_64", "aarch64")

# The emulated ARM core has what NEON kernels may use and nothing more: an instruction beyond ARMv8.0-A is a SIGILL. The
# only one with FCMLA has everything else too. qemu has no AVX-512, and its vmaskmov touches lanes that are masked off,
# so it cannot stand in for AVX2 here.
EMULATED_CPU = {
    "x86_64": {"scalar": "max"},
    "aarch64": {"scalar": "cortex-a57", "neon": "cortex-a57", "fcma": "max"},
}


@cache
def manifest(arch: str) -> list[dict[str, Any]]:
    """The kernels listed for an architecture, empty when nothing was generated."""
    path = BUILD / arch / "manifest.json"
    kernels: list[dict[str, Any]] = json.loads(path.read_text())["kernels"] if path.exists() else []
    return kernels


def listed(arch: str) -> list[dict[str, Any]]:
    """Those and the kernels for one size."""
    path = BUILD / arch / "manifest.json"
    specials: list[dict[str, Any]] = json.loads(path.read_text())["specials"] if path.exists() else []
    return [*manifest(arch), *specials]


def is_native(arch: str) -> bool:
    """Whether this machine runs programs of an architecture without help."""
    return platform.machine() == arch


def compiler(arch: str) -> str:
    """A C compiler that makes programs for an architecture."""
    if is_native(arch):
        return tool("cc", "gcc", "clang", why="to compile the test worker")
    return tool(
        f"{arch}-linux-gnu-gcc",
        why=f"to compile the test worker for {arch} (apt-get install gcc-{arch.replace('_', '-')}-linux-gnu)",
    )


def emulator(arch: str, isa: str = "scalar") -> list[str]:
    """The command that runs a program of an architecture under qemu, on a CPU that has an ISA."""
    qemu = tool(f"qemu-{arch}", f"qemu-{arch}-static", why=f"to run {arch} kernels here (apt-get install qemu-user)")
    prefix = ["-L", f"/usr/{arch}-linux-gnu"] if not is_native(arch) else []
    return [qemu, "-cpu", EMULATED_CPU[arch][isa], *prefix]


def compile_c(arch: str, output: Path, sources: Sequence[Path], *flags: str) -> Path:
    """Compile C and asm of the tests unless `output` is newer than all of it."""
    include = BUILD / arch / "include"
    depends = [*sources, *HERE.glob("*.h"), *include.glob("*.h")]
    if not output.exists() or output.stat().st_mtime < max(path.stat().st_mtime for path in depends):
        output.parent.mkdir(parents=True, exist_ok=True)
        command = [
            compiler(arch),
            "-std=gnu11",
            "-O2",
            "-g",
            "-Wall",
            "-Wextra",
            "-Werror",
            f"-I{include}",
            f"-I{HERE}",
            *flags,
        ]
        fresh = output.with_name(f"{output.name}.{id(command):x}")  # another test process may be at it: replace at once
        subprocess.run([*command, *map(str, sources), "-o", str(fresh), "-ldl"], check=True)
        fresh.replace(output)
    return output


def worker_program(arch: str) -> Path:
    """The compiled worker.c of an architecture."""
    return compile_c(arch, BUILD / arch / "tests" / "worker", [HERE / "worker.c", HERE / f"call_{arch}.S"])


def broken_library(arch: str) -> Path:
    """The compiled broken_kernels.c of an architecture."""
    output = BUILD / arch / "tests" / "broken_kernels.so"
    return compile_c(arch, output, [HERE / "broken_kernels.c"], "-shared", "-fPIC", "-ffp-contract=off")


def start(arch: str, library: Path, emulated: bool, patience: int = 10, isa: str = "scalar") -> Worker:
    """A worker with a library loaded, on an emulated CPU that has an ISA."""
    if not (BUILD / arch / "include" / "tw_kernel.h").exists() or not library.exists():
        raise Unavailable(
            f"{arch}: nothing built; run: python3 build.py" + ("" if is_native(arch) else f" compile --target {arch}")
        )
    command = [str(worker_program(arch))]
    return Worker([*emulator(arch, isa), *command] if emulated else command, library, patience)


@dataclass(eq=False)
class Machines:
    """Workers with libtilewright loaded, started when first asked for and kept."""

    _workers: dict[tuple[str, str], Worker] = field(default_factory=dict)

    def worker(self, arch: str, isa: str) -> Worker:
        """A worker that can execute an ISA: on this CPU if it has it, else under the emulator.

        Raises
        ------
        Unavailable
            With the reason why nothing here executes it.
        """
        if is_native(arch):
            worker = self._get(arch, "")
            if isa in worker.isas:
                return worker
        if isa not in EMULATED_CPU[arch]:
            raise Unavailable(f"{isa}: this CPU lacks it and qemu cannot stand in")
        return self._get(arch, isa)

    def _get(self, arch: str, isa: str) -> Worker:
        """The worker on this CPU, or on the emulated one for an ISA."""
        key = arch, EMULATED_CPU[arch][isa] if isa else ""
        if key not in self._workers:
            library = BUILD / arch / "lib" / "libtilewright.so"
            self._workers[key] = start(arch, library, bool(isa), isa=isa or "scalar")
        return self._workers[key]

    def close(self) -> None:
        """End all workers."""
        for worker in self._workers.values():
            worker.close()


@dataclass(frozen=True)
class Group:
    """The kernels one test item sweeps: those of one ISA, type and mode."""

    arch: str
    isa: str
    dtype: str
    mode: str
    names: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.arch}-{self.isa}-{self.dtype}-{self.mode}"


def groups(wanted: Sequence[str]) -> Iterator[Group]:
    """All listed kernels, in groups; `wanted` are names or patterns that narrow them down, if any."""
    for arch in ARCHES:
        sorted_in: dict[tuple[str, str, str], list[str]] = {}
        for kernel in manifest(arch):
            if not wanted or any(fnmatch(kernel["name"], pattern) for pattern in wanted):
                sorted_in.setdefault((kernel["isa"], kernel["dtype"], kernel["mode"]), []).append(kernel["name"])
        for (isa, dtype, mode), names in sorted_in.items():
            yield Group(arch, isa, dtype, mode, tuple(names))


def listed_isas() -> list[tuple[str, str]]:
    """Every (architecture, ISA) with a kernel."""
    return [(arch, isa) for arch in ARCHES for isa in dict.fromkeys(kernel["isa"] for kernel in manifest(arch))]
