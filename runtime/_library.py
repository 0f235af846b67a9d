"""The C library, loaded: `lib` holds its functions, `ffi` makes and reads C data."""

from __future__ import annotations

from .errors import ArgumentError, IsaError, PackedError, TilewrightError

try:
    from ._tilewright import ffi, lib
except ImportError as error:
    raise ImportError(
        f"tilewright.runtime: its compiled part does not load ({error}). In a checkout, run: python3 build.py. "
        "Installed: reinstall tilewright."
    ) from error

__all__ = ["ffi", "lib", "raise_for", "text"]


def text(pointer: object) -> str:
    """Return the string that C points at."""
    return str(ffi.string(pointer).decode(errors="replace"))


def raise_for(status: int) -> None:
    """Raise what a status other than TW_OK means, in the library's own words."""
    message = text(lib.tw_error_message())
    if status in (lib.TW_ERROR_ISA, lib.TW_ERROR_KERNEL):
        raise IsaError(message)
    if status == lib.TW_ERROR_PACKED:
        raise PackedError(message)
    if status in (lib.TW_ERROR_THREADS, lib.TW_ERROR_PLAN):
        raise ArgumentError(message)
    if status == lib.TW_ERROR_MEMORY:
        raise MemoryError(message)
    raise TilewrightError(message)  # an argument that Python should have refused
