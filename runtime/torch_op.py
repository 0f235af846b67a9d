"""The operator of torch behind `pack_linears`: ``torch.ops.tilewright.linear``."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ._library import lib, raise_for
from .errors import ArgumentError, DtypeError, LayoutError, PackedError, ShapeError
from .huge_pages import HUGE_PAGE, fresh_memory

__all__ = ["ACTIVATIONS", "HEADER", "linear", "pack", "panels_like", "trim", "unpack"]

HEADER = 128
"""Bytes of a packed weight before its panels."""

ACTIVATIONS = {
    "none": lib.TW_NO_ACTIVATION,
    "relu": lib.TW_RELU,
    "silu": lib.TW_SILU,
    "gelu": lib.TW_GELU,
    "gelu_tanh": lib.TW_GELU_TANH,
}

_library: Any = torch.library.Library("tilewright", "FRAGMENT")  # type: ignore[no-untyped-call]
_library.define(
    "linear(Tensor x, Tensor packed, Tensor? bias, int out_features, str activation, int threads=0) -> Tensor",
    tags=(torch.Tag.pt2_compliant_tag,),
)
linear: Any = torch.ops.tilewright.linear.default
"""``act(x @ w.T + bias)``: x (..., in_features), float32, on the CPU; `packed` is what `pack` made of w.

