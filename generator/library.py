"""What the library is made of: generated kernels and the runtime's C files, linked; its headers; its Python modules.

Results below ``build/<arch>``: ``lib/libtilewright.so``; beside it the Python modules, ``_tilewright.abi3.so`` (cffi's)
and, where numpy's headers are there, ``_fast.abi3.so`` (they find the library wherever they are copied together);
``include/``. Nothing here imports the runtime: its sources are a folder.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import runpy
import sys
import sysconfig
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import ISAS, __version__, blas
from .compile import CompileError, Compiler, Digests, Unit, compile_units, host_arch, link
from .files import temporary_beside, write_atomically
from .outputs import kernel_units

ABI = 0
"""Number in the soname; another one where a program linked before would no longer run."""

LIBRARY = f"libtilewright.so.{ABI}"
CBLAS = "tilewright_cblas.h"
MODULE = "_tilewright.abi3.so"
BLAS = f"libtilewright_blas.so.{ABI}"
"""The same products under BLAS's names, for programs to link or preload; it links `LIBRARY`."""
FAST = "_fast.abi3.so"
"""The extension for cheap calls: optional, see `_fast_unit`."""


@dataclass(frozen=True)
class Made:
    """What `make_library` did: the library, how many units it has, how many were compiled, whether anything changed."""

    library: Path
    units: int
    compiled: int
    changed: bool
    without_fast: str
    """Why the extension for cheap calls was left out; "" if it was not."""


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
    """Bring library, headers and Python modules below `out` up to date with what was generated there.

    Parameters
    ----------
    runtime : Path
        The runtime's sources: its ``csrc/*.c``, ``_cdef.py``, which holds cffi's builder, and ``_fast.c``.
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
    headers = [*generated.glob("*.h"), *csrc.glob("*.h")]
    compiled, count = compile_units(
        compiler,
        units,
        objects,
        include=[generated, csrc, runtime],
        headers=headers,
        jobs=jobs,
        digests=digests,
        progress=progress,
    )
    try:
        fast, fast_count = compile_units(
            compiler,
            [_fast_unit(compiler.arch, out, runtime)],
            objects,
            include=[csrc, runtime],
            headers=headers,
            digests=digests,
        )
        without_fast = ""
    except CompileError as error:
        fast, fast_count, without_fast = [], 0, str(error)
    include = out / "include"
    write_atomically(include / CBLAS, blas.header())
    entries, blas_count = compile_units(
        compiler,
        _blas_units(generated, runtime),
        objects,
        include=[csrc, runtime / "blas", generated, include],
        headers=[
            *(csrc / name for name in ("tilewright.h", "siblings.h")),
            *(generated / "tw_kernel.h", include / CBLAS),
            *runtime.glob("blas/*.h"),
        ],
        digests=digests,
    )
    if tidy:
        keep = {path.stem for path in (*compiled, *fast, *entries)}
        for path in objects.iterdir():
            if path.is_file() and path.stem not in keep:
                path.unlink()

    library, records = lib / LIBRARY, objects / "linked"
    # nodelete: threads of the pool sleep in it, so it stays when a program closes it.
    common = [f"-Wl,-soname,{LIBRARY}", "-Wl,--no-undefined", "-Wl,-z,nodelete", "-lm", "-ldl", "-pthread"]
    changed = link(compiler, compiled[:-1], library, records=records, flags=common)
    beside = ["-Wl,-rpath,$ORIGIN"]
    changed |= link(compiler, [compiled[-1], library], lib / MODULE, records=records, flags=beside)
    if fast:
        changed |= link(compiler, [*fast, library], lib / FAST, records=records, flags=beside)
    else:
        (lib / FAST).unlink(missing_ok=True)  # one made before is of other sources
    named = [f"-Wl,-soname,{BLAS}", "-Wl,--no-undefined", "-Wl,-z,nodelete"]
    changed |= link(compiler, [*entries, library], lib / BLAS, records=records, flags=[*named, *beside])
    link_to(lib / "libtilewright.so", LIBRARY)
    link_to(lib / "libtilewright_blas.so", BLAS)
    for header in (generated / "tw_kernel.h", csrc / "tilewright.h"):
        write_atomically(include / header.name, header.read_bytes())
    count += fast_count + blas_count
    return Made(library, len(units) + len(fast) + len(entries), count, changed or count > 0, without_fast)


def link_to(path: Path, target: str) -> None:
    """Make `path` a symbolic link to `target`, by rename, if it is not one already."""
    if not path.is_symlink() or os.readlink(path) != target:
        with temporary_beside(path) as temporary:
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


def _blas_units(generated: Path, runtime: Path) -> list[Unit]:
    """The BLAS library: its generated entries, as text, and what they share."""
    written = sorted((runtime / "blas").glob("*.c"))
    return [
        Unit("blas-entries", blas.entries_source(), ()),
        *(Unit(f"blas-{c.stem}", f"#include <{c.name}>\n", (c,)) for c in written),
    ]


def _module_unit(arch: str, out: Path, runtime: Path) -> Unit:
    """The Python module as cffi's builder writes it: API mode, limited API, so one file for every CPython."""
    ffibuilder = runpy.run_path(str(runtime / "_cdef.py"))["ffibuilder"]
    text = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()):  # it announces itself
        ffibuilder.emit_c_code(text)
    folders = python_headers(arch, out / "obj" / "python")
    sources = tuple(sorted(runtime.glob("*.h")))
    return Unit("python-module", text.getvalue(), sources, ("-w", *(f"-I{folder}" for folder in folders)))


def _fast_unit(arch: str, out: Path, runtime: Path) -> Unit:
    """The extension for cheap calls: limited API, and numpy's C API as of 1.24, which only numpy 2's headers offer.

    Raises
    ------
    CompileError
        Headers are missing.
    """
    spec = importlib.util.find_spec("numpy")  # found, not imported: that takes longer than the rest of this function
    numpy = Path(spec.origin).parent / "_core" / "include" if spec and spec.origin else None
    if numpy is None or not (numpy / "numpy" / "npy_2_compat.h").exists():
        raise CompileError(f"{sys.executable} has no numpy 2, whose headers it needs")
    folders = [*python_headers(arch, out / "obj" / "python"), numpy]
    source = runtime / "_fast.c"
    headers = sorted([*(numpy / "numpy").glob("*.h"), *runtime.glob("*.h")])
    # Headers of others: -isystem, their warnings are not ours.
    flags = tuple(flag for folder in folders for flag in ("-isystem", str(folder)))
    return Unit("python-fast", f"#include <{source.name}>\n", (source, *headers), flags)


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
