"""Cutting a batch of sequences: which positions stay, and what the later layers must be told about them.

Absolute positions are those of the uncut prompt. A *slot* is a place in the sequence and the cache of the layers behind
the cut. Rows of a batch may keep different numbers; shorter ones are filled on the left with slots that nobody attends
to, so that the last slot of every row is its last token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .errors import ModelError

__all__ = ["Cut", "Kept", "cut_mask", "gather", "make_cut", "slots_mask"]


@dataclass(frozen=True)
class Kept:
    """What the layers behind the cut hold.

    Parameters
    ----------
    positions : LongTensor (rows, slots)
        Absolute position of every slot.
    valid : BoolTensor (rows, slots), optional
        Which slots are tokens rather than fillers; all, if None.
    total : int
        Positions seen, by the layers before the cut.
    """

    positions: Tensor
    valid: Tensor | None
    total: int

    def grown(self, positions: Tensor, valid: Tensor | None, number: int) -> Kept:
        """Add the slots of a chunk of `number` positions."""
        both = None
        if self.valid is not None or valid is not None:
            parts = (self.valid, self.positions), (valid, positions)
            both = torch.cat([torch.ones_like(p, dtype=torch.bool) if v is None else v for v, p in parts], 1)
        return Kept(torch.cat([self.positions, positions], 1), both, self.total + number)

    def for_rows(self, rows: int) -> Kept:
        """Repeat every row, as `generate` does with a cache that several sequences go on from."""
        had = len(self.positions)
        if rows == had:
            return self
        if rows % had:
            raise ModelError(f"the cache holds {had} rows but the call has {rows}; its rows were taken apart.")
        valid = None if self.valid is None else self.valid.repeat_interleave(rows // had, 0)
        return Kept(self.positions.repeat_interleave(rows // had, 0), valid, self.total)


@dataclass(frozen=True)
class Cut:
    """What of a chunk of prompts stays: places in it (rows, slots), and which of them are tokens (all, if None)."""

    index: Tensor
    valid: Tensor | None


def make_cut(keep: Tensor) -> Cut:
    """Turn a mask (rows, length) of what stays into places.

    Examples
    --------
    >>> make_cut(torch.tensor([[True, False, True], [False, False, True]]))
    Cut(index=tensor([[0, 2],
            [0, 2]]), valid=tensor([[ True,  True],
            [False,  True]]))
    """
    counts = keep.sum(1)
    slots = int(counts.max())
    fillers = slots - counts
    dropped = ~keep & ((~keep).cumsum(1) <= fillers[:, None])  # the first ones that go anyway
    rank = torch.where(keep, 1, torch.where(dropped, 0, 2))
    index = torch.sort(rank, dim=1, stable=True).indices[:, :slots]
    valid = torch.arange(slots, device=keep.device) >= fillers[:, None]
    return Cut(index, None if bool((fillers == 0).all()) else valid)


def gather(tensor: Tensor, index: Tensor) -> Tensor:
    """Take places of the last dimension but one: (rows or 1, ..., length, size) by (rows, slots).

    Examples
    --------
    >>> gather(torch.arange(4.0)[None, :, None], torch.tensor([[0, 3]]))[..., 0]
    tensor([[0., 3.]])
    """
    rows, slots = index.shape
    if tensor.shape[0] == 1 and rows > 1:
        tensor = tensor.expand(rows, *tensor.shape[1:])
    index = index.to(tensor.device).view(rows, *(1,) * (tensor.ndim - 3), slots, 1)
    return torch.take_along_dim(tensor, index, dim=-2)


def cut_mask(mask: Any, cut: Cut, keys: int) -> Any:
    """Cut the mask that a model made for a prompt: rows and columns of (rows, 1, length, keys), or columns of 2-D.

    None, which lets kernels be causal by themselves, stays None as long as there are no fillers. A filler attends to
    itself, since a row without any key is NaN. The cut layer's attention will be given `keys` keys: as many as there
    are slots, or more from a static cache, which has room.
    """
    if mask is None:
        return None if cut.valid is None else _with_room(_causal(cut), keys)
    if not isinstance(mask, Tensor):
        raise ModelError(f"attention masks of type {type(mask).__name__} cannot be cut; use sdpa, eager or flash.")
    index = cut.index.to(mask.device)
    if mask.ndim == 2:
        taken = torch.take_along_dim(mask, index, dim=1)
        return taken if cut.valid is None else taken * cut.valid.to(mask)
    rows, slots = index.shape
    mask = mask.expand(rows, *mask.shape[1:])
    mask = torch.take_along_dim(mask, index.view(rows, 1, slots, 1), dim=2)
    taken = torch.take_along_dim(mask, index.view(rows, 1, 1, slots), dim=3)
    if cut.valid is not None:
        taken = _hide(taken, cut.valid)
    return _with_room(taken, keys)


def slots_mask(config: Any, hidden: Tensor, cache: Any, layer: int, kept: Kept, padding: Tensor | None) -> Any:
    """Make a causal mask for new tokens over the slots of a cut layer, as the model would make it.

    Parameters
    ----------
    config : of the decoder
    hidden : Tensor (rows, new tokens, features)
    cache : Cache
    layer : int
    kept : Kept
        With the new tokens' slots.
    padding : BoolTensor (rows, positions), optional
        Which absolute positions are tokens; all, if None.
    """
    from transformers.masking_utils import create_causal_mask

    seen = None if padding is None else torch.take_along_dim(padding, kept.positions, dim=1)
    if kept.valid is not None:
        seen = kept.valid if seen is None else seen & kept.valid
    return create_causal_mask(
        config=config, inputs_embeds=hidden, attention_mask=seen, past_key_values=cache, layer_idx=layer
    )


def _causal(cut: Cut) -> Tensor:
    assert cut.valid is not None
    slots = cut.index.shape[1]
    lower = torch.ones(slots, slots, dtype=torch.bool, device=cut.index.device).tril()
    return _hide(lower.expand(len(cut.index), 1, slots, slots), cut.valid)


def _with_room(mask: Tensor, keys: int) -> Tensor:
    room = keys - mask.shape[-1]
    return mask if room <= 0 else torch.nn.functional.pad(mask, (0, room), value=_blocked(mask))


def _hide(mask: Tensor, valid: Tensor) -> Tensor:
    """Block the fillers' columns, but for their own rows."""
    valid = valid.to(mask.device)[:, None, None, :]
    own = torch.eye(valid.shape[-1], dtype=torch.bool, device=mask.device) & ~valid
    if mask.dtype == torch.bool:
        return (mask & valid) | own
    return mask.masked_fill(~valid, _blocked(mask)).masked_fill(own, 0)


def _blocked(mask: Tensor) -> float:
    return False if mask.dtype == torch.bool else torch.finfo(mask.dtype).min
