"""Which activations are fused: those that a trace shows, and no others."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tilewright.runtime.torch import pack_linears
from tilewright.runtime.torch_fuse import activation_of

pytestmark = pytest.mark.topv


class Parent(nn.Module):
    """A layer, and an activation under a name that says nothing, or something else."""

    def __init__(self, act: nn.Module | None = None) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)
        self.other = nn.Linear(8, 8)
        self.act = nn.SiLU() if act is None else act
        self.gated = True

    def forward(self, x: Tensor) -> Any:
        return self.other(self.act(self.layer(x)))


class ByKeyword(Parent):
    def forward(self, x: Tensor) -> Any:
        hidden = self.layer(input=x)
        return self.act(input=hidden) * x


class Between(Parent):
    def forward(self, x: Tensor) -> Any:
        return self.act(self.layer(x) * 2)


class UsedAgain(Parent):
    def forward(self, x: Tensor) -> Any:
        hidden = self.layer(x)
        return self.act(hidden) + hidden


class CalledTwice(Parent):
    def forward(self, x: Tensor) -> Any:
        return self.act(self.layer(x)) + self.layer(x)


class ActsTwice(Parent):
    def forward(self, x: Tensor) -> Any:
        return self.act(self.layer(x)) + self.act(self.other(x))


class Branches(Parent):
    def forward(self, x: Tensor, plain: bool | None = None) -> Any:
        return self.layer(x) if plain else self.act(self.layer(x))


class Loops(Parent):
    def forward(self, x: Tensor) -> Any:
        for _ in range(2):
            x = self.act(self.layer(x))
        return x


class Remembers(Parent):
    def forward(self, x: Tensor) -> Any:
        self.last = self.layer(x)
        return self.act(self.last)


class Reordered(nn.Sequential):
    def forward(self, input: Tensor) -> Any:
        return self[1](input) + self[0](input)


class Scaled(nn.SiLU):
    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


class Named(nn.Module):
    """A module called like an activation, which it is not."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x)


Named.__name__ = "SiLU"


class Wrapped(nn.Module):
    """As transformers writes them."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        gelu: Any = functional.gelu
        self.act = partial(gelu, **options)

    def forward(self, input: Tensor) -> Any:
        return self.act(input)


def _hooked() -> nn.Module:
    net = Parent()
    net.act.register_forward_pre_hook(lambda module, args: (args[0] + 1,))
    return net


def _shared() -> nn.Module:
    one, two = Parent(), Parent()
    two.act = one.act
    return nn.Sequential(one, two)


def _sequence(*modules: Callable[[], nn.Module]) -> nn.Module:
    return nn.Sequential(nn.Linear(8, 8), *(make() for make in modules))


FUSED: dict[str, tuple[Callable[[], nn.Module], list[str]]] = {
    "parent": (Parent, ["silu"]),
    "by keyword": (ByKeyword, ["silu"]),
    "relu": (lambda: Parent(nn.ReLU(inplace=True)), ["relu"]),
    "gelu": (lambda: Parent(nn.GELU()), ["gelu"]),
    "tanh form": (lambda: Parent(nn.GELU(approximate="tanh")), ["gelu_tanh"]),
    "wrapped": (lambda: Parent(Wrapped(approximate="tanh")), ["gelu_tanh"]),
    "sequence": (lambda: _sequence(nn.GELU, nn.LeakyReLU), ["gelu"]),
    "sequence with a layer between": (lambda: _sequence(lambda: nn.LayerNorm(8), nn.ReLU), []),
    "nested": (lambda: nn.Sequential(Parent(), Parent(nn.ReLU())), ["silu", "relu"]),
    "another activation": (lambda: Parent(nn.Tanh()), []),
    "subclass": (lambda: Parent(Scaled()), []),
    "name": (lambda: Parent(Named()), []),
    "something between": (Between, []),
    "used again": (UsedAgain, []),
    "called twice": (CalledTwice, []),
    "acts twice": (ActsTwice, []),
    "branches": (Branches, []),
    "loops": (Loops, []),
    "remembers": (Remembers, []),
    "reordered": (lambda: Reordered(nn.Linear(8, 8), nn.SiLU()), []),
    "shared": (_shared, []),
    "pre-hook": (_hooked, ["silu"]),
}


@pytest.mark.parametrize("name", FUSED)
def test_fused_where_it_is_so(name: str) -> None:
    """An activation applied twice, not at all, or to what somebody else needs without it."""
    make, wanted = FUSED[name]
    torch.manual_seed(0)
    net, x = make().eval(), torch.randn(5, 8)
    text = repr(net)
    with torch.no_grad():
        before = net(x)
        report = pack_linears(net, min_features=1)
        assert [layer.activation for layer in report.packed.values() if layer.activation != "none"] == wanted
        torch.testing.assert_close(net(x), before, rtol=1e-5, atol=1e-6)
        if name == "branches":
            plain = functional.linear(x, net.state_dict()["layer.weight"], net.state_dict()["layer.bias"])
            torch.testing.assert_close(net(x, plain=True), plain, rtol=1e-5, atol=1e-6)
        report.unpack()
        assert torch.equal(net(x), before)
    assert repr(net) == text


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("silu", "silu"), ("gelu", "gelu"), ("gelu_pytorch_tanh", "gelu_tanh"), ("relu", "relu"), ("quick_gelu", None)],
)
def test_activations_of_transformers(name: str, wanted: str | None) -> None:
    """The modules that models are made of; another form taken for the one of its name."""
    from transformers.activations import ACT2FN

    assert activation_of(ACT2FN[name]) == wanted
