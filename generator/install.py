"""Copy what C and C++ programs need below a prefix: libraries, headers, what pkg-config and CMake read.

Nothing that is installed names the prefix, so the folder may be moved.
"""

from __future__ import annotations

from pathlib import Path

from .files import write_atomically
from .library import ABI, link_to
from .render import render
from .version import __version__

__all__ = ["LIBRARIES", "install"]

LIBRARIES = ("tilewright", "tilewright_blas")


def install(out: Path, prefix: Path) -> list[Path]:
    """Install what was built below `out`; return the files and links that are there now.

    Parameters
    ----------
    out : Path
        ``build/<arch>``.
    prefix : Path
        Gets ``lib/``, ``include/``, ``lib/pkgconfig/`` and ``lib/cmake/Tilewright/``.
    """
    lib, include = prefix / "lib", prefix / "include"
    made = []
    for name in LIBRARIES:
        soname, file = f"lib{name}.so.{ABI}", f"lib{name}.so.{__version__}"
        write_atomically(lib / file, (out / "lib" / soname).read_bytes())
        (lib / file).chmod(0o755)
        link_to(lib / soname, file)
        link_to(lib / f"lib{name}.so", soname)
        made += [lib / file, lib / soname, lib / f"lib{name}.so"]
    for header in sorted((out / "include").glob("*.h")):
        write_atomically(include / header.name, header.read_bytes())
        made.append(include / header.name)
    for name in ("tilewright.pc", "tilewright_blas.pc"):
        made.append(_print(lib / "pkgconfig" / name))
    for name in ("TilewrightConfig.cmake", "TilewrightConfigVersion.cmake"):
        made.append(_print(lib / "cmake" / "Tilewright" / name))
    return made


def _print(path: Path) -> Path:
    write_atomically(path, render(f"install/{path.name}.j2", libraries=LIBRARIES, abi=ABI))
    return path
