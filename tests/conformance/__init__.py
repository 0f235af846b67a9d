"""Tests that nobody here wrote, run on our BLAS library."""
