"""What it costs to move mass from a source token to a target token: `cost` and its three terms.

The paper (arXiv 2503.18278) names the terms; its printed equations were not available to us, so the formulae here are
ours in its spirit, and docs/topv.md says which of them the literature reports.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import isfinite
from typing import Any

import torch
from torch import Tensor

from .errors import ArgumentError, GridError, TokenError
from .similarity import matrix, multiply_into

__all__ = ["Grid", "Grids", "central_distance", "cost", "feature_distance", "grids_of", "spatial_distance"]

Grid = tuple[int, int]
"""Rows and columns of an image's tokens."""

Grids = tuple[Grid, ...]
"""The grids of one image: itself, or its tiles one after the other."""

_TINY = torch.finfo(torch.float32).tiny
_SAMPLE = 1 << 16  # entries that a quantile is taken from; all of them need a sort and a copy


def grids_of(grid: Grid | Sequence[Grid]) -> Grids:
    """Return one grid, or several, as a tuple of grids.

    Raises
    ------
    GridError
        Not a pair of positive integers, nor a sequence of such pairs.

    Examples
    --------
    >>> grids_of((2, 3))
    ((2, 3),)
    >>> grids_of([(2, 3), (1, 1)])
    ((2, 3), (1, 1))
    """
    try:
        pairs: Any = [grid] if isinstance(grid[0], int) else grid
        grids = tuple((int(h), int(w)) for h, w in pairs)
    except (TypeError, ValueError, IndexError):
        raise GridError(f"grid is {grid!r}; it must be (rows, columns), or a list of such pairs, one a tile.") from None
    if not grids or any(h < 1 or w < 1 for h, w in grids):
        raise GridError(f"grid is {grid!r}; rows and columns must be at least 1.")
    return grids


def cost(
    source: Any,
    target: Any,
    grid: Grid | Sequence[Grid],
    *,
    alpha: float = 1.0,
    beta: float = 0.0,
    gamma: float = 1.0,
    sigma: float | None = None,
    normalize: bool = True,
    squared: bool = False,
    scaling: str | float | None = "minmax",
) -> Tensor:
    """Compute C = alpha Cf + beta Cs + gamma Ce for the tokens of one image.

    Cf(i, j) is the `feature_distance` of source i and target j, Cs(i, j) the `spatial_distance` of their places, Ce(i)
    the `central_distance` of the source's place; Cf is scaled to [0, 1], the other two lie there.

    Parameters
    ----------
    source, target : Tensor or array (n, features)
        Visual tokens before and after the scored layer's attention; any floating type, computed in float32, tensors on
        their own device.
    grid : (rows, columns), or a sequence of such pairs
        n = rows * columns, row by row; of several (tiles) the sum. Tokens of different tiles have Cs = 1.
    alpha, beta, gamma : float
        Weights, not negative.
    sigma : float, optional
        See `spatial_distance`.
    normalize, squared : bool
        See `feature_distance`.
    scaling : "minmax", float in (0, 0.5) or None
        How Cf becomes [0, 1]: by its least and greatest entry; by its quantiles q and 1 - q, what lies beyond clipped,
        so that one massive token does not flatten all the others; or not at all. Quantiles come from a sample of at
        most 65536 entries, evenly spaced.

    Returns
    -------
    Tensor (n, n)
        float32. The product that Cf needs is written into it, and all else is done in place: no second n x n matrix.

    Raises
    ------
    TokenError, GridError, ArgumentError

    Examples
    --------
    >>> tokens = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    >>> cost(tokens, tokens, (1, 2), gamma=0)
    tensor([[0.0000, 1.0000],
            [1.0000, 0.0000]])
    """
    x, y = matrix(source, "source"), matrix(target, "target")
    grids = grids_of(grid)
    n = sum(h * w for h, w in grids)
    if x.shape != y.shape:
        raise TokenError(f"source is {tuple(x.shape)} but target is {tuple(y.shape)}: they must be of one shape.")
    if len(x) != n:
        raise GridError(f"grid {grid!r} has {n} places but there are {len(x)} tokens.")
    for name, weight in (("alpha", alpha), ("beta", beta), ("gamma", gamma)):
        if not (isfinite(weight) and weight >= 0):
            raise ArgumentError(f"{name} is {weight}; it must be finite and not negative.")
    if alpha:
        c = feature_distance(x, y, normalize=normalize, squared=squared)
        _scale(c, scaling)
        if alpha != 1:
            c.mul_(alpha)
    else:
        c = torch.zeros(n, n, device=x.device)
    if beta:
        _add_spatial(c, grids, beta, sigma)
    if gamma:
        c.add_(_central(grids).to(c.device)[:, None], alpha=gamma)
    return c


