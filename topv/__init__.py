"""Visual-token pruning: fewer image tokens in the later layers of a vision-language model.

>>> import torch
>>> from tilewright import topv
>>> source, target = torch.eye(6), torch.eye(6)
>>> costs = topv.cost(source, target, (2, 3))
>>> scores = topv.importance(topv.transport(costs))
>>> topv.select(scores, keep=0.5)
tensor([0, 1, 4])

`cost`, `transport`, `importance` and `select` are the method, in that order, for one image's tokens; `TopV` is all of
them with one configuration, `choose` runs it or a rival. `prune` and `attach` do it inside models of transformers.
`gemm` is the matrix product, an operator of torch that runs on CPUs through `tilewright.runtime`.
"""

from __future__ import annotations

from .cost import central_distance, cost, feature_distance, spatial_distance
from .errors import ArgumentError, AttachmentError, GridError, ModelError, TokenError, TopvError
from .families import FAMILIES, Family, Scene, Span, register_family
from .pruning import Pruning, attach, prune
from .report import ImageReport, Report
from .select import budget, importance, select
from .selectors import DivPrune, FastV, Norm, Random, ToMe, TopV, Uniform, V2Drop, choose, names, register, selector
from .similarity import gemm
from .tokens import Selection, Selector, VisualTokens
from .transport import transport

__all__ = [
    "FAMILIES",
    "ArgumentError",
    "AttachmentError",
    "DivPrune",
    "Family",
    "FastV",
    "GridError",
    "ImageReport",
    "ModelError",
    "Norm",
    "Pruning",
    "Random",
    "Report",
    "Scene",
    "Selection",
    "Selector",
    "Span",
    "ToMe",
    "TokenError",
    "TopV",
    "TopvError",
    "Uniform",
    "V2Drop",
    "VisualTokens",
    "attach",
    "budget",
    "central_distance",
    "choose",
    "cost",
    "feature_distance",
    "gemm",
    "importance",
    "names",
    "prune",
    "register",
    "register_family",
    "select",
    "selector",
    "spatial_distance",
    "transport",
]
