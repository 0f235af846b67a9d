"""A library of exact-size kernels for shapes that somebody asks for: what `tilewright.runtime.specialize` calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from .compile import BASE_FLAGS, CompileError, Compiler, Digests
from .exact import MOST_STEPS, exact_tile, fewest_lanes, tiles_of
from .files import temporary_beside
from .isa.base import find, find_any
from .kernel import Kernel
from .outputs import inputs_digest
from .prove import prove
from .render import kernel_abi, kernel_header, kernel_source, special_table
from .spec import Entry, SpecError

__all__ = ["MOST_STEPS", "CompileError", "Wanted", "compiler_for", "inputs", "make", "mode_of", "one_tile"]

_WHERE = "specialize"


class Wanted(NamedTuple):
    """One kernel: C[m x n] as the kernels see it, column-major, with `k` steps and leading dimensions (0: any)."""

    isa: str
    letter: str
    mode: str
    m: int
    n: int
    k: int
    lds: tuple[int, int, int]
    batch: bool


def mode_of(isa: str, letter: str, a: int, b: int) -> str:
    """Return the kernels' mode for operations on A and B, 1 transposed plus 2 conjugated; "" where there is none.

    Examples
    --------
    >>> mode_of("neon", "c", 3, 0), mode_of("avx512", "c", 3, 0)
    ('cn', 'tn')
    """
    able, plain = find(isa, letter), "nt"[a & 1] + "nt"[b & 1]
    if able.paired or not able.dtype.complex or a >> 1 == b >> 1:
        return plain
    return {"nt": "nc", "tn": "cn", "tt": "tc"}.get(plain, "")  # the other one of tt, by conjugating the product


def one_tile(wanted: Wanted) -> bool:
    """Whether one kernel can do all of C: a shipped tile does, or the register file has room for an exact one.

    Examples
    --------
    >>> one_tile(Wanted("neon", "d", "nn", 6, 3, 5, (0, 0, 0), False))
    True
    """
    return _kernel(wanted) is not None


def _kernel(wanted: Wanted) -> Kernel | None:
    isa, letter, mode, m, n, k, lds, batch = wanted
    shipped = fewest_lanes(isa, letter, mode, m, n)
    tiles = [shipped] if shipped else [replace(tile, mr=m, nr=n) for tile in tiles_of(isa, letter, mode)]
    family = "batch" if batch else "exact"
    for tile in tiles:
        exact = exact_tile(tile, k, lds, batch=batch)
        kernel = Kernel(Entry(isa, family, letter, exact, _WHERE))
        if shipped is None and (find(isa, letter).refusal(exact) or max(m, n) > 64):
            continue
        try:
            kernel.program  # noqa: B018 - made here, to learn whether it can be
        except SpecError:
            continue
        return kernel
    return None


def compiler_for(arch: str) -> Compiler:
    """Return the C compiler. Raises CompilerMissingError, a CompileError, where there is none."""
    return Compiler.find(arch, werror=False)


def inputs() -> str:
    """Return a digest of all that decides what is generated, and how it is compiled."""
    digests = Digests()
    return f"{inputs_digest(digests)} {digests.of(Path(__file__))} {' '.join(BASE_FLAGS)} {kernel_abi()}"


def make(wanted: Sequence[Wanted], compiler: Compiler, output: Path) -> list[str]:
    """Render, prove and compile kernels into a shared library, which appears whole or not at all; return their names.

    Raises
    ------
    CompileError
        The compiler refused or did not end.
    ProofError
        A kernel does not compute what it should.
    OSError
    """
    kernels: dict[str, Kernel] = {}
    for each in wanted:
        kernel = _kernel(each)
        assert kernel is not None, each
        kernels.setdefault(str(kernel.name), kernel)
    for kernel in kernels.values():
        prove(kernel)
    with temporary_beside(output) as temporary:
        folder = Path(f"{temporary}.d")
        folder.mkdir()
        try:
            (folder / "tw_kernel.h").write_text(kernel_header())
            objects = []
            for isa in sorted({kernel.isa.name for kernel in kernels.values()}):
                text = "\n".join(kernel_source(kernel) for kernel in kernels.values() if kernel.isa.name == isa)
                objects.append(_compile(compiler, folder / f"{isa}.c", text, find_any(isa).cflags))
            objects.append(_compile(compiler, folder / "table.c", special_table(list(kernels.values())), ()))
            compiler.run("-shared", "-o", str(temporary), *map(str, objects))
            if not temporary.exists():
                raise CompileError(f"{' '.join(compiler.command)} says that it linked {temporary}, and did not")
            temporary.replace(output)
        finally:
            for path in folder.iterdir():
                path.unlink()
            folder.rmdir()
    return list(kernels)


def _compile(compiler: Compiler, source: Path, text: str, flags: Sequence[str]) -> Path:
    source.write_text(text)
    output = source.with_suffix(".o")
    compiler.run(*BASE_FLAGS, *flags, f"-I{source.parent}", "-c", str(source), "-o", str(output))
    return output
