"""The driver of worker.c: one persistent process that calls kernels and survives what they do wrong."""

from __future__ import annotations

import mmap
import os
import select
import struct
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from generator.isa.base import find

ISA_NAMES = ("scalar", "neon", "avx2", "avx512", "fcma")
MODES = ("nn", "nt", "tn", "tt", "nc", "cn", "tc")
OPERANDS = ("A", "B", "C", "args", "lanes")
PACKED = 1  # of the families in tw_kernel.h

# tw_call of worker.h: three operands, kernel, has_lanes, tw_args, lanes, and what the worker answers.
CALL = struct.Struct("<" + "QIIQII" * 3 + "iI" + "qqqqQQQQ16s16s16s16s" + "32s" + "iiqQ")
ANSWER = struct.Struct("<iiqQ")
HALF_BYTES = 24 << 20
HALF_CALLS = 2048
DAMAGE = {
    61: "upper halves of vector registers left dirty (no vzeroupper)",
    62: "bytes before C written",
    63: "bytes after C written",
}
STARTED = -2  # in `trap` while the call is in flight: found there only when the worker died of it


@dataclass(frozen=True, slots=True)
class Kernel:
    """One row of a library's kernel table."""

    index: int
    name: str
    isa: str
    dtype: str
    mode: str
    vector_dim: int
    mask_span: int
    paired: bool
    mr: int
    nr: int
    on_panels: bool = False
    """A and B have the leading dimensions of the tile and no others."""

    @property
    def adds_old(self) -> bool:
        """Whether it asks if beta is 1, to add C as it is."""
        return find(self.isa, self.dtype).adds_old

    def sizes(self) -> list[tuple[int, int]]:
        """Every (m, n) the kernel promises to do: its own, and with a masked last vector column the smaller ones."""
        shorter = range(max(self.mask_span, 1))
        if self.vector_dim == 0:
            return [(self.mr - s, self.nr) for s in shorter]
        return [(self.mr, self.nr - s) for s in shorter]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the worker saw of one call; all zero when nothing was wrong."""

    trap: int
    operand: int
    offset: int
    damage: int


class WorkerDied(Exception):
    """The worker is gone: a kernel destroyed more than a trap handler can mend."""


class Worker:
    """A running worker.c with one library loaded.

    The shared memory has two halves, so that one batch can be prepared while the other runs.

    Parameters
    ----------
    command : sequence of str
        The worker's executable, with the emulator before it where one is needed.
    library : Path
        Shared library that exports ``tw_kernels`` and ``tw_kernel_count``.
    patience : int
        Seconds one call may take.
    """

    def __init__(self, command: Sequence[str], library: Path, patience: int = 10) -> None:
        self._command = [*command, str(library)]
        self._patience = patience
        self.last_words = ""  # of the last worker that died
        self._shared = os.memfd_create("tilewright-worker")
        os.truncate(self._shared, 2 * HALF_BYTES)
        self._memory = mmap.mmap(self._shared, 2 * HALF_BYTES)
        self.bytes: NDArray[np.uint8] = np.frombuffer(self._memory, np.uint8)
        self._start()

    def _start(self) -> None:
        self._errors = os.memfd_create("worker-stderr")
        self._process = subprocess.Popen(
            [*self._command, f"/dev/fd/{self._shared}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            bufsize=0,
            pass_fds=[self._shared],
        )
        self.kernels: dict[str, Kernel] = {}
        self.saved_names: list[str] = []
        self.isas: frozenset[str] = frozenset()
        self.sparse_ld = 0
        assert self._process.stdout is not None
        with os.fdopen(os.dup(self._process.stdout.fileno()), "r") as lines:
            for line in iter(lines.readline, ""):
                word, *rest = line.split()
                if word == "ready":
                    return
                self._read_header(word, rest)
        words = self._last_words()
        self.close()
        raise WorkerDied(f"{' '.join(self._command)}: did not start: {words}")

    def _read_header(self, word: str, rest: list[str]) -> None:
        if word == "size" and int(rest[0]) != CALL.size:
            raise AssertionError(f"tw_call has {rest[0]} bytes in worker.h, {CALL.size} in worker.py")
        if word == "sparse":
            self.sparse_ld = int(rest[0])
        elif word == "saved":
            self.saved_names = rest
        elif word == "isas":
            self.isas = frozenset(rest)
        elif word == "kernel":
            isa, dtype, mode, family, vector_dim, mask_span, paired, *tile = (int(field) for field in rest[1:])
            names = rest[0], ISA_NAMES[isa], "sdcz"[dtype], MODES[mode]
            mr, nr = tile
            kernel = Kernel(
                len(self.kernels), *names, vector_dim, mask_span, bool(paired), mr, nr, on_panels=family == PACKED
            )
            if kernel.name in self.kernels:
                raise AssertionError(f"{kernel.name} is twice in the kernel table")
            self.kernels[kernel.name] = kernel

    def _last_words(self) -> str:
        code = self._process.wait()
        said = os.pread(self._errors, 4000, 0).decode(errors="replace")
        return f"exit status {code}, stderr: {said!r}"

    def submit(self, half: int, count: int) -> None:
        """Start the `count` calls whose records lie at the beginning of a half."""
        assert self._process.stdin is not None
        self._process.stdin.write(struct.pack("<QQQ", half * HALF_BYTES, count, self._patience))

    def wait(self) -> None:
        """Wait for the batch in flight; raises `WorkerDied`, after starting a new worker, if it never comes."""
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], 300)
        if not ready:
            self._process.kill()
        if not ready or not self._process.stdout.read(1):
            self.last_words = self._last_words() if ready else "no answer in 300 s, killed"
            self._stop()
            self._start()
            raise WorkerDied(self.last_words)

    def answer(self, half: int, i: int) -> Answer:
        """The answer to call `i` of a half."""
        return Answer(*ANSWER.unpack_from(self._memory, half * HALF_BYTES + (i + 1) * CALL.size - ANSWER.size))

    def put(self, half: int, i: int, *fields: int | bytes) -> None:
        """Write the record of call `i` of a half; the answer's fields begin as zero."""
        CALL.pack_into(self._memory, half * HALF_BYTES + i * CALL.size, *fields, 0, 0, 0, 0)

    def describe_damage(self, damage: int, kernel: Kernel) -> str:
        """Name the bits of `Answer.damage`; empty when there are none.

        x18 is the platform's: no asm of ours may touch it, but on Linux a compiler may, so portable C is forgiven.
        """
        names = [name for i, name in enumerate(self.saved_names) if damage >> i & 1]
        if kernel.isa == "scalar" and "x18" in names:
            names.remove("x18")
        words = [f"register {name} not preserved" for name in names]
        return ", ".join(words + [said for bit, said in DAMAGE.items() if damage >> bit & 1])

    def _stop(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        os.close(self._errors)

    def close(self) -> None:
        """End the process."""
        self._stop()
        os.close(self._shared)
