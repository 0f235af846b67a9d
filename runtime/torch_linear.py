"""Layers that hold their weight packed: `PackedLinear`, in the place of a ``torch.nn.Linear``."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, cast
from weakref import ReferenceType, ref

import torch
from torch import Tensor, nn

from .errors import ArgumentError
from .torch_op import linear, pack, panels_like, trim, unpack

if TYPE_CHECKING:
    from .torch_fuse import Fusion

__all__ = ["PackedLinear", "PackedParameter", "Weight", "why_not"]


class PackedParameter(nn.Parameter):
    """What a packed weight's Parameter is meanwhile: it knows shape, type and device, and holds no values.

    The object stays the same one, by its class alone, so that whoever holds it (a tied layer, an optimiser) holds it
    still when the values are back; torch's own uninitialised parameters do likewise.
    """

    def __repr__(self) -> str:  # type: ignore[override]
        return f"PackedParameter({tuple(self.shape)}, requires_grad={self.requires_grad})"

    def __deepcopy__(self, memo: dict[int, Any]) -> PackedParameter:
        if id(self) not in memo:
            memo[id(self)] = _placeholder(tuple(self.shape), self.requires_grad)
        copied: PackedParameter = memo[id(self)]
        return copied

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _placeholder, (tuple(self.shape), self.requires_grad)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func not in _HARMLESS:
            raise ArgumentError(
                f"this weight of shape {tuple(args[0].shape) if isinstance(args[0], cls) else '?'} was packed by "
                f"pack_linears, so {getattr(func, '__name__', func)} cannot read it: call its layer, take its values "
                "from state_dict(), or unpack() the report."
            )
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))


def _harmless() -> set[Any]:
    """What may be asked of a weight without values."""
    methods = (
        "size", "dim", "ndimension", "numel", "nelement", "element_size", "is_floating_point", "is_complex",
        "get_device", "requires_grad_", "__hash__", "__len__",
    )  # fmt: skip
    properties = (
        "shape", "dtype", "device", "layout", "ndim", "requires_grad", "is_leaf", "grad", "grad_fn", "nbytes",
        "itemsize", "is_cpu", "is_cuda", "is_meta", "is_quantized", "is_sparse", "is_nested", "is_mkldnn",
    )  # fmt: skip
    of: Any = torch.Tensor
    found = {getattr(of, name) for name in methods} | {getattr(of, name).__get__ for name in properties}
    return found | {of.requires_grad.__set__, of.grad.__set__}


_HARMLESS = _harmless()


def _placeholder(shape: tuple[int, ...], requires_grad: bool) -> PackedParameter:
    parameter = nn.Parameter(torch.empty(1).expand(shape), requires_grad)
    parameter.__class__ = PackedParameter
    return parameter  # type: ignore[return-value]


class Weight:
    """One weight, of one layer or of several that are tied: packed, or (`packed` is None) as it was."""

    def __init__(self, parameter: nn.Parameter) -> None:
        self.parameter = parameter
        self.shape: tuple[int, int] = tuple(parameter.shape)  # type: ignore[assignment]
        self.stride = parameter.stride()
        self.packed: Tensor | None = None
        self._told: ReferenceType[Tensor] | None = None

    @torch.inference_mode(False)  # tensors made within it could never be trained again
    def pack(self) -> None:
        """Put panels in the place of the elements.

        Raises
        ------
        MemoryError
            And nothing has changed.
        """
        self.stride, self._told = self.parameter.stride(), None
        self.packed = pack(self.parameter.detach())
        self.parameter.data = torch.empty(1).expand(self.shape)
        self.parameter.__class__ = PackedParameter
        trim(self.packed.numel())

    @torch.inference_mode(False)
    def release(self) -> None:
        """Put the elements back. Where there is no memory for them they take the panels' place."""
        if self.packed is None:
            return
        try:
            values = self.values()
        except MemoryError:
            values = unpack(self.packed, *self.shape, in_place=True)
        self.packed = None
        self.parameter.__class__ = nn.Parameter
        self.parameter.data = values

    def values(self) -> Tensor:
        """Return the elements, in memory of their own, strided as they were."""
        assert self.packed is not None
        rows = unpack(self.packed, *self.shape)
        return rows if self.stride == rows.stride() else rows.T.contiguous().T

    def for_state(self) -> Tensor:
        """Return the elements; the same tensor for all who are tied, as long as anybody holds it."""
        told = None if self._told is None else self._told()
        if told is None:
            told = self.values()
            self._told = ref(told)
        return told

    def __getstate__(self) -> dict[str, Any]:
        """For pickles, which another machine may read: the elements, not the panels."""
        return {**self.__dict__, "packed": None if self.packed is None else self.values(), "_told": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self.packed is not None:
            self.packed = pack(self.packed)

    @torch.inference_mode(False)
    def __deepcopy__(self, memo: dict[int, Any]) -> Weight:
        other = Weight.__new__(Weight)
        memo[id(self)] = other
        other.__dict__.update(copy.deepcopy({**self.__dict__, "packed": None, "_told": None}, memo))
        other.packed = None if self.packed is None else panels_like(self.packed)
        return other


class PackedLinear(nn.Linear):
    """A ``torch.nn.Linear`` whose weight is packed; `pack_linears` makes it of one, in its place.

    It is the same object with another class, so hooks, names and whoever refers to it stay. While its weight is not
    packed (it was moved to another device or type) it is a Linear in all it does.
    """

    shared: Weight
    threads: int
    fusion: Fusion | None

    def forward(self, input: Tensor) -> Tensor:
        """Compute ``act(input @ weight.T + bias)``, act being what was fused."""
        packed = self.shared.packed
        if packed is None:
            return super().forward(input)
        if torch.is_grad_enabled() and (input.requires_grad or self._trains()):
            raise ArgumentError(
                f"PackedLinear({self.in_features}, {self.out_features}): a gradient would be recorded, which a packed "
                "weight does not have. Call the model under torch.no_grad(), or unpack() it to train it; if it is only "
                "not to be trained, model.requires_grad_(False)."
            )
        fusion = self.fusion
        activation = "none" if fusion is None or not fusion.holds() else fusion.activation
        out: Tensor = linear(input, packed, self._parameters["bias"], self.out_features, activation, self.threads)
        return out

    def _trains(self) -> bool:
        return any(parameter is not None and parameter.requires_grad for parameter in self._parameters.values())

    def extra_repr(self) -> str:
        """Return what is printed between the parentheses."""
        fused = f", {self.fusion.activation}" if self.fusion is not None else ""
        return super().extra_repr() + (f", packed{fused}" if self.shared.packed is not None else "")

    # What reads or replaces the elements finds them in their place, and they are packed again behind it.

    @contextmanager
    def _unpacked(self) -> Iterator[None]:
        self.shared.release()
        try:
            yield
        finally:
            if self.weight is not self.shared.parameter:
                self.shared = Weight(cast(nn.Parameter, self.weight))
            if why_not(self, 0) is None:
                with suppress(MemoryError):  # then it stays a Linear
                    self.shared.pack()

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        with self._unpacked():
            return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        with self._unpacked():
            super()._load_from_state_dict(*args, **kwargs)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        if self.shared.packed is None:
            super()._save_to_state_dict(destination, prefix, keep_vars)
            return
        values = self.shared.for_state()
        destination[prefix + "weight"] = nn.Parameter(values, self.weight.requires_grad) if keep_vars else values
        if self.bias is not None:
            destination[prefix + "bias"] = self.bias if keep_vars else self.bias.detach()

    def __getstate__(self) -> Any:
        """A copy does not know what calls it, so nothing is fused in it."""
        return {**super().__getstate__(), "fusion": None}  # type: ignore[no-untyped-call]


def why_not(module: nn.Module, least: int) -> str | None:
    """Return why a layer cannot be packed; None: it can.

    Parameters
    ----------
    least : int
        Features of its input and its output.
    """
    from torch.nn.utils import parametrize

    if parametrize.is_parametrized(module):
        return "its weight is parametrised"
    if type(module) not in (nn.Linear, PackedLinear):
        kind = type(module)
        return f"it is a {kind.__module__}.{kind.__qualname__}, not torch's nn.Linear itself"
    weight = module._parameters.get("weight")
    if weight is None or set(module._parameters) != {"weight", "bias"} or module._buffers or module._modules:
        return "its weight is computed, or it has parameters, buffers or modules beyond a Linear's"
    if "forward" in module.__dict__:
        return "its forward was replaced"
    for name, parameter in module._parameters.items():
        if parameter is not None and type(parameter) is not nn.Parameter:
            return f"its {name} is a {type(parameter).__name__}"
    if weight.is_meta:
        return "it is on the meta device, so it has no values yet"
    if weight.device.type != "cpu":
        return f"it is on {weight.device}"
    bias = module._parameters["bias"]
    if weight.dtype != torch.float32 or (bias is not None and bias.dtype != torch.float32):
        return f"it is {weight.dtype if weight.dtype != torch.float32 else bias.dtype}, not torch.float32"  # type: ignore[union-attr]
    rows, columns = weight.shape
    if weight.stride() not in ((columns, 1), (1, rows)) or weight.is_neg():
        return "its elements do not lie in rows or columns without gaps"
    if bias is not None and not bias.is_contiguous():
        return "its bias does not lie in a row"
    if module.training and weight.requires_grad and torch.is_grad_enabled():
        return "it is being trained; call eval(), or requires_grad_(False), before"
    if min(rows, columns) < max(least, 1):
        return f"it is {columns} to {rows} features, below min_features={least}"
    return None
