"""Pruning is exact: keep-all changes no bit, keep-some equals the whole model with hidden keys, at every step."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tilewright import topv
from tilewright.topv import cut, pruning

from .models import FAMILIES, IMAGE, START, TOKENS, VIDEO, make, prompt
from .oracle import Dropped, difference, dropped, generate, layers_of, masked, pruned

pytestmark = pytest.mark.topv

# Logits come back as float32, up to about 5; eager attention has its softmax in float32 whatever the model's type.
EXACT = {"sdpa": 1e-6, "eager": 1e-5}
ALIKE = 1e-3  # below that a pruned and a whole model would hardly differ, and the oracle would say nothing
FEW = ["llava", "qwen2_5_vl", "gemma3"]  # one of each kind: plain, M-RoPE, windows with images that look both ways


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", FAMILIES)
class TestFamilies:
    def test_keeping_all_changes_no_bit(self, name: str, attention: str) -> None:
        """All that pruning does, with nothing dropped: any copy, cast or mask that is not the same shows."""
        model = make(name, attention, torch.float32)
        for batch in ([1], [2, 1]):
            inputs = prompt(name, batch, dtype=torch.float32)
            one, (other, hidden) = generate(model, inputs), pruned(model, inputs, keep=1.0)
            assert difference(one, other) == 0
            assert not any(hidden)
            for a, b in zip(one.past_key_values.layers, other.past_key_values.layers, strict=True):
                assert torch.equal(a.keys, b.keys)

    def test_keeping_some_is_not_looking_at_the_others(self, name: str, attention: str) -> None:
        """Positions counted anew, a mask of the wrong layer, a row of the wrong image: one prompt, several steps."""
        model = make(name, attention)
        inputs = prompt(name, [2])
        got, hidden = pruned(model, inputs)
        with masked(model, 1, hidden):
            expected = generate(model, inputs)
        assert len(hidden[0]) == TOKENS[name] - 6 * (name == "llava_next")
        assert difference(got, expected) <= EXACT[attention]
        whole = generate(model, inputs)
        assert float((whole.logits[0] - got.logits[0]).abs().max()) > ALIKE
        lengths = [layer.keys.shape[-2] for layer in got.past_key_values.layers]
        total = inputs["input_ids"].shape[1] + 5
        assert lengths == [total, total, total - len(hidden[0]), total - len(hidden[0])]

    def test_padded_batches(self, name: str, attention: str) -> None:
        """Rows that keep different numbers: fillers that are looked at, padding that is kept or counted."""
        model = make(name, attention, torch.float64 if attention == "sdpa" else torch.float32)
        inputs = prompt(name, [1, 2], dtype=model.dtype)
        got, hidden = pruned(model, inputs, keep=0.25)
        with masked(model, 1, hidden):
            expected = generate(model, inputs)
        assert len(hidden[0]) != len(hidden[1])
        assert difference(got, expected) <= EXACT[attention]


def unpadded(name: str) -> dict[str, Any]:
    """Rows of one length with one and two images: what fills the first up is no padding, but tokens it dropped."""
    inputs = prompt(name, [1, 2])
    inputs["input_ids"][inputs["attention_mask"] == 0] = 7
    inputs["attention_mask"][:] = 1
    return inputs


@pytest.mark.parametrize("name", FEW)
class TestWaysToGenerate:
    def check(self, name: str, inputs: dict[str, Any], **options: Any) -> None:
        model = make(name)
        got, hidden = pruned(model, inputs, **options)
        options.pop("keep", None)
        with masked(model, 1, hidden):
            expected = generate(model, inputs, **options)
        assert difference(got, expected) <= EXACT["sdpa"]

    def test_without_a_cache(self, name: str) -> None:
        """Every step is a prefill again; another choice at each would show."""
        self.check(name, prompt(name, [1, 2]), use_cache=False)

    def test_static_cache(self, name: str) -> None:
        """Masks as long as the cache's room, handed over ready-made in four dimensions."""
        self.check(name, prompt(name, [1, 2]), cache_implementation="static")

    @pytest.mark.parametrize("batch", [[1], [2, 1]])
    def test_beams(self, name: str, batch: list[int]) -> None:
        """Rows are copied before the prefill and exchanged afterwards."""
        self.check(name, prompt(name, batch), num_beams=3)

    def test_sampling_several(self, name: str) -> None:
        """Several sequences a prompt."""
        self.check(name, prompt(name, [1]), do_sample=True, num_return_sequences=2)

    @pytest.mark.parametrize("options", [{}, {"cache_implementation": "static"}])
    def test_rows_without_padding(self, name: str, options: dict[str, Any]) -> None:
        """Nothing but our own mask hides the fillers."""
        self.check(name, unpadded(name), keep=0.5, **options)

    def test_last_layer_and_first(self, name: str) -> None:
        """An off-by-one in which layers are told."""
        for layer in (0, 2):
            model, inputs = make(name), prompt(name, [1])
            got, hidden = pruned(model, inputs, layer=layer)
            with masked(model, layer, hidden):
                assert difference(got, generate(model, inputs)) <= EXACT["sdpa"]
            short = [layer_.keys.shape[-2] for layer_ in got.past_key_values.layers]
            assert [length < short[0] for length in short] == [number > layer for number in range(4)]


