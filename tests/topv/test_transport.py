"""Transport plans against POT, and the three vacuities that make a method of transport say nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import ot
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp
from scipy.stats import spearmanr

from tilewright import topv

pytestmark = pytest.mark.topv
seeds = st.integers(0, 2**32 - 1)


def problem(seed: int, n: int, m: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    p, q = random.uniform(0.5, 2, n), random.uniform(0.5, 2, m)
    return random.uniform(0, 1, (n, m)).astype(np.float32), p / p.sum(), q / q.sum()


@given(seed=seeds, n=st.integers(1, 30), m=st.integers(1, 30), domain=st.sampled_from(["gibbs", "log"]))
def test_converged_sinkhorn_is_pots(seed: int, n: int, m: int, domain: str) -> None:
    """Marginals exchanged, a sign of epsilon, an update left out."""
    c, p, q = problem(seed, n, m)
    expected = ot.bregman.sinkhorn_log(p, q, c.astype(float), 0.1, numItermax=2000, stopThr=1e-12, warn=False)
    for last in ("columns", "rows"):
        got = topv.transport(c, mode="sinkhorn", epsilon=0.1, source_marginal=p, target_marginal=q,
                             iterations=400, last=last, domain=domain)  # fmt: skip
        np.testing.assert_allclose(got, expected, atol=5e-6)


@pytest.mark.filterwarnings("ignore:If reg_type")
@given(seed=seeds, n=st.integers(1, 20), m=st.integers(1, 20), domain=st.sampled_from(["gibbs", "log"]))
def test_unbalanced_is_pots(seed: int, n: int, m: int, domain: str) -> None:
    """The exponent rho / (rho + eps) on the wrong side; least costs taken off and not put back."""
    c, p, q = problem(seed, n, m)
    expected = ot.unbalanced.sinkhorn_unbalanced(
        p,
        q,
        c.astype(float) + 1,
        0.1,
        (0.3, float("inf")),
        reg_type="entropy",
        numItermax=5000,
        stopThr=1e-13,
        warn=False,
    )
    for last in ("columns", "rows"):
        got = topv.transport(c + 1, mode="unbalanced", epsilon=0.1, rho=0.3, source_marginal=p, target_marginal=q,
                             iterations=400, last=last, domain=domain)  # fmt: skip
        np.testing.assert_allclose(got, expected / expected.sum(), atol=2e-5)


@given(seed=seeds, n=st.integers(1, 30), m=st.integers(1, 30), epsilon=st.sampled_from([0.005, 0.02, 0.1, 1.0]))
def test_semi_relaxed_is_its_closed_form(seed: int, n: int, m: int, epsilon: float) -> None:
    """Normalised along the wrong side; whole columns underflow at small epsilon."""
    c, _, q = problem(seed, n, m)
    c += 80  # raw distances of 4096 features: exp(-80 / 0.1) is zero
    k = -c.astype(float) / epsilon
    expected = q * np.exp(k - logsumexp(k, axis=0))
    got = topv.transport(c, epsilon=epsilon, target_marginal=q)
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-7)
    np.testing.assert_allclose(got.sum(0), q, rtol=1e-5)


@given(seed=seeds, last=st.sampled_from(["columns", "rows"]), mode=st.sampled_from(["sinkhorn", "unbalanced"]),
       iterations=st.integers(1, 5), epsilon=st.sampled_from([0.02, 0.1]))  # fmt: skip
def test_both_domains_are_one_sequence(seed: int, last: str, mode: str, iterations: int, epsilon: float) -> None:
    """Least costs of the side updated second taken off: the first plans then differ, and three iterations show it."""
    c, p, q = problem(seed, 17, 13)
    c = c.astype(np.float64) + np.random.default_rng(seed).uniform(0, 1, (17, 1))
    plans = [
        topv.transport(c, mode=mode, epsilon=epsilon, source_marginal=p, target_marginal=q, iterations=iterations,
                       last=last, domain=domain) for domain in ("gibbs", "log")
    ]  # fmt: skip
    torch.testing.assert_close(plans[0], plans[1], rtol=1e-8, atol=1e-12)


def test_gibbs_that_overflows_is_run_in_the_log_domain() -> None:
    """Costs clustered at one end at eps .005: scalings overflow, and NaN would rank the tokens."""
    c = np.random.default_rng(3).uniform(0, 1, (40, 40)).astype(np.float32)
    c[:, 7] += 50
    got = topv.transport(c, mode="sinkhorn", epsilon=0.005)
    assert bool(torch.isfinite(got).all())
    torch.testing.assert_close(got, topv.transport(c, mode="sinkhorn", epsilon=0.005, domain="log"))


class TestVacuities:
    """What makes an importance independent of the costs: true of the mathematics, so our code must show it too."""

    def setup_method(self) -> None:
        random = np.random.default_rng(0)
        self.source, self.target = (random.standard_normal((64, 32)).astype(np.float32) for _ in range(2))
        self.source *= random.uniform(1, 4, (64, 1)).astype(np.float32)

    def costs(self, gamma: float) -> torch.Tensor:
        c: torch.Tensor = topv.cost(self.source, self.target, (8, 8), beta=1, gamma=gamma)
        return c

    def test_row_sums_of_a_converged_plan_are_the_marginal(self) -> None:
        plan = topv.transport(self.costs(1), mode="sinkhorn", epsilon=0.1, iterations=200)
        sums = topv.importance(plan) * 64
        assert float(sums.max() - sums.min()) < 1e-4

    def test_the_central_term_cancels_in_balanced_transport_and_counts_in_ours(self) -> None:
        def plan(gamma: float, mode: str) -> Any:
            return topv.transport(self.costs(gamma), mode=mode, epsilon=0.1)

        torch.testing.assert_close(plan(0, "sinkhorn"), plan(1, "sinkhorn"), rtol=1e-4, atol=1e-8)
        ranks = spearmanr(topv.importance(plan(0, "semi_relaxed")), topv.importance(plan(1, "semi_relaxed")))
        assert ranks.statistic < 0.9

    def test_the_literal_reading_is_a_sort_by_norm(self) -> None:
        tokens = topv.VisualTokens(((8, 8),), torch.from_numpy(self.source), torch.from_numpy(self.target))
        norms = np.linalg.norm(self.source, axis=1)
        assert spearmanr(topv.TopV.literal().scores(tokens), norms).statistic > 0.9999
        assert abs(spearmanr(topv.TopV().scores(tokens), norms).statistic) < 0.5

    def test_the_update_order_can_turn_the_ranking_round(self) -> None:
        """Ranking by what three iterations have not settled: its sign depends on which side is updated last."""
        first, second = (
            topv.importance(topv.transport(self.costs(0), mode="sinkhorn", epsilon=0.1, last=last))
            for last in ("columns", "rows")
        )
        assert float(second.max() - second.min()) * 64 < 1e-5
        assert float(first.max() - first.min()) * 64 > 1e-3


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"mode": "ot"}, topv.ArgumentError, "mode is 'ot'"),
        ({"epsilon": 0.0}, topv.ArgumentError, "epsilon is 0"),
        ({"mode": "sinkhorn", "iterations": 0}, topv.ArgumentError, "iterations is 0"),
        ({"mode": "sinkhorn", "last": "row"}, topv.ArgumentError, "last is 'row'"),
        ({"mode": "sinkhorn", "domain": "exp"}, topv.ArgumentError, "domain is 'exp'"),
        ({"mode": "unbalanced", "rho": -1.0}, topv.ArgumentError, "rho is -1"),
        ({"source_marginal": np.zeros(3)}, topv.TokenError, "3 positive finite"),
        ({"cost": np.ones(3)}, topv.TokenError, "must be a matrix"),
        ({"cost": np.full((3, 3), np.nan)}, topv.TokenError, "NaN or infinity"),
    ],
)
def test_bad_input(change: dict[str, object], error: type[Exception], words: str) -> None:
    """What is wrong must be refused in words, not met later as NaN."""
    with pytest.raises(error, match=words):
        topv.transport(**{"cost": np.eye(3, dtype=np.float32), **change})
