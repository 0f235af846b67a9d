"""A model of LLaVA's classes with random weights, its prompt, and the tokens that follow it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

PATCH = 14


@dataclass(frozen=True)
class Size:
    """How large the model and its prompt are.

    The vision tower's share of the arithmetic is about that of CLIP-L in LLaVA-1.5-7B, one part in twenty.
    """

    layers: int = 16
    hidden: int = 2048
    between: int = 5632
    heads: int = 16
    vocabulary: int = 32000
    side: int = 24
    """Of the picture, in visual tokens."""
    sight: int = 512
    """Features of the vision tower."""
    sight_layers: int = 12
    words: int = 41
    new: int = 64
    """Tokens decoded behind the prompt."""

    @property
    def visual(self) -> int:
        """Visual tokens."""
        return self.side**2

    @property
    def prompt(self) -> int:
        """Tokens of the prompt."""
        return self.visual + self.words

    @property
    def weights(self) -> int:
        """Elements of all matrices that a token of text meets in the decoder and the head."""
        return self.layers * (4 * self.hidden**2 + 3 * self.hidden * self.between) + self.vocabulary * self.hidden

    @property
    def key(self) -> str:
        """Return what tells sizes apart in a file's name."""
        return "-".join(str(value) for value in asdict(self).values())


TINY = Size(
    layers=4, hidden=256, between=640, heads=4, vocabulary=300, side=6, sight=64, sight_layers=2, words=9, new=5
)


def make(size: Size) -> Any:
    """Return the model, the same for the same size: matrices of deviation 0.02, as transformers begins, norms of 1."""
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration
    from transformers.initialization import no_init_weights

    sight: Any = CLIPVisionConfig(
        hidden_size=size.sight, intermediate_size=4 * size.sight, num_hidden_layers=size.sight_layers,
        num_attention_heads=max(1, size.sight // 64), image_size=PATCH * size.side, patch_size=PATCH,
    )  # fmt: skip
    text = LlamaConfig(
        vocab_size=size.vocabulary, hidden_size=size.hidden, intermediate_size=size.between,
        num_hidden_layers=size.layers, num_attention_heads=size.heads, num_key_value_heads=size.heads,
        max_position_embeddings=2048, eos_token_id=None,
    )  # fmt: skip
    config: Any = LlavaConfig(vision_config=sight, text_config=text)
    config.image_token_id = size.vocabulary - 1
    with no_init_weights():
        model: Any = LlavaForConditionalGeneration(config)
    random = np.random.default_rng(8)
    for name, parameter in model.named_parameters():
        values = parameter.detach().numpy()
        if parameter.ndim > 1 or "class_embedding" in name:
            random.standard_normal(out=values, dtype=np.float32)
            values *= 0.02
        else:
            values.fill(0.0 if name.endswith("bias") else 1.0)
    return model.eval()


def prompt(size: Size) -> dict[str, Tensor]:
    """Return the inputs: words, one picture, words."""
    random = np.random.default_rng(9)
    words = random.integers(3, size.vocabulary - 1, size.words)
    ids = np.concatenate([words[: size.words // 2], [size.vocabulary - 1] * size.visual, words[size.words // 2 :]])
    pixels = random.standard_normal((1, 3, PATCH * size.side, PATCH * size.side), dtype=np.float32)
    return {"input_ids": torch.from_numpy(ids)[None], "pixel_values": torch.from_numpy(pixels)}


def following(size: Size) -> Tensor:
    """Return the tokens that every way is given behind the prompt, whatever it would have chosen itself."""
    return torch.from_numpy(np.random.default_rng(10).integers(3, size.vocabulary - 1, size.new))


def embed(model: Any, inputs: dict[str, Tensor]) -> Tensor:
    """Return what the decoder is given: the words' embeddings, and the picture's features in their midst."""
    ids = inputs["input_ids"]
    embedded = model.get_input_embeddings()(ids)
    if "pixel_values" not in inputs:
        return embedded  # type: ignore[no-any-return]
    features = torch.cat(model.model.get_image_features(inputs["pixel_values"], return_dict=True).pooler_output)
    places = (ids == model.config.image_token_id)[..., None]
    return embedded.masked_scatter(places, features)  # type: ignore[no-any-return]
