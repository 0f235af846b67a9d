"""``python -m generator``: generate sources, or prove them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .generate import SelectionError, generate, select
from .render import kernel_source
from .spec import SpecError


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m generator", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, about in {"generate": "write sources and manifest", "prove": "run kernels on exact integers"}.items():
        command = commands.add_parser(name, help=about)
        command.add_argument("--arch", default="", help="x86_64 or aarch64; the name of --out by default")
        command.add_argument("--out", type=Path, required=True, help="build/<arch>")
        command.add_argument("--isa", action="append", default=[])
        command.add_argument("--only", action="append", default=[], help="kernel name or pattern")
        command.add_argument("--all", action="store_true", help="prove what was proved before, too")
    commands.add_parser("show", help="print one kernel's C file").add_argument("name")
    options = parser.parse_args()
    try:
        if options.command == "show":
            print(_source(options.name), end="")
            return 0
        arch = options.arch or options.out.name
        if options.command == "generate":
            kernels = generate(arch, options.out, options.isa, options.only)
            print(f"{len(kernels)} kernels for {arch}")
        else:
            _prove(arch, options)
    except (SelectionError, SpecError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _prove(arch: str, options: argparse.Namespace) -> None:
    from .prove import ProofError, prove_all  # needs numpy, which generating must not

    cache = None if options.all else options.out / "proofs.json"
    try:
        proved, known = prove_all(select(arch, options.isa, options.only), cache)
    except ProofError as error:
        raise SystemExit(f"ProofError: {error}") from error
    print(f"{arch}: {proved} kernels proved, {known} known from before")


def _source(name: str) -> str:
    for arch in ("x86_64", "aarch64"):
        for kernel in select(arch):
            if str(kernel.name) == name:
                return kernel_source(kernel)
    raise SelectionError(f"show {name}: there is no such kernel; build/<arch>/manifest.json lists them all")


if __name__ == "__main__":
    sys.exit(main())
