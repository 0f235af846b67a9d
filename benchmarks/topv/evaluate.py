"""Ask the model everything, with all tokens and with those that a selector keeps.

A scene's questions are packed into one row and the layers before the cut run once, so that each selector costs only a
gather and the layers behind the cut. `through_prune` asks the slow way, for comparison.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import LlavaForConditionalGeneration

import data
import model as models
from tilewright import topv

KEEPS = (0.75, 0.50, 0.33, 0.22, 0.11)
IMAGE = slice(1, 1 + data.TOKENS)


@dataclass(frozen=True)
class Asked:
    """Scenes, their questions, and the model's states where tokens are cut.

    Attributes
    ----------
    scenes : Scenes
        n of them.
    words, answers : Tensor (n, q, 2), (n, q)
    types : int64 (q,)
    states : Tensor (n, 145 + 2 q, 96)
        At the input of the layer after the cut.
    source, target, features : Tensor (n, 144, 96)
        Of the image tokens: input of the scored layer, what its MLP reads, what the projector made.
    attention : Tensor (n, q, 144)
        That each question's last word pays to the image in the first layer behind the cut.
    layer : int
        The scored layer.
    """

    scenes: data.Scenes
    words: Tensor
    answers: Tensor
    types: npt.NDArray[np.int64]
    states: Tensor
    source: Tensor
    target: Tensor
    features: Tensor
    attention: Tensor
    layer: int


@torch.no_grad()
def ask(
    model: LlavaForConditionalGeneration, scenes: data.Scenes, each: int, seed: int, layer: int = models.LAYER
) -> Asked:
    """Run the model up to the cut on `each` questions of each type about every scene."""
    words, answers, types = data.questions(scenes, each, seed)
    parts = []
    for rows in np.array_split(np.arange(len(words)), -(-len(words) // 50)):
        pixels = models.pixels(torch.from_numpy(scenes.pictures[rows]))
        features = torch.stack(list(model.get_image_features(pixel_values=pixels, return_dict=True).pooler_output))
        parts.append(_up_to(model, features, torch.from_numpy(words[rows]), layer))
    states, source, target, features, attention = (torch.cat(part) for part in zip(*parts, strict=True))
    return Asked(
        scenes, torch.from_numpy(words), torch.from_numpy(answers), types, states, source, target, features, attention,
        layer,
    )  # fmt: skip


def _up_to(
    model: LlavaForConditionalGeneration, features: Tensor, words: Tensor, layer: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    text = model.model.language_model
    states, mask, positions = models.packed(text.embed_tokens.weight, words, features)
    rope = text.rotary_emb(states, positions)
    for block in text.layers[:layer]:
        states = block(states, attention_mask=mask, position_embeddings=rope)
    source, taken = states, []
    hook = text.layers[layer].post_attention_layernorm.register_forward_hook(lambda _, __, out: taken.append(out))
    states = text.layers[layer](states, attention_mask=mask, position_embeddings=rope)
    hook.remove()
    attention = _attention(model, states, mask, rope, layer + 1).unflatten(1, words.shape[1:])[:, :, -1]
    return states, source[:, IMAGE], taken[0][:, IMAGE], features, attention


def _attention(
    model: LlavaForConditionalGeneration, states: Tensor, mask: Tensor, rope: tuple[Tensor, Tensor], layer: int
) -> Tensor:
    """Return what text tokens pay to image tokens in `layer`, mean over heads: (n, text, 144)."""
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    block = model.model.language_model.layers[layer]
    normed = block.input_layernorm(states)
    size = models.WIDTH // models.TEXT_HEADS
    query, key = (
        project(normed).unflatten(-1, (models.TEXT_HEADS, size)).transpose(1, 2)
        for project in (block.self_attn.q_proj, block.self_attn.k_proj)
    )
    query, key = apply_rotary_pos_emb(query, key, *rope)
    rows = slice(1 + data.TOKENS, None)
    scores = query[:, :, rows] @ key.transpose(-1, -2) * size**-0.5 + mask[:, :, rows]
    return scores.softmax(-1)[..., IMAGE].mean(1)


@torch.no_grad()
def answer(model: LlavaForConditionalGeneration, asked: Asked, image: Tensor, kept: Tensor) -> Tensor:
    """Return which answers are right, bool (n, q).

    Parameters
    ----------
    image : Tensor (n, k, 96)
        States of the image tokens that are left.
    kept : Tensor (n, k)
        Their places among the 144.
    """
    text = model.model.language_model
    n, q, length = asked.words.shape
    right = []
    for rows in torch.arange(n).split(100):
        states, mask, positions = models.packed(text.embed_tokens.weight, asked.words[rows], image[rows])
        states = torch.cat([asked.states[rows, :1], image[rows], asked.states[rows, 1 + data.TOKENS :]], 1)
        after = torch.arange(1 + data.TOKENS, 1 + data.TOKENS + length).repeat(q)
        positions = torch.cat(
            [torch.zeros(len(rows), 1, dtype=torch.long), 1 + kept[rows], after.expand(len(rows), -1)], 1
        )
        rope = text.rotary_emb(states, positions)
        for block in text.layers[asked.layer + 1 :]:
            states = block(states, attention_mask=mask, position_embeddings=rope)
        last = text.norm(states[:, 1 + kept.shape[1] :]).unflatten(1, (q, length))[:, :, -1]
        right.append(model.lm_head(last).argmax(-1) == asked.answers[rows])
    return torch.cat(right)


Select = Callable[[topv.VisualTokens, int], topv.Selection]


def choose(asked: Asked, keep: float, select: Select) -> tuple[Tensor, Tensor]:
    """Return the states of the tokens that are left, (n, k, 96), and their places, (n, k)."""
    count = topv.budget(keep, data.TOKENS)
    states, places = [], []
    output = asked.states[:, IMAGE]
    for i in range(len(output)):
        tokens = topv.VisualTokens(
            ((data.GRID, data.GRID),), asked.source[i], asked.target[i], output[i], asked.features[i], index=i
        )
        made = select(tokens, count)
        if made.merge is None:
            states.append(output[i, made.kept])
        else:
            sums = torch.zeros(count, models.WIDTH).index_add(0, made.merge, output[i])
            states.append(sums / torch.bincount(made.merge, minlength=count)[:, None])
        places.append(made.kept)
    return torch.stack(states), torch.stack(places)


def by_attention(asked: Asked, keep: float) -> tuple[Asked, Tensor, Tensor]:
    """Do the same for FastV, whose choice depends on the question: every question becomes a row of its own."""
    count = topv.budget(keep, data.TOKENS)
    kept = asked.attention.flatten(0, 1).topk(count).indices.sort(-1).values
    q, length = asked.words.shape[1:]
    text = asked.states[:, 1 + data.TOKENS :].unflatten(1, (q, length)).flatten(0, 1)
    start = asked.states[:, :1].repeat_interleave(q, 0)
    image = asked.states[:, IMAGE].repeat_interleave(q, 0)
    alone = replace(
        asked,
        words=asked.words.flatten(0, 1)[:, None],
        answers=asked.answers.flatten()[:, None],
        states=torch.cat([start, image, text], 1),
    )
    return alone, image.gather(1, kept[..., None].expand(-1, -1, models.WIDTH)), kept


def coverage(asked: Asked, kept: Tensor) -> npt.NDArray[np.float64]:
    """Return, for each scene, the share of the digits' patches that are kept, mean over its rows of `kept`."""
    digits = torch.from_numpy(asked.scenes.patches) < data.DISTRACTOR
    rows = len(kept) // len(digits)
    share: Tensor = (
        digits.repeat_interleave(rows, 0).gather(1, kept).view(len(digits), -1).sum(1) / digits.sum(1) / rows
    )
    return share.double().numpy()