def feature_distance(source: Any, target: Any, *, normalize: bool = True, squared: bool = False) -> Tensor:
    """Compute the L2 distances of all pairs: D(i, j)^2 = |s_i|^2 + |t_j|^2 - 2 s_i . t_j.

    Parameters
    ----------
    source : Tensor or array (n, features)
    target : Tensor or array (m, features)
        On the same device.
    normalize : bool
        Divide every token by its own norm first. The input of a layer and the output of a norm differ in scale by an
        order of magnitude; without this D mostly ranks the source's norms.
    squared : bool
        Return D^2.

    Returns
    -------
    Tensor (n, m)
        float32, built from a float32 product; norms are applied to it rather than to the tokens, which are read only.

    Raises
    ------
    TokenError
        Shapes or devices do not fit; NaN or infinity among the tokens.

    Examples
    --------
    >>> feature_distance(torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 4.0], [3.0, 0.0]]), normalize=False)
    tensor([[5., 0.]])
    """
    x, y = matrix(source, "source"), matrix(target, "target")
    if x.shape[1] != y.shape[1]:
        raise TokenError(f"source has {x.shape[1]} features but target has {y.shape[1]}: they must be equal.")
    if x.device != y.device:
        raise TokenError(f"source is on {x.device} but target is on {y.device}: move one to the other.")
    of_x, of_y = torch.linalg.vector_norm(x, dim=1), torch.linalg.vector_norm(y, dim=1)
    for name, norms in (("source", of_x), ("target", of_y)):
        if not bool(torch.isfinite(norms).all()):
            row = int((~torch.isfinite(norms)).nonzero()[0])
            raise TokenError(f"{name} token {row} holds NaN or is too large for float32; it has no distance.")
    if x.device.type == "cpu":
        d = multiply_into(torch.empty(len(x), len(y)), x, y, trans_b=True)
    else:
        d = torch.matmul(x, y.T)
    if normalize:  # a token of zeros stays zeros
        d.mul_((-2 / of_x.clamp_min(_TINY))[:, None]).mul_(1 / of_y.clamp_min(_TINY))
        d.add_((of_x > 0).float()[:, None]).add_((of_y > 0).float())
    else:
        d.mul_(-2).add_(of_x.square()[:, None]).add_(of_y.square())
    d.clamp_min_(0)
    return d if squared else d.sqrt_()


def spatial_distance(grid: Grid | Sequence[Grid], sigma: float | None = None) -> Tensor:
    """Compute 1 - exp(-|p_i - p_j|^2 / (2 sigma^2)) for the places p of the tokens of a grid, scaled to [0, 1].

    Parameters
    ----------
    grid : (rows, columns), or a sequence of such pairs
        Tokens of different grids are at distance 1.
    sigma : float, optional
        In tokens; by default 5/12 of the longer side, which is 10 on a grid of 24 x 24.

    Returns
    -------
    Tensor (n, n)
        float32.

    Examples
    --------
    >>> spatial_distance((1, 2))
    tensor([[0., 1.],
            [1., 0.]])
    """
    grids = grids_of(grid)
    n = sum(h * w for h, w in grids)
    return _add_spatial(torch.zeros(n, n), grids, 1.0, sigma)


def central_distance(grid: Grid | Sequence[Grid]) -> Tensor:
    """Compute the distance of every token's place from the centre of its grid, scaled to [0, 1].

    Returns
    -------
    Tensor (n,)
        float32.

    Examples
    --------
    >>> central_distance((1, 5))
    tensor([1.0000, 0.5000, 0.0000, 0.5000, 1.0000])
    """
    return _central(grids_of(grid)).clone()


@lru_cache(maxsize=64)
def _central(grids: Grids) -> Tensor:
    parts = []
    for h, w in grids:
        d = torch.hypot(torch.arange(h)[:, None] - (h - 1) / 2, torch.arange(w)[None, :] - (w - 1) / 2).flatten()
        span = float(d.max() - d.min())
        parts.append((d - d.min()) / span if span else d * 0)
    return torch.cat(parts)


def _add_spatial(c: Tensor, grids: Grids, weight: float, sigma: float | None) -> Tensor:
    """Add weight * Cs in place. The Gaussian is a product of one over rows and one over columns: small temporaries."""
    if sigma is not None and not (isfinite(sigma) and sigma > 0):
        raise ArgumentError(f"sigma is {sigma}; it must be positive, or None for 5/12 of the grid's longer side.")
    nearest = _least_similar(grids[0], sigma) if len(grids) == 1 else 0.0
    factor = weight / (1 - nearest) if nearest < 1 else 0.0  # scaled to [0, 1]; a single token has no span
    c.add_(factor)
    start = 0
    for h, w in grids:
        rows, columns = (near.to(c.device) for near in _near((h, w), sigma))
        for i in range(h):  # one grid row of sources at a time
            first = start + i * w
            block = c[first : first + w, start : start + h * w].view(w, h, w)
            block.sub_(rows[i][None, :, None] * columns[:, None, :], alpha=factor)
        start += h * w
    return c


@lru_cache(maxsize=64)
def _near(grid: Grid, sigma: float | None) -> tuple[Tensor, Tensor]:
    """Gaussian of the differences of rows, and of columns."""
    s = sigma if sigma is not None else 5 / 12 * max(grid)
    h, w = (torch.arange(side, dtype=torch.float32) for side in grid)
    return torch.exp(-((h[:, None] - h) ** 2) / (2 * s * s)), torch.exp(-((w[:, None] - w) ** 2) / (2 * s * s))


def _least_similar(grid: Grid, sigma: float | None) -> float:
    rows, columns = _near(grid, sigma)
    return float(rows.min() * columns.min())


def _scale(c: Tensor, scaling: str | float | None) -> None:
    """Scale to [0, 1] in place; equal entries become 0."""
    if scaling is None:
        return
    if scaling == "minmax":
        low, high = (float(x) for x in torch.aminmax(c))
    elif isinstance(scaling, float) and 0 < scaling < 0.5:
        flat = c.view(-1)
        sample = flat[:: max(1, -(-flat.numel() // _SAMPLE)) | 1]  # an odd step meets every column of an even grid
        low, high = (float(x) for x in torch.quantile(sample, sample.new_tensor([scaling, 1 - scaling])))
    else:
        raise ArgumentError(f"scaling is {scaling!r}; it must be 'minmax', a quantile in (0, 0.5), or None.")
    span = high - low
    c.sub_(low).mul_(1 / span if span > 0 else 0.0)
    if scaling != "minmax":
        c.clamp_(0, 1)
