"""`specialize`: kernels for one size, made while the process runs; and what must not happen to its files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tilewright.runtime as tw
from tilewright.runtime import special
from tilewright.runtime._library import ffi, lib, text

from ..support import BUILD, ROOT
from .problems import DTYPES, Array, integers

COMPILER = shutil.which("gcc") or shutil.which("cc") or shutil.which("clang")
pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler")

OPERATIONS = {"N": lambda x: x, "T": lambda x: x.swapaxes(-1, -2), "C": lambda x: x.swapaxes(-1, -2).conj()}


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for what is made, shared by the tests of a process so that each shape is compiled once."""
    folder = tmp_path_factory.getbasetemp() / "special"
    monkeypatch.setenv("TILEWRIGHT_CACHE", str(folder))
    monkeypatch.setattr(special, "_warned", False)
    return folder


def python(code: str, cache: Path, *flags: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process of its own."""
    return subprocess.run(
        [sys.executable, *flags, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        env={**os.environ, "TILEWRIGHT_CACHE": str(cache), **environment},
        timeout=200,
    )


def products(m: int, n: int, k: int, dtype: np.dtype[Any], trans: str, count: int) -> tuple[Array, Array, Array]:
    """Stacks of operands as stored, and the exact products."""
    rng = np.random.default_rng(m + 100 * n + 10000 * k)
    a = integers(rng, (count, m, k) if trans[0] == "N" else (count, k, m), dtype)
    b = integers(rng, (count, k, n) if trans[1] == "N" else (count, n, k), dtype)
    return a, b, OPERATIONS[trans[0]](a) @ OPERATIONS[trans[1]](b)


SHAPES = [(6, 3, 9, 0, "NN"), (3, 6, 5, 1, "NT"), (5, 2, 4, 2, "CN"), (4, 5, 7, 3, "TC"), (2, 9, 3, 0, "TT"),
          (1, 7, 6, 1, "NN"), (12, 12, 11, 0, "NN")]  # fmt: skip


def test_made_kernels_are_exact_and_used() -> None:
    """A kernel made but never run; one that runs where k, a leading dimension or the operation is another."""
    made = tw.specialize([(m, n, k, DTYPES[dtype], trans) for m, n, k, dtype, trans in SHAPES])
    assert made, made
    for (m, n, k, dtype, trans), product in zip(SHAPES, made.products, strict=True):
        assert all(f"k{k}_" in name for name in product.kernels), product
        for steps, rows in ((k, m), (k + 1, m), (k, m + 1)):
            a, b, wanted = products(rows, n, steps, DTYPES[dtype], trans, 11)
            for stack in (slice(None), slice(0, 3), slice(None, None, -1), slice(None, None, 2)):
                found = tw.gemm_batch(a[stack], b[stack], trans_a=trans[0], trans_b=trans[1])
                assert np.array_equal(found, wanted[stack])
            out = wanted[0].copy()
            tw.gemm(a[0], b[0], out=out, alpha=2, beta=-3, trans_a=trans[0], trans_b=trans[1])
            assert np.array_equal(out, -wanted[0])
            plan = tw.gemm_plan(rows, n, steps, DTYPES[dtype], trans_a=trans[0], trans_b=trans[1])
            assert np.array_equal(plan(a[1], b[1]), wanted[1])


@settings(max_examples=60)
@given(data=st.data(), which=st.sampled_from(SHAPES), alpha=st.integers(-2, 2), beta=st.integers(-2, 2))
def test_scalars_and_padding(data: st.DataObject, which: Any, alpha: int, beta: int) -> None:
    """alpha = 0 that reads A, beta = 0 that reads C, a leading dimension taken for that of the dense matrix."""
    m, n, k, dtype, trans = which
    tw.specialize([(m, n, k, DTYPES[dtype], trans)])
    a, b, wanted = products(m, n, k, DTYPES[dtype], trans, 1)
    pads = [data.draw(st.integers(0, 2)) for _ in range(3)]
    padded = [
        np.full((x.shape[-2], x.shape[-1] + pad), np.nan, x.dtype) for x, pad in zip((a, b, wanted), pads, strict=True)
    ]
    views = [whole[:, : x.shape[-1]] for whole, x in zip(padded, (a, b, wanted), strict=True)]
    views[0][:], views[1][:] = (np.nan, np.nan) if alpha == 0 else (a[0], b[0])
    views[2][:] = 1 if beta else np.nan
    tw.gemm(views[0], views[1], out=views[2], alpha=alpha, beta=beta, trans_a=trans[0], trans_b=trans[1])
    assert np.array_equal(views[2], alpha * wanted[0] + beta * np.ones_like(wanted[0]))


def test_calls_see_new_kernels_and_old_plans_stay() -> None:
    """A thread that repeats one call keeps the plan it found first for ever; a plan changes under who runs it."""
    code = """
    import numpy as np, tilewright.runtime as tw
    from tilewright.runtime._library import lib, text, ffi
    a, b = np.ones((7, 6), np.float32), np.ones((6, 5), np.float32)
    out = np.empty((7, 5), np.float32)
    plan = tw.gemm_plan(7, 5, 6, np.float32)
    tw.gemm(a, b, out=out); tw.gemm(a, b, out=out)
    assert tw.specialize([(7, 5, 6, np.float32)])
    tw.gemm(a, b, out=out)
    assert (out == 6).all()
    plan(a, b, out)
    """
    ran = python(code, special.cache_folder() or Path(), TILEWRIGHT_VERBOSE="2")
    assert ran.returncode == 0, ran.stderr
    lines = [line for line in ran.stderr.splitlines() if "1 x sgemm row-major NN m=7" in line and "kernel" in line]
    assert ["k6_" in line for line in lines] == [False, False, True, False], ran.stderr


def test_second_process_finds_what_the_first_made(tmp_path: Path) -> None:
    """A key that changes from process to process, so that everybody compiles."""
    code = """
    import numpy as np, tilewright.runtime as tw
    made = tw.specialize([(3, 5, 2, np.float64)])
    print(bool(made), made.compiled, made.path)
    """
    first, second = python(code, tmp_path), python(code, tmp_path)
    assert first.stdout.split()[:2] == ["True", "True"], first
    assert second.stdout.split() == ["True", "False", *first.stdout.split()[2:]], second


def rewrite(record: Path, **changes: object) -> None:
    """Change fields of a record."""
    record.write_text(json.dumps({**json.loads(record.read_text()), **changes}))


SPOILS: dict[str, Callable[[Path, Path], object]] = {
    "cut off": lambda so, record: so.write_bytes(so.read_bytes()[:5000]),
    "empty": lambda so, record: so.write_bytes(b""),
    "changed": lambda so, record: so.write_bytes(so.read_bytes().replace(b"gemm_", b"gemn_", 1)),
    "gone": lambda so, record: so.unlink(),
    "no record": lambda so, record: record.unlink(),
    "record cut off": lambda so, record: record.write_text(record.read_text()[:40]),
    "record of another kind": lambda so, record: record.write_text("[]"),
    "record of another key": lambda so, record: rewrite(record, key="x"),
    "record of another format": lambda so, record: rewrite(record, format=2),
    "others may write it": lambda so, record: so.chmod(0o666),
}  # fmt: skip


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which another process left what it made."""
    folder = tmp_path_factory.mktemp("kept")
    assert python(SPOILT, folder).stdout.split() == ["True"]
    return folder


SPOILT = """
import numpy as np, tilewright.runtime as tw
made = tw.specialize([(2, 3, 2, np.float32)])
a, b = np.ones((2, 2), np.float32), np.ones((2, 3), np.float32)
assert (tw.gemm(a, b) == 2).all() and made
print(made.compiled)
"""


@pytest.mark.parametrize("how", SPOILS)
def test_spoilt_files_are_made_again(kept: Path, tmp_path: Path, how: str) -> None:
    """A damaged, stale or foreign library that is loaded, or that ends the process."""
    folder = tmp_path / "cache"
    shutil.copytree(kept, folder)
    (so,) = folder.glob("*.so")
    SPOILS[how](so, so.with_suffix(".json"))
    ran = python(SPOILT, folder, "-W", "error")
    assert ran.stdout.split() == ["True"], ran.stderr
    assert python(SPOILT, folder).stdout.split() == ["False"]


def test_processes_at_once_make_it_once(tmp_path: Path) -> None:
    """Two that write one file, or read what is half written."""
    code = """
    import numpy as np, tilewright.runtime as tw
    made = tw.specialize([(2, 5, 3, np.float64)])
    assert made, made
    print(made.compiled)
    """
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(code)]
    environment = {**os.environ, "TILEWRIGHT_CACHE": str(tmp_path / "new" / "folder")}
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        for _ in range(4)
    ]
    answers = [process.communicate(timeout=200) for process in running]
    assert sorted(out.strip() for out, _ in answers) == ["False", "False", "False", "True"], answers


