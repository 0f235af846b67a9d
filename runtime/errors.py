"""What goes wrong, by name. Messages say what was asked, what is wrong with it and what would be right.

Each derives from the built-in exception that a caller who knows nothing of tilewright would expect.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = [
    "ArgumentError",
    "DtypeError",
    "IsaError",
    "LayoutError",
    "OverlapError",
    "PackedError",
    "ScalarError",
    "ShapeError",
    "SpecializeWarning",
    "TilewrightError",
    "TuningError",
]


class TilewrightError(Exception):
    """Any of the below."""


class ShapeError(TilewrightError, ValueError):
    """Dimensions that are not two, or do not fit together."""


class DtypeError(TilewrightError, TypeError):
    """Not an array of float32, float64, complex64 or complex128 in native byte order, or not of one type."""


class ScalarError(TilewrightError, TypeError):
    """An alpha or beta that is no number, or complex where the arrays are real."""


class ArgumentError(TilewrightError, ValueError):
    """An option outside its values, or one without the argument it needs."""


class LayoutError(TilewrightError, ValueError):
    """Memory that cannot be written to."""


class OverlapError(TilewrightError, ValueError):
    """An `out` that shares elements with an operand or with itself."""


class PackedError(TilewrightError, ValueError):
    """Not a packed operand, a damaged one, or not the one that the plan takes."""


class IsaError(TilewrightError, RuntimeError):
    """An instruction set that was not built or that this CPU lacks, or no kernel for what was asked."""


class TuningError(TilewrightError, RuntimeError):
    """Times of kernels that cannot be taken or kept."""


class SpecializeWarning(RuntimeWarning):
    """Kernels for one size that could not be made or kept; products are right without them."""


def shown(value: object, how: Callable[[object], str] = repr) -> str:
    """Return a value's repr for a message, whatever its own does.

    Examples
    --------
    >>> shown("N")
    "'N'"
    """
    try:
        return how(value)
    except Exception:
        return f"<{type(value).__name__} that cannot be shown>"
