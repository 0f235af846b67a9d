"""The generated files on disk: are they what today's generator writes, and how are they cut into units to compile."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .compile import Digests, Unit, symbol_sizes
from .files import write_atomically

KERNELS_PER_UNIT = 24
"""Kernel files compiled by one start of the compiler."""

_PACKAGE = Path(__file__).resolve().parent
_RECORD = "generated.json"
_AFTERWARDS = ("blas.py", "compile.py", "files.py", "install.py", "library.py", "outputs.py", "special.py")
"""These act on what was generated and have no part in it; as the templates in the folders that follow."""
_AFTERWARDS_TEMPLATES = ("blas", "install")

_ADDED = ("compiled", "code_bytes")
_NEEDED = {"name", "isa", *_ADDED}


def inputs_digest(digests: Digests, options: Sequence[str] = ()) -> str:
    """Return the digest of all that decides what is generated: generator, specs, templates and the options given."""
    folder = _PACKAGE.parent / "templates"
    templates = [path for path in folder.rglob("*.j2") if path.parent.name not in _AFTERWARDS_TEMPLATES]
    code = [path for path in _PACKAGE.rglob("*.py") if path.name not in _AFTERWARDS]
    files = [*code, *_PACKAGE.rglob("*.yaml"), *_PACKAGE.glob("costs/*.txt"), *templates]
    return hashlib.sha256(f"{digests.of_files(files)} {list(options)}".encode()).hexdigest()


def is_current(out: Path, inputs: str, digests: Digests) -> bool:
    """Tell whether the files below `out` are, byte for byte, those that were generated from `inputs`."""
    try:
        known = json.loads((out / _RECORD).read_text())
        files = {out / name: digest for name, digest in known["files"].items()}
        complete = known["inputs"] == inputs and known["manifest"] == _manifest_digest(out)
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return False
    return complete and list(files) == _files(out) and all(digests.of(path) == digest for path, digest in files.items())


def forget(out: Path) -> None:
    """Note that the files below `out` are about to change."""
    (out / _RECORD).unlink(missing_ok=True)


def remember(out: Path, inputs: str) -> None:
    """Note that the files below `out` are complete and come from `inputs`."""
    digests = Digests()
    files = {str(path.relative_to(out)): digests.of(path) for path in _files(out)}
    record = {"inputs": inputs, "manifest": _manifest_digest(out), "files": files}
    write_atomically(out / _RECORD, json.dumps(record, indent=0))


def read_manifest(out: Path) -> dict[str, Any]:
    """Return the manifest; one without kernels where there is none yet, or it is damaged."""
    try:
        found: dict[str, Any] = json.loads((out / "manifest.json").read_text())
        if all(kernel.keys() >= _NEEDED for kernel in [*found["kernels"], *found["specials"]]):
            return found
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    return {"arch": out.name, "kernels": [], "specials": []}


def complete_manifest(out: Path, *, compiled: bool) -> None:
    """Write into the manifest which kernels are in the compiled library, and how many bytes of code each is."""
    sizes = symbol_sizes(out / "lib" / "libtilewright.so") if compiled else {}
    manifest = read_manifest(out)
    for kernel in [*manifest["kernels"], *manifest["specials"]]:
        kernel["code_bytes"] = sizes.get(f"tw_{kernel['name']}")
        kernel["compiled"] = kernel["code_bytes"] is not None
    write_atomically(out / "manifest.json", json.dumps(manifest, indent=1) + "\n")


def kernel_units(generated: Path, flags: dict[str, tuple[str, ...]]) -> list[Unit]:
    """Return the units of every kernel file; those of one unit share ISA, type and mode, so that a change touches few.

    Parameters
    ----------
    flags : dict
        What each ISA adds to the compiler's flags.
    """
    groups: dict[tuple[str, str], list[Path]] = {}
    for path in sorted(generated.glob("*/*.c")):
        groups.setdefault((path.parent.name, "_".join(path.stem.split("_")[:3])), []).append(path)
    units = []
    for (isa, group), paths in groups.items():
        for first in range(0, len(paths), KERNELS_PER_UNIT):
            part = paths[first : first + KERNELS_PER_UNIT]
            text = "".join(f"#include <{isa}/{path.name}>\n" for path in part)
            units.append(Unit(f"{isa}-{group}-{first // KERNELS_PER_UNIT:03}", text, tuple(part), flags[isa]))
    return units


def _manifest_digest(out: Path) -> str:
    """Digest of what the generator wrote into the manifest: not of what `complete_manifest` adds."""
    manifest = read_manifest(out)
    for kernel in [*manifest["kernels"], *manifest["specials"]]:
        for name in _ADDED:
            del kernel[name]
    return hashlib.sha256(json.dumps(manifest).encode()).hexdigest()


def _files(out: Path) -> list[Path]:
    return sorted(path for path in (out / "generated").rglob("*.[ch]"))
