"""The whole package on aarch64: an emulated Python imports `tilewright.runtime` and multiplies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ..support import CI, Unavailable, miss
from .emulation import EmulatedPython, emulated_python, install_runtime, is_there
from .machines import is_native

pytestmark = [pytest.mark.emulation, pytest.mark.timeout(600)]

MULTIPLY = """
import numpy as np
import tilewright.runtime as tw

rng = np.random.default_rng(0)
for dtype in (np.float32, np.float64, np.complex64, np.complex128):
    for m, n, k in [(1, 1, 1), (5, 7, 3), (16, 4, 9), (33, 31, 17), (0, 3, 2), (3, 2, 0)]:
        for trans_a, trans_b in ("NN", "NT", "TN", "TT", "CN", "NC"):
            def integers(rows, cols, trans="N"):
                x = rng.integers(-9, 10, (rows, cols) if trans == "N" else (cols, rows)).astype(dtype)
                return x + 1j * rng.integers(-9, 10, x.shape).astype(dtype) if x.dtype.kind == "c" else x
            def op(x, trans):
                return {"N": x, "T": x.T, "C": x.conj().T}[trans]
            a, b, c = integers(m, k, trans_a), integers(k, n, trans_b), integers(m, n)
            wanted = 2 * (op(a, trans_a) @ op(b, trans_b)) - c
            got = tw.gemm(a, b, c.copy(), alpha=2, beta=-1, trans_a=trans_a, trans_b=trans_b)
            assert got.dtype == dtype and np.array_equal(got, wanted), (dtype, m, n, k, trans_a, trans_b)
"""


@pytest.fixture(scope="module")
def python(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> EmulatedPython:
    """The emulated Python, from `build/emulation`, with `tilewright.runtime` in its path."""
    if is_native("aarch64"):
        pytest.skip("this machine is aarch64: tests/runtime says the same without an emulator")
    if not (CI or is_there() or "emulation" in request.config.getoption("markexpr")):
        pytest.skip("downloads 32 MB of arm64 packages into build/emulation; ask for it with -m emulation")
    package = tmp_path_factory.mktemp("package")
    try:
        install_runtime(package)
        return replace(emulated_python(), package=package)
    except Unavailable as reason:
        miss(reason)


def test_numpy_works_there(python: EmulatedPython) -> None:
    """A broken emulation must not look like a broken Tilewright."""
    assert python.run("import platform, numpy; print(platform.machine(), numpy.arange(3).sum())").split() == [
        "aarch64",
        "3",
    ]


@pytest.mark.parametrize(("isa", "pure"), [("neon", "0"), ("neon", "1"), ("fcma", "0"), ("scalar", "0")])
def test_runtime_multiplies_on_aarch64(python: EmulatedPython, isa: str, pure: str) -> None:
    """CPU detection, search path, cffi module or extension wrong on the architecture that nobody here owns."""
    said = python.run(f"{MULTIPLY}\nprint(tw.info())", TILEWRIGHT_ISA=isa, TILEWRIGHT_PURE=pure)
    assert ("cffi" if pure == "1" else "extension") in said
    assert isa in said


def test_selftest_passes_on_aarch64(python: EmulatedPython) -> None:
    """`selftest()` is what a user runs on their own CPU: it must run there and find nothing."""
    said = python.run("import tilewright.runtime as tw; result = tw.selftest(); print(bool(result), *result.run)")
    assert said.split() == ["True", "fcma", "neon", "scalar"]


SERVED = """
import numpy as np
import tilewright.runtime as tw

print(tw.info().isa)
for dtype in "fdFD":
    shown = tw.explain(40, 40, 40, np.dtype(dtype))
    print(shown.isa, *sorted({tile.kernel.rpartition("__")[2] for tile in shown.tiles}))
    a, b = (np.arange(1600) % 7).reshape(40, 40).astype(dtype), np.eye(40, dtype=dtype)
    plan = tw.skinny_plan(40, 40, 40, np.dtype(dtype), pack="b")
    assert np.array_equal(plan(a, plan.pack(b)), a)
"""


def test_fcma_serves_complex_types_and_neon_the_others(python: EmulatedPython) -> None:
    """Plain C where FCMLA has no kernels of a type; FCMLA left unused by a CPU that has it."""
    assert python.run(SERVED).splitlines() == ["fcma", "neon neon", "neon neon", "fcma fcma", "fcma fcma"]
    words = set(python.run(SERVED, TILEWRIGHT_ISA="neon").split())
    assert words == {"neon", "neon_paired"}  # a variant of neon's tiles


def test_fcma_is_refused_where_the_cpu_lacks_it(python: EmulatedPython) -> None:
    """An illegal instruction on every core before ARMv8.3-A."""
    code = "import os; os.environ['TILEWRIGHT_ISA'] = 'fcma'\nimport tilewright.runtime as tw; print(tw.info())"
    said = python.run(f"import os\nos.environ.pop('TILEWRIGHT_ISA')\n{code}", TILEWRIGHT_ISA="neon")
    assert "TILEWRIGHT_ISA=fcma: this CPU lacks it; this machine can run neon, scalar." in said


TURNED = """
import ctypes, mmap
import numpy as np
import tilewright.runtime as tw

