"""Train the model: the vision tower on what lies in each patch, then the language model on questions."""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlavaForConditionalGeneration

import data
import model as models

BUILD = Path(__file__).resolve().parents[2] / "build" / "topv"


class Dense(nn.Module):
    """Linear readers of the vision tower's tokens, used in training only: class, colour, row and column of a patch."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(models.WIDTH)
        self.read = nn.Linear(models.WIDTH, 12 + 4 + 3 + 3)

    def forward(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """Return logits of class, colour, row and column, each (n, 144, .)."""
        return self.read(self.norm(tokens)).split([12, 4, 3, 3], -1)


def schedule(step: int, steps: int, warm: int = 50) -> float:
    """Return the learning rate's factor: linear warm-up, then half a cosine down to nothing."""
    return min(1.0, step / warm) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))


def dense_loss(dense: Dense, tokens: Tensor, patches: Tensor, colours: Tensor) -> tuple[Tensor, Tensor]:
    """Return the loss, and how many of the digits' patches are read right."""
    kind, colour, row, column = dense(tokens)
    weight = torch.ones(12)
    weight[data.BACKGROUND] = 0.5
    loss = functional.cross_entropy(kind.flatten(0, 1), patches.flatten(), weight)
    loss = loss + 0.5 * functional.cross_entropy(colour.flatten(0, 1), colours.flatten(), ignore_index=-1)
    at = torch.arange(data.TOKENS)
    for logits, truth in ((row, at // data.GRID // 4), (column, at % data.GRID // 4)):
        loss = loss + 0.2 * functional.cross_entropy(logits.flatten(0, 1), truth.repeat(len(patches)))
    digits = patches < data.DISTRACTOR
    return loss, (kind.argmax(-1) == patches)[digits].float().mean()


def train_tower(seed: int, steps: int, batch: int, rate: float) -> None:
    """Teach the tower what lies in each patch and keep it in ``build/topv/tower-SEED.pt``; goes on where it stopped."""
    path = BUILD / f"tower-{seed}.pt"
    tower = models.build(seed).model.vision_tower
    dense = Dense()
    weights = [*tower.parameters(), *dense.parameters()]
    optimiser = torch.optim.AdamW(weights, lr=rate, betas=(0.9, 0.98), weight_decay=0.02)
    first = 0
    if path.exists():
        state = torch.load(path)
        tower.load_state_dict(state["tower"])
        dense.load_state_dict(state["dense"])
        optimiser.load_state_dict(state["optimiser"])
        first = state["step"]
    test = data.scenes("test", 200, 10_000 + seed, True)
    test_tokens, test_patches = models.pixels(torch.from_numpy(test.pictures)), torch.from_numpy(test.patches)
    started, spent = time.monotonic(), time.process_time()
    for step in range(first, steps):
        scenes = data.crowds("train", batch, 1_000_000 * seed + step)
        for group in optimiser.param_groups:
            group["lr"] = rate * schedule(step, steps)
        tokens = tower(models.pixels(torch.from_numpy(scenes.pictures))).last_hidden_state[:, 1:]
        loss, right = dense_loss(dense, tokens, torch.from_numpy(scenes.patches), torch.from_numpy(scenes.colours))
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        if step % 50 == 49 or step + 1 == steps:
            with torch.no_grad():
                kind = dense(tower(test_tokens).last_hidden_state[:, 1:])[0].argmax(-1)
            digits = test_patches < data.DISTRACTOR
            held_out = (kind == test_patches)[digits].float().mean()
            print(
                f"tower {seed} step {step + 1} loss {loss:.3f} patches {right:.3f} held out {held_out:.3f} "
                f"{time.process_time() - spent:.0f} CPU s, {time.monotonic() - started:.0f} s",
                flush=True,
            )
            state = {"tower": tower.state_dict(), "dense": dense.state_dict(), "optimiser": optimiser.state_dict()}
            torch.save({**state, "step": step + 1}, path)


@torch.no_grad()
def seen(tower: nn.Module, pictures: Tensor) -> Tensor:
    """Return the tower's tokens of uint8 pictures, (n, 144, 96)."""
    parts = [tower(models.pixels(part)).last_hidden_state[:, 1:] for part in pictures.split(64)]
    return torch.cat(parts)


def answer_loss(
    model: LlavaForConditionalGeneration, features: Tensor, words: Tensor, answers: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the loss of the answers and which are right, (n, q)."""
    text = model.model.language_model
    image = model.model.multi_modal_projector(features)
    states, mask, positions = models.packed(text.embed_tokens.weight, words, image)
    out = text(inputs_embeds=states, attention_mask=mask, position_ids=positions, use_cache=False).last_hidden_state
    last = out[:, 1 + data.TOKENS :].unflatten(1, words.shape[1:])[:, :, -1]
    logits = model.lm_head(last)
    return functional.cross_entropy(logits.flatten(0, 1), answers.flatten()), logits.argmax(-1) == answers


def train_language(seed: int, tower_from: int, steps: int, batch: int, rate: float, scenes: int, each: int) -> None:
    """Teach the projector and the Llama to answer; the tower stays. Goes on where it stopped."""
    path = BUILD / f"model-{seed}.pt"
    model = models.build(seed)
    model.model.vision_tower.load_state_dict(torch.load(BUILD / f"tower-{tower_from}.pt")["tower"])
    model.model.vision_tower.requires_grad_(False)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    sample = data.scenes("train", 200, 6_000_000 + seed, True)
    models.first_words(model, seen(model.model.vision_tower, torch.from_numpy(sample.pictures)), sample)
    optimiser = torch.optim.AdamW(weights, lr=rate, betas=(0.9, 0.98), weight_decay=0.02)
    first = 0
    if path.exists():
        state = torch.load(path)
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        first = state["step"]
    spent = time.process_time()
    tower = model.model.vision_tower
    pool = [data.scenes("train", scenes // 2, 7_000_000 + seed, distractors) for distractors in (False, True)]
    features = torch.cat([seen(tower, torch.from_numpy(part.pictures)).half() for part in pool])
    tests = [data.scenes("test", 100, 20_000 + seed, distractors) for distractors in (False, True)]
    held_out = [(seen(tower, torch.from_numpy(of.pictures)), *data.questions(of, 2, seed)[:2]) for of in tests]
    print(f"model {seed}: {len(features)} scenes seen, {time.process_time() - spent:.0f} CPU s", flush=True)
    for step in range(first, steps):
        random = np.random.default_rng([seed, step])
        words, answers, chosen = [], [], []
        for at, part in enumerate(pool):
            rows = random.choice(len(part.pictures), batch // 2, replace=False)
            some = data.Scenes(*(getattr(part, f)[rows] for f in ("pictures", "patches", "colours", "digits", "tints")))
            asked, answered, _ = data.questions(some, each, step)
            words.append(asked)
            answers.append(answered)
            chosen.append(rows + at * len(part.pictures))
        for group in optimiser.param_groups:
            group["lr"] = rate * schedule(step, steps)
        loss, right = answer_loss(
            model,
            features[np.concatenate(chosen)].float(),
            torch.from_numpy(np.concatenate(words)),
            torch.from_numpy(np.concatenate(answers)),
        )
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        models.block(model)
        if step % 50 == 49 or step + 1 == steps:
            with torch.no_grad():
                scores = [
                    answer_loss(model, tokens, torch.from_numpy(asked), torch.from_numpy(answered))[1]
                    for tokens, asked, answered in held_out
                ]
            by_type = [score.float().mean(0).unflatten(0, (4, -1)).mean(1).tolist() for score in scores]
            kinds = right.float().mean(0).unflatten(0, (4, -1)).mean(1).tolist()
            print(
                f"model {seed} step {step + 1} loss {loss:.3f} train {show(kinds)} held out {show(by_type[0])} "
                f"with distractors {show(by_type[1])} {time.process_time() - spent:.0f} CPU s",
                flush=True,
            )
            torch.save({"model": model.state_dict(), "optimiser": optimiser.state_dict(), "step": step + 1}, path)


def export(seed: int) -> None:
    """Write the checkpoint that is committed."""
    model = models.build(seed)
    model.load_state_dict(torch.load(BUILD / f"model-{seed}.pt")["model"])
    models.save(model, seed)


def show(shares: list[float]) -> str:
    """Return accuracies by question type in short."""
    return "/".join(f"{100 * share:.0f}" for share in shares)


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of the language model")
    parser.add_argument("--tower", type=int, default=0, help="seed of the vision tower, which models may share")
    parser.add_argument("--tower-steps", type=int, default=1100, help="of 32 pictures; 0: it is there")
    parser.add_argument("--steps", type=int, default=320, help="of 8 scenes; 0: train the tower only")
    parser.add_argument("--scenes", type=int, default=2000, help="that the language model sees in all")
    parser.add_argument("--each", type=int, default=4, help="questions of each type about a scene, in a step")
    parser.add_argument("--rate", type=float, default=2e-3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    BUILD.mkdir(parents=True, exist_ok=True)
    if options.tower_steps:
        train_tower(options.tower, options.tower_steps, 32, options.rate)
    if options.steps:
        train_language(options.seed, options.tower, options.steps, 8, options.rate, options.scenes, options.each)
        export(options.seed)


if __name__ == "__main__":
    main()
