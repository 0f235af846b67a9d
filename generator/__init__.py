"""Generates GEMM kernels: specs become registers, schedules and instructions, then C with inline assembly.

specs/*.yaml -> spec -> isa, small -> ir -> prove (interpreter), render (Jinja) -> generate (files, manifest)
"""

from .isa.base import Isa, find_any, isa_names, letters_of
from .version import __version__

__all__ = ["ISAS", "Isa", "__version__", "letters_of"]

ISAS: dict[str, Isa] = {name: find_any(name) for name in isa_names()}
"""Every instruction set by name: its architecture, description and compiler flags."""
