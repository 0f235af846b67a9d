"""Which tokens stay: importance from a plan, an exact budget, deterministic ties, recovery."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .errors import ArgumentError, TokenError

__all__ = ["REDUCTIONS", "budget", "check_keep", "check_recovery", "importance", "recover", "select", "split", "top"]

REDUCTIONS = ("row_sum", "column_maximum", "distinct")


def importance(plan: Any, reduce: str = "row_sum") -> Tensor:
    """Read each source's importance from a transport plan.

    Parameters
    ----------
    plan : Tensor or array (n, m)
    reduce : "row_sum", "column_maximum" or "distinct"
        row_sum: sum_j P(i, j), what a source gives in all. column_maximum: max_j P(i, j), the most it gives to one
        target, large where few sources compete: ours. distinct: sum_j w_j P(i, j) with w_j = max_i P(i, j), row sums
        with targets weighted by how few sources share them: ours.

    Returns
    -------
    Tensor (n,)

    Examples
    --------
    >>> plan = torch.tensor([[0.5, 0.0], [0.25, 0.25]])
    >>> importance(plan), importance(plan, "column_maximum"), importance(plan, "distinct")
    (tensor([0.5000, 0.5000]), tensor([0.5000, 0.2500]), tensor([0.2500, 0.1875]))
    """
    p = plan if isinstance(plan, Tensor) else torch.as_tensor(plan)
    if reduce == "row_sum":
        return p.sum(1)
    if reduce == "column_maximum":
        return p.amax(1)
    if reduce == "distinct":
        return p @ p.amax(0)
    raise ArgumentError(f"reduce is {reduce!r}; it must be one of {', '.join(REDUCTIONS)}.")


def budget(keep: float, n: int) -> int:
    """Return how many of n tokens `keep` asks for: a fraction in (0, 1], rounded half up, or a count from 2 on.

    Examples
    --------
    >>> budget(0.33, 576), budget(1.0, 576), budget(64, 576), budget(0.001, 576)
    (190, 576, 64, 1)
    """
    check_keep(keep)
    if isinstance(keep, int):
        if keep > n:
            raise ArgumentError(f"keep is {keep} tokens of an image that has {n}; it must lie in 2 .. {n}.")
        return keep
    return max(1, int(keep * n + 0.5))


def check_keep(keep: float) -> None:
    """Refuse what is neither a fraction in (0, 1] nor a count from 2 on."""
    if isinstance(keep, bool) or not isinstance(keep, (int, float)):
        raise ArgumentError(f"keep is {keep!r}; it must be a fraction in (0, 1], or a number of tokens.")
    if isinstance(keep, int):
        if keep == 1:
            raise ArgumentError("keep is 1, which could mean all or one; all is 1.0, and counts begin at 2.")
        if keep < 2:
            raise ArgumentError(f"keep is {keep} tokens; it must be at least 2, or a fraction in (0, 1].")
    elif not 0 < keep <= 1:
        raise ArgumentError(f"keep is {keep}; a fraction must lie in (0, 1]; a number of tokens is an int.")


def split(n: int, count: int, recovery: float | None) -> tuple[int, int]:
    """Split a budget into tokens chosen by importance and tokens recovered, so that they are `count` together.

    Parameters
    ----------
    n, count : int
        Tokens there are, tokens to keep.
    recovery : int >= 2, float in [0, 1] or None
        Every `recovery`-th discarded token comes back; or this share of the budget does, evenly spaced; or none.

    Returns
    -------
    chosen, recovered : int

    Raises
    ------
    ArgumentError
        Every recovery-th of all tokens is already more than the budget.

    Examples
    --------
    >>> split(576, 192, 4), split(576, 64, 0.25), split(576, 64, None)
    ((64, 128), (48, 16), (64, 0))
    """
    check_recovery(recovery)
    if not recovery or count == n:
        return count, 0
    if isinstance(recovery, float):
        recovered = int(recovery * count + 0.5)
        return count - recovered, recovered
    least = -(-n // recovery)
    if count < least:
        raise ArgumentError(
            f"recovery={recovery} brings back {least} of {n} tokens, but only {count} may be kept: keep at least "
            f"{least / n:.3f}, recover at intervals of {-(-n // count)} or more, or give a share of the budget, as 0.2."
        )
    chosen = (recovery * count - n) // (recovery - 1)  # the greatest K1 with K1 + ceil((n - K1) / r) = count
    return chosen, count - chosen


def check_recovery(recovery: float | None) -> None:
    """Refuse what is neither an interval from 2 on, nor a share in [0, 1], nor None or 0 for no recovery."""
    if isinstance(recovery, bool) or not (recovery is None or isinstance(recovery, (int, float))):
        raise ArgumentError(f"recovery is {recovery!r}; it must be an interval from 2 on, a share in [0, 1], or None.")
    if isinstance(recovery, float) and not 0 <= recovery <= 1:
        raise ArgumentError(f"recovery is {recovery}; a share must lie in [0, 1], an interval is an int from 2 on.")
    if isinstance(recovery, int) and recovery and recovery < 2:
        raise ArgumentError(f"recovery is {recovery}; an interval must be at least 2, a share is a float in [0, 1].")


def top(scores: Tensor, count: int) -> Tensor:
    """Return the places of the greatest scores, in order of place; of equal ones the first.

    Raises
    ------
    TokenError
        NaN among the scores.

    Examples
    --------
    >>> top(torch.tensor([1.0, 3.0, 3.0, 3.0]), 2)
    tensor([1, 2])
    """
    if bool(torch.isnan(scores).any()):
        raise TokenError("importance holds NaN; look at the tokens it was made from.")
    order = torch.sort(scores, descending=True, stable=True).indices
    return order[:count].sort().values


def recover(kept: Tensor, n: int, recovered: int, recovery: float | None) -> Tensor:
    """Return `kept`, sorted, with `recovered` of the discarded tokens, taken at regular intervals.

    Examples
    --------
    >>> recover(torch.tensor([3]), 6, 2, 4)
    tensor([0, 3, 5])
    """
    if not recovered:
        return kept
    gone = torch.ones(n, dtype=torch.bool, device=kept.device)
    gone[kept] = False
    discarded = gone.nonzero()[:, 0]
    if isinstance(recovery, int):
        back = discarded[::recovery]
    else:
        back = discarded[(torch.arange(recovered, device=kept.device) * 2 + 1) * len(discarded) // (2 * recovered)]
    return torch.cat([kept, back]).sort().values


def select(scores: Any, keep: float, recovery: float | None = None) -> Tensor:
    """Return the places of the tokens to keep: the most important ones, and discarded ones recovered evenly.

    Parameters
    ----------
    scores : Tensor or array (n,)
        Importance.
    keep : float or int
        See `budget`; what is recovered counts.
    recovery : int, float or None
        See `split`.

    Returns
    -------
    LongTensor
        Sorted; exactly as many as the budget says.

    Examples
    --------
    >>> select(torch.tensor([0.0, 5.0, 1.0, 4.0, 2.0, 3.0]), 0.5)
    tensor([1, 3, 5])
    >>> select(torch.tensor([0.0, 5.0, 1.0, 4.0, 2.0, 3.0]), 0.5, recovery=4)
    tensor([0, 1, 3])
    """
    values = scores if isinstance(scores, Tensor) else torch.as_tensor(scores)
    n = len(values)
    count = budget(keep, n)
    chosen, recovered = split(n, count, recovery)
    return recover(top(values, chosen), n, recovered, recovery)
