"""The ways to choose tokens behind one interface: TopV, its rivals, and the controls that any claim needs beside it.

All of them choose at the place where TopV does, so that they are compared at equal cost; the papers of DivPrune and
ToMe cut earlier, in or behind the vision tower.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .cost import cost
from .errors import ArgumentError, TokenError
from .select import REDUCTIONS, importance, recover, split, top
from .tokens import ALL, Selection, Selector, VisualTokens
from .transport import MODES, transport

__all__ = ["DivPrune", "FastV", "Norm", "Random", "ToMe", "TopV", "Uniform", "V2Drop", "choose", "names", "needs_of",
           "register", "selector"]  # fmt: skip


@dataclass(frozen=True)
class TopV:
    """Importance by optimal transport from the scored layer's input to what its MLP reads (arXiv 2503.18278).

    ``importance(transport(cost(source, target)))`` with the arguments of these functions. `TopV()` is our default,
    chosen by `build.py bench topv`: tokens normalised, only targets constrained, all three terms, and of each source
    the most that it gives to one target.
    `TopV.literal()` is what a literal reading of the paper gives, and docs/topv.md why that is a sort by norm.

    Parameters
    ----------
    alpha, beta, gamma, sigma, normalize, squared, scaling
        See `cost`.
    mode, epsilon, iterations, last, domain, rho
        See `transport`.
    marginals : "uniform" or "norm"
        Of sources and targets: equal, or in proportion to their tokens' norms.
    reduce : str
        See `importance`.
    target : "target" or "output"
        Which states are the targets: after the layer's attention and norm, or after the whole layer.

    Examples
    --------
    >>> tokens = VisualTokens(((1, 3),), source=torch.eye(3), target=torch.eye(3))
    >>> TopV()(tokens, 1).kept
    tensor([1])
    """

    alpha: float = 1.0
    beta: float = 1.0
    gamma: float = 1.0
    sigma: float | None = None
    normalize: bool = True
    squared: bool = False
    scaling: str | float | None = "minmax"
    mode: str = "semi_relaxed"
    epsilon: float = 0.05
    iterations: int = 3
    last: str = "columns"
    domain: str = "gibbs"
    rho: float = 0.1
    marginals: str = "uniform"
    reduce: str = "column_maximum"
    target: str = "target"

    def __post_init__(self) -> None:
        for name, there in (
            ("mode", MODES),
            ("reduce", REDUCTIONS),
            ("marginals", ("uniform", "norm")),
            ("target", ("target", "output")),
        ):
            if getattr(self, name) not in there:
                raise ArgumentError(f"TopV: {name} is {getattr(self, name)!r}; it must be one of {', '.join(there)}.")

    @classmethod
    def literal(cls) -> TopV:
        """Return the configuration that public summaries of the paper lead to."""
        return cls(
            gamma=0.01, sigma=10.0, normalize=False, squared=True, mode="sinkhorn", epsilon=0.1, last="rows",
            marginals="norm", reduce="row_sum",
        )  # fmt: skip

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"source", self.target})

    def scores(self, tokens: VisualTokens) -> Tensor:
        """Return every token's importance."""
        source, target = tokens.get("source"), tokens.get(self.target)
        c = cost(
            source, target, tokens.grids, alpha=self.alpha, beta=self.beta, gamma=self.gamma, sigma=self.sigma,
            normalize=self.normalize, squared=self.squared, scaling=self.scaling,
        )  # fmt: skip
        norms = self.marginals == "norm"
        plan = transport(
            c, mode=self.mode, epsilon=self.epsilon, iterations=self.iterations, last=self.last, domain=self.domain,
            rho=self.rho, source_marginal=_norms(source) if norms else None,
            target_marginal=_norms(target) if norms else None,
        )  # fmt: skip
        return importance(plan, self.reduce)

    def __call__(self, tokens: VisualTokens, count: int) -> Selection:
        scores = self.scores(tokens)
        return Selection(top(scores, count), scores)


@dataclass(frozen=True)
class Random:
    """Tokens at random. A seed, the image's size and its number in the prompt decide, so that beams agree."""

    seed: int = 0
    needs = frozenset[str]()

    def __call__(self, tokens: VisualTokens, count: int) -> Selection:
        generator = torch.Generator().manual_seed(self.seed * 1000003 + tokens.index)
        return Selection(torch.randperm(len(tokens), generator=generator)[:count].sort().values)


