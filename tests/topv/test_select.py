"""Budgets, ties, recovery, and the selectors behind one interface."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tilewright import topv
from tilewright.topv.select import split

pytestmark = pytest.mark.topv
seeds = st.integers(0, 2**32 - 1)


def image(seed: int, grid: tuple[int, int] = (6, 7), features: int = 16) -> topv.VisualTokens:
    random = torch.Generator().manual_seed(seed)
    n = grid[0] * grid[1]
    source, target, output, projected = (torch.randn(n, features, generator=random) for _ in range(4))
    return topv.VisualTokens((grid,), source, target, output, projected, torch.rand(n, generator=random))


@given(n=st.integers(1, 200), data=st.data())
def test_the_budget_is_exact(n: int, data: st.DataObject) -> None:
    """Top-k plus every r-th discarded token is a token more or less than asked for, and comparisons are unfair."""
    recovery = data.draw(st.one_of(st.none(), st.integers(2, 9), st.floats(0, 1)))
    least = -(-n // recovery) if isinstance(recovery, int) else 1
    count = data.draw(st.integers(least, n))
    scores = torch.from_numpy(np.random.default_rng(n).permutation(n).astype(np.float32))
    chosen, recovered = split(n, count, recovery)
    kept = topv.select(scores, count if count > 1 else count / n, recovery)
    assert len(kept) == chosen + recovered == count
    assert torch.equal(kept, kept.unique())
    assert set(scores.argsort(descending=True)[:chosen].tolist()) <= set(kept.tolist())
    if isinstance(recovery, int) and 1 < count < n:
        assert chosen + -(-(n - chosen) // recovery) == count


@given(scores=st.lists(st.integers(0, 3), min_size=1, max_size=60), data=st.data())
def test_ties_fall_to_the_first(scores: list[int], data: st.DataObject) -> None:
    """torch.topk gives equal scores in any order, so that two machines keep different tokens."""
    count = data.draw(st.integers(1, len(scores)))
    expected = sorted(sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:count])
    got = topv.select(torch.tensor(scores, dtype=torch.float32), count if count > 1 else 1e-9)
    assert got.tolist() == expected


@pytest.mark.parametrize("name", topv.names())
@given(seed=seeds, count=st.integers(1, 42))
def test_every_selector_gives_what_it_was_asked_for(name: str, seed: int, count: int) -> None:
    """A place twice, one out of range, unsorted, another number, or other places the second time."""
    first, again = topv.choose(image(seed), count, name), topv.choose(image(seed), count, name)
    assert len(first.kept) == count
    assert torch.equal(first.kept, first.kept.unique())
    assert 0 <= int(first.kept.min()) <= int(first.kept.max()) < 42
    assert torch.equal(first.kept, again.kept)


def test_divprune_is_greedy_max_min() -> None:
    """Against the same greedy rule written out over all pairs."""
    tokens = image(5)
    x = torch.nn.functional.normalize(tokens.get("features"), dim=1)
    d = (1 - x @ x.T).double()
    d.fill_diagonal_(torch.inf)
    chosen = [int(d.amin(1).argmax())]
    while len(chosen) < 10:
        rest = [i for i in range(len(tokens)) if i not in chosen]
        chosen.append(max(rest, key=lambda i: float(d[i, chosen].min())))
    assert topv.choose(tokens, 10, "divprune").kept.tolist() == sorted(chosen)


@given(seed=seeds, count=st.integers(1, 42))
def test_tome_covers_every_token_once(seed: int, count: int) -> None:
    """A token merged into one that is merged later is lost; all must be in exactly one kept token."""
    selection = topv.choose(image(seed), count, "tome")
    if count < 42:
        assert selection.merge is not None
        assert selection.merge[selection.kept].tolist() == list(range(count))
        assert set(selection.merge.tolist()) == set(range(count))


def test_random_differs_by_image_and_not_by_content() -> None:
    """Beams are copies of a prompt whose states may differ in a bit; they must keep the same tokens."""
    one, other = image(1), image(2)
    assert torch.equal(topv.choose(one, 9, "random").kept, topv.choose(other, 9, "random").kept)
    second = topv.VisualTokens(one.grids, index=1)
    assert not torch.equal(topv.choose(one, 9, "random").kept, topv.choose(second, 9, "random").kept)
    assert not torch.equal(topv.choose(one, 9, "random").kept, topv.choose(one, 9, topv.Random(seed=1)).kept)


def test_a_callable_is_a_selector_and_checked() -> None:
    """A user's own function that returns too few places would shift every later token."""
    assert topv.choose(image(1), 3, lambda tokens, count: range(count)).kept.tolist() == [0, 1, 2]
    for wrong in (lambda t, c: [0], lambda t, c: [0, 0, 1], lambda t, c: [0, 1, 42], lambda t, c: [-1, 0, 1]):
        with pytest.raises(topv.ArgumentError, match="must give 3 different places"):
            topv.choose(image(1), 3, wrong)
    with pytest.raises(topv.ArgumentError, match="'nearest'"):
        topv.choose(image(1), 3, "nearest")
    with pytest.raises(topv.ArgumentError, match="there is a selector 'topv'"):
        topv.register("topv", topv.TopV)


def test_recovery_refuses_merged_tokens() -> None:
    """A discarded token that is also in an average would be counted twice."""
    with pytest.raises(topv.ArgumentError, match="merged"):
        topv.choose(image(1), 20, "tome", recovery=4)


@pytest.mark.parametrize("keep", [0.0, -0.5, 1.5, float("nan"), 1, 0, 43, True, "half"])
def test_bad_budgets(keep: float) -> None:
    """keep=1 could mean all or one token; more than there are cannot be kept."""
    with pytest.raises(topv.ArgumentError, match="keep is"):
        topv.budget(keep, 42)


@pytest.mark.parametrize("recovery", [1, -2, 1.5, "some", True])
def test_bad_recovery(recovery: float) -> None:
    """An interval of 1 would bring all back."""
    with pytest.raises(topv.ArgumentError, match="recovery is"):
        topv.select(torch.arange(42.0), 10, recovery)


def test_recovery_beyond_the_budget_says_what_would_fit() -> None:
    """Every fourth of 42 tokens is 11 already; silently keeping more, or fewer, would not be the budget."""
    with pytest.raises(topv.ArgumentError, match=r"brings back 11 of 42 tokens, but only 5 .* intervals of 9"):
        topv.select(torch.arange(42.0), 5, 4)


def test_nan_scores_are_refused() -> None:
    """Sorted, NaN comes first and wins."""
    with pytest.raises(topv.TokenError, match="NaN"):
        topv.select(torch.tensor([1.0, float("nan"), 2.0]), 2)
