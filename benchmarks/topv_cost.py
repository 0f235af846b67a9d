"""What pruning visual tokens costs and saves on this CPU: scoring, an idle pruning, prefill, decode, the cache.

One thread, and the time that it computed, so that other programs disturb less. All that is compared takes turns in one
process, and the least of the rounds counts. The model is LLaVA's classes with random weights (16 layers, 512 wide, 576
visual tokens): time and memory do not depend on what it says.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

# Settings that make BLAS slower than it is, or both libraries unlike what a user gets.
for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
    os.environ.pop(name, None)
os.environ.setdefault("TILEWRIGHT_NUM_THREADS", "1")

import torch  # noqa: E402
from harness.report import machine, table  # noqa: E402
from harness.timing import Timer  # noqa: E402

from tilewright import topv  # noqa: E402

IMAGE, SIDE, LAYERS = 900, 24, 16
KEEPS = (0.75, 0.5, 0.33, 0.22, 0.11)


def main() -> None:
    """Measure what was asked for and print it."""
    parser = argparse.ArgumentParser(prog="build.py bench topv_cost", description=str(__doc__).partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7, help="turns of everything that is compared (default 7)")
    parser.add_argument("--parts", nargs="+", default=["scoring", "model"], choices=["scoring", "model"])
    parser.add_argument("--json", metavar="FILE", type=Path, help="write everything measured")
    options = parser.parse_args()
    torch.set_num_threads(1)
    core = min(os.sched_getaffinity(0))
    about = {**machine(core), "torch": torch.__version__}
    print(f"{about['cpu']}, one thread, torch {about['torch']}, load {about['load']:.1f}\n")
    measured: dict[str, Any] = {"schema": 1, "machine": about}
    with torch.inference_mode():
        if "scoring" in options.parts:
            measured["scoring"] = scoring(options.rounds)
        if "model" in options.parts:
            measured |= model_costs(options.rounds)
    if options.json:
        options.json.write_text(json.dumps(measured, indent=1) + "\n")


def least(tasks: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Run the tasks in turn, after one round that does not count; return the least seconds that the thread computed."""
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(rounds + 1):
        for name, task in tasks.items():
            begun = time.thread_time()
            task()
            times[name].append(time.thread_time() - begun)
    return {name: min(taken[1:]) for name, taken in times.items()}


def scoring(rounds: int) -> list[dict[str, Any]]:
    """Time TopV's scores beside the one product in them, ours and torch's."""
    peak = Timer().peak("s", 1000)
    rows, random = [], torch.Generator().manual_seed(0)
    for side, features in ((24, 1024), (24, 4096), (48, 1024)):
        n = side * side
        source, target = (torch.randn(n, features, generator=random) for _ in range(2))
        both = {dtype: (source.to(dtype), target.to(dtype)) for dtype in (torch.float32, torch.bfloat16)}
        tokens = {dtype: topv.VisualTokens(((side, side),), source=s, target=t) for dtype, (s, t) in both.items()}
        times = least(
            {
                "gemm": partial(topv.gemm, source, target, False, True),
                "torch": partial(torch.matmul, source, target.T),
                "scores": partial(topv.TopV().scores, tokens[torch.float32]),
                "bfloat16": partial(topv.TopV().scores, tokens[torch.bfloat16]),
                "spatial": partial(topv.TopV(beta=1.0).scores, tokens[torch.float32]),
                "sinkhorn": partial(topv.TopV(mode="sinkhorn").scores, tokens[torch.float32]),
                "log": partial(topv.TopV(mode="sinkhorn", domain="log").scores, tokens[torch.float32]),
            },
            rounds * (3 if n < 1000 else 1),
        )
        flops = 2 * n * n * features
        rows.append({"n": n, "features": features, "peak": peak, "gflops": flops / times["gemm"] / 1e9, **times})
    print(f"Scoring one image, ms; peak of one core {peak:.0f} GFLOP/s, float32\n")
    header = ["n", "features", "product", "of peak", "torch's", "all of TopV", "beyond the product", "from bfloat16",
              "with the spatial term", "Sinkhorn, 3 iterations", "in the log domain"]  # fmt: skip
    lines = [
        [str(row["n"]), str(row["features"]), _ms(row["gemm"]), f"{row['gflops'] / peak:.0%}", _ms(row["torch"]),
         *map(_ms, (row["scores"], row["scores"] - row["gemm"], row["bfloat16"], row["spatial"], row["sinkhorn"],
                    row["log"]))]
        for row in rows
    ]  # fmt: skip
    print(table(header, lines), end="\n\n")
    return rows


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.1f}"


