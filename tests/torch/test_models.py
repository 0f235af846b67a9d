"""The ten families: logits within the bound that their layers' products have, the tokens that stock torch chooses."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tilewright import topv
from tilewright.runtime.torch import pack_linears

from ..topv.models import FAMILIES, make, prompt
from ..topv.oracle import generate

pytestmark = pytest.mark.topv
UNIT = 2.0**-24


def pack(model: nn.Module) -> Any:
    report = pack_linears(model, min_features=1)
    assert len(report.packed) > 10
    return report


def logits_and_bounds(model: Any, inputs: dict[str, Any], count: int) -> tuple[Tensor, Tensor]:
    """`count` of the last logits in float64, and by how much rounding in the layers' products can move them.

    An element y of a layer is off by at most (k + 4) u (|x| |W|^T + |b|), the rounding of x included; twice that where
    an activation follows in the epilogue. A logit is off by the sum of that times |d logit / d y| over all elements of
    all layers, to first order.
    """
    outputs: list[tuple[Tensor, Tensor]] = []

    def note(module: nn.Linear, args: tuple[Tensor], out: Tensor) -> None:
        size = args[0].abs() @ module.weight.abs().T + (0 if module.bias is None else module.bias.abs())
        outputs.append((out, (2 * (module.in_features + 4) * UNIT * size).detach()))

    handles = [m.register_forward_hook(note) for m in model.modules() if isinstance(m, nn.Linear)]
    logits = model(**inputs).logits[:, -1]
    for handle in handles:
        handle.remove()
    chosen = logits.flatten()[torch.linspace(0, logits.numel() - 1, count).long()]
    bounds = []
    for logit in chosen:
        slopes = torch.autograd.grad(logit, [out for out, _ in outputs], retain_graph=True, allow_unused=True)
        terms = [
            (slope.abs() * bound).sum() for slope, (_, bound) in zip(slopes, outputs, strict=True) if slope is not None
        ]
        bounds.append(torch.stack(terms).sum())
    return chosen.detach(), torch.stack(bounds)


@pytest.mark.parametrize("name", FAMILIES)
def test_logits_and_tokens(name: str) -> None:
    """A layer that computes another product, or with another precision; an activation fused that is not there."""
    exact = make(name, dtype=torch.float64)
    for parameter in exact.parameters():
        parameter.data = parameter.data.float().double()
    model = make(name, dtype=torch.float32)
    inputs, wide = prompt(name, [1, 2], dtype=torch.float32), prompt(name, [1, 2])
    for key in wide:
        wide[key] = inputs[key].double() if inputs[key].is_floating_point() else inputs[key]
    stock = generate(model, inputs)
    report = pack(model)
    assert torch.equal(generate(model, inputs).sequences, stock.sequences)
    logits, bounds = logits_and_bounds(exact, wide, 4)
    with torch.no_grad():
        got = model(**inputs).logits[:, -1].flatten()
    got = got[torch.linspace(0, got.numel() - 1, 4).long()].double()
    assert torch.all((got - logits).abs() <= bounds), (got - logits, bounds)
    report.unpack()
    again = generate(model, inputs)
    assert torch.equal(again.sequences, stock.sequences)
    assert all(map(torch.equal, again.logits, stock.logits))


@pytest.mark.parametrize("name", ["llava", "qwen2_vl", "gemma3"])
@pytest.mark.parametrize(
    "options", [{"num_beams": 3}, {"use_cache": False}, {"cache_implementation": "static"}], ids=str
)
def test_ways_to_generate(name: str, options: dict[str, Any]) -> None:
    """Tokens that depend on how many there are at a time: beams, no cache, a static one."""
    model, inputs = make(name, dtype=torch.float32), prompt(name, [1, 2], dtype=torch.float32)
    stock = generate(model, inputs, **options)
    pack(model)
    assert torch.equal(generate(model, inputs, **options).sequences, stock.sequences)


@pytest.mark.parametrize("name", FAMILIES)
def test_composes_with_pruning(name: str) -> None:
    """Layers that hide hooks from the pruning, or a pruning that keeps other tokens; packed before or within it."""
    model, inputs = make(name, dtype=torch.float32), prompt(name, [1, 2], dtype=torch.float32)

    def run(selector: str) -> tuple[Tensor, list[Any]]:
        with topv.prune(model, keep=0.5, layer=1, selector=selector) as pruning:
            output = generate(model, inputs)
        return output.sequences, pruning.report().images

    stock, kept = run("norm")
    _, scored = run("topv")
    with topv.prune(model, keep=0.5, layer=1, selector="norm"):
        report = pack(model)
        assert torch.equal(generate(model, inputs).sequences, stock)
    packed, kept_then = run("norm")
    assert torch.equal(packed, stock)
    assert all(torch.equal(then.kept, before.kept) for then, before in zip(kept_then, kept, strict=True))
    for then, before in zip(run("topv")[1], scored, strict=True):  # of equal scores rounding chooses
        torch.testing.assert_close(then.importance, before.importance, rtol=1e-3, atol=1e-9)
    with topv.prune(model, keep=0.5, layer=1, selector="norm"):
        report.unpack()
        assert torch.equal(generate(model, inputs).sequences, stock)


def test_a_model_saved_and_read_back(tmp_path: Any) -> None:
    """transformers writes weights by state_dict, and finds tied ones by their memory."""
    model, inputs = make("smolvlm", dtype=torch.float32), prompt("smolvlm", [1], dtype=torch.float32)
    stock, state = generate(model, inputs), copy.deepcopy(model.state_dict())
    pack(model)
    model.save_pretrained(tmp_path)
    other = type(model).from_pretrained(tmp_path).eval()
    assert state.keys() == other.state_dict().keys()
    assert all(torch.equal(value, state[key]) for key, value in other.state_dict().items())
    assert torch.equal(generate(other, inputs).sequences, stock.sequences)
