"""A small LLaVA: its configuration, its words, its first weights, and the block that keeps text from the image."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from data import COLOURS, DIGITS, DISTRACTOR, GRID, PATCH, SIDE, TOKENS, Scenes

LAYER = 2  # text does not read the image in layers 0..LAYER; tokens are cut at the input of LAYER + 1
WIDTH, VISION_HEADS, TEXT_HEADS, TEXT_LAYERS = 96, 8, 4, 6
ROWS, COLUMNS = ("top", "middle", "bottom"), ("left", "centre", "right")
PLACES = tuple(f"{row}-{column}" for row in ROWS for column in COLUMNS)
ASK = ("at", "where", "colour", "exists")  # at PLACE: which digit? where DIGIT: which place? and so on
WORDS = ("<pad>", "<s>", "<image>", *ASK, *map(str, range(10)), *PLACES, *COLOURS, "yes", "no")
WORD = {word: at for at, word in enumerate(WORDS)}
MEAN, SCALE = 0.3, 0.25  # of pixels, as the model sees them
TEXT_MARK, IMAGE_MARK = WIDTH - 2, WIDTH - 1  # two channels of the residual stream say what a token is
MARK, BARRIER = 4.0, 60.0
SEARCH, ELSEWHERE = 1.5, 15.0


def configuration() -> LlavaConfig:
    """Return the configuration: 12 x 12 patches, a vision tower of 3 layers, a Llama of 6, all 96 wide."""
    vision = CLIPVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=3,
        num_attention_heads=VISION_HEADS,
        image_size=SIDE,
        patch_size=PATCH,
        projection_dim=WIDTH,
    )
    text = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=TEXT_LAYERS,
        num_attention_heads=TEXT_HEADS,
        num_key_value_heads=TEXT_HEADS,
        max_position_embeddings=256,
        tie_word_embeddings=False,
        pad_token_id=WORD["<pad>"],
        bos_token_id=WORD["<s>"],
        eos_token_id=WORD["<pad>"],
    )
    return LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=WORD["<image>"],
        image_seq_length=TOKENS,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
    )


def build(seed: int) -> LlavaForConditionalGeneration:
    """Return the model with its first weights."""
    torch.manual_seed(seed)
    model = LlavaForConditionalGeneration(configuration())
    look_around(model.model.vision_tower)
    with torch.no_grad():  # transformers' 0.02 is meant for wide models
        for name, weight in model.model.language_model.named_parameters():
            if weight.ndim == 2:
                out = "o_proj" in name or "down_proj" in name
                weight.normal_(0, (1 if "embed" in name else weight.shape[1] ** -0.5) * (0.3 if out else 1))
        for linear in (model.model.multi_modal_projector.linear_1, model.model.multi_modal_projector.linear_2):
            linear.weight.normal_(0, linear.weight.shape[1] ** -0.5)
    block(model)
    return model


@torch.no_grad()
def look_around(tower: Any) -> None:
    """Start the tower's first two layers as convolutions are: head h of eight looks at the h-th neighbour of a patch.

    Twelve channels hold the position, three frequencies each way; query and key turn them by the neighbour's offset
    (d'Ascoli et al., "ConViT", ICML 2021, section 3). It is a start, no constraint: all of it is trained.
    """
    places, width = 12, WIDTH // VISION_HEADS
    turns = 2 * math.pi / 16 * torch.arange(1, 4)
    y, x = torch.meshgrid(torch.arange(GRID), torch.arange(GRID), indexing="ij")
    angles = torch.cat([x.reshape(-1, 1) * turns, y.reshape(-1, 1) * turns], 1)  # (144, 6)
    embeddings = tower.embeddings
    embeddings.position_embedding.weight.zero_()
    embeddings.position_embedding.weight[1:, :places] = torch.cat([angles.cos(), angles.sin()], 1)
    embeddings.class_embedding[:places] = 0
    embeddings.patch_embedding.weight.normal_(0, 0.2 * (3 * PATCH * PATCH) ** -0.5)  # below the position's
    embeddings.patch_embedding.weight[:places].zero_()
    offsets = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx]
    for layer in tower.encoder.layers[:2]:
        attention = layer.self_attn
        for head, (dy, dx) in enumerate(offsets):
            rows = slice(head * width, (head + 1) * width)
            turn = torch.cat([dx * turns, dy * turns])
            query, key = torch.zeros(width, WIDTH), torch.zeros(width, WIDTH)
            sharp = math.sqrt(5 * math.sqrt(width)) * 0.8
            for i in range(6):  # cos(a + t), sin(a + t) of the query against cos(b), sin(b) of the key
                query[i, i], query[i, 6 + i] = turn[i].cos(), -turn[i].sin()
                query[6 + i, i], query[6 + i, 6 + i] = turn[i].sin(), turn[i].cos()
                key[i, i] = key[6 + i, 6 + i] = 1
            attention.q_proj.weight[rows] = sharp * query
            attention.k_proj.weight[rows] = sharp * key
        attention.v_proj.weight.normal_(0, 3 * WIDTH**-0.5)
        attention.v_proj.weight[:, :places] = 0
        attention.out_proj.weight.normal_(0, 0.5 * WIDTH**-0.5)
        attention.out_proj.weight[:places] = 0
        layer.mlp.fc2.weight[:places] = 0


@torch.no_grad()
def block(model: LlavaForConditionalGeneration) -> None:
    """Write into the weights that text tokens cannot attend to image tokens in layers 0..LAYER.

    Every embedding carries `MARK` in one channel if it is text and in another if it is an image token; no layer may
    write there. In the blocked layers one pair of channels of each head, the one that RoPE turns slowest, holds
    q = BARRIER for text and k = -BARRIER for image tokens, so that their score is some -BARRIER^2 and its exponential
    exactly zero; between any other two tokens the pair adds nothing. Training calls this after each step.
    """
    text = model.model.language_model
    text.embed_tokens.weight[:, TEXT_MARK], text.embed_tokens.weight[:, IMAGE_MARK] = MARK, 0
    last = model.model.multi_modal_projector.linear_2
    last.weight[[TEXT_MARK, IMAGE_MARK]] = 0
    last.bias[TEXT_MARK], last.bias[IMAGE_MARK] = 0, MARK
    size = WIDTH // TEXT_HEADS
    for index, layer in enumerate(text.layers):
        layer.self_attn.o_proj.weight[[TEXT_MARK, IMAGE_MARK]] = 0
        layer.mlp.down_proj.weight[[TEXT_MARK, IMAGE_MARK]] = 0
        if index <= LAYER:
            layer.input_layernorm.weight[[TEXT_MARK, IMAGE_MARK]] = 1
            for weight, mark, value in (
                (layer.self_attn.q_proj.weight, TEXT_MARK, BARRIER),
                (layer.self_attn.k_proj.weight, IMAGE_MARK, -BARRIER),
            ):
                for head in range(TEXT_HEADS):
                    slow = head * size + size // 2 - 1
                    weight[[slow, slow + size // 2]] = 0
                    weight[slow, mark] = value


@torch.no_grad()
def first_words(model: LlavaForConditionalGeneration, features: Tensor, of: Scenes) -> None:
    """Start the words where the projector, still random, puts what they name, and reading as looking for what is alike.

    A digit, place or colour begins as the mean of its patches in `of` (n scenes; `features` (n, 144, 96) is the tower's
    answer) less the mean of all digits' patches, as embedding and as row of the output layer. Behind the cut, two
    heads of each layer begin as a search for patches of the same digit, two for patches at the same place, all of them
    for digits rather than anything else, in the channels that RoPE hardly turns; what is found is copied. It is a
    start, no constraint; without it the search takes thousands of steps to appear.
    """
    projector, text = model.model.multi_modal_projector, model.model.language_model
    projector.linear_1.weight.div_(features.std())
    image = projector(features).flatten(0, 1)
    patches, colours = (torch.from_numpy(x).flatten() for x in (of.patches, of.colours))
    digit = patches < DISTRACTOR
    row, column = torch.arange(TOKENS) // GRID, torch.arange(TOKENS) % GRID
    place = (row * len(ROWS) // GRID * len(COLUMNS) + column * len(COLUMNS) // GRID).repeat(len(features))
    means = {str(d): image[patches == d].mean(0) for d in DIGITS}
    means |= {word: image[digit & (place == at)].mean(0) for at, word in enumerate(PLACES)}
    means |= {word: image[digit & (colours == at)].mean(0) for at, word in enumerate(COLOURS)}
    for word, mean in means.items():
        mean -= image[digit].mean(0)
        text.embed_tokens.weight[WORD[word]] = 1.5 * mean / mean.square().mean().sqrt()
        model.lm_head.weight[WORD[word]] = mean / mean.norm()
    digits, places = ([means[str(d)] for d in DIGITS], [means[word] for word in PLACES])
    apart = image[digit].mean(0) - image[~digit].mean(0)
    size = WIDTH // TEXT_HEADS
    slow = [at + half for at in range(size // 4, size // 2) for half in (0, size // 2)]
    for layer in text.layers[LAYER + 1 :]:
        attention = layer.self_attn
        nn.init.orthogonal_(attention.v_proj.weight)
        attention.o_proj.weight.copy_(attention.v_proj.weight.T)
        for head in range(TEXT_HEADS):
            of_head = slice(head * size, (head + 1) * size)
            query, key = torch.zeros(size, WIDTH), torch.zeros(size, WIDTH)
            basis = torch.linalg.svd(torch.stack(digits if head < 2 else places), full_matrices=False).Vh
            basis = basis[: min(len(basis) - 1, len(slow) - 1)]
            query[slow[: len(basis)]], key[slow[: len(basis)]] = SEARCH * basis, SEARCH * basis
            query[slow[-1], TEXT_MARK], key[slow[-1]] = SEARCH, 3 * SEARCH * apart / apart.norm()
            key[slow[-1], IMAGE_MARK] = ELSEWHERE  # or a word would find itself
            attention.q_proj.weight[of_head], attention.k_proj.weight[of_head] = query, key
    block(model)


def folder(seed: int) -> Path:
    """Return where a committed checkpoint lies: a folder that ``from_pretrained`` takes."""
    return Path(__file__).resolve().parent / "checkpoints" / f"seed-{seed}"


def load(seed: int) -> LlavaForConditionalGeneration:
    """Return a committed checkpoint, in float32."""
    model = LlavaForConditionalGeneration.from_pretrained(folder(seed), dtype=torch.float32, local_files_only=True)
    return model.eval()


def save(model: LlavaForConditionalGeneration, seed: int) -> None:
    """Write a checkpoint in float16 with a processor, as any LLaVA's folder: ``<s> <image> where 7`` is a prompt."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import CLIPImageProcessor, LlavaProcessor, PreTrainedTokenizerFast

    words = Tokenizer(WordLevel(WORD, unk_token="<pad>"))
    words.pre_tokenizer = WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", bos_token="<s>", extra_special_tokens={"image_token": "<image>"}
    )
    images = CLIPImageProcessor(
        size={"height": SIDE, "width": SIDE}, do_center_crop=False, image_mean=[MEAN] * 3, image_std=[SCALE] * 3
    )
    processor = LlavaProcessor(
        images, tokenizer, patch_size=PATCH, vision_feature_select_strategy="default", num_additional_image_tokens=1
    )
    model.generation_config.max_new_tokens = 1
    model.half().save_pretrained(folder(seed))
    processor.save_pretrained(folder(seed))