@pytest.mark.parametrize("how", ["absent", "fails", "makes nothing", "makes rubbish"])
def test_without_a_compiler_the_ordinary_kernels_serve(tmp_path: Path, how: str) -> None:
    """An error where a product could be had; a warning at every call."""
    script = tmp_path / "cc"
    real = f'exec {COMPILER} "$@"'
    script.write_text(
        "#!/bin/sh\n"
        + {
            "absent": "",
            "fails": f'case "$*" in *tw_special*|*-shared*|*-c*) echo broken >&2; exit 1;; esac\n{real}\n',
            "makes nothing": f'case "$*" in *-shared*) exit 0;; esac\n{real}\n',
            "makes rubbish": f'case "$*" in *-shared*) echo rubbish > "$3"; exit 0;; esac\n{real}\n',
        }[how]
    )
    script.chmod(0o755)
    code = """
    import warnings
    import numpy as np, tilewright.runtime as tw
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        made = [tw.specialize([(3, 4, 5, np.float32), (4, 3, 5, np.float32)]) for _ in range(2)]
    assert not any(made) and made[0].path is None
    assert [w.category for w in said] == [tw.SpecializeWarning], [str(w.message) for w in said]
    assert "specialize: kernels for any size serve instead" in str(said[0].message)
    assert (tw.gemm(np.ones((3, 5), np.float32), np.ones((5, 4), np.float32)) == 5).all()
    """
    ran = python(code, tmp_path / "cache", CC=str(script) if how != "absent" else "no-such-compiler")
    assert ran.returncode == 0, ran.stderr
    assert not list((tmp_path / "cache").glob("*.json"))


