"""What a person meets: reports, text without images, hooks that go, and everything that is refused in time."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from tilewright import topv

from .models import FAMILIES, IMAGE, TOKENS, make, prompt
from .oracle import difference, generate, layers_of

pytestmark = pytest.mark.topv


@pytest.fixture(scope="module")
def model() -> Any:
    return make("llava", dtype=torch.float32)


@pytest.fixture
def inputs() -> dict[str, Any]:
    return prompt("llava", [1], dtype=torch.float32)


def hooks(model: nn.Module) -> int:
    """Count ours; transformers leaves hooks of its own."""
    kinds = ("_forward_hooks", "_forward_pre_hooks")
    there = [hook for module in model.modules() for kind in kinds for hook in getattr(module, kind).values()]
    return sum("topv.pruning" in str(getattr(hook, "__module__", "")) for hook in there)


@pytest.mark.parametrize("name", FAMILIES)
def test_report(name: str) -> None:
    """Bytes reckoned rather than measured, images counted wrong, positions without their text."""
    model, inputs = make(name), prompt(name, [1, 2])
    with topv.prune(model, keep=0.25, layer=1) as pruning:
        output = generate(model, inputs, new=1)
    report = pruning.report()
    assert [(image.row, image.index) for image in report.images] == [(0, 0), (1, 0), (1, 1)]
    visual = TOKENS[name] - 6 * (name == "llava_next")
    for image in report.images:
        assert image.tokens == visual
        assert len(image.kept) == visual // 4
        assert image.importance is not None
        assert image.importance.shape == (visual,)
    ids, seen = inputs["input_ids"], inputs["attention_mask"]
    assert report.prompt == ids.shape[1]
    for row, (positions, images) in enumerate(zip(pruning.kept_positions, (1, 2), strict=True)):
        text = (seen[row].bool() & (ids[row] != IMAGE)).nonzero()[:, 0].tolist()
        assert set(text) <= set(positions.tolist())
        newlines = 6 * images * (name == "llava_next")
        assert len(positions) == len(text) + newlines + images * visual // 4
        assert torch.equal(positions, positions.sort().values)
    layers = output.past_key_values.layers
    assert report.kv_bytes == sum(layer.keys.nbytes + layer.values.nbytes for layer in layers)
    assert report.kv_bytes_full == len(layers) * (layers[0].keys.nbytes + layers[0].values.nbytes)
    assert report.kv_bytes < report.kv_bytes_full
    assert f"kept {visual // 4} of {visual} tokens" in str(report)


def test_kv_cache_is_as_small_as_theory_says(model: Any, inputs: dict[str, Any]) -> None:
    """Layers behind the cut hold what was kept, the others all; measured in bytes, to the byte."""
    with topv.prune(model, keep=0.25, layer=1) as pruning:
        generate(model, inputs, new=1)
    report = pruning.report()
    prompt_length = inputs["input_ids"].shape[1]
    assert report.kv_bytes / report.kv_bytes_full == (2 * prompt_length + 2 * (prompt_length - 12)) / (
        4 * prompt_length
    )


def test_the_model_is_itself_again(model: Any, inputs: dict[str, Any]) -> None:
    """A hook or a configuration left behind, seen in bits and in the modules' own lists."""
    before = generate(model, inputs)
    for selector in ("topv", "fastv"):
        with topv.prune(model, 0.5, 1, selector):
            generate(model, inputs)
    assert hooks(model) == 0
    assert difference(before, generate(model, inputs)) == 0


@pytest.mark.parametrize("selector", ["topv", "fastv"])
def test_exceptions_leave_no_hook(model: Any, inputs: dict[str, Any], selector: str) -> None:
    """An error within generate that leaves the next call pruned, or attention listened to."""

    def fail(module: nn.Module, args: Any) -> None:
        raise KeyboardInterrupt

    for number in (1, 3):
        handle = layers_of(model)[number].mlp.register_forward_pre_hook(fail)
        with pytest.raises(KeyboardInterrupt), topv.prune(model, 0.5, 1, selector):
            generate(model, inputs)
        handle.remove()
    assert hooks(model) == 0
    attentions = {layer.self_attn.config._attn_implementation for layer in layers_of(model)}
    assert attentions == {"sdpa"}
    with topv.prune(model, 0.5, 1, selector) as pruning:
        handle = layers_of(model)[3].mlp.register_forward_pre_hook(fail)
        with pytest.raises(KeyboardInterrupt):
            generate(model, inputs)
        handle.remove()
        with pytest.raises(topv.AttachmentError, match="no prompt with an image"):
            pruning.report()
        generate(model, inputs)
        assert len(pruning.report().images) == 1


