# The module that cffi makes from _cdef.py. What its functions take and return is declared, in C, in csrc/tilewright.h.
from typing import Any

ffi: Any
lib: Any