`activation` is a key of `ACTIVATIONS`. `threads` is the most threads to use; 0: as many as torch's ``get_num_threads``.
No gradient: a call that would record one raises.
"""

# Looked up once: for a small layer these look-ups are a part of its time.
_product, _threads, _grad = lib.tw_slinear_at, torch.get_num_threads, torch.is_grad_enabled
_FLOAT, _BYTES = torch.float32, torch.uint8


def _find_team() -> int:
    """Return the address of what runs work on torch's own threads, OpenMP's; 0: torch has none, or others.

    They spin for milliseconds after each of torch's operations, on the cores on which a layer wants its threads: it
    takes those, which are awake besides.
    """
    if "OpenMP" not in torch.__config__.parallel_info().partition("ATen parallel backend")[2]:
        return 0
    for library in (None, str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so")):  # None: what was preloaded too
        try:
            return ctypes.cast(ctypes.CDLL(library).GOMP_parallel, ctypes.c_void_p).value or 0
        except (OSError, AttributeError):
            pass
    return 0


_team = _find_team()


def _linear(
    x: Tensor, packed: Tensor, bias: Tensor | None, out_features: int, activation: str, threads: int = 0
) -> Tensor:
    shape = [*x.shape]
    features = shape[-1] if shape else 0
    if (
        x.dtype is not _FLOAT
        or not shape
        or packed.dtype is not _BYTES
        or packed.numel() != HEADER + 4 * features * out_features
        or activation not in ACTIVATIONS
        or not packed.is_contiguous()
    ):
        _refuse(x, packed, out_features, activation)
    at_bias = 0
    if bias is not None:
        if bias.dtype is not _FLOAT or bias.shape != (out_features,) or not bias.is_contiguous():
            raise ShapeError(
                f"linear: bias is {bias.dtype} of shape {tuple(bias.shape)}; it must be float32, ({out_features},), in "
                "a row."
            )
        at_bias = bias.data_ptr()
    if _grad() and (x.requires_grad or (bias is not None and bias.requires_grad)):
        raise ArgumentError(
            "linear: a packed weight has no gradient, but one would be recorded here; call it under torch.no_grad()."
        )
    x = x.contiguous()
    shape[-1] = out_features
    y = x.new_empty(shape)
    size = y.numel()
    if size:
        status = _product(
            size // out_features, out_features, features, x.data_ptr(), packed.data_ptr(), at_bias,
            ACTIVATIONS[activation], threads or _threads(), y.data_ptr(), _team,
        )  # fmt: skip
        if status:
            raise_for(status)
    return y


def _refuse(x: Tensor, packed: Tensor, out_features: int, activation: str) -> None:
    """Say what is wrong."""
    if x.dtype is not torch.float32:
        raise DtypeError(f"linear: x is {x.dtype}; with a packed weight it must be torch.float32.")
    if not x.shape:
        raise ShapeError("linear: x has no dimensions; it must be (..., in_features).")
    if activation not in ACTIVATIONS:
        raise ArgumentError(f"linear: activation is {activation!r}; it must be one of {', '.join(ACTIVATIONS)}.")
    if packed.dtype is not torch.uint8 or not packed.is_contiguous():
        raise PackedError(f"linear: packed is {packed.dtype}; it must be the bytes that pack returned, in a row.")
    raise ShapeError(
        f"linear: x has {x.shape[-1]} features and out_features is {out_features}, which takes a packed weight of "
        f"{HEADER + 4 * x.shape[-1] * out_features} bytes, but this one has {packed.numel()}."
    )


def _fake(
    x: Tensor, packed: Tensor, bias: Tensor | None, out_features: int, activation: str, threads: int = 0
) -> Tensor:
    return x.new_empty((*x.shape[:-1], out_features))


_library.impl("linear", _linear, "CPU")
torch.library.register_fake("tilewright::linear", _fake, lib=_library)


def pack(weight: Tensor) -> Tensor:
    """Pack a weight for `linear`.

    Parameters
    ----------
    weight : Tensor (out_features, in_features)
        float32, on the CPU, any strides.

    Returns
    -------
    Tensor (bytes,)
        uint8: a header and panels, of the weight and the instruction set alone.

    Raises
    ------
    MemoryError
        There is no room for a copy.

    Examples
    --------
    >>> weight = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    >>> torch.ops.tilewright.linear(torch.tensor([[1.0, -1.0]]), pack(weight), None, 3, "relu")
    tensor([[0., 0., 0.]])
    """
    if weight.dtype is not torch.float32 or weight.ndim != 2 or weight.device.type != "cpu":
        raise DtypeError(
            f"pack: weight is {weight.dtype} of shape {tuple(weight.shape)} on {weight.device}; it must be float32, "
            "(out_features, in_features), on the CPU."
        )
    source = weight.detach().resolve_neg()
    rows, columns = source.shape
    if source.stride() != (columns, 1) and source.stride() != (1, rows):
        source = source.contiguous()
    packed = _panels(HEADER + 4 * rows * columns, "pack")
    status = lib.tw_pack_at(rows, columns, source.data_ptr(), source.stride(1) == 1, packed.data_ptr(), _team)
    if status:
        raise_for(status)
    return packed


def unpack(packed: Tensor, out_features: int, in_features: int, *, in_place: bool = False) -> Tensor:
    """Return the weight that `pack` packed, bit for bit.

    Parameters
    ----------
    packed : Tensor
    out_features, in_features : int
    in_place : bool
        Put it where the panels are: for where there is no memory. `packed` is none any more then.

    Raises
    ------
    MemoryError
    LayoutError
        `packed` holds no weight of that size.

    Examples
    --------
    >>> unpack(pack(torch.eye(3)), 3, 3)
    tensor([[1., 0., 0.],
            [0., 1., 0.],
            [0., 0., 1.]])
    """
    if packed.numel() != HEADER + 4 * out_features * in_features:
        raise LayoutError(f"unpack: {packed.numel()} bytes do not hold {out_features} x {in_features} elements.")
    if in_place:
        weight = packed[HEADER:].view(torch.float32).view(out_features, in_features)
    else:
        weight = _room(4 * out_features * in_features, "unpack").view(torch.float32).view(out_features, in_features)
    status = lib.tw_unpack_at(packed.data_ptr(), packed.numel(), weight.data_ptr())
    if status:
        raise_for(status)
    return weight


def panels_like(packed: Tensor) -> Tensor:
    """Return a copy of a packed weight, which is read as fast."""
    return _panels(packed.numel(), "copy").copy_(packed)


def trim(size: int, *, least: int = 32 << 20) -> None:
    """Let the system have what originals leave of malloc's memory: large panels do not lie there.

    Parameters
    ----------
    size : int
        Bytes of a packed weight whose original is gone.
    least : int
        Bytes, of this weight and those before it, below which to wait: malloc looks through all it has.
    """
    global _left
    _left += size if size >= 2 * HUGE_PAGE else 0
    if _malloc_trim is not None and _left > 0 and _left >= least:
        _malloc_trim(0)
        _left = 0


_left = 0
_malloc_trim: Any = getattr(ctypes.CDLL(None), "malloc_trim", None)  # the GNU C library's


def _panels(size: int, name: str) -> Tensor:
    """Return memory for panels."""
    if size < 2 * HUGE_PAGE:
        return _room(size, name)
    return torch.frombuffer(fresh_memory(size, name), dtype=torch.uint8)


def _room(size: int, name: str) -> Tensor:
    try:
        return torch.empty(size, dtype=torch.uint8)
    except RuntimeError as error:  # torch's own way to say so
        raise MemoryError(f"{name}: there is no memory for {size} bytes.") from error
