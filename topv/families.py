"""What differs between models of transformers: where the decoder is, and what places an image's tokens have.

One row a family. The rest of the package asks no model for its name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from .cost import Grids
from .errors import ArgumentError, GridError, ModelError

__all__ = [
    "FAMILIES",
    "Family",
    "Picture",
    "Scene",
    "Span",
    "decoder_of",
    "family_of",
    "norm_of",
    "pictures_of",
    "register_family",
]


@dataclass(frozen=True)
class Span:
    """The next image's tokens in the order of the prompt.

    Parameters
    ----------
    grids : tuple of (rows, columns)
        Of the image, or of its tiles one after the other.
    newline : bool
        Does a token that stands for no place end every row of the last grid? Those are always kept.
    """

    grids: Grids
    newline: bool = False

    @property
    def tokens(self) -> int:
        return sum(h * w for h, w in self.grids) + (self.grids[-1][0] if self.newline else 0)

    def places(self) -> Tensor:
        """Which of the tokens are visual ones."""
        here = torch.ones(self.tokens, dtype=torch.bool)
        if self.newline:
            h, w = self.grids[-1]
            here[self.tokens - h * (w + 1) :].view(h, w + 1)[:, -1] = False
        return here


@dataclass(frozen=True)
class Picture:
    """Where one image's visual tokens are in a batch: row, positions in it, grids, its number in the row."""

    row: int
    positions: Tensor
    grids: Grids
    index: int


@dataclass(frozen=True)
class Scene:
    """All that is known of a batch of prompts with images.

    Parameters
    ----------
    model : Module
        The multimodal model, with its ``config``.
    arguments : mapping
        Of its forward. `generate` takes what only the vision tower needs out of them, grids too.
    mask : BoolTensor (rows, length)
        Which positions are tokens of images (or of videos).
    """

    model: nn.Module
    arguments: Mapping[str, Any]
    mask: Tensor

    @property
    def config(self) -> Any:
        return self.model.config

    def runs(self) -> list[int]:
        """Lengths of the runs of image tokens, prompt by prompt."""
        return [run for row in self.mask for run in _runs(row.nonzero()[:, 0])]


Spans = Callable[[Scene], Iterator[Span]]
"""From what is known to the images' spans, in order, over the whole batch."""


@dataclass(frozen=True)
class Family:
    """A row of the table.

    Parameters
    ----------
    images : callable
        Spans of the images, over the whole batch in order of the prompt; see `Spans`.
    videos : callable, optional
        The same for tokens equal to ``config.video_token_id``; every frame is an image.
    decoder : str
        The attribute of the multimodal model that holds ``layers``.
    deepstack : callable, optional
        From config to how many layers get visual features added behind them.
    blocks : bool
        Do an image's tokens attend to each other both ways?
    """

    images: Spans
    videos: Spans | None = None
    decoder: str = "language_model"
    deepstack: Callable[[Any], int] = lambda config: 0
    blocks: bool = False


def _pair(size: Any) -> tuple[int, int]:
    return (int(size), int(size)) if isinstance(size, int) else (int(size[0]), int(size[1]))


