"""When these tests run."""

from __future__ import annotations

import pytest

from ..support import CI


@pytest.fixture(autouse=True)
def asked_for(request: pytest.FixtureRequest) -> None:
    """Minutes: only where somebody wants them."""
    if not (CI or "sanitizers" in request.config.getoption("markexpr")):
        pytest.skip("takes minutes; ask for it with -m sanitizers")
