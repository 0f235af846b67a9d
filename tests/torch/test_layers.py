"""Packing the layers of a model: what is packed, what is left, what stays the same, and the way back."""

from __future__ import annotations

import copy
import gc
import importlib
import io
import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

import tilewright.runtime as tw
from tilewright.runtime import torch_linear, torch_op
from tilewright.runtime.torch import Packing, pack_linears
from tilewright.runtime.torch_linear import PackedLinear

from ..support import miss

pytestmark = pytest.mark.topv


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Nothing here is trained unless it says so."""
    with torch.no_grad():
        yield


class Block(nn.Module):
    """Two layers and an activation, as transformers has them."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(8, 12)
        self.act = nn.SiLU()
        self.down = nn.Linear(12, 8, bias=False)

    def forward(self, x: Tensor) -> Any:
        return x + self.down(self.act(self.up(x)))


def model() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(Block(), nn.LayerNorm(8), nn.Linear(8, 20), nn.GELU(), nn.Linear(20, 5)).eval()


def packed(module: nn.Module, **options: Any) -> Packing:
    return pack_linears(module, **{"min_features": 1, **options})


X = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(1))


def bits(module: nn.Module) -> dict[str, Any]:
    """Everything that a module is, as far as it can be seen."""
    return {
        "classes": [(name, type(child)) for name, child in module.named_modules()],
        "parameters": [(name, id(p), type(p), p.stride(), p.requires_grad) for name, p in module.named_parameters()],
        "values": [p.detach().contiguous().view(torch.int32).tolist() for p in module.parameters()],
        "attributes": [sorted(child.__dict__) for child in module.modules()],
        "text": repr(module),
    }


def same(got: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-6)


def test_outputs_report_and_the_way_back() -> None:
    """A model that computes something else, or is something else when it is unpacked."""
    net = model()
    net[2].weight.view(torch.int32).view(-1)[:2] = torch.tensor([0x7F800005, -(2**31)])  # a signalling NaN, -0
    net[4].weight = nn.Parameter(net[4].weight.T.contiguous().T, False)
    before, out = bits(net), net(X)
    report = packed(net)
    assert list(report.packed) == ["0.up", "0.down", "2", "4"]
    assert not report.left
    assert [layer.activation for layer in report.packed.values()] == ["silu", "none", "gelu", "none"]
    assert report.nbytes == sum(128 + 4 * n for n in (96, 96, 160, 100))
    assert "packed 4 layers" in str(report)
    assert "  0.up    8 -> 12, silu\n  0.down  12 -> 8\n" in str(report)
    assert "PackedLinear(in_features=8, out_features=20, bias=True, packed, gelu)" in repr(net)
    torch.testing.assert_close(net(X), out, rtol=1e-5, atol=1e-6, equal_nan=True)
    assert [name for name, _ in net.named_parameters()] == [name for name, *_ in before["parameters"]]
    report.unpack()
    assert bits(net) == before
    report.unpack()
    assert bits(net) == before


def test_packing_twice_changes_nothing() -> None:
    """Panels packed again, or an activation fused twice."""
    net = model()
    wanted, first = net(X), packed(net)
    once, states = net(X), [layer.shared.packed for layer in net.modules() if isinstance(layer, PackedLinear)]
    second = packed(net)
    assert second.packed == first.packed
    assert all(
        layer.shared.packed is state
        for layer, state in zip((m for m in net.modules() if isinstance(m, PackedLinear)), states, strict=True)
    )
    assert torch.equal(net(X), once)
    first.unpack()
    assert torch.equal(net(X), wanted)
    second.unpack()
    assert torch.equal(net(X), wanted)


# ---------------------------------------------------------------------------------------------- what is left


class Odd(nn.Linear):
    """A Linear of somebody's."""


def _weight_norm() -> Any:
    return parametrizations.weight_norm(nn.Linear(8, 8))


def _pruned() -> Any:
    prune: Any = importlib.import_module("torch.nn.utils.prune")
    return prune.l1_unstructured(nn.Linear(8, 8), "weight", 0.5)


