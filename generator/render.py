"""From kernels to C text: Python has decided everything, Jinja prints it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from . import abi
from .cost import cost_of
from .dtypes import DTYPES
from .ir import Mem, Reg, written
from .isa.base import Isa, find_any
from .kernel import Kernel
from .small import LINE
from .version import __version__

__all__ = ["kernel_abi", "kernel_header", "kernel_source", "kernel_table", "render", "special_table"]

_COUNTED = {"ISA": abi.ISA_CODES, "DTYPE": abi.DTYPE_CODES, "MODE": abi.MODE_CODES}
TEMPLATE_FOLDER = Path(__file__).parent.parent / "templates"


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATE_FOLDER),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )


def render(template: str, **values: Any) -> str:
    """Print a template of `templates/`."""
    return _environment().get_template(template).render(version=__version__, **values)


def kernel_source(kernel: Kernel) -> str:
    """The kernel's C file."""
    isa = kernel.isa
    return render(
        isa.template,
        name=str(kernel.name),
        symbol=kernel.name.symbol,
        about=_about(kernel),
        lines=_lines(kernel),
        operands=_operands(kernel),
        locals=_locals(kernel),
    )


def kernel_header() -> str:
    """tw_kernel.h, the ABI."""
    return render(
        "tw_kernel.h.j2",
        args=[(ctype, name, note, abi.offset(name)) for name, (ctype, _, note) in abi.ARGS.items()],
        batch=[(ctype, name, note, abi.offset(name)) for name, (ctype, _, note) in abi.BATCH.items()],
        flags=[(name, bit, note) for name, (bit, note) in abi.FLAGS.items()],
        enums={
            "isa": abi.ISA_CODES,
            "dtype": abi.DTYPE_CODES,
            "mode": abi.MODE_CODES,
            "family": abi.FAMILY_CODES,
        },
        counts={name: len(codes) for name, codes in _COUNTED.items()},
        isa_names=[f'"{name}"' for name in abi.ISA_CODES],
        isa_bases=[abi.ISA_CODES[find_any(name).base or name] for name in abi.ISA_CODES],
        dtypes=[DTYPES[letter] for letter in abi.DTYPE_CODES],
    )


def kernel_table(kernels: Sequence[Kernel]) -> str:
    """The table of kernels that the runtime searches."""
    plain = [kernel for kernel in kernels if not kernel.tile.k]
    text = "\n".join(f"{kernel.name} {kernel.spec_hash}" for kernel in plain)
    return render(
        "kernel_table.c.j2",
        kernels=[_row(kernel) | _cost(kernel) for kernel in plain],
        specials=[_row(kernel) for kernel in kernels if kernel.tile.k],
        digest=hashlib.sha256(text.encode()).hexdigest()[:16],
        abi=kernel_abi(),
    )


def special_table(kernels: Sequence[Kernel]) -> str:
    """The table of a library of exact-size kernels alone."""
    return render("special_table.c.j2", specials=[_row(kernel) for kernel in kernels], abi=kernel_abi())


def kernel_abi() -> str:
    """What tells kernels of this version's ABI from others: a digest of ``tw_kernel.h``."""
    return hashlib.sha256(kernel_header().encode()).hexdigest()[:16]


def _row(kernel: Kernel) -> dict[str, Any]:
    """A kernel as a table of C has it."""
    tile = kernel.tile
    return {
        "name": str(kernel.name),
        "symbol": kernel.name.symbol,
        "isa": f"TW_ISA_{kernel.isa.name.upper()}",
        "dtype": f"TW_{kernel.dtype.letter.upper()}",
        "mode": f"TW_{tile.mode.name.upper()}",
        "family": f"TW_{kernel.entry.family.upper()}",
        "vector_dim": int(tile.transposed),
        "mask_span": kernel.mask_span,
        "paired": int(kernel.dtype.complex and kernel.isa.paired),
        "reassociates": int(_reassociates(kernel)),
        "mr": tile.mr,
        "nr": tile.nr,
        "panels": int(tile.on_panels) + tile.twin,
        "asks": tile.lines_asked(kernel.dtype.bytes) * LINE,
        "k": tile.k,
        "lds": tile.lds,
        "lanes": kernel.lanes,
    }


def _reassociates(kernel: Kernel) -> bool:
    """Whether sums differ from those of other kernels of this ISA and type, on the same mode, in their last bits.

    FCMLA multiplies the real part of its first factor first, and only the second can be picked by number: where C is
    summed transposed that is not A.
    """
    return kernel.tile.form in ("dot", "paired", "quad") or (kernel.isa.fused and kernel.tile.transposed)


