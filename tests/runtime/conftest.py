"""Hypothesis settings of the runtime's tests, and both ways that calls take to C."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

import tilewright.runtime as tw
from tilewright.runtime import _calls, _quick

from ..support import CI

# No deadline: the first product of a type builds its table, and machines that run tests are busy.
settings.register_profile("runtime", deadline=None, print_blob=True)
settings.load_profile("runtime")


@pytest.fixture(scope="module", params=["extension", "cffi"])
def way(request: pytest.FixtureRequest) -> Iterator[str]:
    """Let `tw.gemm` go this way to C for a module's tests: ``pytestmark = pytest.mark.usefixtures("way")``."""
    if request.param == "extension" and tw.info().calls != "extension":
        (pytest.fail if CI else pytest.skip)(f"calls go through {tw.info().calls}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tw, "gemm", {"extension": _calls.gemm, "cffi": _quick.gemm}[request.param])
        yield request.param
