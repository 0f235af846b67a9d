"""What the benchmarks share: timed loops in C, the rivals found on this machine, checks, tables and figures.

Importing it sets every library to `THREADS` threads, one if ``BENCH_THREADS`` says nothing else, so it comes before
whatever loads a BLAS (numpy does).
"""

from __future__ import annotations

import os

THREADS = int(os.environ.get("BENCH_THREADS", "1"))


def _settings() -> None:
    """Set what libraries read when they are loaded."""
    for name in ("TILEWRIGHT", "OPENBLAS", "OMP", "MKL", "BLIS"):
        os.environ[f"{name}_NUM_THREADS"] = str(THREADS)
    os.environ["MKL_THREADING_LAYER"] = "SEQUENTIAL" if THREADS == 1 else "INTEL"
    os.environ["MKL_DYNAMIC"] = "FALSE"
    os.environ["KMP_BLOCKTIME"] = "2"  # milliseconds that MKL's threads spin after a call; 200 are its own
    for name in ("CORETYPE", "L2_SIZE", "VERBOSE"):  # OpenBLAS shall choose by itself what suits the processor
        os.environ.pop(f"OPENBLAS_{name}", None)


_settings()
