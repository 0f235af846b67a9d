"""What a selector sees, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import Tensor

from .cost import Grids

__all__ = ["ALL", "Selection", "Selector", "VisualTokens"]


@dataclass(frozen=True)
class VisualTokens:
    """The visual tokens of one image, in the order of the prompt; newline tokens are not among them.

    Parameters
    ----------
    grids : tuple of (rows, columns)
        Its grid, or those of its tiles one after the other.
    source : Tensor (n, features), optional
        Hidden states at the input of the scored layer.
    target : Tensor (n, features), optional
        After that layer's attention, residual and norm: what its MLP reads.
    output : Tensor (n, features), optional
        After the whole layer: the states that are about to be cut.
    features : Tensor (n, features), optional
        At the input of layer 0: what the projector made.
    attention : Tensor (n,), optional
        That the prompt's last token pays to each in the scored layer, mean over heads.
    index : int
        Which image of its prompt this is.
    """

    grids: Grids
    source: Tensor | None = None
    target: Tensor | None = None
    output: Tensor | None = None
    features: Tensor | None = None
    attention: Tensor | None = None
    index: int = 0

    def __len__(self) -> int:
        return sum(h * w for h, w in self.grids)

    def get(self, name: str) -> Tensor:
        """Return one of the tensors; a selector that asks for one it did not say it needs gets this message."""
        value = getattr(self, name)
        if value is None:
            raise ValueError(f"VisualTokens has no {name}; a selector that reads it must say so in its `needs`.")
        assert isinstance(value, Tensor)
        return value


ALL = frozenset({"source", "target", "output", "features"})
"""What a selector is given that has no `needs`; attention costs a pass over the keys, and must be asked for."""


@dataclass(frozen=True)
class Selection:
    """What to keep of one image.

    Parameters
    ----------
    kept : LongTensor
        Sorted places of the tokens kept.
    importance : Tensor (n,), optional
        For the report.
    merge : LongTensor (n,), optional
        For each token the place in `kept` of the one that it is averaged into, itself included.
    """

    kept: Tensor
    importance: Tensor | None = None
    merge: Tensor | None = None


Selector = Callable[[VisualTokens, int], "Selection | Tensor | Iterable[int]"]
"""From an image's tokens and how many to keep to which; with an attribute `needs` that names the fields it reads."""