def _strided() -> nn.Module:
    layer = nn.Linear(8, 8)
    layer.weight = nn.Parameter(torch.randn(8, 16)[:, ::2])
    return layer


def _part() -> nn.Module:
    layer = nn.Linear(8, 8)
    layer.weight = nn.Parameter(torch.randn(9000, 8)[:8])
    return layer


def _replaced() -> nn.Module:
    layer = nn.Linear(8, 8)
    layer.forward = lambda input: input  # type: ignore[method-assign]
    return layer


def _trained() -> nn.Module:
    return nn.Linear(8, 8).train()


def _quantised() -> Any:
    quantised: Any = torch.ao.nn.quantized.dynamic
    return quantised.Linear(8, 8)


LEFT: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "double": (lambda: nn.Linear(8, 8).double(), "it is torch.float64, not torch.float32"),
    "half bias": (lambda: _half_bias(), "it is torch.float16"),
    "meta": (lambda: nn.Linear(8, 8, device="meta"), "on the meta device"),
    "subclass": (lambda: Odd(8, 8), "Odd, not torch's nn.Linear itself"),
    "parametrised": (_weight_norm, "its weight is parametrised"),
    "pruned": (_pruned, "its weight is computed"),
    "quantised": (_quantised, "quantized.dynamic.modules.linear.Linear, not torch's nn.Linear itself"),
    "strided": (_strided, "rows or columns without gaps"),
    "part": (_part, "a part of a larger tensor's memory"),
    "replaced": (_replaced, "its forward was replaced"),
    "small": (lambda: nn.Linear(8, 2), "8 to 2 features, below min_features=3"),
}


def _half_bias() -> nn.Module:
    layer = nn.Linear(8, 8)
    layer.bias.data = layer.bias.data.half()
    return layer


@pytest.mark.parametrize("name", LEFT)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:torch.quantize_per_tensor:UserWarning")
def test_left_alone(name: str) -> None:
    """Packed although a product of its panels is not what it computes."""
    make, words = LEFT[name]
    odd = make()
    net = nn.ModuleDict({"odd": odd, "plain": nn.Linear(8, 8)})
    before = dict(odd.__dict__)
    report = packed(net, min_features=3)
    assert list(report.packed) == ["plain"]
    assert words in report.left["odd"]
    assert words in str(report)
    assert odd.__dict__.keys() == before.keys()


def test_left_while_it_is_trained() -> None:
    """Packed in the middle of a training; or left where there is nothing to train."""
    with torch.enable_grad():
        assert "it is being trained" in packed(_trained()).left[""]
        assert packed(_trained().requires_grad_(False)).packed
        assert packed(nn.Linear(8, 8).eval()).packed
    assert packed(_trained()).packed


def test_weights_that_others_read() -> None:
    """A copy beside the original: memory grows; or an embedding whose weight is gone."""
    net = nn.ModuleDict({"embed": nn.Embedding(12, 8), "head": nn.Linear(8, 12, bias=False), "view": nn.Linear(8, 4)})
    net["head"].weight = net["embed"].weight
    embed: Any = net["embed"]
    net["view"].weight.data = embed.weight.data[:4]
    wanted = net["head"](net["embed"](torch.arange(3)))
    report = packed(net)
    assert not report.packed
    assert report.left["head"] == "its weight is also embed.weight, of a Embedding"
    assert "its weight lies in the memory of embed.weight" in report.left["view"]
    assert torch.equal(net["head"](net["embed"](torch.arange(3))), wanted)


