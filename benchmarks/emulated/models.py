"""Cycles of a call by llvm-mca: the instructions that ran, one after another, through its model of a core.

Operands are in L1, every branch is foreseen, a load never waits for an earlier store.  A call costs what a jump costs:
llvm-mca's own default is a hundred cycles, which no core takes.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tilewright.generator.files import write_atomically

from .emulator import Case
from .tools import Tools, version

__all__ = ["CALL", "cycles"]

CALL = 1
"""Cycles of a call instruction."""

Words = tuple[int, ...]


def cycles(
    tools: Tools, traces: Mapping[Case, Words], cpus: Sequence[str], jobs: int, keep: Path | None, call: int = CALL
) -> dict[Case, dict[str, int]]:
    """Cycles of each trace on each model.

    Parameters
    ----------
    tools : Tools
        Of which `tools.cycles` must be true.
    traces : mapping of Case to the words of its instructions
    cpus : sequence of str
        Names that llvm-mca knows.
    keep : Path, optional
        Where to keep what was found, by the instructions themselves.
    call : int
        Cycles of a call instruction.
    """
    if tools.mca is None or tools.disassembler is None:
        raise SystemExit("; ".join(tools.missing()))
    known: dict[str, int] = json.loads(keep.read_text()) if keep and keep.exists() else {}
    tool = version(tools.mca)
    keys = {
        (case, cpu): _key(words, cpu, tool, call) for case, words in traces.items() for cpu in cpus
    }  # fmt: skip
    rest = [(case, cpu) for (case, cpu), key in keys.items() if key not in known]
    text = _disassembled(tools.disassembler, sorted({word for case, _ in rest for word in traces[case]}))
    with ThreadPoolExecutor(jobs) as pool:
        found = pool.map(
            lambda wanted: _model(str(tools.mca), [text[word] for word in traces[wanted[0]]], wanted[1], call), rest
        )
        known.update({keys[wanted]: value for wanted, value in zip(rest, found, strict=True)})
    if keep and rest:
        write_atomically(keep, json.dumps(known))
    return {case: {cpu: known[keys[case, cpu]] for cpu in cpus} for case in traces}


def _key(words: Words, cpu: str, tool: str, call: int) -> str:
    digest = hashlib.sha256(struct.pack(f"<{len(words)}I", *words))
    digest.update(f"{cpu} {tool} {call}".encode())
    return digest.hexdigest()[:20]


def _disassembled(program: str, words: Sequence[int]) -> dict[int, str]:
    """Each word as text."""
    if not words:
        return {}
    text = "\n".join(" ".join(f"0x{byte:02x}" for byte in struct.pack("<I", word)) for word in words)
    command = [program, "--disassemble", "-triple=aarch64", "-mattr=+all"]
    said = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    lines = [line.strip() for line in said.stdout.splitlines() if line.strip() and not line.strip().startswith(".")]
    if len(lines) != len(words):
        raise SystemExit(f"llvm-mc read {len(lines)} of {len(words)} instructions\n{said.stderr[:2000]}")
    return dict(zip(words, lines, strict=True))


def _model(program: str, lines: Sequence[str], cpu: str, call: int) -> int:
    command = [program, "-mtriple=aarch64-linux-gnu", f"-mcpu={cpu}", "-iterations=1", f"-call-latency={call}"]
    command += ["-instruction-info=false", "-resource-pressure=false", "-skip-unsupported-instructions=parse-failure"]
    said = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, check=False)
    found = re.search(r"^Total Cycles:\s+(\d+)", said.stdout, re.MULTILINE)
    if found is None:
        raise SystemExit(f"llvm-mca {cpu}: {said.stderr[:2000]}")
    return int(found[1])
