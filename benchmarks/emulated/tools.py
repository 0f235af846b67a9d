"""The programs that emulation needs: which are here, and what to install where one is not."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

__all__ = ["MODELS", "Tools", "models", "models_with", "version"]

MODELS = ("tsv110", "neoverse-n1", "neoverse-v1")
"""Kunpeng 920 (the papers' machine), and Arm's cores of servers since."""


@dataclass(frozen=True)
class Tools:
    """Paths of what is installed; None of what is not."""

    qemu: str | None
    cross: str | None
    host: str | None
    mca: str | None
    disassembler: str | None

    @staticmethod
    def find() -> Tools:
        """Look for all of them."""
        return Tools(
            qemu=shutil.which("qemu-aarch64"),
            cross=shutil.which("aarch64-linux-gnu-gcc"),
            host=shutil.which("cc") or shutil.which("gcc"),
            mca=shutil.which("llvm-mca-22"),
            disassembler=shutil.which("llvm-mc-22"),
        )

    def missing(self) -> list[str]:
        """What is not here, in words: the program, Debian's package, what cannot be done without it.

        Examples
        --------
        >>> Tools(None, "gcc", "cc", "mca", "mc").missing()
        ['qemu-aarch64 is missing (package qemu-user): no instructions can be counted']
        """
        wanted = [
            (self.qemu, "qemu-aarch64", "qemu-user", "no instructions can be counted"),
            (
                self.cross,
                "aarch64-linux-gnu-gcc",
                "gcc-aarch64-linux-gnu and libc6-dev-arm64-cross",
                "nothing is built for aarch64, no instructions can be counted",
            ),
            (self.host, "cc", "gcc", "the counter cannot be compiled"),
            (self.mca, "llvm-mca-22", "llvm-22", "no cycles can be modelled"),
            (self.disassembler, "llvm-mc-22", "llvm-22", "no cycles can be modelled"),
        ]
        return [f"{name} is missing (package {package}): {so}" for path, name, package, so in wanted if path is None]

    @property
    def counts(self) -> bool:
        """Whether instructions can be counted."""
        return None not in (self.qemu, self.cross, self.host)

    @property
    def cycles(self) -> bool:
        """Whether cycles can be modelled."""
        return self.counts and None not in (self.mca, self.disassembler)


@cache
def version(program: str) -> str:
    """First line with a number of what a program says of itself."""
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    return next((line.strip() for line in said.splitlines() if re.search(r"\d\.\d", line)), "unknown")


@cache
def models(mca: str) -> tuple[str, ...]:
    """Every AArch64 core that llvm-mca knows by name (not each has a model of its own)."""
    asked = [mca, "-mtriple=aarch64-linux-gnu", "-mcpu=help"]
    said = subprocess.run(asked, capture_output=True, text=True, input="", check=False)
    text = (said.stdout + said.stderr).partition("Available CPUs")[2].partition("Available features")[0]
    return tuple(re.findall(r"^\s+(\S+)\s+- Select", text, re.MULTILINE))


def models_with(mca: str, cpus: Sequence[str], instruction: str) -> list[str]:
    """Those cores that have an instruction."""
    return [cpu for cpu in cpus if _has(mca, cpu, instruction)]


@cache
def _has(mca: str, cpu: str, instruction: str) -> bool:
    asked = [mca, "-mtriple=aarch64-linux-gnu", f"-mcpu={cpu}", "-iterations=1"]
    return subprocess.run(asked, capture_output=True, text=True, input=instruction, check=False).returncode == 0