page = mmap.PAGESIZE
libc = ctypes.CDLL(None)
rng = np.random.default_rng(1)
turned = 0
for dtype in (np.float32, np.float64):
    for m, n, k in [(4, 4, 4), (7, 9, 5), (16, 16, 16), (13, 21, 6), (33, 18, 19), (80, 80, 80), (90, 70, 40)]:
        # op(B) = B^T: B's rows lie along k, and are what is turned; unreadable pages before and behind it.
        size = n * k * np.dtype(dtype).itemsize
        whole = -(-size // page) * page
        area = np.frombuffer(mmap.mmap(-1, whole + 2 * page), np.uint8)
        for edge in (area.ctypes.data, area.ctypes.data + page + whole):
            assert libc.mprotect(ctypes.c_void_p(edge), page, 0) == 0
        for start in (page, page + whole - size):
            b = area[start : start + size].view(dtype).reshape(n, k)
            b[:] = rng.integers(-9, 10, b.shape)
            a, c = rng.integers(-9, 10, (m, k)).astype(dtype), rng.integers(-9, 10, (m, n)).astype(dtype)
            for alpha, beta in ((1, 0), (1, 1), (2, -1)):
                got = tw.gemm(a, b, c.copy(), alpha=alpha, beta=beta, trans_b="T")
                assert np.array_equal(got, alpha * (a @ b.T) + beta * c), (dtype, m, n, k, alpha, beta)
        turned += any("_nn_" in tile.kernel for tile in tw.explain(m, n, k, dtype, trans_b="T").tiles)
assert turned >= 6, turned
"""


def test_a_turned_operand_is_read_to_its_ends_and_no_further(python: EmulatedPython) -> None:
    """The last block of a line that reads past it; a panel that holds another product's columns."""
    python.run(TURNED, TILEWRIGHT_ISA="neon", TILEWRIGHT_TUNING="off")


REPRODUCIBLE = """
import numpy as np
import tilewright.runtime as tw

rng = np.random.default_rng(13)
m, n = 21, 14
for dtype in map(np.dtype, "fdFD"):
    for k, trans in ((1, "NN"), (7, "TN"), (9, "NC"), (300, "CT")):
        a, b = (rng.standard_normal((*shape, 2)) for shape in ((m, k), (k, n)))
        a, b = ((x @ [1, 1j] if dtype.kind == "c" else x[..., 0]).astype(dtype) for x in (a, b))
        stored = {"N": lambda x: x, "T": lambda x: x.T, "C": lambda x: x.conj().T}
        def product(rows, columns, pack):
            plan = tw.skinny_plan(
                rows, columns, k, dtype, trans_a=trans[0], trans_b=trans[1], pack=pack, reproducible=True
            )
            pair = [np.ascontiguousarray(stored[t](x)) for t, x in zip(trans, (a[:rows], b[:, :columns]))]
            return plan(*(plan.pack(x) if plan.packs == side else x for side, x in zip("ab", pair)))
        whole = product(m, n, None)
        for rows in (1, 2, 3, 5, m):
            for columns in (1, 2, 9, n):
                for pack in (None, "a", "b"):
                    got = product(rows, columns, pack)
                    assert np.array_equal(got, whole[:rows, :columns]), (dtype, trans, k, rows, columns, pack)
"""


@pytest.mark.parametrize("isa", ["neon", "fcma"])
def test_reproducible_products_do_not_depend_on_neighbours_or_packing(python: EmulatedPython, isa: str) -> None:
    """re(a) im(b) and im(a) re(b) added in another order where C is summed transposed: one or two rows, or B packed.

    `tests/runtime/test_paths.py` has the same of the machine at hand, whose complex kernels need not tell them apart.
    """
    python.run(REPRODUCIBLE, TILEWRIGHT_ISA=isa, TILEWRIGHT_TUNING="off")


TUNE = """
import tilewright.runtime as tw
result = tw.tune(4)
assert 0 < result.timed <= result.runnable, result
print(result.path)
"""


def test_tune_on_aarch64(python: EmulatedPython, tmp_path: Path) -> None:
    """`build.py tune`'s way on an ARM machine: times taken, written, and read by the next process."""
    said = python.run(TUNE, TILEWRIGHT_ISA="neon", TILEWRIGHT_TUNING=str(tmp_path))
    assert said.strip().startswith(str(tmp_path))
    status = "from tilewright.runtime.tuning import tuning_status; print(tuning_status())"
    assert python.run(status, TILEWRIGHT_ISA="neon", TILEWRIGHT_TUNING=str(tmp_path)).startswith("measured: ")


def test_first_table_on_aarch64(python: EmulatedPython) -> None:
    """What `build.py` ends with there, and `tilewright bench`: every element within its bound, a row a shape."""
    said = python.run("from tilewright.runtime.bench import main; main()", TILEWRIGHT_TUNING="off")
    assert "GFLOP/s, fcma on" in said
    assert len([line for line in said.splitlines() if line.startswith(("float", "complex"))]) == 8
