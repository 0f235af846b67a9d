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
ffibuilder.cdef(ARRAYS)
ffibuilder.set_source(MODULE, '#include "tilewright.h"\n#include "_arrays.h"\n', py_limited_api=True)
