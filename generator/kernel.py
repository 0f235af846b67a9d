"""A kernel: a tile that was asked for, the program that computes it, and what is known about both."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from .dtypes import Dtype
from .isa.base import Isa, find
from .names import KernelName
from .packed import UNROLL
from .registers import OutOfRegisters
from .small import Program, Tile, dot_product, dot_product_ahead, lanes_product, outer_product, quad_product
from .spec import SPEC_FOLDER, Entry, SpecError, read_spec

__all__ = ["Kernel", "kernels_of", "spec_files"]

_FORMS = {
    "outer": outer_product,
    "paired": outer_product,
    "dot": dot_product,
    "quad": quad_product,
    "lanes": lanes_product,
}


@dataclass
class Kernel:
    """One kernel.

    Parameters
    ----------
    entry : Entry
        What the spec asks for.
    """

    entry: Entry

    @cached_property
    def isa(self) -> Isa:
        """The instruction set, for the kernel's type and form."""
        return find(self.entry.isa, self.entry.letter).formed(self.entry.tile.form)

    @property
    def dtype(self) -> Dtype:
        """The kernel's type."""
        return self.isa.dtype

    @cached_property
    def program(self) -> Program:
        """Registers and instructions.

        Raises
        ------
        SpecError
            When the tile needs more registers than the ISA has.
        """
        try:
            build = dot_product_ahead if self.tile.ahead else _FORMS[self.tile.form]
            return build(self.isa, self.tile)
        except OutOfRegisters as error:
            raise SpecError(
                f"{self.entry.where}: tile {self.tile.mr}x{self.tile.nr} for {self.entry.letter} needs more registers "
                f"than {self.isa.name} has: {error}"
            ) from error

    @cached_property
    def tile(self) -> Tile:
        """The tile, its size along vector columns filled in."""
        return self.isa.sized(self.entry.tile)

    @cached_property
    def name(self) -> KernelName:
        """The kernel's name."""
        named = {
            "dot": self.tile.form == "dot" and self.isa.names_dots,
            "paired": self.tile.form == "paired",
            "prf": self.tile.prefetch,
            "ahead": self.tile.ahead,
            "paced": self.tile.paced,
            "batch": self.tile.batch and self.tile.form != "lanes",
            "lanes": self.tile.form == "lanes",
            "packed": self.tile.on_panels,
            "turned": self.tile.on_panels and self.tile.transposed,
            "twin": self.tile.twin,
            f"share{self.tile.share}": self.tile.share > 0,
            f"fetch{self.tile.fetch}": self.tile.fetch > 0,
            f"steps{self.tile.unroll}": self.tile.on_panels and self.tile.unroll != UNROLL,
            "front": self.tile.on_panels and self.tile.interleave == "front",
        }
        return KernelName(
            "gemm",
            self.entry.letter,
            self.tile.mode.name,
            self.tile.mr,
            self.tile.nr,
            self.tile.widths,
            self.isa.name,
            tuple(feature for feature, there in named.items() if there),
            self.tile.k,
            (0, 0, 0) if self.tile.on_panels else self.tile.lds,
        )

    @property
    def lanes(self) -> int:
        """Problems that are computed together: a batch must have a multiple of them."""
        return self.isa.problems(self.tile) if self.tile.form == "lanes" else 1

    @property
    def mask_span(self) -> int:
        """Elements of the masked last column, or 0."""
        last = self.program.columns[-1]
        return last.span if last.masked else 0

    @cached_property
    def listing(self) -> list[str]:
        """The instructions as text."""
        return [self.isa.show(instruction) for instruction in self.program.code]

    @cached_property
    def spec_hash(self) -> str:
        """Identifies what was asked for and what came of it."""
        text = "\n".join([repr(self.tile), str(self.name), *self.listing])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def file(self) -> Path:
        """Where the source goes, below the folder of generated files."""
        return Path(self.isa.name) / f"{self.name}.c"


def spec_files() -> list[Path]:
    """Every spec that ships."""
    return sorted(SPEC_FOLDER.glob("*.yaml"))


def kernels_of(path: Path) -> list[Kernel]:
    """The kernels of a spec file, sorted by name.

    Raises
    ------
    SpecError
        When two entries ask for one name.
    """
    kernels: dict[str, Kernel] = {}
    for entry in read_spec(path):
        kernel = Kernel(entry)
        other = kernels.setdefault(str(kernel.name), kernel)
        if other is not kernel:
            raise SpecError(f"{entry.where}: {kernel.name} is asked for twice, first at {other.entry.where}")
    return [kernels[name] for name in sorted(kernels)]
