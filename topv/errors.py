"""What goes wrong, by name; bad arguments raise `tilewright.runtime.ArgumentError`.

Messages say what was asked, what is wrong with it and what would be right. Everything is raised before tokens are cut.
"""

from __future__ import annotations

from tilewright.runtime import ArgumentError, TilewrightError

__all__ = ["ArgumentError", "AttachmentError", "GridError", "ModelError", "TokenError", "TopvError"]


class TopvError(TilewrightError):  # type: ignore[misc] # mypy sees the installed runtime as Any
    """Any of the below."""


class TokenError(TopvError, ValueError):
    """Tokens that are not a matrix, not finite, not on one device, or not as many as the grid has places."""


class GridError(TopvError, ValueError):
    """An image whose grid does not match its tokens."""


class ModelError(TopvError, RuntimeError):
    """A model, a cache or a call in which pruning cannot be exact."""


class AttachmentError(TopvError, RuntimeError):
    """Attached twice, or used after it was detached."""