def foreground(asked: Asked) -> Select:
    """Return a selector that knows the truth: patches of digits first, others at random. No method; an upper bound."""

    def select(tokens: topv.VisualTokens, count: int) -> topv.Selection:
        noise = torch.rand(data.TOKENS, generator=torch.Generator().manual_seed(tokens.index))
        digit = torch.from_numpy(asked.scenes.patches[tokens.index] < data.DISTRACTOR)
        return topv.Selection((noise + digit).topk(count).indices.sort().values)

    return select


def named(name: str, recovery: float | None = None, **options: Any) -> Select:
    """Return the selector `name` of `topv`, TopV with the options given, as a function of tokens and count."""

    def select(tokens: topv.VisualTokens, count: int) -> topv.Selection:
        use: str | topv.Selector = name
        if name == "random":  # other places in every picture
            use = topv.Random(1 + tokens.index)
        elif name == "topv":
            use = topv.TopV(**options)
        elif name == "literal":
            use = topv.TopV.literal()
        return topv.choose(tokens, count, use, recovery)

    return select


def conditions(model: LlavaForConditionalGeneration, asked: Asked) -> Iterable[tuple[str, npt.NDArray[np.bool_]]]:
    """Yield what needs no selector: all tokens, another scene's, none."""
    image, everywhere = asked.states[:, IMAGE], torch.arange(data.TOKENS).expand(len(asked.states), -1)
    yield "full", answer(model, asked, image, everywhere).numpy()
    yield "shuffled", answer(model, asked, image.roll(1, 0), everywhere).numpy()
    yield "none", answer(model, asked, image[:, :0], everywhere[:, :0]).numpy()


@torch.no_grad()
def through_prune(model: LlavaForConditionalGeneration, asked: Asked, keep: float, name: str, scenes: int) -> Tensor:
    """Return which answers are right, bool (scenes, q), each asked alone under `topv.prune`: the slow way."""
    right = []
    for i in range(scenes):
        words, pictures = asked.words[i], torch.from_numpy(asked.scenes.pictures[i : i + 1])
        before = torch.tensor([models.WORD["<s>"], *[models.WORD["<image>"]] * data.TOKENS])
        ids = torch.cat([before.expand(len(words), -1), words], 1)
        with topv.prune(model, keep, asked.layer, name):
            pixels = models.pixels(pictures).expand(len(words), -1, -1, -1)
            logits = model(input_ids=ids, pixel_values=pixels, attention_mask=torch.ones_like(ids)).logits
        right.append(logits[:, -1].argmax(-1) == asked.answers[i])
    return torch.stack(right)
