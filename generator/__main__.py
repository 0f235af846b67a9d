"""``python -m generator``: generate sources, or prove them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .generate import SelectionError, generate, select
from .prove import ProofError, prove_all
from .spec import SpecError


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m generator", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, about in {"generate": "write sources and manifest", "prove": "run kernels on exact integers"}.items():
        command = commands.add_parser(name, help=about)
        command.add_argument("--arch", default="", help="x86_64 or aarch64; read off the manifest by default")
        command.add_argument("--out", type=Path, required=True, help="build/<arch>")
        command.add_argument("--isa", action="append", default=[])
        command.add_argument("--only", action="append", default=[], help="kernel name or pattern")
        command.add_argument("--all", action="store_true", help="prove what was proved before, too")
    options = parser.parse_args()
    arch = options.arch or options.out.name
    try:
        if options.command == "generate":
            kernels = generate(arch, options.out, options.isa, options.only)
            print(f"{len(kernels)} kernels for {arch}")
        else:
            cache = None if options.all else options.out / "proofs.json"
            proved, known = prove_all(select(arch, options.isa, options.only), cache)
            print(f"{arch}: {proved} kernels proved, {known} known from before")
    except (SelectionError, SpecError, ProofError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
