"""Kernels for a user's own shapes, made while the process runs: `specialize`.

The one place where the runtime calls the generator. What it makes is a shared library below ``TILEWRIGHT_CACHE`` or the
user's cache folder, named after all that decided its bytes, with a record of them beside it. A file that is damaged,
not ours, or not what its record says is made again; where nothing can be made, the ordinary kernels serve as before.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib
import json
import os
import tempfile
import threading
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ._library import ffi, lib, raise_for, text
from .errors import ArgumentError, SpecializeWarning, shown
from .plan import Plan

__all__ = ["Specialized", "SpecializedProduct", "cache_folder", "specialize"]

_FORMAT = 1
_lock = threading.Lock()
_importing = (
    threading.Lock()
)  # Python's own locks of modules stay taken in a child of a fork: a fork waits for the import
_warned = False


def _after_fork() -> None:
    global _lock, _importing
    _lock, _importing = threading.Lock(), threading.Lock()  # another thread may have held the first


os.register_at_fork(
    before=lambda: _importing.acquire() and None,
    after_in_parent=lambda: _importing.release(),
    after_in_child=_after_fork,
)


@dataclass(frozen=True)
class SpecializedProduct:
    """One shape of those asked for, and what runs it now; true if kernels of its own do."""

    product: str
    kernels: tuple[str, ...]
    """What its tiles run."""
    batch: str
    """What runs a strided batch of it in one call; "" if nothing does."""
    why: str
    """Why it stays with kernels for any size; "" if it does not."""

    def __bool__(self) -> bool:
        return not self.why

    def __str__(self) -> str:
        batch = f"; batches: {self.batch}" if self.batch else ""
        return f"{self.product}: {self.why or ', '.join(self.kernels) + batch}"


@dataclass(frozen=True, repr=False)
class Specialized:
    """What `specialize` did; true if every shape has kernels of its own, and ``str`` of it is for people."""

    products: tuple[SpecializedProduct, ...]
    path: Path | None
    """The library that holds the new kernels; None: there was nothing to make, or it could not be made."""
    compiled: bool
    """Whether it was made by this call, not found."""
    seconds: float

    def __bool__(self) -> bool:
        return all(self.products)

    def __str__(self) -> str:
        how = f"{'made' if self.compiled else 'found'} {self.path}" if self.path else "nothing was made"
        return "\n".join([f"{how}, {self.seconds:.2f} s", *(f"  {product}" for product in self.products)])

    __repr__ = __str__


def specialize(shapes: Iterable[Sequence[Any]]) -> Specialized:
    """Make kernels for exactly these products, with k and the leading dimensions built in, and use them from now on.

    Each is rendered by the generator that made the library, proved by its interpreter on exact integers, compiled by
    the C compiler, kept on disk, and compared with plain C on this CPU before it is used. The second call for the same
    shapes, in any process, loads what the first one left. `gemm` and `gemm_batch` use the kernels at once; plans that
    `gemm_plan` made before stay as they are. It pays for products of up to about eight rows and columns, and for
    strided batches of them most (``python3 build.py bench specialize``).

    Parameters
    ----------
    shapes : iterable of (m, n, k, dtype[, trans[, (lda, ldb, ldc)]])
        As for `gemm_plan`: op(a) is (m, k), op(b) is (k, n), out is (m, n), all row-major. `trans` holds the letters of
        both operands ("NN", "NT", "TC" ...), "NN" by default; leading dimensions are in elements, by default those of
        C-contiguous arrays.

    Returns
    -------
    Specialized
        Prints as a line a shape. A shape that takes several tiles, where this gains nothing, or whose k is beyond 64
        stays with the kernels for any size, and says so.

    Raises
    ------
    ArgumentError, DtypeError, IsaError
        For a shape that is none, before anything is made.

    Warns
    -----
    SpecializeWarning
        Once in a process, where kernels cannot be made (no C compiler, say) or kept. Products are right all the same.

    Notes
    -----
    The files lie below ``TILEWRIGHT_CACHE``, else ``$XDG_CACHE_HOME/tilewright``, else ``~/.cache/tilewright``;
    ``TILEWRIGHT_CACHE=off`` keeps none. Sums are taken in the same order as by other kernels, except that a sum of
    products that are all -0 is -0 where others give 0.

    Examples
    --------
    >>> import numpy as np
    >>> made = specialize([(4, 4, 4, np.float32)])  # ships
    >>> print(made.products[0].product)
    float32 4 x 4 x 4 NN
    """
    started = time.monotonic()
    plans = [_plan_of(shape) for shape in shapes]
    reasons: list[str] = []
    wanted: dict[Any, None] = {}
    failure, path, compiled = "", None, False
    with _lock:
        try:
            generator = _generator()
            for plan in plans:
                needed, why = _wanted(plan, generator)
                reasons.append(why)
                wanted.update(dict.fromkeys(needed))
            if wanted:
                path, compiled = _provide(sorted(wanted), generator)
        except (ImportError, RuntimeError, OSError, AssertionError) as error:
            failure = f"{type(error).__name__}: {error}".splitlines()[0]
        except Exception as error:
            if type(error).__name__ != "ProofError":
                raise
            failure = f"ProofError: {error}"
    if failure:
        _warn(f"specialize: kernels for any size serve instead: {failure}")
        reasons = [failure] * len(plans)
    products = tuple(_describe(plan, why) for plan, why in zip(plans, reasons, strict=True))
    return Specialized(products, path, compiled, time.monotonic() - started)


def _plan_of(shape: Sequence[Any]) -> Plan:
    """Return a plan of the shape, which checks it and tells what tiles it takes."""
    try:
        m, n, k, dtype, *rest = shape
        trans, lds, *more = [*rest, "NN", None] if not rest else [*rest, None] if len(rest) == 1 else rest
    except (TypeError, ValueError):
        raise ArgumentError(
            f"specialize: {shown(shape)} is no shape; one looks like (m, n, k, dtype), (m, n, k, dtype, 'NT') or "
            "(m, n, k, dtype, 'NT', (lda, ldb, ldc))."
        ) from None
    if more or not isinstance(trans, str) or len(trans) != 2 or set(trans) - set("NTC"):
        raise ArgumentError(f"specialize: {shown(shape)}: trans must be two letters of N, T and C, like 'NT'.")
    try:
        lda, ldb, ldc = (None, None, None) if lds is None else lds
    except (TypeError, ValueError):
        raise ArgumentError(f"specialize: {shown(shape)}: give three leading dimensions, (lda, ldb, ldc).") from None
    return Plan(m, n, k, dtype, trans[0], trans[1], lda, ldb, ldc)


def _generator() -> Any:
    """The installed generator, imported only here."""
    package = (__package__ or "").rpartition(".")[0]
    with _importing:
        return importlib.import_module(f"{package}.generator.special" if package else "generator.special")


def _tiles(plan: Plan) -> list[Any]:
    count = lib.tw_gemm_plan_tiles(plan.handle, 0, ffi.NULL)
    found = ffi.new("tw_gemm_tile[]", max(1, count))
    if count < 0 or lib.tw_gemm_plan_tiles(plan.handle, count, found) < 0:
        raise_for(lib.TW_ERROR_MEMORY)
    return [found[index] for index in range(count)]


def _wanted(plan: Plan, generator: Any) -> tuple[list[Any], str]:
    """Return the kernels that a product lacks, and why it goes without."""
    if not 1 <= plan.k <= generator.MOST_STEPS:
        return [], f"k is {plan.k}; kernels for any size serve where it is not 1 to {generator.MOST_STEPS}"
    found = ffi.new("int64_t[7]")
    lib.tw_gemm_plan_seen(plan.handle, found)
    m, n, lda, ldb, ldc, *operations = found
    isa, letter = text(lib.tw_isa_name(lib.tw_gemm_plan_isa(plan.handle))), chr(plan.kind.letter)
    mode = generator.mode_of(isa, letter, *operations)
    both = [generator.Wanted(isa, letter, mode, m, n, plan.k, (lda, ldb, ldc), batch) for batch in (False, True)]
    possible = [each for each in both if mode and m and n and generator.one_tile(each)]
    if both[0] not in possible:
        return [], "no one kernel does it all; kernels for any size serve as well"
    return [each for each in possible if not _is_there(plan, each)], ""


def _is_there(plan: Plan, wanted: Any) -> bool:
    """Whether the plan runs such a kernel already."""
    if wanted.batch:
        return bool(lib.tw_gemm_plan_many(plan.handle) != ffi.NULL)
    return any(f"k{wanted.k}_" in text(tile.kernel).split("__")[0] + "_" for tile in _tiles(plan))


def _describe(plan: Plan, why: str) -> SpecializedProduct:
    now = Plan(plan.m, plan.n, plan.k, plan.dtype, plan.trans_a, plan.trans_b, *plan.lds)
    many = lib.tw_gemm_plan_many(now.handle)
    return SpecializedProduct(
        f"{plan.dtype.name} {plan.m} x {plan.n} x {plan.k} {plan.trans_a}{plan.trans_b}",
        tuple(dict.fromkeys(text(tile.kernel) for tile in _tiles(now)) if not why else ()),
        "" if many == ffi.NULL else text(many),
        why,
    )


def _warn(message: str) -> None:
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(message, SpecializeWarning, stacklevel=3)


# ---------------------------------------------------------------------------------------------------- files


def cache_folder() -> Path | None:
    """Return where `specialize` keeps its libraries; None: nowhere.

    Examples
    --------
    >>> import os
    >>> before = os.environ.get("TILEWRIGHT_CACHE")
    >>> os.environ["TILEWRIGHT_CACHE"] = "off"
    >>> cache_folder() is None
    True
    >>> _ = os.environ.pop("TILEWRIGHT_CACHE") if before is None else os.environ.update(TILEWRIGHT_CACHE=before)
    """
    asked = os.environ.get("TILEWRIGHT_CACHE", "")
    if asked == "off":
        return None
    if asked:
        return Path(asked)
    home = os.environ.get("XDG_CACHE_HOME", "")
    try:
        return (Path(home) if home.startswith("/") else Path.home() / ".cache") / "tilewright"
    except RuntimeError:  # no home
        return None


def _provide(wanted: Sequence[Any], generator: Any) -> tuple[Path, bool]:
    """Load the library of these kernels, made if need be; return it, and whether it was made."""
    compiler = generator.compiler_for(os.uname().machine)
    parts = [generator.inputs(), compiler.version, *compiler.command, *map(repr, wanted)]
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]
    folder = cache_folder()
    if folder is not None:
        try:
            with _locked(folder):
                return _from(folder, key, wanted, generator, compiler)
        except OSError as error:
            _warn(f"specialize: what is made is not kept: {error}")
    with tempfile.TemporaryDirectory(prefix="tilewright-") as temporary:  # what is loaded needs its file no more
        path = Path(temporary) / f"{key}.so"
        generator.make(wanted, compiler, path)
        if not _loads(path):
            raise RuntimeError(text(lib.tw_error_message()))
        return path, True


def _from(folder: Path, key: str, wanted: Sequence[Any], generator: Any, compiler: Any) -> tuple[Path, bool]:
    path, record = folder / f"{key}.so", folder / f"{key}.json"
    if _is_whole(path, record, key) and _loads(path):
        return path, False
    record.unlink(missing_ok=True)
    names = generator.make(wanted, compiler, path)
    if not _loads(path):
        path.unlink()
        raise RuntimeError(text(lib.tw_error_message()))
    about = {"format": _FORMAT, "key": key, "sha256": _digest(path), "compiler": compiler.version, "kernels": names}
    with tempfile.NamedTemporaryFile("w", dir=folder, prefix=".", suffix=".tmp", delete=False) as file:
        json.dump(about, file, indent=1)
    os.replace(file.name, record)  # last, so that it never vouches for a library that is not there, or is wrong
    return path, True


def _is_whole(path: Path, record: Path, key: str) -> bool:
    """Whether a library is the one that was made for this key, by this user."""
    try:
        about = json.loads(record.read_text())
        if not isinstance(about, dict) or about.get("format") != _FORMAT or about.get("key") != key:
            return False
        return all(map(_is_ours, (path, record))) and about.get("sha256") == _digest(path)
    except (OSError, ValueError):
        return False


def _is_ours(path: Path) -> bool:
    """Whether nobody else could have written it: what is loaded runs with this process's rights."""
    found = path.stat()
    return found.st_uid == os.geteuid() and not found.st_mode & 0o022


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _loads(path: Path) -> bool:
    return bool(lib.tw_special_load(os.fsencode(path)) == lib.TW_OK)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Wait until no other process makes anything there; the system drops the lock however this process ends."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _is_ours(folder):
        raise PermissionError(f"{folder} belongs to another user or can be written by one; set TILEWRIGHT_CACHE.")
    with open(folder / ".lock", "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
