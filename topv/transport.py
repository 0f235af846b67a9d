"""How mass moves from sources to targets at given costs: `transport`, in three modes.

The paper reads a token's importance from a transport plan, and is under-determined there: the row sums of a balanced,
converged plan *are* its source marginal, whatever the costs. docs/topv.md shows the three ways in which that makes a
method vacuous; hence the default constrains the targets only.
"""

from __future__ import annotations

from math import inf, isfinite
from typing import Any

import torch
from torch import Tensor

from .errors import ArgumentError, TokenError

__all__ = ["MODES", "transport"]

MODES = ("semi_relaxed", "sinkhorn", "unbalanced")


def transport(
    cost: Any,
    *,
    mode: str = "semi_relaxed",
    epsilon: float = 0.02,
    source_marginal: Any = None,
    target_marginal: Any = None,
    iterations: int = 3,
    last: str = "columns",
    domain: str = "gibbs",
    rho: float = 0.1,
) -> Tensor:
    """Compute an entropic transport plan P(i, j) >= 0 from sources i to targets j.

    Parameters
    ----------
    cost : Tensor or array (n, m)
        Finite; computed with in float32, or in float64 if it is that.
    mode : "semi_relaxed", "sinkhorn" or "unbalanced"
        semi_relaxed: P(i, j) = q_j exp(-C(i, j) / eps) / sum_i exp(-C(i, j) / eps): every target receives q_j, sources
        give what is asked of them; closed form. sinkhorn: row and column sums are drawn to both marginals in turn.
        unbalanced: columns sum to q, rows are drawn to p by rho KL(P 1 | p): the row update's exponent is
        rho / (rho + eps), from semi_relaxed (with p folded into the costs) at rho = 0 to sinkhorn at infinity.
    epsilon : float
        Weight of the entropy, in units of the cost.
    source_marginal, target_marginal : Tensor or array (n,), (m,), optional
        p and q, positive; scaled to sum 1. Uniform by default.
    iterations : int
        Of sinkhorn and unbalanced; each is one update of the rows and one of the columns.
    last : "columns" or "rows"
        Which update ends an iteration. That side's marginal is met exactly.
    domain : "gibbs" or "log"
        Scale exp(-C / eps), each line first cleared of its least cost; or update potentials by log-sum-exp, several
        times slower and right at any eps. They are one sequence: where the first overflows, the second is run.
    rho : float
        Of unbalanced.

    Returns
    -------
    Tensor (n, m)
        Its entries sum to 1.

    Raises
    ------
    ArgumentError, TokenError

    References
    ----------
    Cuturi, "Sinkhorn distances", NIPS 2013; Chizat et al., "Scaling algorithms for unbalanced optimal transport
    problems", Math. Comp. 2018 (the exponent).

    Examples
    --------
    >>> transport(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), epsilon=0.5)
    tensor([[0.4404, 0.0596],
            [0.0596, 0.4404]])
    """
    c = cost.detach() if isinstance(cost, Tensor) else torch.as_tensor(cost)
    c = c if c.dtype == torch.float64 else c.float()
    if c.ndim != 2 or 0 in c.shape:
        raise TokenError(f"cost is {tuple(c.shape)}; it must be a matrix, sources by targets.")
    if mode not in MODES:
        raise ArgumentError(f"mode is {mode!r}; it must be one of {', '.join(MODES)}.")
    if not (isfinite(epsilon) and epsilon > 0):
        raise ArgumentError(f"epsilon is {epsilon}; it must be positive.")
    if not bool(torch.isfinite(c).all()):
        raise TokenError("cost holds NaN or infinity; look at the tokens it was made from.")
    p = _marginal(source_marginal, c.shape[0], c, "source_marginal")
    q = _marginal(target_marginal, c.shape[1], c, "target_marginal")
    if mode == "semi_relaxed":
        k = torch.sub(c, c.amin(0)).mul_(-1 / epsilon).exp_()  # a column's least cost becomes 1: no column vanishes
        return k.mul_(q / k.sum(0))
    if not isinstance(iterations, int) or iterations < 1:
        raise ArgumentError(f"iterations is {iterations!r}; it must be an integer, at least 1.")
    if last not in ("columns", "rows"):
        raise ArgumentError(f"last is {last!r}; it must be 'columns' or 'rows'.")
    if domain not in ("gibbs", "log"):
        raise ArgumentError(f"domain is {domain!r}; it must be 'gibbs' or 'log'.")
    if mode == "unbalanced" and not rho > 0:
        raise ArgumentError(f"rho is {rho}; it must be positive (infinity: sinkhorn).")
    power = 1.0 if mode == "sinkhorn" or rho == inf else rho / (rho + epsilon)
    if domain == "gibbs":
        plan = _gibbs(c, p, q, epsilon, power, iterations, last)
        if bool(torch.isfinite(plan).all()):
            return plan
    return _log(c, p, q, epsilon, power, iterations, last)


def _marginal(values: Any, length: int, like: Tensor, name: str) -> Tensor:
    if values is None:
        return torch.full((length,), 1 / length, dtype=like.dtype, device=like.device)
    weights = torch.as_tensor(values).detach().to(like)
    if weights.shape != (length,) or not bool((weights > 0).all()) or not bool(torch.isfinite(weights).all()):
        raise TokenError(f"{name} is of shape {tuple(weights.shape)}; it must be {length} positive finite numbers.")
    return weights / weights.sum()


def _gibbs(
    c: Tensor, p: Tensor, q: Tensor, epsilon: float, power: float, iterations: int, last: str
) -> Tensor:  # fmt: skip
    """Scale K = exp(-C / eps): u = (p / K v)^power, v = q / K^T u.

    The least cost of every line that is updated first is taken off: that update puts it back, so that the sequence of
    plans stays the same, and none of its lines underflows. Other lines may, and then the plan is not finite. An update
    with an exponent other than 1 does not put it back; there K's rows are put right by the factor left over.
    """
    if last == "columns":
        least = c.amin(1)
        k = torch.sub(c, least[:, None]).mul_(-1 / epsilon).exp_()
        left = least.mul((power - 1) / epsilon).exp_() if power != 1 else None  # exp(-least / eps)^(1 - power)
        v = torch.ones_like(q)
        for _ in range(iterations):
            u = p / (k @ v)
            u = u if left is None else u.pow_(power) * left
            v = q / (u @ k)
    else:
        k = torch.sub(c, c.amin(0)).mul_(-1 / epsilon).exp_()
        u = torch.ones_like(p)
        for _ in range(iterations):
            v = q / (u @ k)
            u = p / (k @ v)
            u = u if power == 1 else u.pow_(power)
    plan = k.mul_(u[:, None]).mul_(v)
    return plan / plan.sum() if power != 1 and last == "rows" else plan


def _log(c: Tensor, p: Tensor, q: Tensor, epsilon: float, power: float, iterations: int, last: str) -> Tensor:
    """Do the same with f = eps log u and g = eps log v."""
    k = c / -epsilon
    log_p, log_q = p.log(), q.log()
    f, g = torch.zeros_like(p), torch.zeros_like(q)
    for _ in range(iterations):
        if last == "rows":
            g = log_q - torch.logsumexp(k + f[:, None], 0)
        f = power * (log_p - torch.logsumexp(k + g, 1))
        if last == "columns":
            g = log_q - torch.logsumexp(k + f[:, None], 0)
    plan = k.add_(f[:, None]).add_(g).exp_()
    return plan / plan.sum() if power != 1 and last == "rows" else plan
