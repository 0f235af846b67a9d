"""Tiny models of the ten families, with random weights, and prompts for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["FAMILIES", "IMAGE", "TOKENS", "VIDEO", "make", "prompt"]

IMAGE, VIDEO, START, END, VOCABULARY = 90, 91, 92, 93, 96
_TEXT: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 512,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": None,
}  # fmt: skip
_SIGHT: dict[str, Any] = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 4,
    "image_size": 16,
}  # fmt: skip
_QWEN_SIGHT: dict[str, Any] = {
    "depth": 2, "embed_dim": 16, "hidden_size": 32, "num_heads": 2, "in_channels": 3, "in_chans": 3, "patch_size": 4,
    "spatial_merge_size": 2, "temporal_patch_size": 2, "mlp_ratio": 2, "intermediate_size": 24, "out_hidden_size": 32,
    "fullatt_block_indexes": [1], "window_size": 16, "deepstack_visual_indexes": [0, 1],
    "num_position_embeddings": 64,
}  # fmt: skip


def _hf(name: str, **arguments: Any) -> Any:
    """A class of transformers, called; the classes' own types know only half of their arguments."""
    import transformers

    return getattr(transformers, name)(**arguments)


def _model(name: str, text: Any, sight: Any, **arguments: Any) -> Any:
    config = _hf(f"{name}Config", text_config=text, vision_config=sight, image_token_id=IMAGE, **arguments)
    return _hf_model(name, config)


def _hf_model(name: str, config: Any) -> Any:
    import transformers

    return getattr(transformers, f"{name}ForConditionalGeneration")(config)


def _llava() -> Any:
    return _model("Llava", _hf("LlamaConfig", **_TEXT), _hf("CLIPVisionConfig", **_SIGHT))


def _llava_next() -> Any:
    pinpoints = [[16, 32], [32, 16], [32, 32]]
    text, sight = _hf("LlamaConfig", **_TEXT), _hf("CLIPVisionConfig", **_SIGHT)
    return _model("LlavaNext", text, sight, image_grid_pinpoints=pinpoints)


def _qwen(name: str) -> Callable[[], Any]:
    def model() -> Any:
        rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4}
        sight = {**_QWEN_SIGHT, **({"hidden_size": 16} if name != "Qwen2VL" else {})}
        ids = {"video_token_id": VIDEO, "vision_start_token_id": START, "vision_end_token_id": END}
        return _model(name, {**_TEXT, "rope_parameters": rope}, sight, **ids)

    return model


def _internvl() -> Any:
    sight = _hf("InternVLVisionConfig", **{**_SIGHT, "image_size": [32, 32], "patch_size": [4, 4]})
    return _model("InternVL", _hf("Qwen2Config", **_TEXT), sight, downsample_ratio=0.5)


def _idefics(name: str) -> Callable[[], Any]:
    def model() -> Any:
        sight = {**_SIGHT, "image_size": 32}
        return _model(name, _hf("LlamaConfig", **_TEXT), sight, scale_factor=2, pad_token_id=0)

    return model


def _paligemma() -> Any:
    sight = _hf("SiglipVisionConfig", **_SIGHT, projection_dim=32, vision_use_head=False)
    return _model("PaliGemma", _hf("GemmaConfig", **_TEXT), sight, projection_dim=32, hidden_size=32)


def _gemma3() -> Any:
    kinds = ["sliding_attention", "sliding_attention", "sliding_attention", "full_attention"]
    text = _hf("Gemma3TextConfig", **_TEXT, layer_types=kinds, sliding_window=96, query_pre_attn_scalar=8)
    sight = _hf("SiglipVisionConfig", **_SIGHT, vision_use_head=False)
    return _model("Gemma3", text, sight, mm_tokens_per_image=16, image_token_index=IMAGE)


FAMILIES: dict[str, Callable[[], Any]] = {
    "llava": _llava,
    "llava_next": _llava_next,
    "qwen2_vl": _qwen("Qwen2VL"),
    "qwen2_5_vl": _qwen("Qwen2_5_VL"),
    "qwen3_vl": _qwen("Qwen3VL"),
    "internvl": _internvl,
    "smolvlm": _idefics("SmolVLM"),
    "idefics3": _idefics("Idefics3"),
    "paligemma": _paligemma,
    "gemma3": _gemma3,
}

# LLaVA-NeXT: image 20 x 30 on 32 x 32 pixels: base 4 x 4, then 8 x 8 unpadded to 6 rows, each with a newline token
TOKENS = dict.fromkeys(FAMILIES, 16) | {"llava_next": 16 + 6 * 9, "internvl": 2 * 16}


def make(name: str, attention: str = "sdpa", dtype: torch.dtype = torch.float64, seed: int = 0) -> Any:
    """Make a model. Matrices are scaled up: with small random weights a model hardly sees positions, and hides bugs."""
    torch.manual_seed(seed)
    model = FAMILIES[name]()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4)
    model = model.to(dtype).eval()
    model.set_attn_implementation(attention)
    return model


def prompt(name: str, images: list[int], seed: int = 1, dtype: torch.dtype = torch.float64) -> dict[str, Any]:
    """Make prompts with so many images each, padded on the left; videos are images of two frames."""
    random = torch.Generator().manual_seed(seed)

    def words(number: int) -> list[int]:
        return torch.randint(2, IMAGE, (number,), generator=random).tolist()

    lines = []
    for row, number in enumerate(images):
        line = words(3 + row)
        for _ in range(number):
            line += [START, *[IMAGE] * TOKENS[name], END, *words(2)]
        lines.append(line + words(4))
    length = max(map(len, lines))
    ids = torch.tensor([[0] * (length - len(line)) + line for line in lines])
    seen = torch.tensor([[0] * (length - len(line)) + [1] * len(line) for line in lines])
    total = sum(images)
    inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": seen}
    if not total:
        return inputs

    def pixels(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random).to(dtype)

    if name.startswith("qwen"):
        grid = [[1, 4, 16], [1, 8, 8]]  # 2 x 8 and 4 x 4 tokens: not all square
        grids = [grid[i % 2] for i in range(total)]
        inputs |= {"pixel_values": pixels(64 * total, 3 * 2 * 4 * 4), "image_grid_thw": torch.tensor(grids)}
        inputs["mm_token_type_ids"] = (ids == IMAGE).int()
    elif name in ("smolvlm", "idefics3"):
        stacked = torch.zeros(len(images), max(images), 3, 32, 32, dtype=dtype)  # zeros: no image
        for row, number in enumerate(images):
            stacked[row, :number] = pixels(number, 3, 32, 32)
        inputs["pixel_values"] = stacked
    elif name == "internvl":
        inputs["pixel_values"] = pixels(2 * total, 3, 32, 32)
    elif name == "llava_next":
        inputs |= {"pixel_values": pixels(total, 5, 3, 16, 16), "image_sizes": torch.tensor([[20, 30]] * total)}
    else:
        inputs["pixel_values"] = pixels(total, 3, 16, 16)
    if name in ("paligemma", "gemma3"):
        image = ids == IMAGE
        inputs["token_type_ids"] = image.long() if name == "gemma3" else torch.zeros_like(ids)
    return inputs
