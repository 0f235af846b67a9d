"""Whole calls on AArch64 without its hardware: instructions counted under qemu, cycles modelled by llvm-mca."""
