"""The oracle: what a pruned model computes must be what the whole model computes when told not to look.

`masked` runs the *unpatched* model with its full cache, and hides from its later layers the keys of the positions that
a pruning dropped. Whatever cutting gets wrong (positions, masks, caches, rows of a batch) makes the two differ.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from tilewright import topv

__all__ = ["Dropped", "difference", "generate", "layers_of", "masked", "pruned"]

Dropped = list[set[int]]
"""For every row of a batch the absolute positions that later layers must not see."""


def layers_of(model: Any) -> Any:
    base = model.model
    return (base.text_model if hasattr(base, "text_model") else base.language_model).layers


def generate(model: Any, inputs: dict[str, Any], new: int = 6, **options: Any) -> Any:
    """Generate greedily, with logits of every step."""
    torch.manual_seed(3)
    with torch.no_grad():
        return model.generate(**inputs, **{
            "max_new_tokens": new, "min_new_tokens": new, "do_sample": False, "return_dict_in_generate": True,
            "output_logits": True, "disable_compile": True, **options,
        })  # fmt: skip


def pruned(
    model: Any, inputs: dict[str, Any], *, keep: float = 0.5, layer: int = 1, selector: Any = "topv", **options: Any
) -> tuple[Any, Dropped]:
    """Generate with pruning; return the output and what was dropped."""
    with topv.prune(model, keep=keep, layer=layer, selector=selector) as pruning:
        output = generate(model, inputs, **options)
    return output, dropped(pruning, inputs["input_ids"].shape[1])


def dropped(pruning: topv.Pruning, length: int, start: int = 0) -> Dropped:
    return [set(range(start, length)) - set(kept.tolist()) for kept in pruning.kept_positions]


@contextmanager
def masked(model: Any, layer: int, hidden: Dropped) -> Iterator[None]:
    """Hide positions from all layers behind `layer`."""

    def hook(number: int) -> Any:
        def narrow(module: Any, args: Any, kwargs: dict[str, Any]) -> Any:
            states = args[0] if args else kwargs["hidden_states"]
            cache = kwargs.get("past_key_values")
            past = int(cache.get_seq_length(number)) if cache is not None else 0
            length = states.shape[1]
            keys = cache.get_mask_sizes(length, number)[0] if cache is not None else length
            mask = _mask(kwargs["attention_mask"], states, past, keys, hidden, module)
            return args, {**kwargs, "attention_mask": mask}

        return narrow

    layers = layers_of(model)
    handles = [
        layers[number].register_forward_pre_hook(hook(number), with_kwargs=True)
        for number in range(layer + 1, len(layers))
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _mask(mask: Tensor | None, states: Tensor, past: int, keys: int, hidden: Dropped, module: Any) -> Tensor:
    """Take the model's own mask, or the causal one that None stands for, and block columns in it."""
    rows, length = states.shape[:2]
    if mask is None:
        seen = torch.ones(length, keys, dtype=torch.bool).tril(past)[None, None].expand(rows, 1, -1, -1)
    else:
        seen = mask if mask.dtype == torch.bool else mask == 0
        seen = seen.expand(rows, -1, -1, -1)
    seen = seen.clone()
    for row in range(rows):
        columns = [column for column in hidden[row % len(hidden)] if column < seen.shape[-1]]
        seen[row, :, :, columns] = False
    for query in range(length):  # a dropped row, which nobody looks at, sees itself: no row may be empty
        empty = ~seen[:, 0, query].any(-1)
        seen[empty, 0, query, past + query] = True
    if module.self_attn.config._attn_implementation != "eager":
        return seen
    return torch.zeros(seen.shape, dtype=states.dtype).masked_fill(~seen, torch.finfo(states.dtype).min)


def difference(one: Any, other: Any) -> float:
    """Return the greatest difference of logits; infinite where the tokens differ."""
    if not torch.equal(one.sequences, other.sequences):
        return float("inf")
    return max(float((x.double() - y.double()).abs().max()) for x, y in zip(one.logits, other.logits, strict=True))
