"""The C code under tools that see what tests cannot: ASan, UBSan, valgrind."""
