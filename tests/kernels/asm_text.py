"""Reads the inline assembly of a generated kernel as text and says where its contract with the compiler is broken.

Deliberately ignorant of the generator's own objects: it sees what the compiler sees. Rules:

- every register named in the body is a clobber, every clobber is named in the body (a register that is only read would
  hold nobody knows what);
- "memory" and "cc" are clobbers; registers that belong to the platform or the frame are not touched;
- every parameter that the body changes is an in/out operand that shares its register with no input: early-clobber, or
  each in a register of its own;
- labels are unique wherever the compiler copies the body (``%=``), and every jump has its label.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

FORBIDDEN = {"x18", "x29", "x30", "sp", "rsp", "rbp"}
LINE = re.compile(r'^ *"(.*?) *\\n"', re.MULTILINE)
LABEL = re.compile(r"\.L\w+(?:%=)?|(?<!\.)\b\d+[bf]\b")  # v1.16b is a register
AARCH64_REGISTER = re.compile(r"(?<![\w.])(?:([vqdshb])(\d{1,2})|([xw])(\d{1,2})|(sp|wsp))(?=[.,\s\]}!]|$)")
X86_REGISTER = re.compile(r"%%(\w+)")
EXCLUSIVE = re.compile(r"\+(&r|[abcdSD])")
NO_DESTINATION = (
    "str",
    "stp",
    "st1",
    "st2",
    "st3",
    "st4",
    "stur",
    "cmp",
    "tst",
    "tb",
    "cb",
    "b",
    "prfm",
    "test",
    "prefetch",
    "j",
)


@dataclass(frozen=True)
class Asm:
    """One ``__asm__`` statement."""

    lines: list[str]
    outputs: dict[str, str]  # operand name -> constraint
    inputs: dict[str, str]
    clobbers: set[str]


def read(source: str) -> Asm:
    """The asm statement of a generated C file."""
    body = source[source.index("__asm__") :]
    after = body[body.rindex('\\n"') :].split("\n        : ")
    operands = [dict(re.findall(r'\[(\w+)\] "([^"]+)"', part)) for part in after[1:3]]
    return Asm(LINE.findall(body), operands[0], operands[1], set(re.findall(r'"([^"]+)"', after[3])))


def canonical(register: str) -> str:
    """The clobber name of an x86 register: xmm, ymm and zmm are one, eax is rax, r8d is r8."""
    if match := re.fullmatch(r"[xyz]mm(\d+)", register):
        return f"v{match[1]}"
    if match := re.fullmatch(r"(r\d+)[dwb]?", register):
        return match[1]
    if match := re.fullmatch(r"e([a-ds]\w)", register):
        return f"r{match[1]}"
    return register


def registers(line: str, x86: bool) -> set[str]:
    """Registers that a line names."""
    if x86:
        return {canonical(name) for name in X86_REGISTER.findall(line)}
    operands = line.partition(" ")[2]
    found = set()
    for vector, v, general, x, stack in AARCH64_REGISTER.findall(operands):
        found.add(f"v{v}" if vector else f"x{x}" if general else stack)
    return found


def changed_parameters(line: str, x86: bool) -> set[str]:
    """Parameters (``%[a]``) that a line changes."""
    mnemonic, _, operands = line.partition(" ")
    changed = set(re.findall(r"\[%\[(\w+)\]\], ", line)) | set(
        re.findall(r"\[%\[(\w+)\][^\]]*\]!", line)
    )  # post- and pre-index
    if not mnemonic.startswith(NO_DESTINATION):
        place = operands.rsplit(",", 1)[-1] if x86 else operands.split(",", 1)[0]
        if match := re.fullmatch(r"%q?\[(\w+)\]", place.strip()):
            changed.add(match[1])
    return changed


def complaints(source: str) -> Iterator[str]:
    """What is wrong with the asm of a generated file."""
    asm = read(source)
    x86 = any("%%" in line for line in asm.lines)
    clobbers = {canonical(name) if x86 else name for name in asm.clobbers} - {"cc", "memory"}
    named = set().union(*(registers(line, x86) for line in asm.lines))
    if any(line.startswith("vzeroupper") for line in asm.lines):  # it names none and changes sixteen
        named |= {canonical(f"xmm{number}") for number in range(16)}
    for register in sorted(named - clobbers):
        yield f"{register} is used and not a clobber"
    for register in sorted(clobbers - named):
        yield f"{register} is a clobber and not used"
    for register in sorted(named & FORBIDDEN):
        yield f"{register} is not ours to use"
    for word in sorted({"cc", "memory"} - asm.clobbers):
        yield f'"{word}" is not a clobber'
    for parameter in sorted(set().union(*(changed_parameters(line, x86) for line in asm.lines))):
        if not EXCLUSIVE.fullmatch(asm.outputs.get(parameter, "")):
            yield f"{parameter} is changed and not an in/out operand with a register to itself"
    defined = [line[:-1] for line in asm.lines if line.endswith(":")]
    wanted = {label for line in asm.lines if not line.endswith(":") for label in LABEL.findall(line)}
    for label in sorted({*defined, *wanted}):
        if not label.endswith("%="):
            yield f"label {label} is not unique in every copy of the body (%=)"
    for label in sorted(wanted - set(defined)):
        yield f"jump to {label}, which is nowhere"
    for label in sorted({label for label in defined if defined.count(label) > 1}):
        yield f"label {label} is there twice"


def assembler_text(sources: list[str]) -> str:
    """Every different instruction of some kernels, once, as text for an assembler."""
    x86 = {"a": "%rdi", "b": "%rsi", "c": "%rdx", "args": "%rcx"}
    arm = {"a": "x0", "b": "x1", "c": "x2", "args": "x3"}
    lines: set[str] = set()
    for source in sources:
        asm = read(source)
        names = x86 if any("%%" in line for line in asm.lines) else arm
        for line in asm.lines:
            if not LABEL.search(line):
                for name, register in names.items():
                    line = line.replace(f"%[{name}]", register)
                lines.add(re.sub(r"%([%{}])", r"\1", line))
    return "\n".join([*sorted(lines), ""])
