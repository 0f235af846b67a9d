"""Pictures of what was kept: `draw`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .cost import Grid
from .report import ImageReport

__all__ = ["draw", "panels"]

_LEAST, _GAP = 384, 8  # pixels: a panel's longer side, at least; between panels
_DARK = 0.25  # of a dropped token's light is left


def panels(images: Sequence[ImageReport], inputs: Mapping[str, Any], picture: Any) -> list[tuple[Any, Grid, Tensor]]:
    """Pair every grid of a report with what the model saw there, and which of its tokens were kept.

    Where a processor cuts one tile of pixels a grid, those are shown, crops and all; else the whole picture.

    Returns
    -------
    list of (PIL image, (rows, columns), BoolTensor (rows * columns,))
    """
    from PIL import Image

    pixels = inputs.get("pixel_values")
    tiles = pixels.flatten(0, -4) if isinstance(pixels, Tensor) and pixels.ndim in (4, 5) else None
    total = sum(len(image.grids) for image in images)
    out: list[tuple[Any, Grid, Tensor]] = []
    for image in images:
        kept = torch.zeros(image.tokens, dtype=torch.bool)
        kept[image.kept.cpu()] = True
        start = 0
        for h, w in image.grids:
            shown = picture.convert("RGB")
            if tiles is not None and len(tiles) == total:
                tile = tiles[len(out)].float().cpu()
                light = (tile - tile.min()) / (tile.max() - tile.min()).clamp_min(1e-6)
                shown = Image.fromarray((light.permute(1, 2, 0) * 255).to(torch.uint8).numpy())
            out.append((shown, (h, w), kept[start : start + h * w]))
            start += h * w
    return out


def draw(images: Sequence[ImageReport], inputs: Mapping[str, Any], picture: Any) -> Any:
    """Draw the tokens kept over the picture: dropped ones dark, the grids of several tiles side by side.

    Parameters
    ----------
    images : sequence of ImageReport
        Of one prompt with one picture.
    inputs : mapping
        What the processor made of it.
    picture : PIL image

    Returns
    -------
    PIL image
    """
    from PIL import Image

    shown = []
    for image, (h, w), kept in panels(images, inputs, picture):
        longer = max(image.size)
        scale = max(1.0, _LEAST / longer)
        width, height = (max(1, round(side * scale / n)) * n for side, n in zip(image.size, (w, h), strict=True))
        big = image.resize((width, height), Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BICUBIC)
        light = Image.fromarray((kept.view(h, w).to(torch.uint8) * 255).numpy()).resize(
            (width, height), Image.Resampling.NEAREST
        )
        shown.append(Image.composite(big, big.point(lambda value: value * _DARK), light))
    size = sum(image.width for image in shown) + _GAP * (len(shown) - 1), max(image.height for image in shown)
    canvas = Image.new("RGB", size, "white")
    left = 0
    for image in shown:
        canvas.paste(image, (left, 0))
        left += image.width + _GAP
    return canvas
