"""Packed linear layers in models of torch."""
