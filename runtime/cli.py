"""The command ``tilewright``: what there is, whether it works, how a product runs, and other programs on our BLAS.

Each subcommand is a function here that imports what it needs when it is called.
"""

from __future__ import annotations

import argparse
import importlib
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["blas_library", "main", "preload"]


def blas_library() -> Path:
    """Return the file of libtilewright_blas.so.

    Raises
    ------
    FileNotFoundError
        It was not built.

    Examples
    --------
    >>> blas_library().name
    'libtilewright_blas.so.0'
    """
    found = next(Path(__file__).parent.glob("libtilewright_blas.so.*"), None)
    if found is None:
        raise FileNotFoundError(
            f"{Path(__file__).parent} holds no libtilewright_blas.so. In a checkout, run: python3 build.py. "
            "Installed: reinstall tilewright."
        )
    return found.resolve()


def preload(library: Path, already: str) -> str:
    """Return the value of ``LD_PRELOAD`` that adds `library` to what is there, behind it: what wraps a BLAS finds ours.

    Examples
    --------
    >>> preload(Path("/x/libtilewright_blas.so.0"), "/y/profiler.so")
    '/y/profiler.so:/x/libtilewright_blas.so.0'
    >>> preload(Path("/x/libtilewright_blas.so.0"), "/x/libtilewright_blas.so.0 /y/profiler.so")
    '/x/libtilewright_blas.so.0:/y/profiler.so'
    """
    there = already.replace(" ", ":").split(":")
    names = [*there, *([] if str(library) in there else [str(library)])]
    return ":".join(filter(None, names))


def run(options: argparse.Namespace) -> int:
    """Run a program with matrix products by libtilewright_blas.so in place of its BLAS's."""
    library = blas_library()
    program = shutil.which(options.program)
    if program is None:
        raise FileNotFoundError(f"{options.program}: there is no such program in PATH")
    environment = {**os.environ, "LD_PRELOAD": preload(library, os.environ.get("LD_PRELOAD", ""))}
    os.execve(program, [options.program, *options.arguments], environment)


def info(options: argparse.Namespace) -> int:
    """Say which library, instruction set, CPU and tuning file are in use, and why."""
    from . import info

    print(info())
    print(f"  {'BLAS':10} {blas_library()}")
    return 0


def selftest(options: argparse.Namespace) -> int:
    """Run every kernel that this CPU can execute and compare with plain C."""
    from . import selftest

    result = selftest()
    print(result)
    return 0 if result else 1


def tune(options: argparse.Namespace) -> int:
    """Time the kernels on this machine and keep the result for later processes."""
    from . import tune

    print(tune(options.seconds, full=options.full))
    return 0


def bench(options: argparse.Namespace) -> int:
    """Multiply a few shapes beside numpy and print GFLOP/s."""
    from . import bench

    bench.main()
    return 0


def explain(options: argparse.Namespace) -> int:
    """Say how a product runs: path, tiles, kernels, predicted time."""
    from . import explain

    operations = {"trans_a": options.trans[0], "trans_b": options.trans[1]}
    print(explain(options.m, options.n, options.k, options.dtype, **operations))
    return 0


def topv(options: argparse.Namespace) -> int:
    """Prune visual tokens: topv demo answers a question about a picture with and without."""
    try:
        demo = importlib.import_module("tilewright.topv.demo")
    except ModuleNotFoundError as error:
        raise RuntimeError(f"{error}; it comes with the extra: pip install tilewright[topv]") from error
    return int(demo.main(options.arguments))


COMMANDS = {
    "run": run,
    "info": info,
    "selftest": selftest,
    "tune": tune,
    "bench": bench,
    "explain": explain,
    "topv": topv,
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tilewright", description=str(__doc__).partition("\n")[0])
    subs = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    parsers = {}
    for name, function in COMMANDS.items():
        words = str(function.__doc__)
        parsers[name] = subs.add_parser(name, help=words, description=words)
    parsers["run"].epilog = "TILEWRIGHT_VERBOSE=1 says at the end, on stderr, which products ran how often."
    parsers["run"].add_argument("program", metavar="PROGRAM")
    parsers["run"].add_argument("arguments", metavar="ARGS", nargs=argparse.REMAINDER)
    parsers["topv"].add_argument("arguments", metavar="ARGS", nargs=argparse.REMAINDER)
    parsers["tune"].add_argument("--full", action="store_true", help="more and longer repetitions: minutes")
    parsers["tune"].add_argument("--seconds", type=float, help="what not to exceed")
    for size in "mnk":
        parsers["explain"].add_argument(size, type=int)
    parsers["explain"].add_argument("--dtype", default="float64", help="float32, float64, complex64 or complex128")
    letters = [a + b for a in "NTC" for b in "NTC"]
    parsers["explain"].add_argument("--trans", default="NN", choices=letters, help="operations on A and B")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; what the user can mend is an error of one line."""
    options = _parser().parse_args(arguments)
    try:
        return COMMANDS[options.command](options)
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        print(f"tilewright {options.command}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