def test_attention_is_that_of_eager(inputs: dict[str, Any]) -> None:
    """FastV's row from models that make no maps, against the map of one that does."""
    for name in ("llava", "qwen2_5_vl", "gemma3"):
        rows: list[torch.Tensor] = []
        for implementation in ("sdpa", "eager"):
            model = make(name, implementation, torch.float32)
            given = prompt(name, [1, 2], dtype=torch.float32)

            def note(tokens: topv.VisualTokens, count: int, rows: list[Any] = rows) -> Any:
                rows.append(tokens.get("attention"))
                return range(count)

            note.needs = {"attention"}  # type: ignore[attr-defined]
            with topv.prune(model, 0.5, 1, note), torch.no_grad():
                output = model(**given, output_attentions=implementation == "eager")
            if implementation == "eager":
                ids = given["input_ids"]
                maps = output.attentions[1].mean(1)[:, -1]
                expected = [maps[row, ids[row] == IMAGE].split(16) for row in (0, 1)]
                for got, want in zip(rows, [*expected[0], *expected[1], *expected[0], *expected[1]], strict=True):
                    torch.testing.assert_close(got, want.float(), rtol=1e-4, atol=1e-6)


def test_text_passes_through(model: Any) -> None:
    """A prompt without an image must not be touched, nor need one."""
    text = prompt("llava", [0, 0])
    before = generate(model, text)
    with topv.prune(model, 0.5, 1) as pruning:
        assert difference(before, generate(model, text)) == 0
        assert pruning.kept_positions == []


def test_plain_forward(model: Any, inputs: dict[str, Any]) -> None:
    """Logits of the tokens kept, in their order: the last is the prompt's last."""
    with torch.no_grad():
        whole = model(**inputs, output_hidden_states=True)
        with topv.prune(model, 0.5, 1) as pruning:
            short = model(**inputs, output_hidden_states=True)
    kept = pruning.kept_positions[0]
    assert short.logits.shape[1] == len(kept)
    assert [len(states[0]) for states in short.hidden_states[:3]] == [
        len(states[0]) for states in whole.hidden_states[:3]
    ]


def test_right_padding_ends_with_the_last_token(model: Any) -> None:
    """Padding on the right is dropped like any other, and the last slot is a token."""
    inputs = prompt("llava", [1, 1], dtype=torch.float32)
    ids, seen = inputs["input_ids"], inputs["attention_mask"]
    for row in range(2):
        shift = int((seen[row] == 0).sum())
        ids[row], seen[row] = ids[row].roll(-shift), seen[row].roll(-shift)
    with topv.prune(model, 0.5, 1) as pruning, torch.no_grad():
        model(**inputs)
    assert [int(kept[-1]) for kept in pruning.kept_positions] == [int(row.sum()) - 1 for row in seen]


def test_recovery_and_counts(model: Any, inputs: dict[str, Any]) -> None:
    """A count instead of a share, recovery in the model as outside of it."""
    with topv.prune(model, keep=7, layer=1, recovery=4) as pruning:
        generate(model, inputs, new=1)
    assert len(pruning.report().images[0].kept) == 7