@pytest.mark.parametrize("selector", [name for name in topv.names() if name != "tome"])
def test_every_selector_is_exact(selector: str) -> None:
    """One that chooses by what differs between beams, or between steps without a cache."""
    model, inputs = make("llava"), prompt("llava", [1, 2])
    for options in ({}, {"num_beams": 2}, {"use_cache": False}):
        if selector == "fastv" and "use_cache" in options:
            continue  # every step is a prefill, and each has another last token
        got, hidden = pruned(model, inputs, selector=selector, keep=0.3, **options)
        with masked(model, 1, hidden):
            assert difference(got, generate(model, inputs, **options)) <= EXACT["sdpa"]


def converse(model: Any, inputs: dict[str, Any], words: torch.Tensor, extra: dict[str, Any], attached: Any) -> Any:
    """Two turns on one cache; `attached` is called after each."""
    first = generate(model, inputs, new=4)
    attached(0)
    ids = torch.cat([first.sequences, words], 1)
    again = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "past_key_values": first.past_key_values,
        **extra,
    }
    if "mm_token_type_ids" in inputs:
        again["mm_token_type_ids"] = (ids == IMAGE).int()
    second = generate(model, again, new=4)
    attached(inputs["input_ids"].shape[1] + 3)
    return second


@pytest.mark.parametrize("name", FEW)
def test_second_turn(name: str) -> None:
    """A cache whose layers have different lengths is gone on from with several tokens at once."""
    model, inputs = make(name), prompt(name, [1])
    words = torch.tensor([[5, 6, 7]])
    with topv.prune(model, 0.5, 1) as pruning:
        got = converse(model, inputs, words, {}, lambda start: None)
        hidden = dropped(pruning, inputs["input_ids"].shape[1])
    with masked(model, 1, hidden):
        expected = converse(model, inputs, words, {}, lambda start: None)
    assert difference(got, expected) <= EXACT["sdpa"]


def test_second_turn_with_another_image() -> None:
    """The second image's tokens stand behind a cut cache: their places in it are not their positions."""
    model, inputs = make("llava"), prompt("llava", [1])
    words = torch.tensor([[START, *[IMAGE] * TOKENS["llava"], 7, 8]])
    extra = {"pixel_values": prompt("llava", [1], seed=9)["pixel_values"]}
    hidden: Dropped = [set()]
    with topv.prune(model, 0.5, 1) as pruning:

        def note(start: int) -> None:
            length = start + words.shape[1] + 1 if start else inputs["input_ids"].shape[1]
            hidden[0] |= dropped(pruning, length, start)[0]

        got = converse(model, inputs, words, extra, note)
    with masked(model, 1, hidden):
        expected = converse(model, inputs, words, extra, lambda start: None)
    assert len(hidden[0]) == 16
    assert difference(got, expected) <= EXACT["sdpa"]


def test_caches_taken_in_turns() -> None:
    """What was kept belongs to a cache, not to the model: two conversations, step by step."""
    model = make("llava")
    prompts = [prompt("llava", [1], seed=seed) for seed in (1, 2)]
    words = torch.tensor([[5, 6]])
    with topv.prune(model, 0.5, 1):
        firsts = [generate(model, inputs, new=3) for inputs in prompts]
        together = [
            generate(
                model, {"input_ids": torch.cat([first.sequences, words], 1), "past_key_values": first.past_key_values}
            )
            for first in firsts
        ]
        for inputs, got in zip(prompts, together, strict=True):
            first = generate(model, inputs, new=3)
            ids = torch.cat([first.sequences, words], 1)
            alone = generate(model, {"input_ids": ids, "past_key_values": first.past_key_values})
            assert difference(got, alone) == 0


