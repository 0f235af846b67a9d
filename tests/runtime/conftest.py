"""Hypothesis settings of the runtime's tests."""

from __future__ import annotations

from hypothesis import settings

# No deadline: the first product of a type builds its table, and machines that run tests are busy.
settings.register_profile("runtime", deadline=None, print_blob=True)
settings.load_profile("runtime")
