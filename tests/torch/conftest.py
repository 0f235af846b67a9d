"""Settings of the tests of packed layers."""

from __future__ import annotations

import torch

torch.set_num_threads(1)  # matrices are tiny, and threads that wait for a busy core cost more than they bring
