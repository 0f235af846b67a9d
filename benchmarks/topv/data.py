"""Scenes with real digits over real photographs, and questions about them.

Digits are scikit-learn's `load_digits` (handwritten, 8 x 8; six classes of the ten), backgrounds are crops of
photographs that scikit-learn and scikit-image ship. Training and evaluation share neither a digit nor a photograph. A
digit is drawn twice as large, tinted, at any pixel of one of the 3 x 3 regions of the picture, so that patches cut it
anywhere. A distractor is a digit whose quadrants are shuffled and turned: as salient, as coloured, and asked for by no
question.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

SIDE, PATCH, SPRITE = 96, 8, 16  # pixels
GRID = SIDE // PATCH
TOKENS = GRID * GRID
REGIONS = 3  # a side: 3 x 3 regions of 32 x 32 pixels
DIGITS = (0, 1, 2, 4, 6, 7)  # the six that a tower of this size tells apart in minutes of training
DISTRACTOR, BACKGROUND = 10, 11  # classes of a patch beyond the ten digits
COLOURS = {"red": (1.0, 0.15, 0.15), "green": (0.15, 0.95, 0.25), "blue": (0.25, 0.4, 1.0), "yellow": (1.0, 0.95, 0.1)}
PHOTOS = {
    "train": ("china.jpg", "coffee", "chelsea", "motorcycle_left", "camera", "grass"),
    "test": ("flower.jpg", "astronaut", "rocket"),
}
HELD_OUT_DIGITS = 450  # the last ones, as scikit-learn orders them


@dataclass(frozen=True)
class Scenes:
    """Pictures and what is in them.

    Attributes
    ----------
    pictures : uint8 (n, 96, 96, 3)
    patches : int64 (n, 144)
        Class of each patch: the digit that covers half of it or more, `DISTRACTOR` or `BACKGROUND`.
    colours : int64 (n, 144)
        Colour of what covers half of the patch or more, -1 for background.
    digits, tints : int64 (n, cells)
        The class (digit, `DISTRACTOR`, or -1 for nothing) and the colour of what stands in each cell of the layout.
    """

    pictures: npt.NDArray[np.uint8]
    patches: Ints
    colours: Ints
    digits: Ints
    tints: Ints


@cache
def photographs(split: str) -> tuple[npt.NDArray[np.uint8], ...]:
    """Return the split's photographs as (height, width, 3) arrays."""
    import skimage.data
    from sklearn.datasets import load_sample_image

    pictures = []
    for name in PHOTOS[split]:
        if name == "motorcycle_left":
            from importlib.resources import files

            from skimage.io import imread

            picture = imread(str(files("skimage.data") / "motorcycle_left.png"))
        else:
            picture = load_sample_image(name) if name.endswith(".jpg") else getattr(skimage.data, name)()
        picture = np.atleast_3d(picture)[..., :3]
        pictures.append(np.ascontiguousarray(np.broadcast_to(picture, (*picture.shape[:2], 3)).astype(np.uint8)))
    return tuple(pictures)


