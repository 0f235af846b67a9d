"""The thread pool and how many threads it has: every task once, whoever calls, forks or is refused a thread."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import tilewright.runtime as tw

from ..support import BUILD, ROOT, Unavailable, miss, tool

CHECKS = ("once", "together", "many", "forked", "refused", "idle", "settings", "apart", "team")
CSRC = ROOT / "runtime" / "csrc"
POOL = Path(__file__).with_name("pool.c")


def compiled(
    folder: Path,
    *flags: str,
    source: Path = POOL,
    needs: tuple[str, ...] = ("threads", "cores", "error"),
) -> Path:
    """Compile pool.c, or another program, with what it drives of the runtime, which needs no kernels."""
    try:
        compiler = tool("gcc", "clang", why="to compile the driver of the thread pool")
    except Unavailable as missing:
        miss(missing)
    generated = BUILD / os.uname().machine / "generated"
    sources = [source, *(CSRC / f"{name}.c" for name in needs)]
    program = folder / "pool"
    command = [compiler, "-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", *flags, f"-I{CSRC}", f"-I{generated}"]
    ran = subprocess.run(
        [*command, *map(str, sources), "-lm", "-pthread", "-o", str(program)], capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    return program


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("pool"))


@pytest.mark.parametrize("check", CHECKS)
def test_the_pool(pool: Path, check: str) -> None:
    """A task lost or run twice; callers that wait for each other; a child that hangs; threads that never sleep."""
    environment = {name: value for name, value in os.environ.items() if name != "TILEWRIGHT_NUM_THREADS"}
    ran = subprocess.run([pool, check], capture_output=True, text=True, timeout=120, env=environment)
    assert ran.returncode == 0, ran.stderr


GRANTED = """#include "cores.c"
int main(int count, char **arguments)
{
    return count == 3 ? printf("%g", granted(arguments[1], arguments[2])) < 0 : 2;
}
"""


@pytest.mark.parametrize(
    ("files", "group", "cores"),
    [
        ({}, "/", "0"),
        ({"cpu.max": "150000 100000\n"}, "/", "1.5"),
        ({"cpu.max": "max 100000\n"}, "/", "0"),
        ({"a/b/cpu.max": "max 100000\n", "a/cpu.max": "200000 100000\n", "cpu.max": "400000 100000\n"}, "/a/b", "2"),
        ({"cpu.max": "300000 100000\n"}, "/elsewhere/not/mounted/here", "3"),
        ({"cpu/cpu.cfs_quota_us": "250000\n", "cpu/cpu.cfs_period_us": "100000\n"}, None, "2.5"),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None, "0"),
    ],
)
def test_what_control_groups_allow(tmp_path: Path, files: dict[str, str], group: str | None, cores: str) -> None:
    """A container of two cores in which a thread is started for each of the host's hundred."""
    for name, text in files.items():
        (tmp_path / "groups" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "groups" / name).write_text(text)
    (tmp_path / "own").write_text("3:cpuset:/x\n" + (f"0::{group}\n" if group else ""))
    (tmp_path / "granted.c").write_text(GRANTED)
    program = compiled(tmp_path, source=tmp_path / "granted.c", needs=())
    ran = subprocess.run([program, tmp_path / "groups", tmp_path / "own"], capture_output=True, text=True)
    assert ran.stdout == cores


def in_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own: the environment is read when the library is loaded."""
    variables = {**os.environ, "TILEWRIGHT_TUNING": "off", **environment}
    command = [sys.executable, "-c", f"import numpy as np\nimport tilewright.runtime as tw\n{code}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=variables)


def test_the_number_of_threads_is_what_was_asked_for() -> None:
    """A number that only the calling thread sees, or that info does not know of."""
    before = tw.get_num_threads()
    try:
        tw.set_num_threads(3)
        assert tw.get_num_threads() == 3 == tw.info().threads
        tw.set_num_threads(None)
        assert tw.get_num_threads() <= len(os.sched_getaffinity(0))
        assert f"threads    {tw.get_num_threads()}" in str(tw.info())
    finally:
        tw.set_num_threads(before)


@pytest.mark.parametrize("threads", [0, -1, 1025, 2**70, 2.0, "2", True, float("nan"), object()])
def test_numbers_that_are_none_are_refused(threads: Any) -> None:
    """-1 taken for "all", 0 that turns everything off, a thousand threads for a typing error."""
    before = tw.get_num_threads()
    with pytest.raises(tw.ArgumentError, match=r"set_num_threads: threads is .*; it must be an integer from 1 to 1024"):
        tw.set_num_threads(threads)
    assert tw.get_num_threads() == before


def test_the_environment_says_how_many() -> None:
    """A variable that is read too late or not at all; one for the affinity alone."""
    assert in_python("print(tw.get_num_threads())", TILEWRIGHT_NUM_THREADS="7").stdout == "7\n"
    code = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); print(tw.get_num_threads())"
    assert in_python(code, TILEWRIGHT_NUM_THREADS="").stdout == "1\n"


@pytest.mark.parametrize("value", ["0", "-2", "many", "1025", "99999999999999999999", "2 ", " 2", "+2", "2.5"])
def test_an_environment_that_cannot_be_is_an_error_of_every_product(value: str) -> None:
    """A misspelt number that silently means one thread, or all."""
    code = """
out = np.full((3, 3), 7.0)
for attempt in (lambda: tw.gemm(np.ones((3, 3)), np.ones((3, 3)), out), tw.get_num_threads,
                lambda: tw.gemm_plan(3, 3, 3, float)):
    try:
        attempt()
    except tw.ArgumentError as error:
        print(error)
print(tw.info().threads, np.all(out == 7))
tw.set_num_threads(2)
print(tw.gemm(np.ones((3, 3)), np.ones((3, 3)), out)[0, 0])
"""
    wanted = f"TILEWRIGHT_NUM_THREADS={value[:40]}: it must be a number of threads from 1 to 1024, or unset."
    ran = in_python(code, TILEWRIGHT_NUM_THREADS=value)
    assert ran.stdout.splitlines() == [*[wanted] * 3, "None True", "3.0"], ran.stderr


def test_threadpoolctl_limits_us() -> None:
    """A controller that finds no library, or does not give back what it took."""
    threadpoolctl = pytest.importorskip("threadpoolctl")
    before = tw.get_num_threads()
    try:
        tw.set_num_threads(5)
        (about,) = [each for each in threadpoolctl.threadpool_info() if each["internal_api"] == "tilewright"]
        assert about["num_threads"] == 5
        assert about["version"] == tw.__version__
        assert Path(about["filepath"]).samefile(tw.info().library)
        with threadpoolctl.threadpool_limits(limits=1):
            assert tw.get_num_threads() == 1
        assert tw.get_num_threads() == 5
        with threadpoolctl.threadpool_limits(limits=2, user_api="blas"):
            assert tw.get_num_threads() == 2
    finally:
        tw.set_num_threads(before)


def test_a_product_of_one_thread_starts_none() -> None:
    """Threads made at import, or by a product too small for them."""
    code = "tw.gemm(np.ones((8, 8)), np.ones((8, 8))); import os; print(len(os.listdir('/proc/self/task')))"
    assert in_python(code, TILEWRIGHT_NUM_THREADS="4", OPENBLAS_NUM_THREADS="1").stdout == "1\n"