@pytest.mark.parametrize("name", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
def test_video_frames_are_images(name: str) -> None:
    """Frames taken for one tall image, or grids of images and videos exchanged."""
    model = make(name)
    ids = [2, 3, START, *[IMAGE] * 16, END_OF_IMAGE, 4, START, *[VIDEO] * 8, 9, *[VIDEO] * 8, END_OF_IMAGE, 5, 6]
    if name != "qwen3_vl":  # there frames follow each other without a word between
        ids.remove(9)
    random = torch.Generator().manual_seed(4)
    tokens = torch.tensor([ids])
    inputs = {
        "input_ids": tokens,
        "attention_mask": torch.ones_like(tokens),
        "mm_token_type_ids": (tokens == IMAGE).int() + 2 * (tokens == VIDEO).int(),
        "pixel_values": torch.randn(64, 96, generator=random, dtype=torch.float64),
        "image_grid_thw": torch.tensor([[1, 8, 8]]),
        "pixel_values_videos": torch.randn(64, 96, generator=random, dtype=torch.float64),
        "video_grid_thw": torch.tensor([[2, 4, 8]]),
    }
    got, hidden = pruned(model, inputs)
    with masked(model, 1, hidden):
        assert difference(got, generate(model, inputs)) <= EXACT["sdpa"]
    with topv.prune(model, 0.5, 1) as pruning:
        generate(model, inputs)
        grids = [image.grids for image in pruning.report().images]
        with torch.no_grad():
            model(**inputs)
    assert grids == [((4, 4),), ((2, 4),), ((2, 4),)]
    assert grids == [image.grids for image in pruning.report().images]


END_OF_IMAGE = 93


def renumbered(patch: pytest.MonkeyPatch) -> None:
    """Positions counted anew behind the cut, as if the dropped tokens had never been there."""
    told = pruning.Pruning._told

    def wrong(self: Any, call: Any, number: int, hidden: Any, kwargs: Any) -> Any:
        made = told(self, call, number, hidden, kwargs)
        if call.cut is not None:
            slots = call.cut.index.shape[1]
            made["position_embeddings"] = tuple(part[..., :slots, :] for part in kwargs["position_embeddings"])
        return made

    patch.setattr(pruning.Pruning, "_told", wrong)


def own_mask(patch: pytest.MonkeyPatch) -> None:
    """The model's own mask at every step, which fits layers that hold everything."""
    told = pruning.Pruning._told

    def wrong(self: Any, call: Any, number: int, hidden: Any, kwargs: Any) -> Any:
        made = told(self, call, number, hidden, kwargs)
        return made if call.cut is not None else {**made, "attention_mask": kwargs["attention_mask"]}

    patch.setattr(pruning.Pruning, "_told", wrong)


def no_mask(patch: pytest.MonkeyPatch) -> None:
    """No mask at all where rows are filled up."""
    patch.setattr(pruning, "slots_mask", lambda *arguments: None)


def seen_fillers(patch: pytest.MonkeyPatch) -> None:
    """Fillers that are looked at in the prefill."""
    patch.setattr(cut, "_hide", lambda mask, valid: mask)


def neighbours(patch: pytest.MonkeyPatch) -> None:
    """Hidden states of the tokens next to those kept."""
    patch.setattr(
        pruning, "gather", lambda tensor, index: cut.gather(tensor, (index + 1).clamp_max(tensor.shape[-2] - 1))
    )


def shifted_rows(patch: pytest.MonkeyPatch) -> None:
    """One row's choice for another row of the batch."""
    made = cut.make_cut
    patch.setattr(pruning, "make_cut", lambda keep: made(keep.flip(0)))


def rotated_late(patch: pytest.MonkeyPatch) -> None:
    """One rotation for layers that have others (local and global ones in Gemma 3)."""
    once = pruning.Pruning._once

    def wrong(call: Any, old: Any, make_: Any, keys: int = 0) -> Any:
        return once(call, "rotation" if isinstance(old, tuple) else old, make_, keys)

    patch.setattr(pruning.Pruning, "_once", staticmethod(wrong))


@pytest.mark.parametrize(
    ("mutate", "name"),
    [
        (renumbered, "llava"), (renumbered, "qwen2_vl"), (own_mask, "llava"), (no_mask, "llava"),
        (seen_fillers, "llava"), (neighbours, "llava"), (shifted_rows, "llava"), (rotated_late, "gemma3"),
    ],
)  # fmt: skip
def test_the_oracle_can_fail(mutate: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each wrong on purpose; an oracle that a mistake does not move proves nothing."""
    model, inputs = make(name), unpadded(name) if mutate is seen_fillers else prompt(name, [1, 2])
    _, hidden = pruned(model, inputs)
    mutate(monkeypatch)
    try:
        got, _ = pruned(model, inputs)
    except (RuntimeError, IndexError):
        return  # shapes that do not fit: found without an oracle
    with masked(model, 1, hidden):
        expected = generate(model, inputs)
    assert float((got.logits[1] - expected.logits[1]).abs().max()) > ALIKE or difference(got, expected) > ALIKE


def test_a_merge_is_a_mean() -> None:
    """ToMe cannot be masked; but with all tokens of an image equal, merging must change nothing but their number."""
    model, inputs = make("llava"), prompt("llava", [1])
    states: list[torch.Tensor] = []

    def note(module: Any, args: Any) -> None:
        states.append(args[0].clone())

    layers = layers_of(model)
    with topv.prune(model, 4, 1, "tome") as pruning_:
        handles = [layers[number].register_forward_pre_hook(note) for number in (2,)]
        with torch.no_grad():
            model(**inputs)
        for handle in handles:
            handle.remove()
    whole = make("llava")
    handle = layers_of(whole)[2].register_forward_pre_hook(note)
    with torch.no_grad():
        whole(**inputs)
    handle.remove()
    merged, before = states
    here = inputs["input_ids"][0] == IMAGE
    kept = pruning_.kept_positions[0]
    sums = merged[0, here[kept]]
    assert sums.shape == (4, 32)
    assert not torch.allclose(sums, before[0, kept][here[kept]])
    torch.testing.assert_close(merged[0, ~here[kept]], before[0, ~here])
