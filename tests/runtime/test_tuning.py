"""Times of kernels: taken only of kernels that are right, and read only from files that are whole and ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tilewright.runtime as tw
from tilewright.runtime import tuning
from tilewright.runtime._library import ffi, lib, text

from ..support import ROOT
from .test_table import Library, build

__all__ = ["build"]  # the fixture

KERNELS = [text(lib.tw_kernel_name(index)) for index in range(lib.tw_kernel_total())]
MACHINE, DIGEST = text(lib.tw_machine()), text(lib.tw_kernels_digest())

SEEN = """
import sys, numpy as np, tilewright.runtime as tw
a = np.arange(35.0).reshape(5, 7)
assert (tw.gemm(a, a.T.copy()) == a @ a.T).all()
print(tw.tuning_status())
"""


def in_process(folder: Path | str, code: str = SEEN) -> str:
    """What a new process says that looks for its tuning file in `folder`."""
    environment = {**os.environ, "TILEWRIGHT_TUNING": str(folder)}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd=ROOT)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


def tuned(folder: Path, arguments: str) -> str:
    """What tune(`arguments`) prints in a process of its own."""
    return in_process(folder, f"import tilewright.runtime as tw; print(tw.tune({arguments}))")


def content(
    machine: str = MACHINE,
    digest: str = DIGEST,
    kernels: list[str] = KERNELS,
    times: dict[str, list[int]] | None = None,
) -> bytes:
    """A file with one time for all kernels, or these."""
    all_alike = {kernel: [1000, 2000, 3000, 4000][: 2 if tuning.on_panels(kernel) else 4] for kernel in kernels}
    made: bytes = tuning.compiled_form(machine, digest, kernels, all_alike if times is None else times, {})
    return made


def resealed(body: bytes) -> bytes:
    """The body with a checksum that fits."""
    return body + b"end %016x\n" % tuning.checksum(body)


def place(folder: Path, data: bytes) -> Path:
    """Put a file where processes look for it; the name depends on the machine alone."""
    name = in_process(folder, "from tilewright.runtime._library import *; print(text(lib.tw_tuning_path()))")
    path = Path(name)
    assert path.parent == folder
    path.write_bytes(data)
    return path


def verdict(data: bytes) -> str:
    """Why the library would not use this content; "" if it would."""
    return "" if lib.tw_tuning_check(data, len(data)) == lib.TW_OK else text(lib.tw_error_message())


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a real, partial tuning file, which no test changes."""
    folder = tmp_path_factory.mktemp("measured")
    tuned(folder, "seconds=0.3")
    return folder


# ------------------------------------------------------------------------------------------------- reading


def test_without_a_file_the_defaults_are_used(tmp_path: Path) -> None:
    said = in_process(tmp_path)
    assert said.startswith("defaults: there is no ")
    assert said.endswith("build.py tune makes it")
    assert in_process("off") == "defaults: TILEWRIGHT_TUNING=off"


def test_a_whole_file_is_used(tmp_path: Path) -> None:
    path = place(tmp_path, content())
    assert in_process(tmp_path) == f"measured: {len(KERNELS)} of {len(KERNELS)} kernels, {path}"