def _cost(kernel: Kernel) -> dict[str, str]:
    cost = cost_of(kernel)
    return {"call": f"{cost.call:.2f}", "step": f"{cost.step:.3f}"}


def _about(kernel: Kernel) -> list[str]:
    """The header comment, line by line."""
    tile, isa, program = kernel.tile, kernel.isa, kernel.program
    a, b = (("A", "m", "k"), ("B", "k", "n"))
    a_text = _factor(*a, tile.mode.name[0])
    b_text = _factor(*b, tile.mode.name[1])
    size = f"C[{tile.mr}x{tile.nr}]"
    live = ""
    lds = "any lda, ldb, ldc"
    if tile.on_panels:
        lds = f"panels {tile.mr} and {tile.nr} wide, any ldc"
        if tile.twin:
            lds = f"two panels {tile.mr // 2} wide and one {tile.nr} wide, any lda, ldc"
    if tile.k:
        known = ", ".join(f"{name} {ld or 'any'}" for name, ld in zip(("lda", "ldb", "ldc"), tile.lds, strict=True))
        lds = f"k {tile.k}, {known}{', a batch of them' if tile.batch else ''}"
    if kernel.mask_span:
        letter = "n" if tile.transposed else "m"
        live = f", {letter} from {tile.vector_size - kernel.mask_span + 1} to {tile.vector_size}"
    spec = "exact" if tile.k else "packed" if tile.on_panels else isa.name
    per_turn = ", ".join(f"{count} {kind}" for kind, count in program.per_turn().items())
    return [
        f"{kernel.name} - generated by tilewright {__version__}, do not edit.",
        "",
        f"  {size} = alpha * {a_text} * {b_text} + beta * C        column-major, {lds}{live}",
        "",
        f"spec      generator/specs/{spec}.yaml: {kernel.dtype.letter} {tile.mode.name}"
        f"          template  templates/{isa.template}",
        f"inputs    sha256:{kernel.spec_hash}          see it alone  python3 build.py show {kernel.name}",
        f"vectors   {_map(isa, program.vectors.purposes)}",
        f"general   {_map(isa, program.general.purposes)}",
        f"a turn    {program.steps_a_turn} k: {per_turn}" if per_turn else f"k         {tile.k} steps, no loop",
    ]


def _factor(matrix: str, rows: str, columns: str, letter: str) -> str:
    if letter == "n":
        return f"{matrix}[{rows}x{columns}]"
    return f"{matrix}[{columns}x{rows}]^{'T' if letter == 't' else 'H'}"


def _map(isa: Isa, purposes: dict[str, list[Reg]]) -> str:
    """Purposes and their registers: "C v0-v3   A v4"."""
    parts = []
    for purpose, registers in purposes.items():
        runs: list[list[Reg]] = []
        for register in sorted(set(registers), key=lambda register: register.number):
            if runs and register.number == runs[-1][-1].number + 1:
                runs[-1].append(register)
            else:
                runs.append([register])
        names = [isa.show_register(run[0]) + (f"-{isa.show_register(run[-1])}" if len(run) > 1 else "") for run in runs]
        parts.append(f"{purpose} {' '.join(names)}")
    return "   ".join(parts)


def _lines(kernel: Kernel) -> list[dict[str, str]]:
    """Instructions with their comments, and titles of sections."""
    lines = []
    program = kernel.program
    width = max(map(len, kernel.listing)) + 1
    for position, (instruction, text) in enumerate(zip(program.code, kernel.listing, strict=True)):
        if position in program.sections:
            lines.append({"title": program.sections[position], "text": "", "comment": ""})
        lines.append({"title": "", "text": text.ljust(width), "comment": instruction.comment})
    return lines


def _operands(kernel: Kernel) -> dict[str, str]:
    changed = written(kernel.program.code)
    return kernel.isa.operands(changed, kernel.program.code)


def _locals(kernel: Kernel) -> dict[str, list[str]]:
    """Variables of a portable kernel, by what they are."""
    isa, code = kernel.isa, kernel.program.code
    changed = written(code)
    pointers = {operand.base for instruction in code for operand in instruction.operands if isinstance(operand, Mem)}
    own = sorted((register for register in changed if not register.name), key=lambda r: (r.file, r.number))
    return {
        "values": [isa.show_register(register) for register in own if register.file == "v"],
        "pointers": [isa.show_register(register) for register in own if register.file == "x" and register in pointers],
        "numbers": [
            isa.show_register(register) for register in own if register.file == "x" and register not in pointers
        ],
        "type": [kernel.dtype.real_c],
    }