def test_tied_layers_are_packed_once_and_tied_again() -> None:
    """Two copies of one weight, that part when one is loaded or unpacked; a shared module packed twice."""
    one, two = nn.Linear(8, 8), nn.Linear(8, 8)
    two.weight = one.weight
    net = nn.ModuleDict({"one": one, "two": two, "again": one}).eval()
    wanted, parameter = two(X), one.weight
    report = packed(net)
    assert list(report.packed) == ["one", "two"]
    assert report.packed["two"].tied == "one"
    assert report.nbytes == 128 + 4 * 64
    assert "tied to one" in str(report)
    same(two(X), wanted)
    assert one.weight is two.weight is parameter
    state = net.state_dict()
    assert state["one.weight"].data_ptr() == state["two.weight"].data_ptr()
    for copied in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert copied["one"].shared is copied["two"].shared
        assert copied["one"].weight is copied["two"].weight
        same(copied["two"](X), wanted)
    net.to(torch.float64)
    assert one.weight is two.weight is parameter
    same(two(X.double()).float(), wanted)
    net.to(torch.float32)
    assert isinstance(one, PackedLinear)
    assert one.shared.packed is not None
    assert one.shared is two.shared
    report.unpack()
    assert one.weight is two.weight is parameter
    assert torch.equal(two(X), wanted)


# ------------------------------------------------------------------------------------------ what it does meanwhile


def test_state_dicts() -> None:
    """Keys, values, order and metadata; what is loaded is computed with, tied, strict, assigned or of a wrong shape."""
    net = model()
    plain, other = net.state_dict(), model()
    for parameter in other.parameters():
        parameter.mul_(2)
    wanted, before, report = other(X), net(X), packed(net)
    assert list(net.state_dict()) == list(plain)
    state = copy.deepcopy(net.state_dict())
    assert state._metadata == plain._metadata
    assert all(torch.equal(state[key], plain[key]) for key in plain)
    assert isinstance(net.state_dict(keep_vars=True)["2.weight"], nn.Parameter)
    for assign in (False, True):
        result = net.load_state_dict(other.state_dict(), assign=assign)
        assert not result.missing_keys
        assert not result.unexpected_keys
        assert all(isinstance(layer, PackedLinear) and layer.shared.packed is not None for layer in (net[2], net[4]))
        same(net(X), wanted)
        net.load_state_dict(state)
        same(net(X), before)
    broken = {**state, "4.weight": torch.ones(3, 3)}
    del broken["2.weight"]
    with pytest.raises(RuntimeError, match="size mismatch for 4") as refused:
        net.load_state_dict(broken)
    assert 'Missing key(s) in state_dict: "2.weight"' in str(refused.value)
    same(net(X), before)
    report.unpack()
    same(net(X), before)


def test_copies_and_pickles() -> None:
    """A copy that shares panels, applies an activation twice or not at all, or cannot be made."""
    net = model()
    wanted = net(X)
    packed(net)
    saved = io.BytesIO()
    torch.save(net, saved)
    saved.seek(0)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net)), torch.load(saved, weights_only=False)):
        assert isinstance(other[2], PackedLinear)
        assert type(other[3]) is nn.GELU
        assert other[2].shared.packed is not net[2].shared.packed
        same(other(X), wanted)
        again = packed(other)
        assert again.packed["2"].activation == "gelu"
        same(other(X), wanted)
        other[2].bias.add_(1)
        again.unpack()
        assert type(other[2]) is nn.Linear
    same(net(X), wanted)
    lone = copy.deepcopy(net[2])
    same(lone(X), nn.functional.linear(X, net.state_dict()["2.weight"], net.state_dict()["2.bias"]))


def test_other_types_and_devices() -> None:
    """Half of a model in another type; panels of float32 read as float64."""
    net = model()
    wanted, parameter = net(X), net[2].weight
    report = packed(net)
    net.to(torch.float64)
    assert net[2].weight is parameter
    assert net[2].weight.dtype == torch.float64
    assert "fused" not in repr(net)
    same(net(X.double()).float(), wanted)
    net.float()
    assert net[2].shared.packed is not None
    same(net(X), wanted)
    net.to("cpu")
    same(net(X), wanted)
    net.to("meta")
    assert net[2].weight.is_meta
    report.unpack()
    assert type(net[2]) is nn.Linear


def test_training_raises() -> None:
    """A gradient that is silently none."""
    net = model()
    report = packed(net)
    with torch.enable_grad():
        with pytest.raises(tw.ArgumentError, match="a packed weight does not have"):
            net(X)
        net.requires_grad_(False)
        same(net(X), net(X))
        with pytest.raises(tw.ArgumentError, match="a packed weight does not have"):
            net(X.clone().requires_grad_())
        report.unpack()
        net.requires_grad_(True)
        net(X).sum().backward()
    assert net[2].weight.grad is not None


