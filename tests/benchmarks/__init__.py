"""The benchmarks run, say what they should and leave wrong rivals out."""
