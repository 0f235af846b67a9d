"""Which way calls from Python take to C: the extension (``_fast.c``) where it was built, else cffi.

Rules and messages are in `product` alone. What stands before it takes the common case and hands over the rest.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from . import _quick, product

if TYPE_CHECKING:
    from ._fast import Bound

__all__ = ["BOUND", "CALLS", "gemm", "run_plan"]

F = TypeVar("F", bound=Callable[..., Any])


def c_doc(function: Callable[..., Any]) -> str:
    r"""Return a function's docstring under its signature, in the form in which Python reads both from C functions.

    Examples
    --------
    >>> def half(x: float, *, up: bool = False) -> float:
    ...     "Halve."
    ...     return x / 2
    >>> c_doc(half)
    'half($module, x, *, up=False)\n--\n\nHalve.'
    """
    signature = inspect.signature(function)
    bare = [x.replace(annotation=inspect.Parameter.empty) for x in signature.parameters.values()]
    shown = str(signature.replace(parameters=bare, return_annotation=inspect.Signature.empty))
    return f"{function.__name__}($module, {shown[1:]}\n--\n\n{function.__doc__ or ''}"


def _choose(function: F, quick: F) -> tuple[F, str]:
    """Return what to call for `function`, C or `quick`, and which way that goes, for `info`."""
    if os.environ.get("TILEWRIGHT_PURE", "0") not in ("", "0"):
        return quick, "cffi (TILEWRIGHT_PURE)"
    try:
        from ._fast import accelerate
    except ImportError as error:
        return quick, f"cffi (no extension: {error})"
    return accelerate(function, c_doc(function), __package__), "extension"


gemm, CALLS = _choose(product.gemm, _quick.gemm)


def _never(*_: object) -> bool:
    return False


BOUND: type[Bound] | None = None
"""What makes a C function and its argument a callable; None where calls go through cffi."""
run_plan: Callable[..., bool] = _never
"""What runs a plan in the common case, and says whether it did."""
if CALLS == "extension":
    from ._fast import Bound as BOUND  # noqa: N814 (chosen once)
    from ._fast import run_plan