@cache
def handwriting(split: str) -> tuple[Floats, Ints]:
    """Return the split's digits, (n, 8, 8) in 0..1, and their classes."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    part = slice(-HELD_OUT_DIGITS, None) if split == "test" else slice(0, -HELD_OUT_DIGITS)
    return (bunch.images[part] / 16).astype(np.float32), bunch.target[part].astype(np.int64)


@cache
def enlarge() -> Floats:
    """Return the (16, 8) matrix of linear interpolation from 8 to 16 pixels."""
    at = np.clip((np.arange(SPRITE) + 0.5) / 2 - 0.5, 0, 7)
    low = np.minimum(at.astype(int), 6)
    matrix = np.zeros((SPRITE, 8), np.float32)
    matrix[np.arange(SPRITE), low] = 1 - (at - low)
    matrix[np.arange(SPRITE), low + 1] = at - low
    return matrix


def scrambled(digit: Floats, random: np.random.Generator) -> Floats:
    """Return the digit with its quadrants in other places, each turned."""
    quadrants = [digit[y : y + 4, x : x + 4] for y in (0, 4) for x in (0, 4)]
    order = np.roll(np.arange(4), random.integers(1, 4))
    turned = [np.rot90(quadrants[i], int(random.integers(1, 4))) for i in order]
    return np.block([[turned[0], turned[1]], [turned[2], turned[3]]]).astype(np.float32)


def background(split: str, random: np.random.Generator) -> Floats:
    """Return a (96, 96, 3) crop of a photograph in 0..1, mirrored at times, darkened so that tints can be seen."""
    photos = photographs(split)
    photo = photos[random.integers(len(photos))]
    step = int(random.integers(1, 3))
    step = step if min(photo.shape[:2]) >= SIDE * step else 1
    y, x = (int(random.integers(size - SIDE * step + 1)) for size in photo.shape[:2])
    crop = photo[y : y + SIDE * step : step, x : x + SIDE * step : step]
    crop = crop[:, ::-1] if random.random() < 0.5 else crop
    dark: Floats = crop.astype(np.float32) * np.float32(random.uniform(0.4, 0.75) / 255)
    return dark


def paint(
    split: str, random: np.random.Generator, kinds: Ints, corners: Ints
) -> tuple[npt.NDArray[np.uint8], Ints, Ints, Ints]:
    """Draw one picture, `kinds` (cells,) at `corners` (cells, 2); also return patch classes, colours and tints."""
    images, classes = handwriting(split)
    picture = background(split, random)
    cover = np.zeros((GRID, GRID), np.float32)
    patches = np.full((GRID, GRID), BACKGROUND, np.int64)
    colours = np.full((GRID, GRID), -1, np.int64)
    tints = np.full(len(kinds), -1, np.int64)
    palette = np.array(list(COLOURS.values()), np.float32)
    for place, kind in enumerate(kinds):
        if kind < 0:
            continue
        of_kind = np.flatnonzero(classes == kind) if kind < DISTRACTOR else np.arange(len(classes))
        digit = images[of_kind[random.integers(len(of_kind))]]
        if kind == DISTRACTOR:
            digit = scrambled(digit, random)
        alpha = (enlarge() @ digit @ enlarge().T)[..., None]
        tints[place] = random.integers(len(palette))
        ink = palette[tints[place]] * np.float32(random.uniform(0.8, 1.0))
        y, x = corners[place]
        window = picture[y : y + SPRITE, x : x + SPRITE]
        window += alpha * (ink - window)
        for row in range(y // PATCH, (y + SPRITE - 1) // PATCH + 1):
            for column in range(x // PATCH, (x + SPRITE - 1) // PATCH + 1):
                high = min(y + SPRITE, (row + 1) * PATCH) - max(y, row * PATCH)
                wide = min(x + SPRITE, (column + 1) * PATCH) - max(x, column * PATCH)
                if 2 * high * wide >= PATCH * PATCH and high * wide > cover[row, column]:
                    cover[row, column] = high * wide
                    patches[row, column], colours[row, column] = kind, tints[place]
    return (picture * 255).astype(np.uint8), patches.ravel(), colours.ravel(), tints


def scenes(split: str, n: int, seed: int, distractors: bool) -> Scenes:
    """Return `n` scenes of three to five digits, all different, and four distractors or none, in 3 x 3 regions."""
    random = np.random.default_rng([seed, n, distractors, split == "test"])
    kinds = np.full((n, REGIONS * REGIONS), -1, np.int64)
    for of_scene in kinds:
        digits = random.permutation(DIGITS)[: random.integers(3, 6)]
        things = np.concatenate([digits, np.full(4 * distractors, DISTRACTOR)])
        of_scene[random.permutation(len(of_scene))[: len(things)]] = things
    region = SIDE // REGIONS
    cells = np.stack(np.divmod(np.arange(REGIONS * REGIONS), REGIONS), -1) * region
    return _painted(split, random, kinds, cells + random.integers(0, region - SPRITE + 1, (n, len(cells), 2)))


def crowds(split: str, n: int, seed: int, tries: int = 40) -> Scenes:
    """Return `n` crowded scenes, digits and distractors wherever there is room, to teach what lies in each patch."""
    random = np.random.default_rng([seed, n, 2, split == "test"])
    kinds = random.choice((*DIGITS, DISTRACTOR), size=(n, tries), p=[0.12] * 6 + [0.28])
    corners = random.integers(0, SIDE - SPRITE + 1, (n, tries, 2))
    for of_scene, at in zip(kinds, corners, strict=True):
        for i in range(tries):
            apart = np.abs(at[:i] - at[i]).max(-1, initial=0) >= SPRITE
            of_scene[i] = of_scene[i] if (apart | (of_scene[:i] < 0)).all() else -1
    return _painted(split, random, kinds, corners)


def questions(of: Scenes, each: int, seed: int) -> tuple[Ints, Ints, Ints]:
    """Return `each` questions of each type about every scene, as words of `model.WORDS`, and their answers.

    Returns
    -------
    words : int64 (n, 4 * each, 2)
        The type and what it is about: at PLACE (which digit?), where DIGIT (which place?), colour DIGIT, exists DIGIT.
    answers : int64 (n, 4 * each)
    types : int64 (4 * each,)
        0..3 in that order.
    """
    from model import ASK, PLACES, WORD

    random = np.random.default_rng([seed, 3])
    words, answers = [], []
    for digits, tints in zip(of.digits, of.tints, strict=True):
        there = np.flatnonzero((digits >= 0) & (digits < DISTRACTOR))
        absent = np.setdiff1d(DIGITS, digits)
        asked, answered = [], []
        for kind in np.repeat(np.arange(4), each):
            place = random.choice(there)
            digit, about = str(digits[place]), PLACES[place]
            if ASK[kind] == "at":
                pair = about, digit
            elif ASK[kind] == "where":
                pair = digit, about
            elif ASK[kind] == "colour":
                pair = digit, tuple(COLOURS)[tints[place]]
            else:
                pair = (digit, "yes") if random.random() < 0.5 else (str(random.choice(absent)), "no")
            asked.append([WORD[ASK[kind]], WORD[pair[0]]])
            answered.append(WORD[pair[1]])
        words.append(asked)
        answers.append(answered)
    return np.array(words), np.array(answers), np.repeat(np.arange(4), each)


def _painted(split: str, random: np.random.Generator, kinds: Ints, corners: Ints) -> Scenes:
    drawn = [paint(split, random, of_scene, at) for of_scene, at in zip(kinds, corners, strict=True)]
    pictures, patches, colours, tints = zip(*drawn, strict=True)
    return Scenes(np.stack(pictures), np.stack(patches), np.stack(colours), kinds, np.stack(tints))
