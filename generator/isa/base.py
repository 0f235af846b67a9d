"""What a kernel builder may ask of an instruction set.

An ISA is one class per instruction set and type, registered by being defined.  It knows how to load, multiply-add,
store and walk addresses, how many registers there are and how wide they are.  It does not know about tiles, loops or
GEMM: `generator.small` puts its pieces together.

Words used everywhere: the *vector operand* is the one whose elements fill vector registers (A, or B when C is kept
transposed); the *scalar operand* is the other, its elements reach the multiply one at a time.  A *column* is one vector
register's share of the vector dimension.  A complex column has two *parts*: real and imaginary registers ("split"), or
one register of interleaved pairs whose accumulators are kept twice and combined at the end ("paired"); or it has none,
where instructions multiply complex numbers as they lie ("fused").
"""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..dtypes import DTYPES, Dtype
from ..ir import Instruction, Op, Reg, Target
from ..registers import Pool
from .turn import Recipe

if TYPE_CHECKING:
    from ..small.tile import Tile

__all__ = [
    "SECOND_CACHE",
    "Column",
    "Factor",
    "GroupedLines",
    "Isa",
    "LineOperand",
    "LinesAhead",
    "NearLines",
    "PairLines",
    "ProblemOperand",
    "ScalarLines",
    "ScalarOperand",
    "TurnedBlock",
    "VectorOperand",
    "find",
    "find_any",
    "isa_names",
    "label_op",
    "letters_of",
]

Code = list[Instruction]

SECOND_CACHE = 4096
"""What is asked for that many bytes ahead, or more, goes into the second cache: the first is too small to wait in."""


@dataclass(frozen=True, slots=True)
class Column:
    """`span` elements of the vector dimension from `first` on, held in one register (or one per part).

    `width` is the ISA's own word for the register's view; a masked column's live part is known at run time only.
    """

    first: int
    span: int
    width: str
    masked: bool = False


@dataclass(frozen=True, slots=True)
class TurnedBlock:
    """Rows of C on their way to be columns: registers that hold them, and how each part's columns come from those."""

    registers: list[Reg]
    columns: Sequence[Sequence[Reg | Recipe]]


@dataclass(frozen=True, slots=True)
class Factor:
    """One element of the scalar operand as a multiply can use it, and the instructions that must come just before."""

    operand: object
    before: tuple[Instruction, ...] = ()


class VectorOperand(ABC):
    """The operand whose elements fill vector registers, walking along k."""

    @abstractmethod
    def setup(self) -> Code:
        """Prepare addresses; runs once."""

    @abstractmethod
    def load(self, step: int, steps: int) -> Code:
        """Make k step `step` of a block of `steps` ready; empty when an earlier step's load already did."""

    @abstractmethod
    def parts(self, step: int, column: int) -> tuple[Reg, ...]:
        """Registers that hold a column at a step: one, or real and imaginary."""

    @abstractmethod
    def advance(self, steps: int) -> Code:
        """Move on after a block of `steps`."""


class ScalarOperand(ABC):
    """The operand whose elements are multiplied one at a time."""

    @abstractmethod
    def setup(self) -> Code:
        """Prepare addresses; runs once."""

    @abstractmethod
    def load(self, step: int, steps: int) -> Code:
        """Make k step `step` of a block of `steps` ready."""

    @abstractmethod
    def factor(self, step: int, index: int, part: int) -> Factor:
        """Element `index` at a step; `part` 1 is its imaginary part."""

    @abstractmethod
    def advance(self, steps: int) -> Code:
        """Move on after a block of `steps`."""


class LineOperand(ABC):
    """Lines that are contiguous along k, for dot products: a register a line holds a vector of steps."""

    @abstractmethod
    def setup(self) -> Code:
        """Prepare addresses; runs once."""

    @abstractmethod
    def load(self, number: int, width: int) -> Code:
        """Load `width` steps of every line; lanes beyond are zero.  `number` tells register sets apart."""

    def load_live(self) -> Code:
        """Load the steps that `Isa.live_steps` noted, where `Isa.masks_steps`; as `load` with number 0."""
        return []

    @abstractmethod
    def register(self, number: int, line: int) -> Reg:
        """Where a line's steps are."""

    def advance(self, steps: int) -> Code:
        """Move on after a turn of `steps`, where loads do not do that themselves."""
        return []


