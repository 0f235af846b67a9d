"""The logits of the prompt's last token and of all that follow it, in float64, whole and pruned."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tilewright import topv

from .model import Size, following, make, prompt

KEEPS = (0.5, 0.33, 0.11)  # shares of the visual tokens
LAYER = 2  # whose states are scored; the cut is behind it


def logits(size: Size, keep: float, folder: Path) -> tuple[Any, Any]:
    """Return logits (1 + new, vocabulary) and the kept positions, as `compute` wrote them."""
    with np.load(_file(size, keep, folder)) as found:
        return found["logits"], found["kept"]


def there(size: Size, folder: Path) -> bool:
    """Tell whether all references were computed before."""
    return all(_file(size, keep, folder).exists() for keep in (1.0, *KEEPS))


def _file(size: Size, keep: float, folder: Path) -> Path:
    return folder / f"vlm-{size.key}-{keep:g}.npz"


def compute(size: Size, folder: Path) -> None:
    """Write the references of all keeps; the model in float64 takes eight bytes a weight.

    One prefill of the prompt with everything behind it: causal attention makes each token's logits those of a decoder
    that sees one token after the other, and pruning chooses by the picture's tokens alone.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model = make(size).double()
    for module in model.modules():
        if type(module).__name__ == "LlamaRMSNorm":  # computes in float32, whatever it is given
            module.forward = partial(_norm, module)
    inputs = prompt(size)
    inputs["input_ids"] = torch.cat([inputs["input_ids"], following(size)[None]], 1)
    inputs["pixel_values"] = inputs["pixel_values"].double()
    for keep in (1.0, *KEEPS):
        with topv.prune(model, keep, LAYER) if keep < 1 else nullcontext() as pruning, torch.no_grad():
            found = model(**inputs, use_cache=False, logits_to_keep=size.new + 1).logits[0].numpy()
            kept = pruning.kept_positions[0].numpy() if pruning is not None else np.arange(size.prompt + size.new)
        path = _file(size, keep, folder)
        with open(path.with_suffix(".tmp"), "wb") as file:
            np.savez(file, logits=found, kept=kept[kept < size.prompt])
        path.with_suffix(".tmp").replace(path)


def _norm(module: nn.Module, x: Tensor) -> Tensor:
    weight, epsilon = module.weight, module.variance_epsilon
    return weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + epsilon))  # type: ignore[operator]
