"""The cost matrix against its formulae in float64 by scipy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from tilewright import topv

pytestmark = pytest.mark.topv
seeds = st.integers(0, 2**32 - 1)
grids = st.tuples(st.integers(1, 7), st.integers(1, 7))


def tokens(seed: int, n: int, features: int = 24) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, features)).astype(np.float32)


def unit(x: np.ndarray) -> np.ndarray:
    lengths: np.ndarray = np.linalg.norm(x, axis=1, keepdims=True)
    quotient: np.ndarray = x / lengths
    return quotient


@given(seed=seeds, n=st.integers(1, 40), m=st.integers(1, 40), normalize=st.booleans(), squared=st.booleans())
def test_feature_distance_is_scipys(seed: int, n: int, m: int, normalize: bool, squared: bool) -> None:
    """Norms applied to the product rather than to the tokens can land on the wrong side."""
    x, y = tokens(seed, n), tokens(seed + 1, m)
    a, b = (unit(z.astype(float)) if normalize else z.astype(float) for z in (x, y))
    expected = cdist(a, b, "sqeuclidean" if squared else "euclidean")
    got = topv.feature_distance(x, y, normalize=normalize, squared=squared)
    np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-5)


@given(seed=seeds, grid=grids)
def test_cost_is_the_sum_of_its_terms(seed: int, grid: tuple[int, int]) -> None:
    """A weight applied before its term is scaled, or rows and columns of the grid exchanged."""
    h, w = grid
    x, y = tokens(seed, h * w), tokens(seed + 1, h * w)
    places = np.stack(np.meshgrid(np.arange(h), np.arange(w), indexing="ij"), -1).reshape(-1, 2).astype(float)

    def scaled(c: np.ndarray) -> np.ndarray:
        return (c - c.min()) / (c.max() - c.min()) if c.max() > c.min() else c * 0

    near = 1 - np.exp(-cdist(places, places, "sqeuclidean") / (2 * 3.0**2))
    central = np.linalg.norm(places - np.array([(h - 1) / 2, (w - 1) / 2]), axis=1)
    feature = scaled(cdist(unit(x.astype(float)), unit(y.astype(float))))
    expected = 2 * feature + 0.5 * scaled(near) + 0.25 * scaled(central)[:, None]
    got = topv.cost(x, y, grid, alpha=2, beta=0.5, gamma=0.25, sigma=3.0)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def test_tiles_are_problems_of_their_own() -> None:
    """Places of one tile compared with places of another: they are not on one grid."""
    together = topv.spatial_distance([(2, 3), (4, 4)])
    assert bool((together[:6, 6:] == 1).all())
    assert bool((together[6:, :6] == 1).all())
    np.testing.assert_allclose(topv.central_distance([(2, 3), (4, 4)])[:6], topv.central_distance((2, 3)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_short_types_are_computed_in_float32(dtype: torch.dtype) -> None:
    """Distances added up in bfloat16 are wrong by 13 % where one channel is massive."""
    x = torch.from_numpy(tokens(1, 30, 512)).to(dtype)
    x[:, 7] = 300
    torch.testing.assert_close(topv.cost(x, x.flip(0), (5, 6)), topv.cost(x.float(), x.float().flip(0), (5, 6)))


def test_quantile_scaling_survives_one_massive_token() -> None:
    """Min-max scaling lets one massive token flatten the costs of all the others."""
    x = tokens(2, 64)
    x[5] *= 1e4
    others = np.arange(64) != 5
    spread = {
        scaling: float(topv.cost(x, x, (8, 8), normalize=False, scaling=scaling, gamma=0)[others][:, others].std())
        for scaling in ("minmax", 0.05)
    }
    assert spread["minmax"] < 1e-3
    assert spread[0.05] > 0.1


def test_no_second_matrix() -> None:
    """An n x n temporary, which at 2880 tokens is 33 MB, shows in what torch allocates."""
    n = 24 * 24
    x, y = (torch.from_numpy(tokens(seed, n, 32)) for seed in (1, 2))
    topv.cost(x, y, (24, 24), beta=1)  # what is kept per grid
    with torch.profiler.profile(profile_memory=True) as profile:
        topv.cost(x, y, (24, 24), beta=1)
    taken = [event.self_cpu_memory_usage for event in profile.events() or [] if event.self_cpu_memory_usage > 0]
    assert sum(size >= n * n * 4 for size in taken) == 1
    assert max(size for size in taken if size < n * n * 4) <= n * 24 * 4 * 2


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"grid": (2, 4)}, topv.GridError, "8 places but there are 9 tokens"),
        ({"grid": (0, 9)}, topv.GridError, "at least 1"),
        ({"grid": 9}, topv.GridError, "rows, columns"),
        ({"alpha": -1.0}, topv.ArgumentError, "alpha is -1"),
        ({"gamma": float("nan")}, topv.ArgumentError, "gamma is nan"),
        ({"beta": 1.0, "sigma": 0.0}, topv.ArgumentError, "sigma is 0"),
        ({"scaling": "max"}, topv.ArgumentError, "scaling is 'max'"),
        ({"target": np.ones((9, 3), np.float32)}, topv.TokenError, "one shape"),
        ({"source": np.ones((9, 24), int)}, topv.TokenError, "floating point"),
        ({"source": np.full((9, 24), np.nan, np.float32)}, topv.TokenError, "token 0 holds NaN"),
        ({"target": torch.ones(9, 24, device="meta")}, topv.TokenError, "meta"),
    ],
)
def test_bad_input(change: dict[str, object], error: type[Exception], words: str) -> None:
    """What is wrong must be refused in words, not met later as NaN."""
    arguments: dict[str, object] = {"source": tokens(1, 9), "target": tokens(2, 9), "grid": (3, 3), **change}
    with pytest.raises(error, match=words):
        topv.cost(**arguments)


@settings(max_examples=10)
@given(seed=seeds)
def test_same_bits(seed: int) -> None:
    """A cost that depends on what memory held, or on where the arrays lie."""
    x, y = tokens(seed, 36), tokens(seed + 1, 36)
    first = topv.cost(x, y, (6, 6), beta=1)
    shifted = np.empty((37, 24), np.float32)[1:]
    shifted[:] = x
    assert torch.equal(first, topv.cost(torch.from_numpy(shifted), y.copy(), (6, 6), beta=1))
