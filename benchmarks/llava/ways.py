"""The ways to run the model in torch, and all of them by name."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import torch
from harness import THREADS, timing
from torch import Tensor

from tilewright import topv

from .model import Size, make
from .onnx_decoder import Decoder
from .reference import KEEPS, LAYER
from .way import Way


class Eager(Way):
    """torch as it comes, pruned or not."""

    def __init__(self, size: Size, keep: float = 1.0, static: bool = False) -> None:
        super().__init__(size)
        self._static = static
        self.model = make(size)
        self._pruning = topv.attach(self.model, keep, LAYER) if keep < 1 else None

    def prefill(self, inputs: dict[str, Tensor]) -> tuple[Any, Any]:
        output = self.model(**inputs, past_key_values=self._cache(), use_cache=True, logits_to_keep=1)
        return output.logits[:, -1], output.past_key_values

    def step(self, tokens: Tensor, cache: Any) -> Any:
        return self.model(input_ids=tokens, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[:, -1]

    def widen(self, cache: Any, rows: int) -> Any:
        if not self._static:
            cache.batch_repeat_interleave(rows)
            return cache
        wide = self._cache(rows)
        for old, new in zip(cache.layers, wide.layers, strict=True):
            new.keys.copy_(old.keys)
            new.values.copy_(old.values)
            new.cumulative_length.copy_(old.cumulative_length)
        return wide

    def nbytes(self, cache: Any) -> int:
        return sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)

    def kept(self) -> Any:
        return None if self._pruning is None else self._pruning.kept_positions[0].numpy()

    def _cache(self, rows: int = 1) -> Any:
        """Return an empty cache: one that grows, as transformers makes it, or one with room for everything."""
        from transformers import DynamicCache, StaticCache

        config, size = self.model.config.get_text_config(), self.size
        if not self._static:
            return DynamicCache(config=config)
        cache: Any = StaticCache(config=config, max_cache_len=size.prompt + size.new)
        cache.early_initialization(rows, size.heads, size.hidden // size.heads, torch.float32, torch.device("cpu"))
        for layer in cache.layers:  # or freezing takes what the cache holds for constants
            for part in (layer.keys, layer.values, layer.cumulative_length):
                vars(part).pop("_dynamo_static_input_type", None)
        return cache


class Packed(Eager):
    """Ours: every linear layer packed, pruned or not."""

    def __init__(self, size: Size, keep: float = 1.0, static: bool = False) -> None:
        from tilewright.runtime.torch import pack_linears

        super().__init__(size, keep, static)
        self.spend("packing", lambda: pack_linears(self.model, threads=THREADS))


class Compiled(Eager):
    """torch.compile of the whole model, with the cache it asks for: one with room for everything."""

    options: ClassVar[dict[str, Any]] = {}

    def __init__(self, size: Size) -> None:
        super().__init__(size, static=True)
        # What was tuned depends on the number of threads, and may not come from another program's busy minute.
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(timing.BUILD / f"inductor-{THREADS}")
        torch._dynamo.config.recompile_limit = 32
        # Dynamo reads from its own settings whether weights are constants; a graph's options come too late for it.
        for name, value in self.options.items():
            setattr(torch._inductor.config, name, value)
        self.model.compile(dynamic=False)


class Frozen(Compiled):
    """torch.compile with max-autotune and frozen weights.

    The first copies cannot be given up (freezing_discard_parameters): each graph lays out the weights anew, prefill,
    one row and several being three.
    """

    options: ClassVar[dict[str, Any]] = {"max_autotune": True, "freezing": True}


WAYS: dict[str, Callable[[Size], Way]] = {
    "torch": Eager,
    "compile": Compiled,
    "max-autotune": Frozen,
    "onnxruntime": Decoder,
    "packed": Packed,
    "torch, static cache": partial(Eager, static=True),
    "packed, static cache": partial(Packed, static=True),
    **{f"pruned {keep:.0%}": partial(Eager, keep=keep) for keep in KEEPS},
    **{f"packed, pruned {keep:.0%}": partial(Packed, keep=keep) for keep in KEEPS},
}


def keep_of(name: str) -> float:
    """Return the share of visual tokens that a way keeps.

    Examples
    --------
    >>> keep_of("packed, pruned 33%"), keep_of("torch")
    (0.33, 1.0)
    """
    return float(name.rpartition(" ")[2].rstrip("%")) / 100 if name.endswith("%") else 1.0