def pixels(pictures: Tensor) -> Tensor:
    """Return uint8 (n, 96, 96, 3) pictures as the model takes them: float32 (n, 3, 96, 96)."""
    return ((pictures.permute(0, 3, 1, 2).float() / 255) - MEAN) / SCALE


def packed(embeddings: Tensor, questions: Tensor, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return states, additive mask and positions of one row per picture: <s>, its image tokens, all its questions.

    Each question of `questions` (n, q, 2) sees <s>, the image and itself, and stands at the positions that it would
    have alone, so that a row answers q prompts at once.
    """
    n, q, words = questions.shape
    before = 1 + features.shape[1]
    start = embeddings[WORD["<s>"]].expand(n, 1, -1)
    states = torch.cat([start, features, embeddings[questions].flatten(1, 2)], 1)
    length = before + q * words
    of_question = torch.cat([torch.full((before,), -1), torch.arange(q).repeat_interleave(words)])
    seen = torch.ones(length, length, dtype=torch.bool).tril()
    seen &= (of_question[None] == -1) | (of_question[None] == of_question[:, None])
    mask = torch.zeros(length, length).masked_fill(~seen, torch.finfo(torch.float32).min)
    positions = torch.cat([torch.arange(before), before + torch.arange(words).repeat(q)])
    return states, mask.expand(n, 1, -1, -1), positions.expand(n, -1)
