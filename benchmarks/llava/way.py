"""What every way to run the model does: prefill with a cache, then a token after the other, for one row or several."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from torch import Tensor

from .model import Size


class Way(ABC):
    """One way to run the model.

    Attributes
    ----------
    ready : dict of str to float
        Seconds that were spent once, before anything is measured, by what for.
    """

    def __init__(self, size: Size) -> None:
        self.size, self.ready = size, dict[str, float]()

    @abstractmethod
    def prefill(self, inputs: dict[str, Tensor]) -> tuple[Any, Any]:
        """Return the last token's logits (rows, vocabulary) and the cache."""

    @abstractmethod
    def step(self, tokens: Tensor, cache: Any) -> Any:
        """Take a token for each row (rows, 1), grow the cache, return the logits (rows, vocabulary)."""

    @abstractmethod
    def widen(self, cache: Any, rows: int) -> Any:
        """Return a cache of one row repeated for so many; the old one is not used any more."""

    @abstractmethod
    def nbytes(self, cache: Any) -> int:
        """Return the bytes that a cache's keys and values take."""

    def kept(self) -> Any:
        """Return the positions of the prompt that pruning left, None without pruning."""
        return None

    def spend(self, name: str, work: Callable[[], object]) -> None:
        """Do what is done once, and note what it took."""
        begun = time.perf_counter()
        work()
        self.ready[name] = time.perf_counter() - begun
