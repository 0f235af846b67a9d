"""Write every kernel's source, the kernel table, the ABI header and the manifest for one architecture."""

from __future__ import annotations

import contextlib
import fnmatch
import json
from collections.abc import Sequence
from pathlib import Path

from . import abi
from .files import write_atomically
from .ir import Reg
from .kernel import Kernel, kernels_of, spec_files
from .render import kernel_header, kernel_source, kernel_table
from .version import __version__

__all__ = ["SelectionError", "generate", "select"]


class SelectionError(ValueError):
    """Nothing is called what was asked for."""


def select(arch: str, isas: Sequence[str] = (), only: Sequence[str] = ()) -> list[Kernel]:
    """The kernels for `arch`, in the order of the kernel table.

    Parameters
    ----------
    arch : str
        "x86_64" or "aarch64".
    isas : sequence of str
        Only these instruction sets; all that the architecture has by default.
    only : sequence of str
        Only kernels whose names match one of these patterns ("gemm_s_nn_*").

    Raises
    ------
    SelectionError
        For an ISA or a pattern that matches nothing; it lists what there is.
    """
    kernels = [kernel for path in spec_files() for kernel in kernels_of(path) if kernel.isa.arch in (None, arch)]
    there = sorted({kernel.isa.name for kernel in kernels})
    for name in isas:
        if name not in there:
            raise SelectionError(f"isa {name!r}: not for {arch}, which has {', '.join(there)}")
    if isas:
        kernels = [kernel for kernel in kernels if kernel.isa.name in isas]
    for pattern in only:
        if not fnmatch.filter([str(kernel.name) for kernel in kernels], pattern):
            raise SelectionError(
                f"--only {pattern}: no kernel of {arch} is called that; names look like {kernels[0].name}, "
                "and * stands for anything"
            )
    if only:
        kernels = [k for k in kernels if any(fnmatch.fnmatch(str(k.name), pattern) for pattern in only)]
    without = {kernel.isa.name for kernel in kernels} - set(abi.ISA_CODES)
    if without:
        raise SelectionError(
            f"isa {', '.join(sorted(without))}: has kernels but no code in generator/abi.py, ISA_CODES"
        )
    return sorted(kernels, key=_order)


def generate(arch: str, out: Path, isas: Sequence[str] = (), only: Sequence[str] = ()) -> list[Kernel]:
    """Write ``out/generated`` and ``out/manifest.json``; files whose bytes stay the same are not touched.

    Returns
    -------
    list of Kernel
        What was generated, in the order of the kernel table.
    """
    kernels = select(arch, isas, only)
    folder = out / "generated"
    wanted = {folder / kernel.file: kernel_source(kernel) for kernel in kernels}
    wanted[folder / "tw_kernel.h"] = kernel_header()
    wanted[folder / "kernel_table.c"] = kernel_table(kernels)
    for path in [*folder.glob("*/*.c"), *folder.glob("*.c"), *folder.glob("*.h")]:
        if path not in wanted:
            path.unlink()
    for path, text in wanted.items():
        write_atomically(path, text)
    _write_manifest(arch, out / "manifest.json", kernels)
    return kernels


def _order(kernel: Kernel) -> tuple[int, int, int, int, int, int, int, str]:
    tile = kernel.tile
    return (
        abi.FAMILY_CODES[kernel.entry.family],
        abi.ISA_CODES[kernel.isa.name],
        abi.DTYPE_CODES[kernel.dtype.letter],
        abi.MODE_CODES[tile.mode.name],
        int(tile.transposed),
        -tile.vector_size,
        -tile.scalar_size,
        str(kernel.name),
    )


def _write_manifest(arch: str, path: Path, kernels: Sequence[Kernel]) -> None:
    """What was compiled before stays known for kernels that did not change."""
    before: dict[str, dict[str, object]] = {}
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        found = json.loads(path.read_text())
        before = {entry["name"]: entry for entry in [*found["kernels"], *found["specials"]]}
    entries: list[dict[str, object]] = []
    specials: list[dict[str, object]] = []
    for kernel in kernels:
        tile, program = kernel.tile, kernel.program
        old = before.get(str(kernel.name), {})
        same = old.get("spec_hash") == kernel.spec_hash
        extra = {"k": tile.k, "lds": tile.lds} if tile.k else {}
        (specials if tile.k else entries).append(
            {
                "name": str(kernel.name),
                "isa": kernel.isa.name,
                "dtype": kernel.dtype.letter,
                "mode": tile.mode.name,
                "family": kernel.entry.family,
                "form": tile.form,
                "vector_dim": int(tile.transposed),
                "mask_span": kernel.mask_span,
                "paired": kernel.dtype.complex and kernel.isa.paired,
                "mr": tile.mr,
                "nr": tile.nr,
                "columns": tile.widths,
                "unroll_k": program.steps_a_turn,
                "registers": {"vector": _used(program.vectors.purposes), "general": _used(program.general.purposes)},
                "per_k": {kind: count / program.steps_a_turn for kind, count in program.per_turn().items()},
                "spec_hash": kernel.spec_hash,
                "file": f"generated/{kernel.file.as_posix()}",
                "compiled": bool(same and old.get("compiled")),
                "code_bytes": old.get("code_bytes") if same else None,
                **extra,
            }
        )
    document = {"arch": arch, "generator": __version__, "kernels": entries, "specials": specials}
    write_atomically(path, json.dumps(document, indent=1) + "\n")


def _used(purposes: dict[str, list[Reg]]) -> int:
    return len(set().union(*purposes.values()))