def test_packed_in_inference_mode_and_trained_again() -> None:
    """Weights that can never be trained again, because they were put back in inference mode."""
    net = model()
    wanted = net(X)
    with torch.inference_mode():
        report = packed(net)
        same(net(X), wanted)
    same(net(X), wanted)
    with torch.inference_mode():
        net.load_state_dict(net.state_dict())
        report.unpack()
    with torch.enable_grad():
        net(X).sum().backward()
    assert torch.equal(net(X), wanted)


def test_a_packed_weight_cannot_be_read() -> None:
    """Memory without values, computed with."""
    net = model()
    packed(net)
    weight: Any = net[2].weight
    assert (weight.shape, weight.dtype, weight.device.type, weight.numel()) == ((20, 8), torch.float32, "cpu", 160)
    assert sum(parameter.numel() for parameter in net.parameters()) == sum(p.numel() for p in model().parameters())
    reads: list[Callable[[], Any]] = [
        lambda: weight + 1, lambda: weight.data, lambda: X @ weight.T, lambda: weight.zero_(), lambda: weight[0],
    ]  # fmt: skip
    for read in reads:
        with pytest.raises(tw.ArgumentError, match="was packed by"):
            read()
    with pytest.raises(tw.DtypeError, match=r"x is torch\.bfloat16"):
        net[2](X.bfloat16())


def test_hooks_stay() -> None:
    """Hooks lost with the layer; or shown what the activation has been applied to."""
    net = model()
    seen: list[Tensor] = []
    wanted = net[2](net[1](net[0](X)))
    handle = net[2].register_forward_hook(lambda module, args, out: seen.append(out))
    out = net(X)
    packed(net)
    same(net(X), out)
    same(seen[-1], wanted)
    handle.remove()
    handle = net[3].register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    same(net(X), out)
    same(seen[-1], wanted)
    handle.remove()
    before = len(seen)
    same(net(X), out)
    assert len(seen) == before


def test_compiles_without_a_graph_break() -> None:
    """A layer that the compiler cannot look into; what it has seen of one model used for another number of tokens."""
    net = model()
    wanted = [net(X), net(X[:1])]
    packed(net)
    compiled: Any = torch.compile(net, fullgraph=True, backend="aot_eager")
    same(compiled(X), wanted[0])
    same(compiled(X[:1]), wanted[1])


def test_compiled_models_follow_their_weights() -> None:
    """The panels that were there when a model was compiled, multiplied by for ever."""
    net, other = model(), model()
    other.load_state_dict({name: value * 2 for name, value in net.state_dict().items()})
    wanted = [net(X), other(X)]
    report = packed(net)
    compiled: Any = torch.compile(net, backend="aot_eager")
    same(compiled(X), wanted[0])
    net.load_state_dict(other.state_dict())
    same(compiled(X), wanted[1])
    report.unpack()
    same(compiled(X), wanted[1])
    packed(net)
    same(compiled(X), wanted[1])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiles_to_machine_code() -> None:
    """Buffers that inductor reuses or lays out in another way than the operator expects."""
    net = model()
    wanted = net(X)
    packed(net)
    compiled: Any = torch.compile(net, fullgraph=True)
    same(compiled(X), wanted)
    same(compiled(X[:, :2]), wanted[:, :2])  # now of any length


# ---------------------------------------------------------------------------------------------------- memory


