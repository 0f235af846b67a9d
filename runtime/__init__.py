"""Matrix products for shapes that BLAS libraries serve badly: small ones, and tall and skinny ones.

>>> import numpy as np
>>> import tilewright.runtime as tw
>>> tw.gemm(np.eye(3, dtype=np.float32), np.ones((3, 2), np.float32))
array([[1., 1.],
       [1., 1.],
       [1., 1.]], dtype=float32)

`gemm` multiplies, `gemm_plan` makes a product ready to be run many times, `skinny_plan` one whose large matrix is packed
once, `gemm_batch` multiplies stacks of matrices.
`set_num_threads` limits the threads of a call, `explain` says how a product runs, `info` what runs it, `selftest`
checks every kernel on this CPU, `tune` times them, and the errors derive from `ValueError`, `TypeError` and
`RuntimeError`.

The environment variable ``TILEWRIGHT_ISA`` forces an instruction set, ``TILEWRIGHT_NUM_THREADS`` a number of threads;
``TILEWRIGHT_VERBOSE=1`` prints which products ran when the process ends, ``2`` also each of them as it runs;
``TILEWRIGHT_PURE=1`` makes calls go through cffi even where the extension that makes them cheaper was built.
"""

from __future__ import annotations

from ._calls import gemm
from ._library import lib, text
from .about import Info, SelfTest, info, selftest
from .batch import gemm_batch
from .errors import (
    ArgumentError,
    DtypeError,
    IsaError,
    LayoutError,
    OverlapError,
    PackedError,
    ScalarError,
    ShapeError,
    SpecializeWarning,
    TilewrightError,
    TuningError,
)
from .explain import Explanation, explain
from .packed import Packed
from .plan import Plan, gemm_plan
from .skinny import skinny_plan
from .special import Specialized, SpecializedProduct, specialize
from .threads import get_num_threads, register_controller, set_num_threads
from .tuning import Tuning, tune, tuning_status

__version__ = text(lib.tw_version())

register_controller()
del register_controller

__all__ = [
    "ArgumentError",
    "DtypeError",
    "Explanation",
    "Info",
    "IsaError",
    "LayoutError",
    "OverlapError",
    "Packed",
    "PackedError",
    "Plan",
    "ScalarError",
    "SelfTest",
    "ShapeError",
    "SpecializeWarning",
    "Specialized",
    "SpecializedProduct",
    "TilewrightError",
    "Tuning",
    "TuningError",
    "explain",
    "gemm",
    "gemm_batch",
    "gemm_plan",
    "get_num_threads",
    "info",
    "selftest",
    "set_num_threads",
    "skinny_plan",
    "specialize",
    "tune",
    "tuning_status",
]
