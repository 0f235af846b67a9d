"""From C files to a shared library: find a compiler, compile what changed, link, read symbol sizes.

Standard library only. `build.py` compiles the whole library with it; anything else that must turn one generated kernel
into machine code uses the same functions and so the same flags.

Every object is kept beside a key, the hash of all that went into it (text, headers, flags, compiler) and of the object
itself. Files appear by rename, so a build stopped anywhere leaves either a file with its key or nothing that counts.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from .files import temporary_beside, write_atomically

BASE_FLAGS = ("-std=c11", "-O2", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra")
WERROR = "-Werror"
"""Our own builds only: the next compiler's new warning must not break somebody's ``pip install``. In no key: it changes
no object."""
OLDEST = {"gcc": 9, "clang": 12}
Item = TypeVar("Item")


class CompileError(RuntimeError):
    """The compiler or linker refused; the message holds the command and what it printed."""


class CompilerMissingError(CompileError):
    """No usable compiler; the message says what to install."""


def host_arch() -> str:
    """Return the machine's architecture in the names used here: "x86_64", "aarch64", or what the system calls it.

    Examples
    --------
    >>> host_arch() == host_arch().lower()
    True
    """
    name = platform.machine().lower()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(name, name)


@dataclass(frozen=True)
class Compiler:
    """A C compiler for one architecture.

    Parameters
    ----------
    command : tuple of str
        The program and what always follows it.
    arch : str
        What it compiles for.
    kind : "gcc" or "clang"
    version : str
        First line of ``--version``: part of every cache key.
    werror : bool
        Warnings are errors.
    """

    command: tuple[str, ...]
    arch: str
    kind: str
    version: str
    werror: bool = True

    @classmethod
    def find(cls, arch: str, cc: str | None = None, *, werror: bool = True) -> Compiler:
        """Return the compiler for `arch`: `cc`, else ``$CC`` (host only), else the first of the usual names.

        Raises
        ------
        CompilerMissingError
            None is there, it is too old, or it cannot compile an empty program (no C library headers).
        """
        native = arch == host_arch()
        asked = cc or (os.environ.get("CC") if native else None)
        names = [asked] if asked else (["gcc", "cc", "clang"] if native else [f"{arch}-linux-gnu-gcc"])
        found = next((name.split() for name in names if shutil.which(name.split()[0])), None)
        if found is None:
            package = "gcc libc6-dev" if native else f"gcc-{arch.replace('_', '-')}-linux-gnu"
            raise CompilerMissingError(
                f"no C compiler for {arch}: looked for {', '.join(names)}. "
                f"Install one (Debian, Ubuntu: apt-get install {package}) or name another with --cc."
            )
        version = _output([*found, "--version"]).partition("\n")[0]
        kind = "clang" if "clang" in version else "gcc"
        if kind == "clang" and not native:
            found.append(f"--target={arch}-linux-gnu")
        compiler = cls(tuple(found), arch, kind, version, werror)
        compiler._probe()
        return compiler

    def run(self, *arguments: str) -> None:
        """Run it once.

        Raises
        ------
        CompileError
            It refused, or did not end within two minutes.
        """
        _run([*self.command, *arguments], timeout=120)

    def _probe(self) -> None:
        """Reject a compiler that is too old, builds for another machine or has no C library headers."""
        oldest = OLDEST[self.kind]
        probe = f"#include <stdlib.h>\n#ifndef __{self.arch}__\n#error architecture\n#endif\n"
        major = "__clang_major__" if self.kind == "clang" else "__GNUC__"
        ran = subprocess.run(
            [*self.command, "-E", "-P", "-x", "c", "-"],
            input=f"{probe}version {major}\n",
            capture_output=True,
            text=True,
        )
        name = " ".join(self.command)
        if ran.returncode:
            reason = "it does not compile for this architecture" if "#error" in ran.stderr else "stdlib.h is not found"
            raise CompilerMissingError(
                f"{name} cannot compile for {self.arch}: {reason}. Debian, Ubuntu: apt-get install "
                + ("libc6-dev" if self.arch == host_arch() else f"gcc-{self.arch.replace('_', '-')}-linux-gnu")
            )
        number = int(re.findall(r"^version (\d+)", ran.stdout, re.M)[-1])
        if number < oldest:
            raise CompilerMissingError(
                f"{name} is {self.kind} {number}; gcc >= 9 or clang >= 12 is needed (--cc names another)."
            )


@dataclass(frozen=True)
class Unit:
    """One object file to be: `text` includes or is the C, `sources` are the files it draws in."""

    name: str
    text: str
    sources: tuple[Path, ...]
    flags: tuple[str, ...] = ()


class Digests:
    """SHA-256 of files, each file read once.

    Examples
    --------
    >>> Digests().of_files([]) == hashlib.sha256().hexdigest()
    True
    """

    def __init__(self) -> None:
        self._known: dict[Path, str] = {}

    def of(self, path: Path) -> str:
        """Return the digest of one file, "" where there is none."""
        if path not in self._known:
            try:
                self._known[path] = hashlib.sha256(path.read_bytes()).hexdigest()
            except FileNotFoundError:
                return ""
        return self._known[path]

    def forget(self) -> None:
        """Read everything afresh: files were written."""
        self._known.clear()

    def of_files(self, paths: Iterable[Path]) -> str:
        """Return one digest over names and contents."""
        total = hashlib.sha256()
        for path in sorted(paths):
            total.update(f"{path.name}\0{self.of(path)}\0".encode())
        return total.hexdigest()


def run_each(
    work: Callable[[Item], object],
    items: Sequence[Item],
    jobs: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Do `work` for every item, `jobs` at once. After a failure or Ctrl-C what runs is waited for, nothing new begins.

    Parameters
    ----------
    progress : function(done, total)
        Called as items are done, and twice a second.

    Examples
    --------
    >>> run_each(print, ["one", "two"], 1)
    one
    two
    """
    with ThreadPoolExecutor(max(1, jobs)) as pool:
        try:
            running = {pool.submit(work, item) for item in items}
            while running:
                done, running = wait(running, timeout=0.5, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
                progress(len(items) - len(running), len(items))
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def compile_units(
    compiler: Compiler,
    units: Sequence[Unit],
    folder: Path,
    *,
    include: Sequence[Path] = (),
    headers: Sequence[Path] = (),
    jobs: int = 1,
    digests: Digests | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[list[Path], int]:
    """Compile `units` into `folder` and return their objects, in order, and how many had to be compiled.

    Parameters
    ----------
    include, headers : sequences of Path
        Include folders; and the headers in them, which count in every key.
    progress : function(done, total)
        Called as units are done.

    Raises
    ------
    CompileError
        With the first failing command and the compiler's words. Running compilers are waited for, no new one starts.
    """
    digests = digests or Digests()
    folder.mkdir(parents=True, exist_ok=True)
    common = [*BASE_FLAGS, *([WERROR] if compiler.werror else []), *(f"-I{path}" for path in include)]
    keys = {unit.name: _key(compiler, unit, headers, digests) for unit in units}
    stale = [
        unit
        for unit in units
        if not _is_current(folder / f"{unit.name}.o", folder / f"{unit.name}.key", keys[unit.name])
    ]

    def compile_one(unit: Unit) -> None:
        _compile(compiler, unit, folder / f"{unit.name}.o", common, keys[unit.name])

    run_each(compile_one, stale, jobs, progress)
    return [folder / f"{unit.name}.o" for unit in units], len(stale)


def _key(compiler: Compiler, unit: Unit, headers: Iterable[Path], digests: Digests) -> str:
    files = digests.of_files(unit.sources), digests.of_files(headers)
    return _hash(*compiler.command, compiler.version, *BASE_FLAGS, *unit.flags, unit.text, *files)


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _is_current(output: Path, record: Path, key: str) -> bool:
    """Tell whether `output` was made from `key` and is still the file that was made."""
    try:
        made_from, content = record.read_text().split()
        return made_from == key and content == hashlib.sha256(output.read_bytes()).hexdigest()
    except (OSError, ValueError):
        return False


def _publish(temporary: Path, output: Path, record: Path, key: str) -> None:
    """Rename into place; the record goes last, so that it never vouches for a file that is not there."""
    content = hashlib.sha256(temporary.read_bytes()).hexdigest()
    os.replace(temporary, output)
    write_atomically(record, f"{key} {content}\n")


def _compile(compiler: Compiler, unit: Unit, output: Path, common: Sequence[str], key: str) -> None:
    source = output.with_suffix(".c")
    write_atomically(source, unit.text)
    with temporary_beside(output) as temporary:  # compiled where it lies: objects then name no folder of this machine
        _run([*compiler.command, *common, *unit.flags, "-c", source.name, "-o", temporary.name], cwd=output.parent)
        _publish(temporary, output, output.with_suffix(".key"), key)


def link(
    compiler: Compiler, objects: Sequence[Path], output: Path, *, records: Path, flags: Sequence[str] = ()
) -> bool:
    """Link `objects` into the shared library `output` unless it is current; return whether it was linked.

    Parameters
    ----------
    objects : sequence of Path
        Object files; shared libraries to link with may be among them.
    records : Path
        Folder where the library's key is kept.
    flags : sequence of str
        What follows the objects: soname, rpath, libraries.
    """
    contents = [hashlib.sha256(path.read_bytes()).hexdigest() for path in objects]
    key = _hash(*compiler.command, compiler.version, *flags, *contents)
    record = records / f"{output.name}.key"
    if _is_current(output, record, key):
        return False
    output.parent.mkdir(parents=True, exist_ok=True)
    with temporary_beside(output) as temporary, tempfile.NamedTemporaryFile("w", suffix=".rsp") as response:
        response.writelines(f'"{path}"\n' for path in objects)
        response.flush()
        _run([*compiler.command, "-shared", "-o", str(temporary), f"@{response.name}", *flags])
        _publish(temporary, output, record, key)
    return True


def _run(command: Sequence[str], cwd: Path | None = None, timeout: float | None = None) -> None:
    try:
        ran = subprocess.run(
            command, cwd=cwd, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=timeout
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CompileError(f"{' '.join(command)}: {error}") from None
    if ran.returncode:
        words = (ran.stderr or ran.stdout).strip().splitlines()
        left_out = [f"... {len(words) - 30} more lines"] if len(words) > 30 else []
        raise CompileError("\n".join([" ".join(command), *words[:30], *left_out]))


def _output(command: Sequence[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise CompilerMissingError(f"{' '.join(command)} does not run: {error}") from None


def symbol_sizes(path: Path) -> dict[str, int]:
    """Return the size in bytes of every function and object in a 64-bit little-endian ELF file's symbol table.

    Read here rather than by `nm`, since no single `nm` knows every architecture that can be built for.
    """
    data = path.read_bytes()
    if data[:6] != b"\x7fELF\x02\x01":
        raise CompileError(f"{path}: not a 64-bit little-endian ELF file")
    table, size, count = (*struct.unpack_from("<Q", data, 40), *struct.unpack_from("<HH", data, 58))
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, table + size * index) for index in range(count)]
    sizes: dict[str, int] = {}
    for section in sections:
        if section[1] != 2:  # SHT_SYMTAB
            continue
        names = sections[section[6]][4]
        for offset in range(section[4], section[4] + section[5], 24):
            name, info, _, _, _, length = struct.unpack_from("<IBBHQQ", data, offset)
            if info & 15 in (1, 2) and length:  # STT_OBJECT, STT_FUNC
                start = names + name
                sizes[data[start : data.index(b"\0", start)].decode()] = length
    return sizes