def test_memory_grows_by_less_than_a_layer() -> None:
    """The packed weights beside the originals: twice the memory."""
    code = """
import ctypes, torch
from tilewright.runtime.torch import pack_linears
def kilobytes(key):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(key))
model = torch.nn.Sequential(*[torch.nn.Linear(1024, 1024) for _ in range(12)]).eval()
torch.set_num_threads(1)
with torch.no_grad():
    pack_linears(torch.nn.Linear(300, 300).eval())
    before = kilobytes("VmRSS")
    open("/proc/self/clear_refs", "w").write("5")
    report = pack_linears(model)
    after, peak = kilobytes("VmRSS"), kilobytes("VmHWM")
    assert len(report.packed) == 12
    print(after - before, peak - before)
    report.unpack()
    print(kilobytes("VmRSS") - before)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    grown, most, back = map(int, ran.stdout.split())
    layer = 4096  # kilobytes
    assert grown < layer / 2
    assert back < layer / 2
    assert most < 2 * layer


@pytest.mark.parametrize("also", [False, True], ids=["once", "for good"])
def test_out_of_memory_leaves_the_model_as_it_was(monkeypatch: pytest.MonkeyPatch, also: bool) -> None:
    """Half of a model packed; or values lost where there is no memory to unpack them into either."""
    net = model()
    before, calls = bits(net), 0
    room: Any = torch_op._room

    def short(size: int, name: str) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3 or (also and calls > 3):
            raise MemoryError("none left")
        return room(size, name)

    monkeypatch.setattr(torch_op, "_room", short)
    with pytest.raises(MemoryError, match="none left"):
        packed(net)
    assert bits(net) == before


def test_the_systems_refusal_is_a_memory_error() -> None:
    """torch says RuntimeError, the system OSError."""
    for room in (torch_op._room, torch_op._panels):
        with pytest.raises(MemoryError, match="pack: there is no memory for"):
            room(2**60, "pack")


def test_panels_lie_on_huge_pages() -> None:
    """Panels where originals were, on pages of 4 KB; the copy of a model likewise."""
    huge = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if not huge.exists() or "[never]" in huge.read_text():
        miss("this system has no huge pages to give")
    net = nn.Sequential(*[nn.Linear(2048, 1024, bias=False) for _ in range(4)]).eval()
    packed(net)
    layers: list[Any] = [*net, *copy.deepcopy(net)]
    ranges = r"^([0-9a-f]+)-([0-9a-f]+) .*?^VmFlags:(.*?)$"
    found = re.findall(ranges, Path("/proc/self/smaps").read_text(), re.DOTALL | re.MULTILINE)
    for layer in layers:
        at = layer.shared.packed.data_ptr()
        assert at % 2**21 == 0
        assert layer.shared.packed.untyped_storage().nbytes() == layer.shared.packed.numel()
        assert [flags.split().count("hg") for low, high, flags in found if int(low, 16) <= at < int(high, 16)] == [1]


def test_nothing_is_kept_alive() -> None:
    """Panels of a model that is gone."""
    import weakref

    net = model()
    packed(net)
    at = weakref.ref(net[2].shared)
    del net
    gc.collect()
    assert at() is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"min_features": -1}, "min_features is -1; it must be an integer, 0 or more"),
        ({"min_features": 2.5}, "min_features is 2.5"),
        ({"threads": 0}, "threads is 0; it must be an integer, 1 to 1024, or None"),
        ({"threads": True}, "threads is True"),
    ],
)
def test_options(options: dict[str, Any], words: str) -> None:
    net = model()
    before = bits(net)
    with pytest.raises(tw.ArgumentError, match=words):
        pack_linears(net, **options)
    assert bits(net) == before


def test_threads_are_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer that was given one thread and takes all; None: as many as torch may use."""
    asked: list[int] = []
    product = torch_op._product

    def listen(*arguments: Any) -> Any:
        asked.append(arguments[7])
        return product(*arguments)

    monkeypatch.setattr(torch_op, "_product", listen)
    for threads, wanted in ((3, 3), (None, torch.get_num_threads())):
        net = model()
        packed(net, threads=threads)
        net(X)
        assert set(asked) == {wanted}
        asked.clear()


def test_parametrising_a_packed_layer_is_refused_by_its_weight() -> None:
    """A parametrisation of a weight without values."""
    net = model()
    packed(net)
    with pytest.raises(tw.ArgumentError, match="was packed by"):
        parametrize.register_parametrization(net[2], "weight", nn.ReLU())
    assert torch_linear.PackedParameter.__name__ in repr(net[2].weight)