@dataclass(frozen=True)
class Uniform:
    """Tokens at equal distances in the order of the prompt."""

    needs = frozenset[str]()

    def __call__(self, tokens: VisualTokens, count: int) -> Selection:
        return Selection((torch.arange(count) * 2 + 1) * len(tokens) // (2 * count))


@dataclass(frozen=True)
class Norm:
    """The tokens of greatest norm at the scored layer's input, or of least: the controls of every transport method."""

    sign: int = 1
    needs = frozenset({"source"})

    def __call__(self, tokens: VisualTokens, count: int) -> Selection:
        scores = self.sign * _norms(tokens.get("source"))
        return Selection(top(scores, count), scores)


@dataclass(frozen=True)
class FastV:
    """The tokens that the prompt's last token attends to most in the scored layer (arXiv 2403.06764).

    Without a cache every step is a prefill with another last token, so that each may choose otherwise.
    """

    needs = frozenset({"attention"})

    def __call__(self, tokens: VisualTokens, count: int) -> Selection:
        scores = tokens.get("attention").float()
        return Selection(top(scores, count), scores)


@dataclass(frozen=True)
class DivPrune:
    """Tokens that are far from each other (arXiv 2503.02175).

    Max-min diversity by cosine distance of what the projector made: begin with the token farthest from its nearest
    neighbour, then add again and again the one farthest from all that were chosen.
    """

    needs = frozenset({"features"})

    def __call__(self, tokens: VisualTokens, count: int) -> Selection:
        near = _cosines(tokens.get("features"), tokens.get("features"))
        nearest = near.clone().fill_diagonal_(-2).amax(1) if len(near) > 1 else near[0]
        chosen = torch.zeros(len(near), dtype=torch.bool, device=near.device)
        for _ in range(count):
            place = int(nearest.masked_fill(chosen, torch.inf).argmin())
            nearest = near[place].clone() if not bool(chosen.any()) else torch.maximum(nearest, near[place])
            chosen[place] = True
        return Selection(chosen.nonzero()[:, 0])


@dataclass(frozen=True)
class V2Drop:
    """The tokens that the scored layer changes most, by L2 distance of input and output (arXiv 2509.01552)."""

    needs = frozenset({"source", "output"})

    def __call__(self, tokens: VisualTokens, count: int) -> Selection:
        scores = _norms(tokens.get("output").float() - tokens.get("source").float())
        return Selection(top(scores, count), scores)


@dataclass(frozen=True)
class ToMe:
    """Averages of similar tokens (after arXiv 2210.09461).

    Bipartite soft matching: every other token looks for its most similar one among the rest, and the most similar pairs
    are averaged, weighted by how many tokens each stands for; rounds until `count` are left, since one halves at most.
    A merged token stays at the place of the one that received. Not maskable, so the oracle's second half does not
    hold for it.
    """

    needs = frozenset({"output"})

    def __call__(self, tokens: VisualTokens, count: int) -> Selection:
        states = tokens.get("output").float()
        places = torch.arange(len(states), device=states.device)  # of the tokens left
        merge = places.clone()  # for every token, the place of the one it is in
        sizes = torch.ones(len(states), device=states.device)
        while len(places) > count:
            a, b = places[::2], places[1::2]
            best, partner = _cosines(states[a], states[b]).max(1)
            merged = top(best, min(len(places) - count, len(a)))
            givers, takers = a[merged], b[partner[merged]]
            into = torch.arange(len(states), device=states.device)
            into[givers] = takers
            merge = into[merge]
            weighted = states * sizes[:, None]
            states = weighted.index_add(0, takers, weighted[givers])
            sizes = sizes.index_add(0, takers, sizes[givers])
            states = states / sizes[:, None]
            places = places[torch.isin(places, givers, invert=True)]
        rank = torch.searchsorted(places, merge)
        return Selection(places, merge=rank)


def _norms(tokens: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(tokens.float(), dim=1)
    if not bool(torch.isfinite(norms).all()):
        raise TokenError("visual tokens hold NaN or infinity; nothing can be chosen from them.")
    return norms


def _cosines(x: Tensor, y: Tensor) -> Tensor:
    a, b = (torch.nn.functional.normalize(z.float(), dim=1) for z in (x, y))
    return a @ b.T


_REGISTRY: dict[str, Callable[[], Selector]] = {
    "topv": TopV,
    "random": Random,
    "uniform": Uniform,
    "norm": Norm,
    "-norm": lambda: Norm(-1),
    "fastv": FastV,
    "divprune": DivPrune,
    "tome": ToMe,
    "v2drop": V2Drop,
}


def names() -> tuple[str, ...]:
    """Return the names that `selector` knows.

    Examples
    --------
    >>> names()
    ('topv', 'random', 'uniform', 'norm', '-norm', 'fastv', 'divprune', 'tome', 'v2drop')
    """
    return tuple(_REGISTRY)


def register(name: str, make: Callable[[], Selector]) -> None:
    """Make a selector known by name. `make` takes no argument: a class, or a function that returns one.

    Raises
    ------
    ArgumentError
        The name is taken.
    """
    if name in _REGISTRY:
        raise ArgumentError(f"register: there is a selector {name!r} already; choose another name.")
    _REGISTRY[name] = make


def selector(chosen: str | Selector) -> Selector:
    """Return a selector by name, or the callable itself.

    Examples
    --------
    >>> selector("random")
    Random(seed=0)
    """
    if isinstance(chosen, str):
        if chosen not in _REGISTRY:
            raise ArgumentError(f"selector is {chosen!r}; it must be one of {', '.join(_REGISTRY)}, or a callable.")
        return _REGISTRY[chosen]()
    if not callable(chosen):
        raise ArgumentError(f"selector is of type {type(chosen).__name__}; it must be a name or a callable.")
    return chosen


def needs_of(chosen: Selector) -> frozenset[str]:
    """Return which fields of `VisualTokens` a selector reads; for a callable that does not say, all but attention."""
    needs = frozenset(getattr(chosen, "needs", ALL))
    if not needs <= ALL | {"attention"}:
        strange = ", ".join(sorted(needs - ALL - {"attention"}))
        raise ArgumentError(f"selector needs {strange}; there is {', '.join(sorted(ALL | {'attention'}))}.")
    return needs


def choose(
    tokens: VisualTokens, count: int, chosen: str | Selector = "topv", recovery: float | None = None
) -> Selection:
    """Choose exactly `count` tokens of an image.

    Parameters
    ----------
    tokens : VisualTokens
    count : int
        In 1 .. len(tokens), what is recovered included.
    chosen : str or callable
        A selector, or its name.
    recovery : int, float or None
        See `split`.

    Returns
    -------
    Selection

    Raises
    ------
    ArgumentError, TokenError
        Also where a selector's answer is not `count` different places.

    Examples
    --------
    >>> choose(VisualTokens(((2, 4),)), 3, "uniform").kept
    tensor([1, 4, 6])
    """
    n = len(tokens)
    if not 1 <= count <= n:
        raise ArgumentError(f"choose: count is {count} of {n} tokens; it must lie in 1 .. {n}.")
    if count == n:
        return Selection(torch.arange(n))
    number, recovered = split(n, count, recovery)
    use = selector(chosen)
    made: Any = use(tokens, number) if number else Selection(torch.arange(0))
    answer = made if isinstance(made, Selection) else Selection(_places(made))
    kept = answer.kept
    different = len(set(kept.tolist()))
    if kept.ndim != 1 or len(kept) != number or different != number or _outside(kept, n):
        raise ArgumentError(
            f"selector {getattr(use, '__name__', use)!s} was asked for {number} of {n} tokens and gave "
            f"{tuple(kept.shape)} places, {different} different; it must give {number} different places in "
            f"0 .. {n - 1}."
        )
    if recovered and answer.merge is not None:
        raise ArgumentError("recovery brings discarded tokens back, but this selector has merged them into others.")
    if answer.merge is None:
        kept = recover(kept.sort().values, n, recovered, recovery)
    return Selection(kept, answer.importance, answer.merge)


def _places(answer: Tensor | Iterable[int]) -> Tensor:
    return torch.as_tensor(answer if isinstance(answer, Tensor) else list(answer), dtype=torch.long)


def _outside(kept: Tensor, n: int) -> bool:
    return bool(len(kept)) and (int(kept.min()) < 0 or int(kept.max()) >= n)
