"""Which activation follows a layer: found by tracing, never by name."""

from __future__ import annotations

import dis
import inspect
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Graph, Node, Tracer
from torch.nn import functional
from torch.nn.modules import module as hooks

from .torch_linear import PackedLinear

__all__ = ["FusedActivation", "Fusion", "fuse", "pairs", "separate"]


class Fusion:
    """A layer, the activation module that follows it, and which function that is."""

    def __init__(self, layer: PackedLinear, module: nn.Module, activation: str) -> None:
        self.layer, self.module, self.activation = layer, module, activation
        self.original = type(module)

    def holds(self) -> bool:
        """Does the layer apply the activation now? Not while a hook looks at what lies between the two."""
        return (
            self.layer.shared.packed is not None
            and not self.layer._forward_hooks
            and not self.module._forward_pre_hooks
            and not hooks._global_forward_hooks
            and not hooks._global_forward_pre_hooks
        )


class FusedActivation(nn.Module):
    """An activation module whose layer applies it; of the original's class again once they are separated."""

    fusion: Fusion

    def forward(self, input: Tensor) -> Any:
        """Return the input, or what the original returns while the layer does not apply it."""
        return input if self.fusion.holds() else self.fusion.original.forward(self, input)

    def _get_name(self) -> str:
        return self.fusion.original.__name__

    def extra_repr(self) -> str:
        """Return what is printed between the parentheses."""
        held: str = "fused into the layer before it" if self.fusion.holds() else self.fusion.original.extra_repr(self)
        return held

    def __reduce_ex__(self, protocol: Any) -> Any:
        """As the original: a copy of the layer applies nothing."""
        state = self.__getstate__()  # type: ignore[no-untyped-call]
        del state["fusion"]
        return _remake, (self.fusion.original,), state


def _remake(original: type[nn.Module]) -> nn.Module:
    return original.__new__(original)


def fuse(layer: PackedLinear, module: nn.Module, activation: str) -> None:
    """Let a layer apply the activation, and the module nothing."""
    fusion = Fusion(layer, module, activation)
    layer.fusion = fusion
    module.__dict__["fusion"] = fusion
    module.__class__ = FusedActivation


def separate(layer: PackedLinear) -> None:
    """Let the module after a layer do its own work again."""
    fusion = layer.fusion
    if fusion is not None:
        fusion.module.__class__ = fusion.original
        del fusion.module.__dict__["fusion"]
        layer.fusion = None


def pairs(model: nn.Module, layers: Iterable[PackedLinear]) -> Iterator[tuple[PackedLinear, nn.Module, str]]:
    """Yield the layers whose output goes to an activation module and nowhere else, with that module.

    Both are children of one module, known nowhere else, and that module's forward is `torch.nn.Sequential`'s or one
    without branches, so that what one trace shows is what every call does.
    """
    places = Counter(id(module) for _, module in model.named_modules(remove_duplicate=False))
    alone = {id(layer) for layer in layers if places[id(layer)] == 1}
    for parent in model.modules():
        children = dict(parent.named_children())
        if not any(id(child) in alone for child in children.values()):
            continue
        acts = {
            name: kind
            for name, child in children.items()
            if places[id(child)] == 1 and not isinstance(child, nn.Linear | FusedActivation)
            if (kind := activation_of(child)) is not None
        }
        for first, second in _chains(parent) if acts else ():
            if second in acts and id(children.get(first)) in alone:
                yield children[first], children[second], acts[second]  # type: ignore[misc]


def activation_of(module: nn.Module) -> str | None:
    """Return which activation a module is: what its forward calls on its input, and nothing else; None: no such.

    Examples
    --------
    >>> activation_of(nn.GELU(approximate="tanh")), activation_of(nn.SiLU()), activation_of(nn.Tanh())
    ('gelu_tanh', 'silu', None)
    """
    if next(module.children(), None) is not None:
        return None
    graph = _trace(module)
    nodes = list(graph.nodes) if graph is not None else []
    if [node.op for node in nodes] != ["placeholder", "call_function", "output"]:
        return None
    given, call, result = nodes
    if call.args != (given,) or result.args != (call,):
        return None
    options: dict[str, Any] = {name: value for name, value in call.kwargs.items() if name != "inplace"}
    if call.target is functional.gelu:
        approximate = options.pop("approximate", "none")
        found = {"none": "gelu", "tanh": "gelu_tanh"}.get(approximate)
    else:
        found = {functional.relu: "relu", torch.relu: "relu", functional.silu: "silu"}.get(call.target)
    return None if options else found


def _chains(parent: nn.Module) -> Iterator[tuple[str, str]]:
    """Yield the names of two children where the second's one argument is the first's output, used nowhere else."""
    if type(parent).forward is nn.Sequential.forward and "forward" not in parent.__dict__:
        yield from pairwise(parent._modules)
        return
    graph = _trace(parent)
    if graph is None:
        return
    calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
    for node in graph.nodes:
        if node.op != "call_module" or len(node.args) + len(node.kwargs) != 1:
            continue
        before = [*node.args, *node.kwargs.values()][0]
        if (
            isinstance(before, Node)
            and before.op == "call_module"
            and len(before.users) == 1
            and calls[before.target] == calls[node.target] == 1
        ):
            yield str(before.target), str(node.target)


class _Leaves(Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


def _trace(module: nn.Module) -> Graph | None:
    """Return what a forward does; None where one trace does not show it all."""
    forward = type(module).forward
    if "forward" in module.__dict__ or not inspect.isfunction(forward) or hasattr(forward, "__wrapped__"):
        return None
    if any("JUMP" in step.opname or step.opname in _DOING for step in dis.get_instructions(forward)):
        return None
    try:
        return _Leaves().trace(module)
    except Exception:  # whatever its code does with what is no tensor
        return None


_DOING = {
    "FOR_ITER", "SEND", "YIELD_VALUE", "STORE_ATTR", "DELETE_ATTR", "STORE_SUBSCR", "DELETE_SUBSCR", "STORE_GLOBAL",
    "DELETE_GLOBAL", "IMPORT_NAME",
}  # fmt: skip
"""Loops and what changes more than local names."""
