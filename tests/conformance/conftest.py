"""When these tests run, and how they keep what they were told."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ..support import CI
from .summary import PROPERTY


@pytest.fixture(autouse=True)
def asked_for(request: pytest.FixtureRequest) -> None:
    """Minutes, and downloads: only where somebody wants them."""
    if not (CI or "conformance" in request.config.getoption("markexpr")):
        pytest.skip("takes minutes and downloads test programs; ask for it with -m conformance")


@pytest.fixture
def report(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Keep a line for the end of the session."""
    return lambda line: record_property(PROPERTY, line)