class LinesAhead(LineOperand):
    """Lines that come from memory."""

    @abstractmethod
    def ask(self, number: int) -> Code:
        """Ask for what as many lines that follow these have where `load` reads."""


class NearLines(LineOperand):
    """Lines that stay in a cache: they take turns in the registers that are left, and multiplications can read them.

    `load` and `load_live` have an instruction for each line, which is lost after the next but few.
    """

    @abstractmethod
    def factor(self, number: int, line: int) -> object:
        """A whole vector of a line as a factor."""


class ProblemOperand(ABC):
    """The same matrix of as many problems as a register has lanes."""

    @abstractmethod
    def setup(self) -> Code:
        """Prepare addresses; runs once."""

    @abstractmethod
    def load(self, count: int) -> tuple[Code, list[Reg]]:
        """Load the first `count` elements of every problem: a register each, a problem a lane."""

    @abstractmethod
    def advance(self) -> Code:
        """Move on to the next problems."""


class GroupedLines(ABC):
    """Complex lines that are contiguous along k and take turns in fewer registers than there are lines.

    A *group* is what is loaded at a time; groups alternate between two sets of registers.
    """

    @abstractmethod
    def load_group(self, number: int, steps: int) -> Code:
        """Load one or two steps of a group; the group before the last one loaded is lost."""


class PairLines(GroupedLines, VectorOperand):
    """Lines in twos: a register a step holds the real and imaginary parts of both lines' elements."""


class ScalarLines(GroupedLines, ScalarOperand):
    """Lines whose elements are multiplied one at a time."""