def test_nowhere_to_keep_it(tmp_path: Path) -> None:
    """A folder that is a file, or everybody's: what is made must still be used, and the reason said."""
    blocked, shared = tmp_path / "file", tmp_path / "shared"
    blocked.write_text("")
    shared.mkdir()
    shared.chmod(0o777)
    code = """
    import warnings
    import numpy as np, tilewright.runtime as tw
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        made = tw.specialize([(3, 4, 5, np.float32)])
    assert made, made
    print([str(w.message) for w in said])
    """
    for folder, words in ((blocked, "not kept"), (shared, "another user"), (Path("off"), "[]")):
        ran = python(code, folder)
        assert ran.returncode == 0, ran.stderr
        assert words in ran.stdout
    assert list(shared.iterdir()) == []


@pytest.mark.parametrize(
    ("shape", "error", "words"),
    [
        (5, tw.ArgumentError, "is no shape"),
        ((1, 2, 3), tw.ArgumentError, "is no shape"),
        ((1, 2, 3, "f4", "NN", None, 1), tw.ArgumentError, "trans must be two letters"),
        ((1, 2, 3, "f4", "NX"), tw.ArgumentError, "two letters of N, T and C"),
        ((1, 2, 3, "f4", 7), tw.ArgumentError, "two letters of N, T and C"),
        ((1, 2, 3, "f4", "NN", 4), tw.ArgumentError, "three leading dimensions"),
        ((1, 2, 3, "f4", "NN", (1, 2, 2)), tw.ArgumentError, "lda is 1 but a row of a has 3"),
        ((-1, 2, 3, "f4"), tw.ArgumentError, "m is -1"),
        ((1, 2, 3, "i4"), tw.DtypeError, "dtype is 'i4'"),
    ],
)
def test_bad_shapes(shape: Any, error: type[Exception], words: str) -> None:
    """A shape that is none, noticed after the compiler ran or in words that name something else."""
    with pytest.raises(error, match=words):
        tw.specialize([(2, 2, 2, np.float32), shape])