def _patches(config: Any, per_side: float = 1) -> tuple[int, int]:
    """Grid of one tile: the vision tower's patches, `per_side` of them joined in each direction."""
    sizes, patches = _pair(config.vision_config.image_size), _pair(config.vision_config.patch_size)
    h, w = (size // patch / per_side for size, patch in zip(sizes, patches, strict=True))
    return int(h), int(w)


def _squares(grid: Callable[[Any], tuple[int, int]], tiles: bool = False) -> Spans:
    """Images of one size; with `tiles` a run of tokens is one image, however many tiles it has."""

    def spans(scene: Scene) -> Iterator[Span]:
        h, w = grid(scene.config)
        for run in scene.runs():
            number, left = divmod(run, h * w)
            if left:
                raise GridError(
                    f"{run} image tokens in a row are no multiple of {h} x {w}, the grid that the configuration gives."
                )
            yield from [Span(((h, w),) * number)] if tiles else [Span(((h, w),))] * number

    return spans


def _any_resolution(scene: Scene) -> Iterator[Span]:
    """LLaVA-NeXT: a small version of the whole, then all tiles as one picture without its padding, row by row."""
    sizes = scene.arguments.get("image_sizes")
    return _by_newlines(scene) if sizes is None else _by_sizes(scene.config, torch.as_tensor(sizes))


def _by_newlines(scene: Scene) -> Iterator[Span]:
    """Read rows and columns from where the features are the newline's."""
    features = scene.arguments["mm_encoder_outputs"]["image"].pooler_output
    parts: Any = features if isinstance(features, (list, tuple)) else [features]
    flat = torch.cat([part.reshape(-1, part.shape[-1]) for part in parts])
    newline: Any = scene.model.image_newline
    ends = (flat == newline.to(flat)).all(-1).nonzero()[:, 0].tolist()
    side, start = _patches(scene.config)[0], 0
    while ends:
        w = ends[0] - start - side * side
        h = 1
        while h < len(ends) and ends[h] == ends[0] + h * (w + 1):
            h += 1
        yield Span(((side, side), (h, w)), newline=True)
        start, ends = ends[h - 1] + 1, ends[h:]


def _by_sizes(config: Any, sizes: Tensor) -> Iterator[Span]:
    """Compute rows and columns as transformers does."""
    from transformers.models.llava_next.modeling_llava_next import get_anyres_image_grid_shape

    shape: Any = get_anyres_image_grid_shape
    tile, side = config.vision_config.image_size, _patches(config)[0]
    for size in sizes.tolist():
        rows, columns = shape(size, config.image_grid_pinpoints, tile)
        h, w = rows * side, columns * side
        height, width = size
        if width / height > w / h:  # padded above and below
            h -= (h - int(round(height * (w / width), 7))) // 2 * 2
        else:
            w -= (w - int(round(width * (h / height), 7))) // 2 * 2
        yield Span(((side, side), (h, w)), newline=True)


def _thw(name: str) -> Spans:
    """Qwen: frames, rows and columns of patches, merged in squares; or the same read from M-RoPE's positions."""

    def spans(scene: Scene) -> Iterator[Span]:
        grids, positions = scene.arguments.get(name), scene.arguments.get("position_ids")
        if grids is not None:
            merge = scene.config.vision_config.spatial_merge_size
            for frames, rows, columns in torch.as_tensor(grids).tolist():
                yield from [Span(((rows // merge, columns // merge),))] * frames
        elif isinstance(positions, Tensor) and positions.ndim == 3 and len(positions) >= 3:
            for row, here in enumerate(scene.mask):
                yield from _frames(positions[-3:, row, here.to(positions.device)].T.tolist())
        else:
            raise GridError(
                f"the prompt holds image tokens but neither {name} nor positions in three dimensions; the processor "
                "makes the first, and mm_token_type_ids, from which generate makes the second."
            )

    return spans


def _frames(places: list[tuple[int, int, int]]) -> Iterator[Span]:
    """Cut (time, row, column) of one prompt's image tokens where a frame is over."""
    start = 0
    for end in range(1, len(places) + 1):
        if end < len(places):
            (t, h, w), (t1, h1, w1) = places[end - 1 : end + 1]
            in_row, next_row = h1 == h and w1 == w + 1, h1 == h + 1 and w1 == places[start][2]
            if t1 == t and (in_row or next_row):
                continue
        rows = places[end - 1][1] - places[start][1] + 1
        columns, left = divmod(end - start, rows)
        if left:
            raise GridError(
                f"positions of {end - start} image tokens are no grid of {rows} rows; is mm_token_type_ids there?"
            )
        yield Span(((rows, columns),))
        start = end


def _root(number: int) -> tuple[int, int]:
    side = round(number**0.5)
    return side, side


def _shuffled(config: Any) -> tuple[int, int]:
    return _patches(config, config.scale_factor)


_QWEN = Family(_thw("image_grid_thw"), _thw("video_grid_thw"))

FAMILIES: dict[str, Family] = {
    "llava": Family(_squares(_patches)),
    "llava_next": Family(_any_resolution),
    "qwen2_vl": _QWEN,
    "qwen2_5_vl": _QWEN,
    "qwen3_vl": Family(
        _QWEN.images, _QWEN.videos, deepstack=lambda config: len(config.vision_config.deepstack_visual_indexes)
    ),
    "internvl": Family(_squares(lambda config: _patches(config, 1 / config.downsample_ratio), tiles=True)),
    "smolvlm": Family(_squares(_shuffled), decoder="text_model"),
    "idefics3": Family(_squares(_shuffled), decoder="text_model"),
    "paligemma": Family(_squares(_patches), blocks=True),
    "gemma3": Family(_squares(lambda config: _root(config.mm_tokens_per_image)), blocks=True),
}
"""By ``config.model_type``."""


def register_family(model_type: str, family: Family) -> None:
    """Make models of another type known.

    Parameters
    ----------
    model_type : str
        As in ``model.config.model_type``.
    family : Family

    Raises
    ------
    ArgumentError
        There is one of this name.
    """
    if model_type in FAMILIES:
        raise ArgumentError(f"register_family: there is a family {model_type!r} already.")
    FAMILIES[model_type] = family


def family_of(model: nn.Module) -> Family:
    """Return a model's row of the table.

    Raises
    ------
    ModelError
        The family is unknown, or its configuration names no image token.
    """
    config = getattr(model, "config", None)
    name = getattr(config, "model_type", None)
    if name not in FAMILIES:
        raise ModelError(
            f"{type(model).__name__} (model_type {name!r}) is of no family known here: {', '.join(FAMILIES)}. "
            "topv.register_family(model_type, topv.Family(images=...)) makes one known."
        )
    if getattr(config, "image_token_id", None) is None:
        raise ModelError(f"{type(model).__name__}: its configuration names no image_token_id; it has no image tokens.")
    return FAMILIES[name]


def decoder_of(model: nn.Module, family: Family) -> tuple[nn.Module, nn.Module]:
    """Return the multimodal model below any head, and its decoder, the module that has ``layers``.

    Raises
    ------
    ModelError
        Neither the model nor its ``model`` has the family's decoder.
    """
    for base in (model, getattr(model, "model", None)):
        decoder = getattr(base, family.decoder, None)
        if isinstance(base, nn.Module) and isinstance(getattr(decoder, "layers", None), nn.ModuleList):
            return base, decoder  # type: ignore[return-value]
    raise ModelError(
        f"{type(model).__name__} has no {family.decoder}.layers, nor has its .model; pass the model of transformers "
        "itself, not a wrapper of it."
    )


def norm_of(layer: nn.Module) -> nn.Module:
    """Return the norm that a decoder layer's MLP reads from.

    In most models it is called post_attention_layernorm; where the attention's output has a norm of its own (Gemma 2
    and 3), that one has this name, and the MLP's is pre_feedforward_layernorm.

    Raises
    ------
    ModelError
        There is neither.
    """
    for name in ("pre_feedforward_layernorm", "post_attention_layernorm"):
        norm = getattr(layer, name, None)
        if isinstance(norm, nn.Module):
            return norm
    raise ModelError(
        f"{type(layer).__name__} has no norm between attention and MLP; with target='output' or another selector than "
        "topv none is needed."
    )


def pictures_of(family: Family, model: nn.Module, ids: Tensor, arguments: Mapping[str, Any]) -> list[Picture]:
    """Find every image's tokens in a batch of prompts.

    Parameters
    ----------
    model : Module
        The multimodal model.
    ids : LongTensor (rows, length)
    arguments : mapping
        Of its forward.

    Raises
    ------
    GridError
        The images' tokens and their grids do not add up.
    """
    config: Any = model.config
    found: list[tuple[int, Tensor, Span]] = []
    for name, spans in (("image_token_id", family.images), ("video_token_id", family.videos)):
        token = getattr(config, name, None)
        if token is not None and spans is not None:
            found += _spread(Scene(model, arguments, (ids == token).cpu()), spans)
    pictures: list[Picture] = []
    for row in range(len(ids)):
        here = sorted(((tokens, span) for r, tokens, span in found if r == row), key=lambda item: int(item[0][0]))
        for index, (tokens, span) in enumerate(here):
            pictures.append(Picture(row, tokens[span.places()], span.grids, index))
    return pictures


def _spread(scene: Scene, spans: Spans) -> list[tuple[int, Tensor, Span]]:
    """Hand out the marked positions of every row to the spans, in order."""
    if not bool(scene.mask.any()):
        return []
    each = spans(scene)
    out = []
    for number, row in enumerate(scene.mask):
        left = row.nonzero()[:, 0]
        while len(left):
            span = next(each, None)
            if span is None or span.tokens > len(left):
                there = "no image is left" if span is None else f"the next image, {span.grids}, has {span.tokens}"
                raise GridError(f"prompt {number} has {len(left)} image tokens more, but {there}: they must agree.")
            out.append((number, left[: span.tokens], span))
            left = left[span.tokens :]
    if next(each, None) is not None:
        raise GridError("there are grids of more images than the prompts have image tokens for.")
    return out


def _runs(positions: Tensor) -> list[int]:
    """Lengths of the runs of consecutive positions."""
    if not len(positions):
        return []
    ends = (positions.diff() != 1).nonzero()[:, 0] + 1
    edges = [0, *ends.tolist(), len(positions)]
    return [b - a for a, b in pairwise(edges)]