class Isa(ABC):
    """An instruction set for one type.  Subclasses that set `name` and `letter` are registered."""

    name: ClassVar[str]
    letter: ClassVar[str]
    arch: ClassVar[str | None]
    description: ClassVar[str]
    cflags: ClassVar[tuple[str, ...]]
    vector_registers: ClassVar[int]
    register_bytes: ClassVar[int]
    paired: ClassVar[bool] = False
    """Complex sums are kept as re(s) v and im(s) v and combined once, instead of in real and imaginary registers."""
    fused: ClassVar[bool] = False
    """Complex numbers are multiplied and summed interleaved, as they lie in memory."""
    adds_old: ClassVar[bool] = False
    """Kernels know FLAG_ADD: C is added as it is where beta is 1, with nothing multiplied."""
    base: ClassVar[str] = ""
    """The instruction set that serves the types which this one has no kernels for."""
    first_by_multiply: ClassVar[bool] = False
    """Start a sum by a multiplication instead of clearing accumulators."""
    forms: ClassVar[frozenset[str]] = frozenset({"outer"})
    """Ways to build a kernel, of those that a spec can name."""
    variants: ClassVar[Mapping[str, type[Isa]]] = {}
    """What serves in place of this for some of these forms: the same instructions, used otherwise."""
    turns: ClassVar[bool] = True
    asks_ahead: ClassVar[bool] = False
    """Whether a dot product can ask for the next tile's lines."""
    asks_others: ClassVar[bool] = False
    """Whether a tile can read two panels at once, or ask for memory that others will read."""
    masks_steps: ClassVar[bool] = False
    """Whether a dot product loads what is left of k at once, by masks."""
    names_dots: ClassVar[bool] = False
    """Whether names tell dot products from outer products of the same size."""
    """C may be summed transposed and turned as it is stored."""
    constant_strides: ClassVar[bool] = False
    """A stride may be a number in place of a register (`ir.number`): addressing adds it at no cost."""
    most_steps: ClassVar[int] = 64
    """The longest turn of the loop."""

    template: ClassVar[str]
    known: ClassVar[dict[str, dict[str, type[Isa]]]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "letter" in cls.__dict__:
            Isa.known.setdefault(cls.name, {})[cls.letter] = cls

    def __init__(self) -> None:
        self.dtype: Dtype = DTYPES[self.letter]
        self.a, self.b, self.c, self.args = (
            Reg("x", -1 - place, name) for place, name in enumerate(("a", "b", "c", "args"))
        )

    def formed(self, form: str) -> Isa:
        """The instruction set as it is used for kernels of a form."""
        return self.variants[form]() if form in self.variants else self

    # Shape of the registers

    @property
    def lanes(self) -> int:
        """Real elements in a full vector register."""
        return self.register_bytes // self.dtype.real_bytes

    @property
    def split(self) -> bool:
        """Complex columns keep real and imaginary parts in registers of their own."""
        return self.dtype.complex and not (self.paired or self.fused)

    @property
    def column_span(self) -> int:
        """Elements in a full column."""
        return self.lanes if self.split else self.lanes // self.dtype.reals

    @property
    def parts_per_column(self) -> int:
        """Registers that hold a column of the vector operand."""
        return 2 if self.split else 1

    @property
    def parts_per_accumulator(self) -> int:
        """Registers that hold a column of C while it is summed."""
        return 2 if self.dtype.complex and not self.fused else 1

    parts_apart: ClassVar[bool] = False
    """Registers side by side hold the first parts of several accumulators, not the parts of one."""

    @property
    def parts_per_scalar(self) -> int:
        """Registers that alpha or beta takes."""
        return 1 if self.fused else self.dtype.reals

    @property
    @abstractmethod
    def general_registers(self) -> Sequence[Reg]:
        """General registers a kernel may use besides its four parameters, in order of preference."""

    @property
    def vector_file(self) -> list[Reg]:
        """Vector registers in order of preference."""
        return [Reg("v", number) for number in range(self.vector_registers)]

    @abstractmethod
    def columns(self, size: int, widths: str) -> list[Column]:
        """Cut `size` elements of the vector dimension into columns; `widths` says how where the ISA leaves a choice."""

    def refusal(self, tile: Tile) -> str | None:
        """Why the ISA cannot build a tile that the register file may have room for; None if it can try."""
        if tile.unroll > self.most_steps and not tile.on_panels:
            return f"unroll is {tile.unroll}, its addressing reaches {self.most_steps} steps"
        if self.paired and any(tile.mode.conjugates):
            return "its kernels conjugate by tw_args.pair, in the plain modes"
        if tile.transposed and not self.turns:
            return "it keeps C as it is, not transposed"
        if tile.form == "dot" and (tile.mode.name != "tn" or tile.transposed):
            return "dot products need both operands contiguous along k, which is mode tn, and C as it is"
        if tile.paced and not tile.ahead:
            return "only what asks ahead is paced"
        if tile.ahead and (tile.form != "dot" or not self.asks_ahead):
            return "it does not ask for lines ahead of time" + (" but in dot products" if self.asks_ahead else "")
        if (tile.twin or tile.share) and (not self.asks_others or not tile.on_panels or tile.transposed):
            return "it reads two panels, or shares in asking for the next ones," + (
                " only where they are A" if self.asks_others else " nowhere"
            )
        if tile.widths.endswith("m") and tile.vector_along_k:
            return "a masked column must lie side by side in memory, not along k"
        return None

    def has_columns(self, widths: object) -> bool:
        """Whether the ISA knows a list of vector columns by this word."""
        return False

    def sized(self, tile: Tile) -> Tile:
        """The tile with its size along the vector dimension filled in from its widths."""
        return tile

    @abstractmethod
    def show(self, instruction: Instruction) -> str:
        """The instruction as this ISA's compiler reads it."""

    @abstractmethod
    def show_register(self, register: Reg) -> str:
        """The register's name in a comment or a clobber list."""

    def operands(self, changed: set[Reg], code: Sequence[Instruction]) -> dict[str, str]:
        """The asm statement's outputs, inputs and clobbers, from the registers that a kernel changes."""
        parameters = (self.a, self.b, self.c, self.args)
        outputs = [f'[{r.name}] "+{self.constraint(r)}"({r.name})' for r in parameters if r in changed]
        inputs = [f'[{r.name}] "{self.constraint(r).lstrip("&")}"({r.name})' for r in parameters if r not in changed]
        own = sorted((r for r in changed if not r.name), key=lambda r: (r.file, r.number))
        clobbers = ["cc", "memory", *dict.fromkeys(self.clobber(register) for register in own)]
        return {
            "outputs": ", ".join(outputs),
            "inputs": ", ".join(inputs),
            "clobbers": ", ".join(f'"{name}"' for name in clobbers),
        }

    def constraint(self, parameter: Reg) -> str:
        """GCC's constraint for a parameter; one that the asm changes must share its register with nothing."""
        return "&r"

    def clobber(self, register: Reg) -> str:
        """A register's name in a clobber list."""
        return self.show_register(register)

    # Addresses and control

    @abstractmethod
    def constant(self, register: Reg, value: int) -> Code:
        """register = value."""

    @abstractmethod
    def load_arguments(self, wanted: Sequence[tuple[Reg, str]]) -> Code:
        """64-bit fields of tw_args."""

    @abstractmethod
    def copy(self, register: Reg, source: Reg) -> Code:
        """register = source."""

    @abstractmethod
    def add(self, register: Reg, other: Reg | int) -> Code:
        """register += other."""

    @abstractmethod
    def jump(self, label: str) -> Code:
        """Go on at a label."""

    @abstractmethod
    def jump_if_clear(self, register: Reg, bit: int, label: str) -> Code:
        """Go on at a label when a bit is not set."""

    def jump_if_set(self, register: Reg, bit: int, label: str) -> Code:
        """Go on at a label when a bit is set."""
        raise self._lacks("sums that are conjugated")

    @abstractmethod
    def count_down(self, register: Reg, amount: int, label: str, negative: bool) -> Code:
        """Subtract; go on at a label when the result is negative, or when it is not."""

    def label(self, name: str) -> Code:
        """A place to jump to."""
        return [Instruction(label_op, (Target(name),))]

    # Arithmetic on registers

    @abstractmethod
    def zero(self, register: Reg) -> Code:
        """register = 0."""

    @abstractmethod
    def multiply(self, target: Reg, vector: Reg, factor: object, column: Column) -> Code:
        """target = vector * factor."""

    @abstractmethod
    def multiply_add(self, target: Reg, vector: Reg, factor: object, column: Column, subtract: bool = False) -> Code:
        """target += vector * factor, or -=."""

    @abstractmethod
    def negate(self, register: Reg, column: Column) -> Code:
        """register = -register."""

    @abstractmethod
    def load_scalar(self, registers: Sequence[Reg], field: str, columns: Sequence[Column]) -> Code:
        """Repeat alpha, beta or another field of tw_args over registers, one for each part."""

    @abstractmethod
    def scalar_factor(self, register: Reg) -> object:
        """A register filled by `load_scalar`, as a factor."""

    @abstractmethod
    def add_register(self, target: Reg, source: Reg, column: Column) -> Code:
        """target += source."""

    # The paired form of complex numbers

    def combine(self, first: Reg, second: Reg, pair: Reg, column: Column) -> Code:
        """first += swap(second) * pair: make one complex column of two accumulators."""
        raise self._lacks("paired accumulators")

    def flip(self, register: Reg, signs: Reg, column: Column) -> Code:
        """register *= signs: conjugate an interleaved column."""
        raise self._lacks("paired accumulators")

    def scale_pairs(self, register: Reg, factor: Sequence[Reg], temporary: Reg, column: Column) -> Code:
        """register *= factor, both complex and interleaved."""
        raise self._lacks("paired accumulators")

    # Complex numbers multiplied as they lie

    def multiply_fused(
        self, target: Reg, vector: Reg, factor: object, first: bool, conjugates: tuple[bool, bool]
    ) -> tuple[Code, Code]:
        """target = or += vector * factor, in two halves that wait for each other; at most one of the two conjugated.

        Where `conjugates_sums` says so, what is summed is the conjugate.
        """
        raise self._lacks("multiplication of complex numbers")

    def conjugates_sums(self, conjugates: tuple[bool, bool]) -> bool:
        """Whether sums of such products, vector and factor conjugated or not, are kept as their conjugates."""
        return False

    def scale_fused(self, register: Reg, factor: Reg, temporary: Reg, column: Column) -> Code:
        """register *= factor."""
        raise self._lacks("multiplication of complex numbers")

    # Operands and C

    @abstractmethod
    def vector_operand(
        self, pool: Pool, general: Pool, base: Reg, stride: Reg, columns: Sequence[Column], contiguous: bool, sets: int
    ) -> VectorOperand:
        """Access to the vector operand; `contiguous` along the vector dimension, or along k."""

    @abstractmethod
    def scalar_operand(
        self,
        pool: Pool,
        general: Pool,
        base: Reg,
        stride: Reg,
        count: int,
        k_contiguous: bool,
        columns: int,
        sets: int,
    ) -> ScalarOperand:
        """Access to `count` elements of the scalar operand a step; contiguous along k, or along that count.

        `columns` tells how many vector columns use each element.
        """

    @abstractmethod
    def c_walker(
        self,
        general: Pool,
        base: Reg,
        stride: Reg,
        columns: Sequence[Column],
        sums: Sequence[Sequence[tuple[Reg, ...]]],
        olds: Sequence[tuple[Reg, ...]],
    ) -> CWalker:
        """Walk over columns of C that have the given vector columns.

        Parameters
        ----------
        sums : sequence of sequences of tuple of Reg
            What will be stored: for each column of C, the parts of each vector column.
        olds : sequence of tuple of Reg
            Where old values go, so many vector columns at a time; empty when C is not read.
        """

    @abstractmethod
    def prefetch(self, place: Reg) -> Code:
        """Bring the cache line at an address near, to be written."""

    @abstractmethod
    def fetch(self, place: Reg, ahead: int, further: int) -> Code:
        """Bring the cache line so many bytes behind an address near, to be read; whatever lies there.

        Loads of this turn have brought the address `further` where they move it, else that is added.
        """

    def ask_second(self, place: Reg, further: int) -> Code:
        """Bring the cache line so many bytes behind an address into the second cache, where `asks_others`."""
        raise self._lacks("a way to ask for what others will read")

    def twin_operand(
        self, pool: Pool, general: Pool, base: Reg, stride: Reg, columns: Sequence[Column], sets: int
    ) -> VectorOperand:
        """Access to a vector operand of two panels, where `asks_others`."""
        raise self._lacks("a way to read two panels")

    def start(self, general: Pool, columns: Sequence[Column]) -> Code:
        """Whatever must come first, such as loading masks."""
        return []

    def finish(self, code: Sequence[Instruction]) -> Code:
        """Whatever must come last, after this code."""
        return []

    def kept(self, columns: Sequence[Column]) -> set[Reg]:
        """Vector registers that hold something from `start` to `finish`."""
        return set()

    # Dot products

    @property
    def full_width(self) -> str:
        """The width of a whole register."""
        return ""

    def line_operand(self, pool: Pool, general: Pool, base: Reg, stride: Reg, count: int, sets: int) -> LineOperand:
        """Access to `count` lines that are contiguous along k."""
        raise self._lacks("dot products")

    def lines_ahead(self, pool: Pool, general: Pool, base: Reg, stride: Reg, count: int) -> LinesAhead:
        """The same for lines that come from memory, where `asks_ahead`."""
        raise self._lacks("a way to ask for lines ahead of time")

    def near_lines(self, pool: Pool, general: Pool, base: Reg, stride: Reg, count: int) -> NearLines:
        """The same for lines that stay in a cache, where `asks_ahead`."""
        raise self._lacks("a way to ask for lines ahead of time")

    def dot_columns(self, size: int) -> list[Column]:
        """What C's rows are made of, after `reduce`."""
        return self.columns(size, "")

    def live_steps(self, k: Reg, general: Pool, label: str) -> Code:
        """Note which lanes the rest of k fills, for `load_live`; go to `label` where there is no rest."""
        raise self._lacks("masked steps")

    def whole_factor(self, register: Reg) -> object:
        """A register as a factor of which each lane multiplies its own."""
        raise self._lacks("dot products")

    def reduce(self, rows: Sequence[Reg], target: Reg, pool: Pool) -> Code:
        """target's lane r = the sum of the lanes of rows[r]."""
        raise self._lacks("dot products")

    # Lanes as problems

    def problems(self, tile: Tile) -> int:
        """Problems that a register of such a tile has lanes for."""
        raise self._lacks("kernels across problems")

    def problem_operand(self, pool: Pool, general: Pool, base: Reg, stride: Reg, column: Column) -> ProblemOperand:
        """Access to matrices without gaps, a problem a lane, a stride from one to the next."""
        raise self._lacks("kernels across problems")

    def walk(self, register: Reg, stride: Reg, number: int) -> Code:
        """register += number * stride, for 1, 2, 4 or 8."""
        raise self._lacks("kernels across problems")

    # Complex sums kept as the four products of real and imaginary parts

    def pair_vector(self, pool: Pool, general: Pool, base: Reg, stride: Reg) -> VectorOperand:
        """Access to two complex elements side by side, interleaved in one register, a stride from step to step."""
        raise self._lacks("sums of four products")

    def pair_lines(
        self, pool: Pool, general: Pool, base: Reg, stride: Reg, count: int, groups: Sequence[range]
    ) -> PairLines:
        """Access to `count` complex lines that are contiguous along k; `groups` number them in twos."""
        raise self._lacks("sums of four products")

    def scalar_lines(self, pool: Pool, general: Pool, base: Reg, stride: Reg, groups: Sequence[range]) -> ScalarLines:
        """Access to complex lines that are contiguous along k, element by element."""
        raise self._lacks("sums of four products")

    def join_products(
        self, sums: Sequence[tuple[Reg, Reg]], pool: Pool, conjugate_vector: bool, conjugate_scalar: bool
    ) -> Code:
        """Make split complex numbers, in the first registers of `sums`, of what was summed as four products.

        Each of one or two `sums` is (re(s) v, im(s) v) with two complex v interleaved; at most one is conjugated.
        """
        raise self._lacks("sums of four products")

    def upper_half(self, target: Reg, source: Reg) -> Code:
        """target's low 64 bits = source's high 64 bits."""
        raise self._lacks("sums of four products")

    # C summed transposed: blocks of 128 bits are turned round

    @property
    def transposed_rows(self) -> int:
        """Rows of C in a block that `transpose` turns: lanes of 128 bits, or elements where pairs are interleaved."""
        return max(1, 16 // (self.dtype.real_bytes if self.split else self.dtype.bytes))

    def piece(self, rows: int) -> Column:
        """A column of C that is one block high."""
        raise self._lacks("transposed tiles")

    def turn_block(self, rows: Sequence[tuple[Reg, ...]], pool: Pool, column: Column) -> tuple[Code, TurnedBlock]:
        """Turn registers that hold rows, within each 128 bits, so that columns can be had of them."""
        raise self._lacks("transposed tiles")

    def column_of(self, block: TurnedBlock, position: int, pool: Pool, keep: bool) -> tuple[Code, tuple[Reg, ...]]:
        """The registers, one a part, whose low 128 bits hold column `position` of a turned block.

        With `keep` they are going to be written to, and what lies above them must outlive that.
        """
        raise self._lacks("transposed tiles")

    def jump_if_dead(self, position: int, label: str) -> Code:
        """Go on at a label when element `position` of the masked column is beyond its live part."""
        raise self._lacks("run-time masks")

    def _lacks(self, what: str) -> AssertionError:
        return AssertionError(f"{self.name} has no {what}")


class CWalker(ABC):
    """C, one column after another."""

    @abstractmethod
    def setup(self) -> Code:
        """Prepare addresses; runs once, before the first column."""

    @abstractmethod
    def load(self, first: int, olds: Sequence[tuple[Reg, ...]]) -> Code:
        """Read old values of the current column of C: vector columns from number `first` on."""

    @abstractmethod
    def store(self, sums: Sequence[tuple[Reg, ...]]) -> Code:
        """Write the current column of C."""

    @abstractmethod
    def next(self) -> Code:
        """Go to the next column of C."""


label_op = Op("{0}:", "-", lambda machine, instruction: None, "label")


def _discover() -> None:
    package = importlib.import_module(__package__ or "")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")


def isa_names() -> list[str]:
    """Names of all instruction sets, portable C first."""
    _discover()
    return sorted(Isa.known, key=lambda name: (name != "scalar", name))


def find_any(name: str) -> Isa:
    """The ISA `name` for one of its types: for what its types share."""
    _discover()
    return next(iter(Isa.known[name].values()))()


def letters_of(name: str) -> str:
    """Letters of the types that the ISA `name` has kernels for."""
    _discover()
    return "".join(letter for letter in DTYPES if letter in Isa.known[name])


def find(name: str, letter: str) -> Isa:
    """The ISA `name` for type `letter`."""
    _discover()
    return Isa.known[name][letter]()
