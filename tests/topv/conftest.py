"""Settings of the pruning tests."""

from __future__ import annotations

import torch
from hypothesis import settings

# No deadline, one thread: matrices are tiny, and threads that wait for a busy core cost more than they bring.
settings.register_profile("topv", deadline=None, max_examples=50, print_blob=True)
settings.load_profile("topv")
torch.set_num_threads(1)
