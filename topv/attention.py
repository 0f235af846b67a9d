"""The attention that the last token of a prompt pays, from models that never make attention maps.

transformers lets anybody add a way to compute attention to its registry, under a name of its own. Ours does what the
model's own does, and on the way computes one row: one query of a head against all keys. The one attention module that
is listened to refers to a copy of its configuration with that name while it runs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

__all__ = ["listen", "stop"]

NAME = "tilewright_topv"
Heard = Callable[[Tensor], None]

_listening: WeakKeyDictionary[nn.Module, tuple[Any, Tensor | None, Heard]] = WeakKeyDictionary()


def listen(attention: nn.Module, last: Tensor | None, heard: Heard) -> None:
    """Let the next forward of an attention module tell what its last token attends to.

    Parameters
    ----------
    attention : Module
        With a ``config``, calling attention through transformers' registry.
    last : LongTensor (rows,), optional
        Which query of each row; by default the last one.
    heard : callable
        Gets a tensor (rows, keys), float32, the mean over heads.
    """
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    if NAME not in ALL_ATTENTION_FUNCTIONS.valid_keys():
        ALL_ATTENTION_FUNCTIONS.register(NAME, _forward)
    config: Any = attention.config
    _listening[attention] = (config, last, heard)
    other = copy.copy(config)
    other._attn_implementation_internal = NAME
    attention.config = other


def stop(attention: nn.Module) -> None:
    """Give the module its own configuration back."""
    if attention in _listening:
        attention.config = _listening.pop(attention)[0]


def _forward(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Any, **options: Any) -> Any:
    """Compute the row, then what the model's own way computes."""
    import sys

    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    config, last, heard = _listening[module]
    with torch.no_grad():
        heard(_row(query, key, mask, last, options.get("scaling"), options.get("softcap")))
    eager: Any = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
    own: Any = ALL_ATTENTION_FUNCTIONS.get_interface(config._attn_implementation, eager)
    return own(module, query, key, value, mask, **options)


def _row(query: Tensor, key: Tensor, mask: Any, last: Tensor | None, scaling: Any, softcap: Any) -> Tensor:
    """Softmax of one query a head against all keys, both (rows, heads, length, size); keys may have fewer heads."""
    rows, _, queries, size = query.shape
    at = torch.full((rows,), queries - 1, device=query.device) if last is None else last.to(query.device)
    every = torch.arange(rows, device=query.device)
    q = query[every, :, at].float().view(rows, key.shape[1], -1, size)
    scores = q @ key.float().mT * (size**-0.5 if scaling is None else scaling)
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    if isinstance(mask, Tensor) and mask.ndim == 4:
        line = mask.expand(rows, *mask.shape[1:])[every, 0, at, : key.shape[2]][:, None, None]
        scores = scores.masked_fill(~line, -torch.inf) if line.dtype == torch.bool else scores + line.float()
    elif isinstance(mask, Tensor):
        scores = scores.masked_fill(~mask[:, None, None, -key.shape[2] :].bool(), -torch.inf)
    if not (isinstance(mask, Tensor) and mask.ndim == 4):  # then causality is the implementation's business
        beyond = torch.arange(key.shape[2], device=key.device) > (at + key.shape[2] - queries)[:, None]
        scores = scores.masked_fill(beyond[:, None, None], -torch.inf)
    mean: Tensor = scores.softmax(-1).mean((1, 2))
    return mean
