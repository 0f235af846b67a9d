"""``tilewright topv demo``: one question about one picture, answered as the model comes, pruned, packed, and both."""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Sequence
from inspect import signature
from pathlib import Path
from typing import Any

import torch

from tilewright.runtime.torch import pack_linears

from .draw import draw
from .errors import ArgumentError
from .pruning import prune
from .select import check_keep, check_recovery
from .selectors import names

__all__ = ["answer", "main", "prompt_of"]

LEAST = signature(pack_linears).parameters["min_features"].default
# The small model that the benchmark trains; it lies in a checkout, not in a wheel.
SMALL = Path(__file__).resolve().parent.parent / "benchmarks" / "topv" / "checkpoints" / "seed-1"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``tilewright topv``."""
    options = _parser().parse_args(arguments)
    check_keep(options.keep)
    check_recovery(options.recovery)
    folder, image, question = _given(options)
    processor, model = _load(folder)
    from PIL import Image

    with Image.open(image) as opened:
        picture = opened.convert("RGB")
    inputs = processor(images=picture, text=prompt_of(processor, question), return_tensors="pt")
    inputs = inputs.to(model.device, dtype=model.dtype)
    print(f"model     {folder}\nimage     {image}, {picture.width} x {picture.height}\nquestion  {question}\n")
    plain = _show("whole", model, processor, inputs, options.tokens)
    with prune(model, options.keep, options.layer, options.selector, options.recovery):
        _show("pruned", model, processor, inputs, options.tokens, plain)
    packing = pack_linears(model, min_features=options.min_features)
    _show("packed", model, processor, inputs, options.tokens, plain)
    with prune(model, options.keep, options.layer, options.selector, options.recovery) as pruning:
        _show("both", model, processor, inputs, options.tokens, plain)
    packing.unpack()
    report, left = pruning.report(), f", {len(packing.left)} left as they are" if packing.left else ""
    print(f"\n{report}\npacked {len(packing.packed)} linear layers, {packing.nbytes / 1e6:.1f} MB{left}")
    if not packing.packed:
        print("no linear layer is large enough to be worth it; --min-features 64 packs smaller ones all the same")
    draw(report.images, inputs, picture).save(options.output)
    print(f"kept tokens drawn over the picture: {options.output}")
    return 0


def _show(name: str, model: Any, processor: Any, inputs: Any, tokens: int, plain: float | None = None) -> float:
    """Answer, print how, and return the least seconds of three; the first answer is slower than those after it."""
    answer(model, processor, inputs, tokens)
    answers = [answer(model, processor, inputs, tokens) for _ in range(3)]
    seconds = min(took for _, took in answers)
    faster = "" if plain is None else f"    {plain / seconds:.2f} times as fast"
    print(f"{name:8}  {answers[0][0]}    {seconds * 1e3:.1f} ms{faster}")
    return seconds


def answer(model: Any, processor: Any, inputs: Any, tokens: int) -> tuple[str, float]:
    """Generate greedily; return the new text and the seconds it took."""
    begun = time.perf_counter()
    with torch.inference_mode():
        ids = model.generate(**inputs, max_new_tokens=tokens, do_sample=False)
    seconds = time.perf_counter() - begun
    new = ids[0, inputs["input_ids"].shape[1] :]
    return str(processor.decode(new, skip_special_tokens=True)).strip(), seconds


def prompt_of(processor: Any, question: str) -> str:
    """Return the text of a prompt with one image: by the processor's chat template, or image, then question."""
    if getattr(processor, "chat_template", None):
        content = [{"type": "image"}, {"type": "text", "text": question}]
        return str(processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True))
    tokenizer = processor.tokenizer
    begin = tokenizer.bos_token
    alone = tokenizer("x")["input_ids"]
    start = f"{begin} " if begin and tokenizer.bos_token_id not in alone else ""
    return f"{start}{getattr(processor, 'image_token', '<image>')} {question}"


def _given(options: argparse.Namespace) -> tuple[Path, Path, str]:
    """Return folder, picture and question; a model's folder may hold an example of both."""
    folder = options.model or SMALL
    if not (folder / "config.json").is_file():
        more = "" if options.model else "; the small model of the benchmark is in a checkout only: give --model"
        raise ArgumentError(f"topv demo: {folder} is no folder of a model, it has no config.json{more}.")
    image = options.image or folder / "example.png"
    if not image.is_file():
        raise ArgumentError(f"topv demo: there is no picture {image}; give one with --image.")
    written = folder / "example.txt"
    if options.question is None and not (options.image is None and written.is_file()):
        raise ArgumentError("topv demo: give a question with --question.")
    return folder, image, options.question or written.read_text().strip()


def _load(folder: Path) -> tuple[Any, Any]:
    """Load processor and model from a folder, never from the network."""
    logging.getLogger("transformers").setLevel(logging.ERROR)  # says what it uses in place of torchvision
    from transformers import AutoModelForImageTextToText, AutoProcessor
    from transformers.utils import logging as words

    quiet: Any = words.disable_progress_bar
    quiet()
    load: Any = AutoProcessor.from_pretrained
    processor = load(folder, local_files_only=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype: Any = "auto" if device != "cpu" else torch.float32
    model = AutoModelForImageTextToText.from_pretrained(folder, local_files_only=True, dtype=dtype)
    return processor, model.to(device).eval()  # type: ignore[arg-type]


def _number(text: str) -> float:
    """Read a fraction as a float and a count as an int: they mean different things."""
    return float(text) if "." in text or "e" in text.lower() else int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tilewright topv", description="Pruning of visual tokens.")
    subs = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    words = "Answer a question about a picture with the model as it comes, pruned, packed and both; draw what was kept."
    demo = subs.add_parser("demo", help=words, description=words)
    add = demo.add_argument
    add("--model", type=Path, help="a folder with a model and its processor (default: the small one of the benchmark)")
    add("--image", type=Path, help="a picture (default: the model's own example.png)")
    add("--question", help="what to ask (default: the model's own example.txt)")
    add("--keep", type=_number, default=0.33, help="share of the visual tokens, or their number (default 0.33)")
    add("--layer", type=int, default=2, help="tokens are scored in this layer, cut behind it (default 2)")
    add(
        "--selector",
        default="topv",
        choices=names(),
        help="who chooses (default topv); write --selector=-norm with its sign",
    )
    words = f"linear layers with fewer features on a side are not packed (default {LEAST})"
    add("--min-features", type=int, default=LEAST, help=words)
    add("--recovery", type=_number, help="bring back every n-th discarded token, or this share of the budget")
    add("--tokens", type=int, default=32, help="how many to generate at most (default 32)")
    add("--output", type=Path, default=Path("topv-demo.png"), help="the drawing (default topv-demo.png)")
    return parser