class TestRefusals:
    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"keep": 0.0}, "keep is 0.0"),
            ({"keep": 1}, "keep is 1, which could mean"),
            ({"keep": 1.2}, "keep is 1.2"),
            ({"recovery": 1}, "recovery is 1"),
            ({"layer": 3}, r"layer is 3; of 4 layers it must be one of 0 \.\. 2"),
            ({"layer": -1}, "layer is -1"),
            ({"selector": "best"}, "selector is 'best'"),
            ({"selector": 3}, "must be a name or a callable"),
        ],
    )
    def test_options(self, model: Any, change: dict[str, Any], words: str) -> None:
        with pytest.raises(topv.ArgumentError, match=words):
            topv.attach(model, **{"keep": 0.5, "layer": 1, **change})
        assert hooks(model) == 0

    def test_a_count_above_the_tokens(self, model: Any, inputs: dict[str, Any]) -> None:
        with topv.prune(model, 17, 1), pytest.raises(topv.ArgumentError, match="17 tokens of an image that has 16"):
            generate(model, inputs)

    def test_recovery_beyond_the_budget(self, model: Any, inputs: dict[str, Any]) -> None:
        with topv.prune(model, 0.2, 1, recovery=4), pytest.raises(topv.ArgumentError, match="brings back 4 of 16"):
            generate(model, inputs)

    def test_deepstack(self) -> None:
        with pytest.raises(topv.ModelError, match="layer must be 1 or more"):
            topv.attach(make("qwen3_vl"), 0.5, 0)

    def test_windows(self) -> None:
        model, inputs = make("gemma3"), prompt("gemma3", [2])
        inputs["input_ids"] = torch.cat([torch.full((1, 60), 5), inputs["input_ids"]], 1)
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        inputs["token_type_ids"] = (inputs["input_ids"] == IMAGE).long()
        with topv.prune(model, 0.5, 1), pytest.raises(topv.ModelError, match="a window of 96"):
            generate(model, inputs)

    def test_labels(self, model: Any, inputs: dict[str, Any]) -> None:
        with topv.prune(model, 0.5, 1), pytest.raises(topv.ModelError, match="labels cannot be used"):
            model(**inputs, labels=inputs["input_ids"])

    def test_logits_of_chosen_places(self, model: Any, inputs: dict[str, Any]) -> None:
        with topv.prune(model, 0.5, 1), pytest.raises(topv.ModelError, match="logits_to_keep"):
            model(**inputs, logits_to_keep=torch.tensor([1, 2]))

    def test_embeddings_with_an_image(self, model: Any, inputs: dict[str, Any]) -> None:
        embeds = model.get_input_embeddings()(inputs.pop("input_ids"))
        with topv.prune(model, 0.5, 1), pytest.raises(topv.ModelError, match="inputs_embeds"):
            model(**inputs, inputs_embeds=embeds)

    def test_unknown_family(self) -> None:
        from transformers import LlamaConfig, LlamaForCausalLM

        small = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 2, "num_attention_heads": 1}
        with pytest.raises(topv.ModelError, match="register_family"):
            topv.attach(LlamaForCausalLM(LlamaConfig(vocab_size=9, **small)))  # type: ignore[arg-type]

    def test_a_grid_that_does_not_match(self, model: Any, inputs: dict[str, Any]) -> None:
        ids = inputs["input_ids"]
        ids[0, (ids[0] == IMAGE).nonzero()[3]] = 5
        with topv.prune(model, 0.5, 1), pytest.raises(topv.GridError, match="no multiple of 4 x 4"), torch.no_grad():
            model(**inputs)
        qwen, given = make("qwen2_vl"), prompt("qwen2_vl", [1])
        given["image_grid_thw"] = torch.tensor([[1, 4, 8]])
        with topv.prune(qwen, 0.5, 1), pytest.raises(topv.GridError, match="no image is left"), torch.no_grad():
            qwen(**given)

    def test_nan(self, inputs: dict[str, Any]) -> None:
        broken = make("llava", dtype=torch.float32)
        inputs["pixel_values"][0, 0, 0, 0] = torch.nan
        for selector in ("topv", "norm", "fastv", "v2drop"):
            with topv.prune(broken, 0.5, 1, selector), pytest.raises(topv.TokenError, match="NaN"):
                generate(broken, inputs)

    def test_twice(self, model: Any) -> None:
        pruning = topv.attach(model, 0.5, 1)
        for other in (model, model.model):
            with pytest.raises(topv.AttachmentError, match="being pruned already"):
                topv.attach(other, 0.5, 1)
        pruning.detach()
        with pytest.raises(topv.AttachmentError, match="detached already"):
            pruning.detach()
        topv.attach(model.model, 0.5, 1).detach()
        assert hooks(model) == 0

    def test_a_cache_that_was_changed(self, model: Any, inputs: dict[str, Any]) -> None:
        """Assisted decoding crops caches to positions, which in cut layers are other tokens."""
        with topv.prune(model, 0.5, 1):
            first = generate(model, inputs, new=3)
            first.past_key_values.crop(-2)
            ids = first.sequences
            with pytest.raises(topv.ModelError, match="cropped or changed"):
                generate(model, {"input_ids": ids, "past_key_values": first.past_key_values})

    def test_a_cache_of_another_pruning(self, model: Any, inputs: dict[str, Any]) -> None:
        with topv.prune(model, 0.5, 1):
            first = generate(model, inputs, new=3)
        with topv.prune(model, 0.5, 1), pytest.raises(topv.ModelError, match="under another pruning"):
            generate(model, {"input_ids": first.sequences, "past_key_values": first.past_key_values})


def test_a_family_can_be_registered() -> None:
    """An unknown model with a known layout."""
    from tilewright.topv import families

    model, inputs = make("llava", dtype=torch.float32), prompt("llava", [1], dtype=torch.float32)
    model.config.model_type = "llava_of_ours"
    try:
        topv.register_family("llava_of_ours", topv.Family(lambda scene: iter([topv.Span(((4, 4),))])))
        with topv.prune(model, 0.5, 1) as pruning, torch.no_grad():
            model(**inputs)
        assert len(pruning.report().images[0].kept) == 8
        with pytest.raises(topv.ArgumentError, match="there is a family"):
            topv.register_family("llava", families.FAMILIES["llava_next"])
    finally:
        families.FAMILIES.pop("llava_of_ours", None)
