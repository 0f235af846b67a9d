"""cffi's view of the C library: the marked part of ``csrc/tilewright.h``, the one place where it is declared.

Run by the build, outside the package; makes the source of ``tilewright.runtime._tilewright`` (API mode, limited API).
"""

from __future__ import annotations

import re
from pathlib import Path

from cffi import FFI

HEADER = Path(__file__).resolve().parent / "csrc" / "tilewright.h"
MODULE = "tilewright.runtime._tilewright"
ARRAYS = """
int tw_gemm_arrays(intptr_t a, intptr_t b, intptr_t out);
int tw_gemm_arrays_options(intptr_t a, intptr_t b, intptr_t out, int op_a, int op_b, double alpha,
                          double beta);
"""
"""What the module has of its own, in ``_arrays.h``."""
LINEAR = """
int tw_slinear_at(int64_t tokens, int64_t out, int64_t in, intptr_t x, intptr_t packed, intptr_t bias, int activation,
                  int threads, intptr_t y, intptr_t team);
int tw_pack_at(int64_t out, int64_t in, intptr_t weight, int by_rows, intptr_t packed, intptr_t team);
int tw_unpack_at(intptr_t packed, int64_t bytes, intptr_t weight);
"""
"""The same, in ``_linear.h``."""


def declarations(header: str) -> str:
    """Return what lies between the marks of `header`, without the words only a C compiler understands.

    Examples
    --------
    >>> declarations("#if 1 /* cffi: begin */ TW_API int tw_isa_count(void); /* cffi: end */ #endif")
    'int tw_isa_count(void);'
    """
    marked = re.search(r"/\* cffi: begin \*/(.*)/\* cffi: end \*/", header, re.DOTALL)
    if marked is None:
        raise ValueError(f"{HEADER}: the marks 'cffi: begin' and 'cffi: end' are gone")
    return re.sub(r"\bTW_API\s+", "", marked[1]).strip()


ffibuilder = FFI()
ffibuilder.cdef(declarations(HEADER.read_text()))
ffibuilder.cdef(ARRAYS + LINEAR)
ffibuilder.set_source(
    MODULE, '#include "tilewright.h"\n#include "_arrays.h"\n#include "_linear.h"\n', py_limited_api=True
)
