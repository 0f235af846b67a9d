"""The small, pack-free family: one kernel computes one tile of C straight from the operands, whatever k is."""

from .tile import Program, Tile
from .outer import outer_product
from .dot import dot_product

__all__ = ["Program", "Tile", "dot_product", "outer_product"]
