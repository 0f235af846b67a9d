"""Tests of libtilewright_blas.so and of the command that preloads it."""
