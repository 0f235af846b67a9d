"""Run products under qemu between two marks: how many instructions of which class, or which ones."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tilewright.generator.files import write_atomically

from .tools import Tools, version

__all__ = ["CLASSES", "Case", "Count", "Emulator", "Rival"]

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
CPUS = {"neon": "neoverse-n1", "fcma": "max"}
"""What qemu is to be, by the instruction set that our library is told to use."""
CLASSES = ("fma", "multiply", "vload", "vstore", "load", "store", "prefetch", "simd", "integer", "branch", "sve")
"""As counter.c writes them: vload and vstore move vector registers, load and store general ones."""

_ROUNDS = 3  # the driver runs each product so often; the last one counts
_AT_ONCE = 120  # products a run of qemu


@dataclass(frozen=True)
class Case:
    """One product: C = op(A) op(B) + C, column-major."""

    way: str
    letter: str
    mode: str
    m: int
    n: int
    k: int

    def __str__(self) -> str:
        return f"{self.way} {self.letter} {self.mode} {self.m} {self.n} {self.k}"

    @property
    def isa(self) -> str:
        """The instruction set: way fcma is a call with that."""
        return "fcma" if self.way == "fcma" else "neon"

    @property
    def line(self) -> str:
        """What driver.c reads."""
        way = "call" if self.way == "fcma" else self.way
        return f"{way} {self.letter} {self.mode[0]} {self.mode[1]} {self.m} {self.n} {self.k}"

    @property
    def needed(self) -> int:
        """Vector multiply-adds that the shape needs, whole vectors along m, or along n where those are fewer.

        Complex numbers lie in vectors as in memory and take two: FCMLA, or by both parts of the other factor.

        Examples
        --------
        >>> Case("call", "s", "NN", 5, 5, 10).needed, Case("call", "z", "NN", 2, 2, 2).needed
        (100, 16)
        """
        lanes, each = 4 if self.letter in "sc" else 2, 1
        if self.letter in "cz":
            lanes, each = lanes // 2, 2
        vectors = min(-(-self.m // lanes) * self.n, self.m * -(-self.n // lanes))
        return vectors * self.k * each


@dataclass(frozen=True)
class Rival:
    """A BLAS for aarch64: its file, its sgemm's symbol with ? for the type's letter, folders of what it needs."""

    way: str
    title: str
    path: Path
    symbol: str
    folders: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Count:
    """What a product came to: "ok", "wrong", or why it did not run; instructions by class."""

    answer: str
    classes: dict[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """All instructions."""
        return sum(self.classes.values())


class Emulator:
    """Counter and driver, compiled; counts kept between runs by all that they depend on.

    Parameters
    ----------
    tools : Tools
        Of which `tools.counts` must be true.
    rivals : sequence of Rival
    jobs : int, optional
        Runs of qemu at a time; as many as there are CPUs.
    keep : bool
        Whether to use what earlier runs found, and keep what this one finds.
    """

    def __init__(self, tools: Tools, rivals: Sequence[Rival] = (), jobs: int | None = None, keep: bool = True) -> None:
        if tools.qemu is None or tools.cross is None or tools.host is None:
            raise SystemExit("; ".join(tools.missing()))
        self.tools, self.rivals = tools, {rival.way: rival for rival in rivals}
        self.jobs = jobs or os.cpu_count() or 1
        self.folder = ROOT / "build" / "bench" / "neon"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.library = ROOT / "build" / "aarch64" / "lib" / "libtilewright.so"
        if not self.library.exists():
            raise SystemExit(f"{self.library} is missing; run: python3 build.py compile --target aarch64")
        include = ROOT / "build" / "aarch64" / "include"
        self.counter = self._compile([tools.host, "-O2", "-shared", "-fPIC"], HERE / "counter.c", "counter.so", [])
        flags = [
            f"-I{include}",
            f"-L{self.library.parent}",
            "-ltilewright",
            "-ldl",
            f"-Wl,-rpath,{self.library.parent}",
        ]
        self.driver = self._compile([tools.cross, "-O2"], HERE / "driver.c", "driver", flags)
        self.keep = self.folder / "counts.json" if keep else None
        self.known: dict[str, list[int]] = {}
        if self.keep and self.keep.exists():
            self.known = json.loads(self.keep.read_text())
        common = [version(tools.qemu), _digest(self.counter), _digest(self.driver)]
        self._keys = {way: _join(*common, _digest(rival.path)) for way, rival in self.rivals.items()}
        self._own = _join(*common, _digest(self.library))

    def count(self, cases: Iterable[Case]) -> dict[Case, Count]:
        """Instructions of each."""
        wanted = list(dict.fromkeys(cases))
        found: dict[Case, Count] = {}
        for case in wanted:
            known = self.known.get(self._key(case))
            if known is not None:
                found[case] = Count("ok", dict(zip(CLASSES, known, strict=True)))
        rest = [case for case in wanted if case not in found]
        pieces = [alike[at : at + _AT_ONCE] for alike in _by_isa(rest) for at in range(0, len(alike), _AT_ONCE)]
        with ThreadPoolExecutor(self.jobs) as pool:
            for counts in pool.map(self._count, pieces):
                found.update(counts)
        for case in rest:
            if found[case].answer == "ok":
                self.known[self._key(case)] = list(found[case].classes.values())
        if self.keep and rest:
            current = {*self._keys.values(), self._own}
            self.known = {key: value for key, value in self.known.items() if key.partition(" ")[0] in current}
            write_atomically(self.keep, json.dumps(self.known))
        return {case: found[case] for case in wanted}

    def trace(self, cases: Sequence[Case]) -> dict[Case, tuple[int, ...]]:
        """The instructions themselves, as words in the order they ran; of those that ran and were right."""
        pieces = [alike[at :: self.jobs] for alike in _by_isa(cases) for at in range(min(self.jobs, len(alike)))]
        found: dict[Case, tuple[int, ...]] = {}
        with ThreadPoolExecutor(self.jobs) as pool:
            for words in pool.map(self._trace, pieces):
                found.update(words)
        return {case: found[case] for case in cases if case in found}

    def _count(self, cases: Sequence[Case]) -> dict[Case, Count]:
        answers, data = self._run(cases, "")
        size = 8 * len(CLASSES)
        found, at = {}, 0
        for case, answer in zip(cases, answers, strict=True):
            classes: dict[str, int] = {}
            if answer in ("ok", "wrong"):
                at += _ROUNDS * size
                classes = dict(zip(CLASSES, struct.unpack_from(f"<{len(CLASSES)}Q", data, at - size), strict=True))
            found[case] = Count(answer, classes)
        return found

    def _trace(self, cases: Sequence[Case]) -> dict[Case, tuple[int, ...]]:
        answers, data = self._run(cases, ",trace=on")
        found, at = {}, 0
        for case, answer in zip(cases, answers, strict=True):
            words: tuple[int, ...] = ()
            for _ in range(_ROUNDS if answer in ("ok", "wrong") else 0):
                (length,) = struct.unpack_from("<I", data, at)
                words = struct.unpack_from(f"<{length}I", data, at + 4)
                at += 4 + 4 * length
            if answer == "ok":
                found[case] = words
        return found

    def _run(self, cases: Sequence[Case], options: str) -> tuple[list[str], bytes]:
        """Answers to the cases, all of one instruction set, and what the counter wrote."""
        rivals = [self.rivals[way] for way in dict.fromkeys(case.way for case in cases) if way in self.rivals]
        lines = [f"library {rival.way} {rival.path} {rival.symbol}" for rival in rivals]
        lines += [case.line for case in cases]
        folders = ":".join(str(folder) for rival in rivals for folder in rival.folders)
        variables = {
            "OPENBLAS_CORETYPE": "TSV110",
            "OPENBLAS_NUM_THREADS": "1",
            "BLIS_NUM_THREADS": "1",
            "TILEWRIGHT_ISA": cases[0].isa,
            "TILEWRIGHT_TUNING": "off",
            "LD_LIBRARY_PATH": folders,
        }
        guest = [argument for name, value in variables.items() for argument in ("-E", f"{name}={value}")]
        with tempfile.NamedTemporaryFile(dir=self.folder, suffix=".bin") as out:
            command = [str(self.tools.qemu), "-cpu", CPUS[cases[0].isa], "-L", "/usr/aarch64-linux-gnu", *guest]
            command += ["-plugin", f"{self.counter},out={out.name}{options}", str(self.driver)]
            # The environment's size moves the stack, and with it a few instructions of memcpy: pass none of it on.
            environment = {"PATH": os.environ.get("PATH", "")}
            ran = subprocess.run(
                command, input="\n".join(lines) + "\n", capture_output=True, text=True, env=environment, check=False
            )
            answers = ran.stdout.splitlines()
            if len(answers) != len(lines):
                asked = lines[len(answers)] if len(answers) < len(lines) else "nothing more"
                raise SystemExit(f"qemu ended with status {ran.returncode} at: {asked}\n{ran.stderr[-2000:]}")
            for answer, line in zip(answers, lines[: len(rivals)], strict=False):
                if answer != "ok":
                    raise SystemExit(f"{line}: {answer}")
            return answers[len(rivals) :], Path(out.name).read_bytes()

    def _compile(self, compiler: list[str], source: Path, name: str, more: list[str]) -> Path:
        """Compile if the source, a header or the command changed."""
        output = self.folder / name
        warnings = ["-std=gnu11", "-Wall", "-Wextra", "-Werror"]
        headers = sorted((ROOT / "build" / "aarch64" / "include").glob("*.h"))
        key = _join(*compiler, *more, version(compiler[0]), *(_digest(path) for path in (source, *headers)))
        stamp = self.folder / f"{name}.key"
        if not (output.exists() and stamp.exists() and stamp.read_text() == key):
            subprocess.run([*compiler, *warnings, str(source), *more, "-o", str(output)], check=True)
            stamp.write_text(key)
        return output

    def _key(self, case: Case) -> str:
        return f"{self._keys.get(case.way, self._own)} {case}"


def _by_isa(cases: Sequence[Case]) -> list[list[Case]]:
    found: dict[str, list[Case]] = {}
    for case in cases:
        found.setdefault(case.isa, []).append(case)
    return list(found.values())


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _join(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
