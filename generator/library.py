"""What the library is made of: generated kernels and the runtime's C files, linked; its headers; its Python module.

Results below ``build/<arch>``: ``lib/libtilewright.so``, ``lib/_tilewright.abi3.so`` beside it (each finds the other
wherever the two are copied together), ``include/``. Nothing here imports the runtime: its sources are a folder.
"""

from __future__ import annotations

import contextlib
import io
import os
import runpy
import sys
import sysconfig
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import ISAS, __version__
from .compile import CompileError, Compiler, Digests, Unit, compile_units, host_arch, link, write_atomically
from .outputs import kernel_units

ABI = 0
"""Number in the soname; another one where a program linked before would no longer run."""

LIBRARY = f"libtilewright.so.{ABI}"
MODULE = "_tilewright.abi3.so"


@dataclass(frozen=True)
class Made:
    """What `make_library` did: the library, how many units it has, how many were compiled, whether anything changed."""

    library: Path
    units: int
    compiled: int
    changed: bool


def make_library(
    compiler: Compiler,
    out: Path,
    runtime: Path,
    *,
    jobs: int = 1,
    digests: Digests | None = None,
    tidy: bool = True,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Made:
    """Bring library, headers and Python module below `out` up to date with what was generated there.

    Parameters
    ----------
    runtime : Path
        The runtime's sources: its ``csrc/*.c`` and ``_cdef.py``, which holds cffi's builder.
    tidy : bool
        Delete objects that nothing needs any more.
    progress : function(done, total)
        Called as files are compiled.
    """
    generated, objects, lib, csrc = out / "generated", out / "obj", out / "lib", runtime / "csrc"
    flags = {name: tuple(isa.cflags) for name, isa in ISAS.items()}
    units = [
        *kernel_units(generated, flags),
        *_common_units(generated, csrc),
        _module_unit(compiler.arch, out, runtime),
    ]
    compiled, count = compile_units(
        compiler,
        units,
        objects,
        include=[generated, csrc],
        headers=[*generated.glob("*.h")],
        jobs=jobs,
        digests=digests,
        progress=progress,
    )
    if tidy:
        keep = {path.stem for path in compiled}
        for path in objects.iterdir():
            if path.is_file() and path.stem not in keep:
                path.unlink()

    library, records = lib / LIBRARY, objects / "linked"
    common = [f"-Wl,-soname,{LIBRARY}", "-Wl,--no-undefined", "-lm", "-pthread"]
    changed = link(compiler, compiled[:-1], library, records=records, flags=common)
    changed |= link(compiler, [compiled[-1], library], lib / MODULE, records=records, flags=["-Wl,-rpath,$ORIGIN"])
    link_to(lib / "libtilewright.so", LIBRARY)
    for header in (generated / "tw_kernel.h", csrc / "tilewright.h"):
        write_atomically(out / "include" / header.name, header.read_bytes())
    return Made(library, len(units), count, changed or count > 0)


def link_to(path: Path, target: str) -> None:
    """Make `path` a symbolic link to `target`, by rename, if it is not one already."""
    if not path.is_symlink() or os.readlink(path) != target:
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        temporary.symlink_to(target)
        os.replace(temporary, path)


def _common_units(generated: Path, csrc: Path) -> list[Unit]:
    """The kernel table and the hand-written C, at the architecture's baseline: they run before the CPU is known."""
    flags = (f'-DTW_VERSION="{__version__}"',)
    headers = sorted(csrc.glob("*.h"))  # of these alone, so that an edit of one does not compile every kernel again
    table = Unit("kernel-table", "#include <kernel_table.c>\n", (generated / "kernel_table.c",))
    written = (
        Unit(f"runtime-{c.stem}", f"#include <{c.name}>\n", (c, *headers), flags) for c in sorted(csrc.glob("*.c"))
    )
    return [table, *written]


def _module_unit(arch: str, out: Path, runtime: Path) -> Unit:
    """The Python module as cffi's builder writes it: API mode, limited API, so one file for every CPython."""
    ffibuilder = runpy.run_path(str(runtime / "_cdef.py"))["ffibuilder"]
    text = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()):  # it announces itself
        ffibuilder.emit_c_code(text)
    folders = python_headers(arch, out / "obj" / "python")
    return Unit(
        "python-module",
        text.getvalue(),
        (runtime / "csrc" / "tilewright.h",),
        ("-w", *(f"-I{folder}" for folder in folders)),
    )


def python_headers(arch: str, overlay: Path) -> Sequence[Path]:
    """Return the folders that hold Python.h and the pyconfig.h it wants.

    Parameters
    ----------
    overlay : Path
        Where to put a pyconfig.h that the system lacks.

    Raises
    ------
    CompileError
        Python.h is missing; the message says what to install.
    """
    folders = [Path(sysconfig.get_path(name)) for name in ("include", "platinclude")]
    include = folders[0]
    if not (include / "Python.h").exists():
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        raise CompileError(
            f"{include}/Python.h is missing: install Python's headers. "
            f"Debian, Ubuntu: apt-get install python{version}-dev. Fedora: dnf install python{version}-devel."
        )
    # Debian keeps a pyconfig.h an architecture. Both of ours are little-endian LP64, and the module keeps to the
    # limited API: the host's will do for the other.
    host = next(Path("/usr/include").glob(f"*/{include.name}/pyconfig.h"), None)
    if arch != host_arch() and host is not None and include.parent == Path("/usr/include"):
        write_atomically(overlay / f"{arch}-linux-gnu" / include.name / "pyconfig.h", host.read_bytes())
        folders.insert(0, overlay)
    return list(dict.fromkeys(folders))
