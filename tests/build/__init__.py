"""Tests of build.py and of packaging, on copies of the checkout."""
