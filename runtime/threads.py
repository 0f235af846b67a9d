"""How many threads a call may use: `set_num_threads`, `get_num_threads`, and both for threadpoolctl."""

from __future__ import annotations

import operator
from typing import Any

from ._library import lib, raise_for, text
from .errors import ArgumentError, shown

__all__ = ["get_num_threads", "register_controller", "set_num_threads"]

_MOST = 1024


def set_num_threads(threads: int | None) -> None:
    """Let calls use up to so many threads from now on, in the whole process.

    Batches and large products are divided among the calling thread and those of one pool; small products never are. A
    call that finds the pool at work for another thread's call uses its own thread alone.

    Parameters
    ----------
    threads : int or None
        1 to 1024. None: as many as there are cores for this process, by its affinity and its control group as they are
        at the next call. That is also where it begins, unless ``TILEWRIGHT_NUM_THREADS`` says otherwise.

    Raises
    ------
    ArgumentError
        Anything else; the number stays as it was.

    Examples
    --------
    >>> before = get_num_threads()
    >>> set_num_threads(1)
    >>> get_num_threads()
    1
    >>> set_num_threads(before)
    """
    try:
        number = 0 if threads is None else operator.index(threads)
    except TypeError:
        number = -1
    if isinstance(threads, bool) or not (threads is None or 1 <= number <= _MOST):
        raise ArgumentError(
            f"set_num_threads: threads is {shown(threads)}; it must be an integer from 1 to {_MOST}, or None for as "
            "many as there are cores."
        )
    status = lib.tw_set_num_threads(number)
    if status:
        raise_for(status)


def get_num_threads() -> int:
    """Return how many threads a call may use.

    Returns
    -------
    int

    Raises
    ------
    ArgumentError
        ``TILEWRIGHT_NUM_THREADS`` is no number of threads.

    Examples
    --------
    >>> get_num_threads() >= 1
    True
    """
    number: int = lib.tw_get_num_threads()
    if number < 0:
        raise_for(lib.TW_ERROR_THREADS)
    return number


def register_controller() -> None:
    """Tell threadpoolctl about this library, where it is installed: ``threadpool_limits(1)`` then holds here too."""
    try:
        from threadpoolctl import LibController, register
    except ImportError:  # not there, or older than 3.2
        return

    class Controller(LibController):  # type: ignore[misc,unused-ignore]
        """Tilewright, one of the BLAS-like libraries: whoever limits those means this one as well."""

        user_api = "blas"
        internal_api = "tilewright"
        filename_prefixes = ("libtilewright.so",)  # not libtilewright_blas.so, which has no threads of its own
        check_symbols = ("tw_get_num_threads", "tw_set_num_threads")

        def get_num_threads(self) -> int:
            return max(1, int(self.dynlib.tw_get_num_threads()))

        def set_num_threads(self, num_threads: int) -> Any:
            return self.dynlib.tw_set_num_threads(max(1, min(int(num_threads), _MOST)))

        def get_version(self) -> str:
            return text(lib.tw_version())

    register(Controller)