def make_model() -> Any:
    """Make LLaVA's classes small, but for what pruning changes: the decoder's depth and the number of tokens."""
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    torch.manual_seed(0)
    sight: Any = CLIPVisionConfig(
        hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2, image_size=14 * SIDE
    )
    sight.patch_size = 14
    text = LlamaConfig(
        vocab_size=1000, hidden_size=512, intermediate_size=1376, num_hidden_layers=LAYERS, num_attention_heads=8,
        num_key_value_heads=8, max_position_embeddings=1024, eos_token_id=None,
    )  # fmt: skip
    config: Any = LlavaConfig(vision_config=sight, text_config=text)
    config.image_token_id = IMAGE
    model: Any = LlavaForConditionalGeneration(config)
    return model.eval()


def model_costs(rounds: int) -> dict[str, Any]:
    """Time prefill and decode of the model, whole and pruned, and weigh the caches."""
    model = make_model()
    n, words = SIDE * SIDE, 41
    ids = torch.tensor([[*range(2, 22), *[IMAGE] * n, *range(22, 22 + words - 20)]])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    inputs["pixel_values"] = torch.randn(1, 3, 14 * SIDE, 14 * SIDE)

    def prefill(way: Callable[[], AbstractContextManager[Any]]) -> Any:
        with way():
            return model(**inputs, use_cache=True, logits_to_keep=1)

    ways: dict[str, Callable[[], AbstractContextManager[Any]]] = {
        "whole": nullcontext,
        "keep all": partial(topv.prune, model, 1.0, 2),
        **{f"keep {keep:.0%}": partial(topv.prune, model, keep, 2) for keep in KEEPS},
        **{f"uniform {keep:.0%}": partial(topv.prune, model, keep, 2, "uniform") for keep in KEEPS},
    }
    times = least({name: partial(prefill, way) for name, way in ways.items()}, rounds)
    rows = [_row(model, inputs, name, ways[name], times, n + words, rounds) for name in ways if "uniform" not in name]
    print(f"{LAYERS} layers 512 wide, {n} visual tokens and {words} words, scored in layer 2\n")
    header = ["", "prefill, ms", "speed-up", "scoring costs", "a new token, ms", "KV bytes", "of whole", "in theory"]
    lines = []
    for row in rows:
        share = "" if row["uniform"] is None else f"{row['prefill'] / row['uniform'] - 1:+.1%}"
        lines.append([row["name"], _ms(row["prefill"]), f"{times['whole'] / row['prefill']:.2f}", share,
                      _ms(row["decode"]), f"{row['bytes']:,}", f"{row['bytes'] / rows[0]['bytes']:.3f}",
                      f"{row['theory']:.3f}"])  # fmt: skip
    print(table(header, lines))
    overhead = times["keep all"] / times["whole"] - 1
    print(f"\nkeep all, nothing cut: {overhead:+.2%} of prefill. Scoring costs: against uniform at the same keep.")
    return {"model": rows, "idle_overhead": overhead}


def _row(
    model: Any, inputs: dict[str, Any], name: str, way: Callable[[], AbstractContextManager[Any]],
    times: Mapping[str, float], length: int, rounds: int,
) -> dict[str, Any]:  # fmt: skip
    """Collect one way's numbers; a new token is timed on the cache that its prefill left."""
    keep = float(name.split()[1].rstrip("%")) / 100 if "%" in name else 1.0
    with way():
        output = model(**inputs, use_cache=True, logits_to_keep=1)
        cache = output.past_key_values
        held = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
        token = torch.tensor([[5]])
        steps = []
        for step in range(4 * rounds):
            mask = torch.ones(1, length + step + 1, dtype=torch.long)
            begun = time.thread_time()
            model(input_ids=token, attention_mask=mask, past_key_values=cache, use_cache=True)
            steps.append(time.thread_time() - begun)
    left = length - SIDE * SIDE + topv.budget(keep, SIDE * SIDE)
    return {
        "name": name, "keep": keep, "prefill": times[name], "uniform": times.get(name.replace("keep", "uniform")),
        "decode": min(steps), "bytes": held, "theory": (3 * length + (LAYERS - 3) * left) / (LAYERS * length),
    }  # fmt: skip


if __name__ == "__main__":
    main()
