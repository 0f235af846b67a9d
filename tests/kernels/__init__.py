"""Tests of the generated kernels: every listed kernel runs, natively or under an emulator, between guard pages."""
