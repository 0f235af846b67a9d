"""What the benchmarks share: timed loops in C, the rivals found on this machine, checks, tables and figures.

Importing it sets every library to one thread, so it comes before whatever loads a BLAS (numpy does).
"""

from __future__ import annotations

import os


def _settings() -> None:
    """Set what libraries read when they are loaded."""
    for name in ("TILEWRIGHT", "OPENBLAS", "OMP", "MKL", "BLIS"):
        os.environ[f"{name}_NUM_THREADS"] = "1"
    os.environ["MKL_THREADING_LAYER"] = "SEQUENTIAL"
    for name in ("CORETYPE", "L2_SIZE", "VERBOSE"):  # OpenBLAS shall choose by itself what suits the processor
        os.environ.pop(f"OPENBLAS_{name}", None)


_settings()
