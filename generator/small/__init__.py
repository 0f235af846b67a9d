"""The small, pack-free family: one kernel computes one tile of C straight from the operands, whatever k is."""

from .ahead import dot_product_ahead
from .dot import dot_product
from .lanes import lanes_product
from .outer import outer_product
from .quad import quad_product
from .tile import LINE, Program, Tile

__all__ = [
    "LINE",
    "Program",
    "Tile",
    "dot_product",
    "dot_product_ahead",
    "lanes_product",
    "outer_product",
    "quad_product",
]
