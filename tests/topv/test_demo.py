"""The command for a person, its drawing, and the recipe for real checkpoints."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tilewright import topv
from tilewright.runtime import cli
from tilewright.topv.draw import draw, panels

from ..support import ROOT
from .models import make

pytestmark = pytest.mark.topv


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `from_pretrained` takes: a tiny LLaVA of random weights, words as numbers, an example."""
    import transformers
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit

    hf: Any = transformers
    path = tmp_path_factory.mktemp("model")
    vocabulary = {"<pad>": 0, "<s>": 1, **{str(number): number for number in range(2, 90)}, "<image>": 90}
    words = Tokenizer(WordLevel(vocabulary, unk_token="<pad>"))
    words.pre_tokenizer = WhitespaceSplit()
    tokenizer = hf.PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", bos_token="<s>", extra_special_tokens={"image_token": "<image>"}
    )
    images = hf.CLIPImageProcessorPil(size={"height": 16, "width": 16}, do_center_crop=False)
    hf.LlavaProcessor(
        images, tokenizer, patch_size=4, vision_feature_select_strategy="default", num_additional_image_tokens=1
    ).save_pretrained(path)
    make("llava", dtype=torch.float32).save_pretrained(path)
    Image.new("RGB", (40, 30), "white").save(path / "example.png")
    (path / "example.txt").write_text("5 6 7\n")
    return path


@pytest.mark.filterwarnings("ignore")
def test_demo(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From a folder to four answers, savings and a drawing, through the command's own door.

    Packing that changes an answer; an answer printed for another one; a row forgotten.
    """
    output = tmp_path / "kept.png"
    options = ["--model", str(folder), "--keep", "0.25", "--layer", "1", "--tokens", "3", "--output", str(output)]
    options += ["--min-features", "16"]
    assert cli.main(["topv", "demo", *options]) == 0
    said = capsys.readouterr().out
    assert "kept 4 of 16 tokens, 4 x 4" in said
    named = [line.split("    ")[0].split() for line in said.splitlines() if "    " in line and " ms" in line]
    answers = {name: words for name, *words in named}
    assert answers.keys() == {"whole", "pruned", "packed", "both"}
    assert answers["whole"] == answers["packed"]
    assert answers["pruned"] == answers["both"]
    assert said.count("times as fast") == 3
    assert "packed 0 linear" not in said
    assert "KV cache" in said
    with Image.open(output) as drawing:
        light = torch.tensor(list(drawing.convert("L").resize((4, 4), Image.Resampling.BOX).tobytes()))
    assert int((light > 128).sum()) == 4


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--keep", "1"], "keep is 1, which could mean all or one"),
        (["--model", "/nowhere"], "has no config.json"),
        (["--image", "/nowhere.png"], "there is no picture /nowhere.png"),
        (["--image", "{folder}/example.png"], "give a question with --question"),
        (["--layer", "3"], "layer is 3; of 4 layers"),
        (["--recovery", "1"], "recovery is 1"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_demo_refuses_in_one_line(
    options: list[str], words: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the user can mend is a line, not a traceback."""
    given = [option.format(folder=folder) for option in options]
    more = [] if "--model" in options else ["--model", str(folder)]
    assert cli.main(["topv", "demo", *more, *given, "--tokens", "2", "--output", str(tmp_path / "x.png")]) == 1
    complaint = capsys.readouterr().err
    assert words in complaint
    assert complaint.count("\n") == 1


def test_tiles_are_drawn_from_what_the_model_saw() -> None:
    """The kept tokens of one tile drawn over another, or over the uncropped picture."""
    kept = torch.tensor([0, 7])
    report = [topv.ImageReport(0, 0, ((2, 2), (2, 2)), kept, None, 0.0)]
    pixels = torch.stack([torch.zeros(3, 8, 8), torch.eye(8).expand(3, 8, 8)])
    shown = panels(report, {"pixel_values": pixels}, Image.new("RGB", (9, 9)))
    assert [part.tolist() for _, _, part in shown] == [[True, False, False, False], [False, False, False, True]]
    assert shown[1][0].getpixel((3, 3)) == (255, 255, 255)
    other = panels(report, {"pixel_values": pixels[:1]}, Image.new("RGB", (9, 9), "red"))
    assert other[1][0].getpixel((3, 3)) == (255, 0, 0)
    assert draw(report, {"pixel_values": pixels}, Image.new("RGB", (9, 9))).size == (2 * 384 + 8, 384)


RECIPE = ["--wrapper", "llava_hf", "--model-args", "pretrained=x", "--tasks", "gqa", "pope", "--check"]


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--keep", "1.0", "0.33", "64", "--selectors", "topv", "minus-norm"], 0, "5 runs of gqa, pope"),
        (["--selectors", "best"], 2, "--selectors: best"),
        (["--keep", "1.5"], 2, "--keep"),
        (["--recovery", "1"], 2, "--recovery"),
        (["--layer", "-1"], 2, "layers count from 0"),
    ],
)
def test_recipe_reads_its_arguments(options: list[str], code: int, words: str) -> None:
    """A documented command line that the script would not take."""
    command = [sys.executable, str(ROOT / "docs" / "examples" / "topv_lmms_eval.py"), *RECIPE, *options]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == code, ran.stderr
    assert words in ran.stdout + ran.stderr
