"""Linear layers of torch models, on this library: `pack_linears`.

An optional part: ``pip install tilewright[topv]`` brings torch.

>>> import torch
>>> model = torch.nn.Sequential(torch.nn.Linear(96, 128), torch.nn.GELU(), torch.nn.Linear(128, 10)).eval()
>>> x = torch.ones(3, 96)
>>> with torch.no_grad():
...     before = model(x)
...     report = pack_linears(model, min_features=64)
...     bool(torch.allclose(model(x), before, atol=1e-5))
True
>>> print(report)
packed 1 layer, 0.0 MB
  0  96 -> 128, gelu
left 1
  2  it is 128 to 10 features, below min_features=64
>>> report.unpack()
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, cast

try:
    import torch
except ImportError as error:
    raise ImportError(f"tilewright.runtime.torch needs torch ({error}): pip install 'tilewright[topv]'.") from error
from torch import Tensor, nn

from .errors import ArgumentError, shown
from .torch_fuse import fuse, pairs, separate
from .torch_linear import PackedLinear, Weight, why_not
from .torch_op import linear, trim

__all__ = ["Layer", "Packing", "linear", "pack_linears"]


class Layer(NamedTuple):
    """A layer that is packed."""

    in_features: int
    out_features: int
    nbytes: int
    activation: str
    """Of the module behind it, which it applies itself; "none": there is none."""
    tied: str
    """The layer whose weight it shares; "": its weight is its own."""


@dataclass
class Packing:
    """What `pack_linears` did.

    Attributes
    ----------
    packed : dict of str to Layer
        By name in the model.
    left : dict of str to str
        The other linear layers, and why.
    """

    packed: dict[str, Layer] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)
    _layers: list[PackedLinear] = field(default_factory=list, repr=False)

    def unpack(self) -> None:
        """Make every layer the Linear that it was, bit for bit. What is unpacked already stays so."""
        while self._layers:
            _restore(self._layers.pop())

    @property
    def nbytes(self) -> int:
        """Bytes that the packed weights take."""
        return sum(layer.nbytes for layer in self.packed.values() if not layer.tied)

    def __str__(self) -> str:
        count = len(self.packed)
        lines = [f"packed {count} layer{'s' * (count != 1)}, {self.nbytes / 1e6:.1f} MB"]
        width = max(map(len, [*self.packed, *self.left]), default=0)
        for name, layer in self.packed.items():
            fused = f", {layer.activation}" if layer.activation != "none" else ""
            tied = f", tied to {layer.tied}" if layer.tied else ""
            lines.append(f"  {name:<{width}}  {layer.in_features} -> {layer.out_features}{fused}{tied}")
        if self.left:
            lines.append(f"left {len(self.left)}")
            lines += [f"  {name:<{width}}  {reason}" for name, reason in self.left.items()]
        return "\n".join(lines)


def pack_linears(model: nn.Module, *, min_features: int = 256, threads: int | None = None) -> Packing:
    """Let a model's ``torch.nn.Linear`` layers hold their weights packed, for inference on the CPU.

    ``y = act(x W^T + b)``, the bias and, where the module that follows is SiLU, ReLU or GELU (either form), the
    activation applied to each tile of y as it is finished. The packed weight takes the place of the original, and
    serves any number of tokens and threads.

    Parameters
    ----------
    model : Module
        Any; it is changed in place. Layers stay the objects they are, hooks with them.
    min_features : int
        Layers with fewer features on either side stay as they are. By default where a call through torch costs no more
        than a packed weight saves.
    threads : int, optional
        The most threads of a layer's call; by default as many as ``torch.get_num_threads()`` says at the time.

    Returns
    -------
    Packing
        Which layers were packed, which were left and why; ``unpack()`` undoes it.

    Raises
    ------
    ArgumentError
        An option outside its values.
    MemoryError
        There is no room to pack a layer. The model is what it was.

    Notes
    -----
    Left are layers that are not float32 on the CPU, not exactly ``nn.Linear``, being trained (grad mode, ``training``
    and a weight that requires grad), parametrised, quantised or on the meta device, and those whose weight another kind
    of module uses too, an embedding say. Layers tied to each other are packed once. A model packed before stays as it
    is.

    A packed layer raises `ArgumentError` where a gradient would be recorded. ``state_dict()`` has the original keys and
    values; ``load_state_dict`` and ``to`` pack anew, and a layer that is no longer float32 on the CPU works as a
    Linear. Copies and pickles hold packed layers without fused activations; a pickle holds the elements and is packed
    for the machine that reads it. A layer's ``weight`` knows its shape and raises when it is read. Where an activation
    is fused (the trace of the parent's forward shows it, a hook between the two suspends it), calling the layer alone
    gives the activated output.

    After AutoTSMM [1]_: weights of a layer are the operand that many products share.

    References
    ----------
    .. [1] "AutoTSMM: An Auto-tuning Framework for Building High-Performance Tall-and-Skinny Matrix-Matrix
       Multiplication on CPUs", arXiv:2208.08088.

    Examples
    --------
    >>> layer = nn.Linear(256, 300).eval()
    >>> weight = layer.weight.detach().clone()
    >>> report = pack_linears(layer)
    >>> layer
    PackedLinear(in_features=256, out_features=300, bias=True, packed)
    >>> report.unpack()
    >>> bool(torch.equal(layer.weight, weight))
    True
    """
    if isinstance(min_features, bool) or not isinstance(min_features, int) or min_features < 0:
        raise ArgumentError(f"pack_linears: min_features is {shown(min_features)}; it must be an integer, 0 or more.")
    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or not 1 <= threads <= 1024):
        raise ArgumentError(f"pack_linears: threads is {shown(threads)}; it must be an integer, 1 to 1024, or None.")
    report, chosen = Packing(), {}
    for name, module in model.named_modules():
        if not isinstance(module, nn.Linear) and not (
            hasattr(module, "in_features") and hasattr(module, "out_features")
        ):
            continue
        reason = None if _is_packed(module) else why_not(module, min_features)
        if reason is None:
            chosen[name] = cast(nn.Linear, module)
        else:
            report.left[name] = reason
    for name, reason in _entangled(model, chosen).items():
        report.left[name] = reason
        del chosen[name]
    report._layers = _pack(chosen, threads)
    for pair in list(pairs(model, [layer for layer in report._layers if layer.fusion is None])):
        fuse(*pair)
    first: dict[int, str] = {}
    for name, layer in zip(chosen, report._layers, strict=True):
        tied = first.setdefault(id(layer.shared), name)
        activation = "none" if layer.fusion is None else layer.fusion.activation
        nbytes = 0 if layer.shared.packed is None else layer.shared.packed.nbytes
        report.packed[name] = Layer(
            layer.in_features, layer.out_features, nbytes, activation, "" if tied == name else tied
        )
    return report


def _is_packed(module: nn.Module) -> bool:
    return isinstance(module, PackedLinear) and module.shared.packed is not None


def _pack(chosen: dict[str, nn.Linear], threads: int | None) -> list[PackedLinear]:
    """Pack all of these layers or, with MemoryError, none; those that are packed already stay as they are."""
    new: list[PackedLinear] = []
    weights: dict[int, Weight] = {}
    try:
        for module in chosen.values():
            fresh, parameter = not _is_packed(module), cast(nn.Parameter, module.weight)
            weight = weights.get(id(parameter))
            if weight is None:
                known = isinstance(module, PackedLinear) and module.shared.parameter is parameter
                weight = cast(PackedLinear, module).shared if known else Weight(parameter)
                weights[id(parameter)] = weight
            if weight.packed is None:
                weight.pack()
            if fresh:
                layer = cast(PackedLinear, module)
                layer.shared, layer.threads, layer.fusion = weight, threads or 0, None
                layer.__class__ = PackedLinear
                new.append(layer)
    except MemoryError:
        for layer in reversed(new):
            _restore(layer)
        raise
    trim(0, least=0)
    return [cast(PackedLinear, module) for module in chosen.values()]


def _restore(layer: PackedLinear) -> None:
    """Make a layer the Linear that it was."""
    if isinstance(layer, PackedLinear):
        separate(layer)
        layer.shared.release()
        for name in ("shared", "threads", "fusion"):
            del layer.__dict__[name]
        layer.__class__ = nn.Linear  # type: ignore[assignment]


def _entangled(model: nn.Module, chosen: dict[str, nn.Linear]) -> dict[str, str]:
    """Return, by layer, why its weight's memory would not be free once it is packed."""
    layers = {id(layer) for layer in chosen.values()}
    users: dict[int, list[tuple[str, nn.Module, str, Tensor]]] = {}
    for path, module in model.named_modules():
        for name, tensor in (*module._parameters.items(), *module._buffers.items()):
            if tensor is not None and (at := _memory_of(tensor)):
                users.setdefault(at, []).append((path, module, name, tensor))
    reasons: dict[str, str] = {}
    for path, layer in chosen.items():
        weight = layer.weight
        if _is_packed(layer):
            continue
        for place, module, name, tensor in users.get(_memory_of(weight), []):
            if tensor is weight and not (id(module) in layers and name == "weight"):
                reasons[path] = f"its weight is also {place}.{name}, of a {type(module).__name__}"
            elif tensor is not weight:
                reasons.setdefault(path, f"its weight lies in the memory of {place}.{name}")
        if weight.untyped_storage().nbytes() > weight.nbytes + _SPARE:
            reasons.setdefault(path, "its weight is a part of a larger tensor's memory")
    return reasons


def _memory_of(tensor: Tensor) -> int:
    """Return where a tensor's memory begins; 0: it has none to speak of."""
    if type(tensor) not in (Tensor, nn.Parameter) or tensor.layout != torch.strided or tensor.is_meta:
        return 0
    return tensor.untyped_storage().data_ptr()


_SPARE = 4096
"""Bytes that a tensor's memory may have beyond its elements: an allocator's rounding, or a header of ours."""