def test_what_gains_nothing_says_so() -> None:
    """Thousands of lines of assembly for a product whose loop costs nothing."""
    made = tw.specialize(
        [(4, 4, 65, np.float32), (4, 4, 0, np.float32), (0, 4, 4, np.float32), (300, 300, 8, np.float64)]
    )
    assert not any(made.products)
    assert made.path is None
    assert ["k is 65" in product.why for product in made.products] == [True, False, False, False]
    assert "no one kernel" in made.products[3].why


def library_of(folder: Path, body: str, abi: str) -> Path:
    """A shared library with a table as `specialize` makes them, and one function."""
    (folder / "special.c").write_text(
        '#include "tw_kernel.h"\n'
        f"static void f(const void *a, const void *b, void *c, const tw_args *args) {{ {body} }}\n"
        "static const tw_special kernels[] = {{"
        '{"special", f, TW_ISA_SCALAR, TW_S, TW_NN, TW_EXACT, 0, 0, 0, 0, 1, 1}, 2, 0, 0, 0, 1}};\n'
        f'const tw_special_table tw_specialised = {{"{abi}", 1, kernels}};\n'
    )
    command = [
        str(COMPILER),
        "-shared",
        "-fPIC",
        f"-I{BUILD / os.uname().machine / 'include'}",
        "special.c",
        "-o",
        "s.so",
    ]
    subprocess.run(command, cwd=folder, check=True)
    return folder / "s.so"


def test_what_cannot_be_trusted_is_refused(tmp_path: Path) -> None:
    """A library that computes something else, is another version's, has no table or is no library."""
    abi = abi_of_library()
    (tmp_path / "rubbish").write_bytes(b"rubbish")
    before = lib.tw_special_total()
    cases = [
        (tmp_path / "absent", "absent"),
        (tmp_path / "rubbish", "rubbish"),
        (Path(text(lib.tw_library_path())), "has no table of kernels"),
        (library_of(tmp_path, "*(float *)c = 1; (void)a, (void)b, (void)args;", abi), "computes a wrong product"),
    ]
    other = tmp_path / "other"
    other.mkdir()
    cases.append((library_of(other, "(void)a, (void)b, (void)c, (void)args;", "0123"), "is for another version"))
    for path, words in cases:
        assert lib.tw_special_load(os.fsencode(path)) == lib.TW_ERROR_SPECIAL
        assert words in text(lib.tw_error_message())
    assert lib.tw_special_load(ffi.NULL) == lib.TW_ERROR_SPECIAL
    assert lib.tw_special_total() == before


def abi_of_library() -> str:
    """What a library's kernels must name to be called."""
    sys.path.insert(0, str(ROOT))
    try:
        from generator.render import kernel_abi
    finally:
        sys.path.pop(0)
    return kernel_abi()


def test_threads_multiply_while_kernels_arrive() -> None:
    """A plan that changes while it runs; a list that is read while it grows."""
    stop, wrong = threading.Event(), []

    def work(n: int) -> None:
        a, b, wanted = products(n, n, 6, DTYPES[0], "NN", 40)
        while not stop.is_set():
            if not (np.array_equal(tw.gemm_batch(a, b), wanted) and np.array_equal(tw.gemm(a[0], b[0]), wanted[0])):
                wrong.append(n)
                return

    threads = [threading.Thread(target=work, args=(n,)) for n in (9, 10, 11, 12)]
    for thread in threads:
        thread.start()
    try:
        for n in (9, 10, 11, 12):
            assert tw.specialize([(n, n, 6, np.float32)])
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not wrong


def test_child_of_a_fork_specializes() -> None:
    """A lock that another thread held at the fork."""
    code = """
    import os, threading, warnings
    import numpy as np, tilewright.runtime as tw
    warnings.simplefilter("ignore", DeprecationWarning)  # 3.12: fork beside threads
    busy = threading.Thread(target=lambda: [tw.specialize([(n, 3, 4, np.float64)]) for n in (2, 3)])
    busy.start()
    child = os.fork()
    if not child:
        ok = bool(tw.specialize([(5, 3, 4, np.float64)]))
        ok = ok and (tw.gemm(np.ones((5, 4)), np.ones((4, 3))) == 4).all()
        os._exit(0 if ok else 1)
    busy.join()
    assert os.waitpid(child, 0)[1] == 0
    """
    ran = python(code, special.cache_folder() or Path())
    assert ran.returncode == 0, ran.stderr
