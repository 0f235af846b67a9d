"""Tests of Tilewright; a package, so that its folders can share helpers."""
