#!/usr/bin/env python3
r"""Accuracy of real checkpoints with and without pruning, on the benchmarks of lmms-eval.

    pip install tilewright[topv] "lmms-eval @ git+https://github.com/EvolvingLMMs-Lab/lmms-eval.git"
    python3 docs/examples/topv_lmms_eval.py --wrapper llava_hf --model-args pretrained=llava-hf/llava-1.5-7b-hf \
        --tasks gqa pope mmbench_en_dev --keep 1.0 0.5 0.33 0.11 --selectors topv random uniform minus-norm divprune

Every selector runs at every keep in one process on one loaded model; ``--check`` reads the arguments and stops. It
needs a wrapper of lmms-eval around a model of transformers (llava_hf, qwen2_5_vl, internvl_hf, idefics3 and others):
pruning attaches to its ``model``. Not run by this project's tests: there they are argument-checked only.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tilewright import topv
from tilewright.topv.select import check_keep, check_recovery


def number(text: str) -> float:
    """Read a fraction as a float and a count as an int."""
    value = float(text) if "." in text else int(text)
    check_keep(value)
    return value


def share(text: str) -> float:
    """Read an interval as an int and a share as a float."""
    value = float(text) if "." in text else int(text)
    check_recovery(value)
    return value


def read(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read and check the command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    add = parser.add_argument
    add("--wrapper", required=True, help="lmms-eval's name of the model class, such as llava_hf")
    add("--model-args", required=True, help="what it is made with, such as pretrained=llava-hf/llava-1.5-7b-hf")
    add("--tasks", nargs="+", required=True)
    add("--keep", nargs="+", type=number, default=[1.0, 0.5, 0.33, 0.11])
    add("--selectors", nargs="+", default=["topv", "random", "uniform"], help="minus-norm stands for -norm")
    add("--layer", type=int, default=2)
    add("--recovery", type=share)
    add("--limit", type=int, help="questions a task")
    add("--output", type=Path, default=Path("topv-lmms-eval.json"))
    add("--check", action="store_true", help="read the arguments and stop")
    options = parser.parse_args(arguments)
    options.selectors = [name.replace("minus-", "-") for name in options.selectors]
    strange = set(options.selectors) - set(topv.names())
    if strange:
        parser.error(f"--selectors: {', '.join(sorted(strange))}: give of {', '.join(topv.names())}")
    if options.layer < 0:
        parser.error(f"--layer: {options.layer}: layers count from 0")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluate every selector at every keep; what is done is in the output already."""
    options = read(arguments)
    runs = [(keep, name) for keep in options.keep for name in (options.selectors if keep != 1 else ["topv"])]
    if options.check:
        print(f"{len(runs)} runs of {', '.join(options.tasks)}: {runs}")
        return 0
    from lmms_eval.evaluator import simple_evaluate  # type: ignore[import-not-found, unused-ignore]
    from lmms_eval.models import get_model  # type: ignore[import-not-found, unused-ignore]

    wrapper: Any = get_model(options.wrapper)
    lm = wrapper.create_from_arg_string(options.model_args, {"batch_size": 1})
    results = []
    for keep, name in runs:
        with topv.prune(lm.model, keep, options.layer, name, options.recovery):
            scores = simple_evaluate(lm, tasks=options.tasks, limit=options.limit, batch_size=1)
        results.append({"keep": keep, "selector": name, "results": scores["results"]})
        options.output.write_text(json.dumps(results, indent=1, default=str) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