BODY = content()[:-21]
NO_PACKING = b"packing -\n"
BAD = {
    "empty": (b"", "is corrupt: it does not begin"),
    "another format": (resealed(BODY.replace(b"tuning 3", b"tuning 4", 1)), "is stale: its format is 4"),
    "cut off": (content()[:-30], "is corrupt: its checksum"),
    "without its end": (BODY, "is corrupt: its checksum"),
    "half written": (content()[: len(BODY) // 2], "is corrupt: its checksum"),
    "a bit turned": (BODY[:200] + bytes([BODY[200] ^ 1]) + content()[201:], "is corrupt: its checksum"),
    "foreign": (content(machine="Intel 4004, L1d 0K"), "is foreign: it is of Intel 4004, L1d 0K; this machine is "),
    "stale": (content(digest="0123456789abcdef"), "is stale: its kernels are 0123456789abcdef, this library's "),
    "too few kernels": (content(kernels=KERNELS[:-1]), f"is corrupt: this library has {len(KERNELS)} kernels"),
    "a line missing": (resealed(BODY[: BODY.rindex(b"\n", 0, -12) + 1] + NO_PACKING), "of kernel " + KERNELS[-1]),
    "a line too many": (resealed(BODY + b"1 2 3 4\n"), "is corrupt: it goes on after its end"),
    "packing missing": (resealed(BODY.removesuffix(NO_PACKING)), "what follows the last kernel is not what packing"),
    "packing of no ISA": (resealed(BODY.replace(NO_PACKING, b"packing abc\n")), "what follows the last kernel is not"),
    "packing cut off": (resealed(BODY.replace(NO_PACKING, b"packing scalar\n-\n1 2\n")), "what follows the last"),
    "no number": (content(times={KERNELS[0]: [1, 2, 3, -4]}), f"the line of kernel {KERNELS[0]}"),
    "zero": (content(times={KERNELS[0]: [0, 2, 3, 4]}), f"the line of kernel {KERNELS[0]}"),
    "a huge number": (content(times={KERNELS[0]: [1, 2, 3, 10**30]}), f"the line of kernel {KERNELS[0]}"),
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_files_are_refused_by_name(bad: str, tmp_path: Path) -> None:
    data, why = BAD[bad]
    path = place(tmp_path, data)
    said = in_process(tmp_path)
    assert said.startswith(f"defaults: {path} is ")
    assert why in said


def test_names_that_are_no_files_are_refused(tmp_path: Path) -> None:
    """Opening a pipe that nobody writes to would wait for ever."""
    path = place(tmp_path, b"")
    path.unlink()
    os.mkfifo(path)
    assert in_process(tmp_path) == f"defaults: {path} is no file"
    path.unlink()
    path.mkdir()
    assert in_process(tmp_path) == f"defaults: {path} is no file"
    path.rmdir()
    with open(path, "wb") as file:
        file.truncate(1 << 30)
    assert in_process(tmp_path) == f"defaults: {path} is corrupt: it is too large"


@given(data=st.binary(max_size=600))
def test_random_bytes_are_refused(data: bytes) -> None:
    assert verdict(data)
    assert verdict(resealed(data))


@given(at=st.integers(0, len(BODY) - 1), with_=st.binary(max_size=8), cut=st.integers(0, 40), seal=st.booleans())
@settings(max_examples=300)
def test_damaged_files_never_crash(at: int, with_: bytes, cut: int, seal: bool) -> None:
    """Every kind of damage, checksum right or wrong; what is accepted is what a tuner could have written."""
    body = BODY[:at] + with_ + BODY[at + cut :]
    said = verdict(resealed(body) if seal else body + content()[-21:])
    if body == BODY:
        assert not said
    elif not seal:
        assert said
    elif not said:
        lines = body.decode().split("\n")
        assert lines[:3] == BODY.decode().split("\n")[:3]
        assert len(lines) == len(KERNELS) + 5
        for line, kernel in zip(lines[3:], KERNELS, strict=False):
            assert line in ("-", "!") or len(line.split(" ")) == (2 if tuning.on_panels(kernel) else 4)


@given(
    header=st.lists(st.sampled_from([*BODY.split(b"\n")[:3], b"-", b"!", b"1 2 3 4", b"", b"kernels ", b"machine "]))
)
def test_shuffled_headers_never_crash(header: list[bytes]) -> None:
    assert verdict(resealed(b"\n".join([*header, b""])))


def test_costs_follow_the_times(tmp_path: Path) -> None:
    """Through the points, in between and beyond; without a time, its default as others of its group measured."""
    first, second, third = [kernel for kernel in KERNELS if "_d_nn_" in kernel and kernel.endswith("scalar")][:3]
    times = {first: [1000, 4000, 16000, 128000]}
    data = tuning.compiled_form(MACHINE, DIGEST, KERNELS, times, {third: "wrong"})
    place(tmp_path, data)
    said = in_process(
        tmp_path,
        "from tilewright.runtime._library import *\n"
        f"print([lib.tw_kernel_cost({first!r}.encode(), k) for k in (1, 4, 10, 16, 40, 64, 128)])\n"
        f"print([lib.tw_kernel_cost(name.encode(), 16) for name in ({second!r}, {third!r})])\n",
    )
    known, others = (json.loads(line) for line in said.splitlines())
    assert np.allclose(known, [1, 4, 10, 16, 72, 128, 277.3333], rtol=1e-4)
    assert 1 < others[0] < 1000
    assert others[1] > 1e8


def test_many_processes_and_threads_start_while_the_file_is_replaced(tmp_path: Path) -> None:
    """Files appear by rename: who starts meanwhile reads the old or the new one, whole."""
    path = place(tmp_path, content())
    contents = [content(), content(times={})]
    code = (
        "import threading, tilewright.runtime as tw\nseen = []\n"
        "threads = [threading.Thread(target=lambda: seen.append(tw.tuning_status())) for _ in range(8)]\n"
        "[t.start() for t in threads], [t.join() for t in threads]\n"
        "assert len(set(seen)) == 1, seen\nprint(seen[0])"
    )
    stop = threading.Event()

    def replace() -> None:
        while not stop.is_set():
            for data in contents:
                tuning._replace(path, data)

    with ThreadPoolExecutor(5) as pool:
        writer = pool.submit(replace)
        said = list(pool.map(lambda _: in_process(tmp_path, code), range(12)))
        stop.set()
        writer.result()
    assert all(line.startswith("measured: ") for line in said)
    assert not list(tmp_path.glob(".*.tmp"))


# ------------------------------------------------------------------------------------------------- timing


def kernel_time(name: str, m: int, n: int, k: int, seconds: float = 0) -> float:
    nanoseconds = ffi.new("double *")
    status = lib.tw_kernel_time(name.encode(), m, n, k, seconds, nanoseconds)
    if status != lib.TW_OK:
        assert nanoseconds[0] == 0
        raise ValueError(text(lib.tw_error_message()))
    found: float = nanoseconds[0]
    return found


def test_time_grows_with_k() -> None:
    name = next(kernel for kernel in KERNELS if kernel.startswith("gemm_d_nn_4x4"))
    times = [min(kernel_time(name, 0, 0, k, 1e-4) for _ in range(5)) for k in (4, 64, 1024)]
    assert 0 < times[0] < times[1] < times[2]


@pytest.mark.parametrize(
    ("name", "sizes", "seconds", "why"),
    [
        ("gemm_x", (0, 0, 4), 0.0, "no kernel is called gemm_x"),
        ("gemm_d_nn_4x4__scalar", (5, 4, 4), 0.0, "is timed for m = 4 to 4"),
        ("gemm_d_nn_4x4__scalar", (0, 0, -1), 0.0, "k = 0 to 4096"),
        ("gemm_d_nn_4x4__scalar", (0, 0, 5000), 0.0, "k = 0 to 4096"),
        ("gemm_d_nn_4x4__scalar", (0, 0, 4), float("nan"), "seconds is nan"),
        ("gemm_d_nn_4x4__scalar", (0, 0, 4), -1.0, "seconds is -1"),
    ],
)
def test_what_cannot_be_timed_is_said(name: str, sizes: tuple[int, int, int], seconds: float, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        kernel_time(name, *sizes, seconds)


def test_a_wrong_kernel_gets_no_time(build: Any) -> None:
    library: Library = build(
        [
            {"isa": "scalar", "mode": "nn", "mr": 2, "nr": 2},
            {"isa": "scalar", "mode": "nn", "mr": 3, "nr": 2, "wrong": "+ 1"},
        ]
    )
    names = [library.text(library.lib.tw_kernel_name(index)) for index in range(2)]
    nanoseconds = library.ffi.new("double *")
    assert library.lib.tw_kernel_time(names[0].encode(), 0, 0, 16, 0.0, nanoseconds) == 0
    assert nanoseconds[0] > 0
    assert library.lib.tw_kernel_time(names[1].encode(), 0, 0, 16, 0.0, nanoseconds) == lib.TW_ERROR_WRONG
    assert nanoseconds[0] == 0
    assert f"{names[1]} computes a wrong product" in library.message()


# ------------------------------------------------------------------------------------------------- tune


def test_tune_keeps_its_budget_and_goes_on(tmp_path: Path) -> None:
    tuned(tmp_path, "seconds=0.0")
    started = time.monotonic()
    first = tuned(tmp_path, "seconds=0.3")
    assert time.monotonic() - started < 60  # starting Python on a busy machine is most of it
    record = next(tmp_path.glob("*.json"))
    some = json.loads(record.read_text())["kernels"][DIGEST]["times"]
    assert 0 < len(some) < len(KERNELS)
    assert f"{len(some)} of " in first
    assert "missing" in first
    tuned(tmp_path, "seconds=0.3")
    more = json.loads(record.read_text())["kernels"][DIGEST]["times"]
    assert set(some) < set(more)
    assert all(some[name]["picoseconds"] == more[name]["picoseconds"] for name in some)
    assert in_process(tmp_path).startswith(f"measured: {len(more)} of {len(KERNELS)}")


def test_an_interrupted_tune_leaves_what_it_had(tmp_path: Path) -> None:
    code = (
        "import tilewright.runtime as tw\n"
        "def stop(done, total):\n    if done == 40: raise KeyboardInterrupt\n"
        "try: tw.tune(progress=stop)\nexcept KeyboardInterrupt: print('stopped')"
    )
    assert in_process(tmp_path, code) == "stopped"
    assert in_process(tmp_path).startswith(f"measured: 40 of {len(KERNELS)}")
    assert "80 of" in in_process(tmp_path, code.replace("40", "80").replace("print('stopped')", "print(tw.tune(0))"))


def test_a_bad_record_is_begun_anew(measured: Path, tmp_path: Path) -> None:
    name = next(measured.glob("*.json")).name
    good = json.loads((measured / name).read_text())
    times = good["kernels"][DIGEST]["times"]
    kernel = next(iter(times))
    damages: list[Any] = [
        "{", "[]", "null", {**good, "format": 99}, {**good, "machine": "other"}, {**good, "kernels": []},
        {**good, "kernels": {DIGEST: 3}}, {**good, "kernels": {DIGEST: {"times": {kernel: {"picoseconds": [1, "2"]}}}}},
        {**good, "kernels": {DIGEST: {"times": {kernel: {"picoseconds": [-1, 2, 3, 4], "passes": 1}, "x": 5}}}},
    ]  # fmt: skip
    for damage in damages:
        (tmp_path / name).write_text(damage if isinstance(damage, str) else json.dumps(damage))
        assert "0 of " in tuned(tmp_path, "seconds=0")
    (tmp_path / name).write_text(json.dumps(good))
    assert f"{len(times)} of " in tuned(tmp_path, "seconds=0")


def test_a_kernel_found_wrong_is_marked(tmp_path: Path) -> None:
    """As the C library says it; the tiler then avoids it."""
    code = (
        "import tilewright.runtime as tw\nfrom tilewright.runtime import tuning\n"
        "class Lib:\n"
        "    def __getattr__(self, name): return getattr(tuning_lib, name)\n"
        "    def tw_kernel_time(self, *rest): return tuning_lib.TW_ERROR_WRONG\n"
        "    tw_panel_kernel_time = tw_kernel_time\n"
        "tuning_lib, tuning.lib = tuning.lib, Lib()\n"
        "result = tw.tune(0.05)\nassert result.wrong and not result.times\nprint('wrong' in str(result))"
    )
    assert in_process(tmp_path, code) == "True"
    assert b"\n!\n" in next(tmp_path.glob("*.tuning")).read_bytes()
    assert in_process(tmp_path).startswith("measured: 0 of ")


def test_several_tune_at_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        said = list(pool.map(lambda _: tuned(tmp_path, "seconds=0.3"), range(3)))
    assert len({line.split(" ")[0] for line in said}) == 3  # one after the other, each goes on from the last
    assert in_process(tmp_path).startswith("measured: ")


def test_nowhere_to_write_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    catch = "import tilewright.runtime as tw\ntry: tw.tune({})\nexcept tw.TuningError as error: print(error)"
    assert "cannot write to " in in_process(tmp_path / "file" / "below", catch.format(0))
    assert "set TILEWRIGHT_TUNING to a folder" in in_process("off", catch.format(0))
    assert "seconds is -1" in in_process(tmp_path, catch.format(-1))
    assert "seconds is nan" in in_process(tmp_path, catch.format("float('nan')"))


def test_info_says_it() -> None:
    assert "tuning     defaults: TILEWRIGHT_TUNING=off" in str(tw.info())
