"""What a pruning did: `Report`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from .cost import Grids

__all__ = ["ImageReport", "Report", "cache_bytes"]


@dataclass(frozen=True)
class ImageReport:
    """One image of the last prefill.

    Parameters
    ----------
    row, index : int
        Which prompt of the batch, which image of the prompt.
    grids : tuple of (rows, columns)
    kept : LongTensor
        Places in the grids, counted row by row, of the tokens kept.
    importance : Tensor, optional
        Of all its tokens, where the selector gives one.
    seconds : float
        That choosing took.
    """

    row: int
    index: int
    grids: Grids
    kept: Tensor
    importance: Tensor | None
    seconds: float

    @property
    def tokens(self) -> int:
        return sum(h * w for h, w in self.grids)


@dataclass(frozen=True)
class Report:
    """What the last prefill with images cost and saved; ``print`` it.

    Parameters
    ----------
    images : list of ImageReport
    prompt : int
        Positions of the batch's prompts, padding included.
    slots : int
        Of them left behind the cut.
    kv_bytes, kv_bytes_full : int
        Of the cache after the prefill, and what it would be without pruning; 0 without a cache. A static cache is
        allocated in full, so that both are the same.
    seconds : float
        That choosing and cutting took, on the host.
    """

    images: list[ImageReport]
    prompt: int
    slots: int
    kv_bytes: int
    kv_bytes_full: int
    seconds: float

    def __str__(self) -> str:
        lines = [
            f"row {image.row} image {image.index}: kept {len(image.kept)} of {image.tokens} tokens, "
            f"{' + '.join(f'{h} x {w}' for h, w in image.grids)}, {image.seconds * 1e3:.1f} ms"
            for image in self.images
        ]
        lines.append(f"behind the cut {self.slots} of {self.prompt} positions, {self.seconds * 1e3:.1f} ms in all")
        if self.kv_bytes_full:
            saved = 1 - self.kv_bytes / self.kv_bytes_full
            lines.append(f"KV cache {self.kv_bytes:,} of {self.kv_bytes_full:,} bytes, {saved:.0%} saved")
        return "\n".join(lines)


def cache_bytes(cache: Any, prompt: int) -> tuple[int, int]:
    """Return the bytes of a cache, and what they would be if every layer held `prompt` positions."""
    now = full = 0
    for layer in getattr(cache, "layers", ()):
        keys, values = getattr(layer, "keys", None), getattr(layer, "values", None)
        if not (isinstance(keys, Tensor) and isinstance(values, Tensor)) or not keys.numel():
            continue
        size = keys.nbytes + values.nbytes
        static = keys.shape[-2] > prompt
        now += size
        full += size if static else size // keys.shape[-2] * prompt
    return now, full
