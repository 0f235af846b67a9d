"""The options that benchmarks share."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from .problem import MODES


def parser(
    name: str, about: str | None, *, rounds: int, modes: Sequence[str] = (), types: str = "sdcz", rivals: bool = True
) -> argparse.ArgumentParser:
    """Return a parser of ``build.py bench NAME`` with the common options.

    Parameters
    ----------
    about : str
        The benchmark's docstring; its first line is shown.
    rounds : int
        Default of ``--rounds``.
    modes : sequence of str
        Default of ``--modes``; none: there is no such option.
    types : str
        Default of ``--types``.
    rivals : bool
        Whether it can be told whom to be held against.
    """
    made = argparse.ArgumentParser(prog=f"build.py bench {name}", description=str(about).partition("\n")[0])
    add = made.add_argument
    add("--types", default=types, type=_types, help=f"of sdcz (default: {types})")
    if modes:
        text = "all" if tuple(modes) == MODES else " ".join(modes)
        add("--modes", nargs="+", default=list(modes), choices=MODES, help=f"row-major names (default: {text})")
    add("--quick", action="store_true", help="few sizes, little time for each")
    add("--rounds", type=int, default=rounds, help=f"turns of each library at each product (default {rounds})")
    if rivals:
        add("--rivals", nargs="*", metavar="NAME", help="only these; none at all without a name")
        words = "a further library with cblas_?gemm"
        add("--rival", action="append", default=[], metavar="NAME=LIB.so[:PREFIX]", help=words)
    words = "install pyproject's extra `bench` and Debian's packages first"
    add("--install-rivals", action="store_true", help=words)
    add("--core", type=int, help="the core to run on (default: the least disturbed)")
    add("--json", metavar="FILE", help="write everything measured")
    return made


def _types(text: str) -> str:
    if not text or set(text) - set("sdcz"):
        raise argparse.ArgumentTypeError(f"{text}: letters of sdcz are wanted")
    return text
