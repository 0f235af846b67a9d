"""The libraries to be held against: where they are on this machine, which versions, and how each multiplies.

They run with as many threads and the other settings as ``harness/__init__.py`` says.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tilewright.generator.compile import host_arch

from . import THREADS
from .problem import Problem
from .timing import HERE, KINDS, LIBRARY, Task, address, build

ROOT = HERE.parent.parent
DEBIAN = (
    "g++",
    "libxsmm-dev",
    "libblis4-serial",
    "libblis4-pthread",
    "libeigen3-dev",
    "libdnnl-dev",
)  # PyPI's are pyproject's extra `bench`
EIGEN_SIZES = (2, 3, 4, 6, 8, 12, 16)


class AbsentError(Exception):
    """A rival is not on this machine; the message says what was looked for."""


class Rival(ABC):
    """A library that multiplies plain row-major arrays.

    Attributes
    ----------
    name : str
        What tables call it.
    family : str
        Whose it is: Eigen's products of fixed size are Eigen's.
    plain : bool
        Whether this is the entry everybody calls (`cblas_?gemm` or its like), not a kernel made for one size.
    version : str
    """

    name = family = ""
    plain = True
    version = "unknown version"

    @abstractmethod
    def task(self, problem: Problem) -> Task | None:
        """Return the task that solves a problem; None where this library cannot."""


def load(path: Path | str) -> ctypes.CDLL:
    """Load a library that calls its own functions, not another's of the same name.

    MKL makes `sgemm_` and its like global; without this BLIS's `cblas_sgemm` calls them.
    """
    return ctypes.CDLL(str(path), mode=ctypes.RTLD_LOCAL | os.RTLD_DEEPBIND)


def new_task(problem: Problem, kind: str, run: int | None) -> Task:
    """Return a task with everything but what is the rival's own."""
    count, (m, n, k) = problem.count, problem.shape
    data = [array.ctypes.data for array in (problem.a, problem.b, problem.c)]
    transa, transb = (letter.encode() for letter in problem.mode)
    sizes = (problem.lda, problem.ldb, problem.ldc)
    strides = (m * k, k * n, m * n)
    return Task(
        KINDS.index(kind),
        ord(problem.dtype),
        m,
        n,
        k,
        *sizes,
        transa,
        transb,
        run,
        None,
        None,
        *data,
        None,
        count,
        *strides,
    )


# ------------------------------------------------------------------------------------------------------- ours


class Tilewright(Rival):
    """Our library; `entry` is "plan" or "call"."""

    family = "tilewright"

    def __init__(self, entry: str) -> None:
        self.name, self.plain = {"plan": "tilewright", "call": "tw_gemm"}[entry], entry == "call"
        self.lib = ctypes.CDLL(str(LIBRARY))
        for name in ("tw_version", "tw_isa_name", "tw_error_message"):
            getattr(self.lib, name).restype = ctypes.c_char_p
        isa = self.lib.tw_isa_name(self.lib.tw_isa_current())
        self.version = f"{self.lib.tw_version().decode()}, {isa.decode() if isa else 'no ISA'}"
        self._plans: list[ctypes.c_void_p] = []

    def task(self, problem: Problem) -> Task | None:
        if self.plain:
            return new_task(problem, "gemm", address(getattr(self.lib, f"tw_{problem.dtype}gemm")))
        plan = ctypes.c_void_p()
        numbers = [ctypes.c_int64(x) for x in (*problem.shape, problem.lda, problem.ldb, problem.ldc)]
        letters = [ord(letter) for letter in problem.mode]
        if self.lib.tw_gemm_plan_create(ctypes.byref(plan), ord(problem.dtype), 101, *letters, *numbers):
            raise RuntimeError(self.lib.tw_error_message().decode())
        self.keep(plan)
        batch = problem.count > 1
        run = self.lib.tw_gemm_batch_strided if batch else self.lib.tw_gemm_execute
        task = new_task(problem, "tw_batch" if batch else "execute", address(run))
        task.plan = plan
        return task

    def keep(self, plan: ctypes.c_void_p) -> ctypes.c_void_p:
        """Return the plan, which `forget` will give back."""
        self._plans.append(plan)
        return plan

    def forget(self) -> None:
        """Give the plans back."""
        for plan in self._plans:
            self.lib.tw_gemm_plan_destroy(plan)
        self._plans.clear()


# ----------------------------------------------------------------------------------------------------- rivals


class Cblas(Rival):
    """Any library with ``PREFIXcblas_?gemm`` and 32-bit sizes."""

    def __init__(self, name: str, path: Path | str, prefix: str = "", batched: bool = False) -> None:
        self.name, self.family = name, name
        try:
            self.lib = load(path)
        except OSError as error:
            raise AbsentError(str(error)) from None
        self.prefix, self._batched = prefix, batched
        if not hasattr(self.lib, f"{prefix}cblas_sgemm"):
            raise AbsentError(f"{path} has no {prefix}cblas_sgemm")
        self.version = Path(path).name

    def task(self, problem: Problem) -> Task | None:
        batch = self._batched and problem.count > 1
        ending = "_batch_strided" if batch else ""
        run = getattr(self.lib, f"{self.prefix}cblas_{problem.dtype}gemm{ending}", None)
        return run and new_task(problem, "cblas_batch" if batch else "cblas", address(run))


def openblas() -> Rival:
    """Return OpenBLAS from PyPI's scipy-openblas32."""
    package = _package("scipy_openblas32")
    rival = Cblas("openblas", next(Path(package.get_lib_dir()).glob("libscipy_openblas.so*")), "scipy_")
    rival.lib.scipy_openblas_get_config.restype = ctypes.c_char_p
    rival.lib.scipy_openblas_set_num_threads(THREADS)
    words = rival.lib.scipy_openblas_get_config().decode().split()
    rival.version = f"{' '.join(words[:2])} {words[-2]} (scipy-openblas32 {_version('scipy-openblas32')})"
    return rival


def mkl() -> Rival:
    """Return MKL from PyPI: its sequential layer, or with more threads Intel's."""
    _version("mkl")
    found = sorted(Path(sys.prefix, "lib").glob("libmkl_rt.so*"))
    if not found:
        raise AbsentError(f"no {sys.prefix}/lib/libmkl_rt.so")
    rival = Cblas("mkl", found[-1], batched=True)
    text = ctypes.create_string_buffer(200)
    rival.lib.mkl_get_version_string(text, 200)
    rival.version = f"{text.value.decode().strip()} (mkl {_version('mkl')})"
    return rival


def blis() -> Rival:
    """Return BLIS from Debian's libblis4-serial, with more threads from libblis4-pthread."""
    kind = "serial" if THREADS == 1 else "pthread"
    folder = Path(f"/usr/lib/{host_arch()}-linux-gnu")
    places = [folder / f"blis-{kind}/libblis.so.4", *([folder / "libblis.so.4"] if THREADS == 1 else [])]
    found = [path for path in places if path.exists()]
    if not found:
        raise AbsentError(f"no libblis.so.4 (Debian: libblis4-{kind})")
    rival = Cblas("blis", found[0])
    rival.lib.bli_info_get_version_str.restype = ctypes.c_char_p
    rival.lib.bli_arch_string.restype = ctypes.c_char_p
    target = rival.lib.bli_arch_string(rival.lib.bli_arch_query_id()).decode()
    rival.version = f"{rival.lib.bli_info_get_version_str().decode()}, {target} ({found[0].parent.name})"
    return rival


class Libxsmm(Rival):
    """LIBXSMM's kernels, made for one size and called by pointer; for B^T its transposition and a kernel."""

    name = family = "libxsmm"
    plain = False

    def __init__(self) -> None:
        archives = [Path(f"/usr/lib/{name}.a") for name in ("libxsmm", "libxsmmnoblas")]
        compiler = shutil.which("gcc")
        if not all(path.exists() for path in archives) or compiler is None:
            raise AbsentError("no /usr/lib/libxsmm.a or no gcc (Debian: libxsmm-dev gcc)")
        whole = ("-Wl,--whole-archive", str(archives[0]), "-Wl,--no-whole-archive", str(archives[1]))
        self._lib = ctypes.CDLL(
            str(
                build(
                    HERE / "libxsmm.c", "libxsmm", [compiler, "-Wall", "-Werror"], (*whole, "-lpthread", "-ldl", "-lm")
                )
            )
        )
        self._lib.libxsmm_init()
        self._lib.libxsmm_get_target_arch.restype = self._lib.bench_libxsmm_version.restype = ctypes.c_char_p
        version, target = self._lib.bench_libxsmm_version(), self._lib.libxsmm_get_target_arch()
        self.version = f"{version.decode()}, kernels for {target.decode()}"

    def task(self, problem: Problem) -> Task | None:
        if problem.dtype not in "sd":
            return None
        m, n, k = problem.shape
        dispatch = getattr(self._lib, f"libxsmm_{problem.dtype}mmdispatch")
        dispatch.restype = ctypes.c_void_p
        real = ctypes.c_float if problem.dtype == "s" else ctypes.c_double
        transa, transb = (letter == "T" for letter in problem.mode)
        # Column-major, so the operands change places: its A is our B.
        for turned in (False, True) if transb else (False,):
            flags = 1 * (transb and not turned) + 2 * transa
            leading = problem.ldb if not turned else n
            sizes = [ctypes.byref(ctypes.c_int(x)) for x in (leading, problem.lda, problem.ldc)]
            scalars = [ctypes.byref(real(1)), ctypes.byref(real(0))]
            kernel = dispatch(
                n, m, k, *sizes, *scalars, ctypes.byref(ctypes.c_int(flags)), ctypes.byref(ctypes.c_int(0))
            )
            if kernel:
                task = new_task(problem, "turn_kernel" if turned else "kernel", kernel)
                if turned:
                    task.turn = address(self._lib.libxsmm_otrans)
                    self._room = ctypes.create_string_buffer(16 * n * k + 64)
                    task.room = ctypes.addressof(self._room) + (-ctypes.addressof(self._room) % 64)
                return task
        return None


class Onednn(Rival):
    """oneDNN's sgemm."""

    name = family = "onednn"

    def __init__(self) -> None:
        try:
            self.lib = load("libdnnl.so.2")
        except OSError:
            raise AbsentError("no libdnnl.so.2 (Debian: libdnnl-dev)") from None
        self.lib.dnnl_version.restype = ctypes.POINTER(ctypes.c_int * 3)
        self.version = ".".join(map(str, self.lib.dnnl_version().contents))

    def task(self, problem: Problem) -> Task | None:
        return new_task(problem, "dnnl", address(self.lib.dnnl_sgemm)) if problem.dtype == "s" else None


class Eigen(Rival):
    """Eigen's Maps: of any size, or of a size known to the compiler."""

    family = "eigen"

    def __init__(self, fixed: bool, dtypes: str = "sdcz") -> None:
        self.name, self._fixed, self.plain = ("eigen-fixed" if fixed else "eigen"), fixed, not fixed
        include = Path("/usr/include/eigen3")
        compiler = shutil.which("g++") or shutil.which("clang++")
        if not (include / "Eigen/Core").exists() or compiler is None:
            raise AbsentError("no Eigen or no C++ compiler (Debian: libeigen3-dev g++)")
        sizes = "-DEIGEN_SIZES=" + " ".join(f"FIXED({size})" for size in EIGEN_SIZES)
        # Uninitialised is what GCC 12 says of its own intrinsics, in its own headers.
        warnings = ("-Wall", "-Wextra", "-Werror", "-Wno-uninitialized", "-Wno-maybe-uninitialized")
        parallel = ["-fopenmp"] if THREADS > 1 else []
        common = [compiler, "-O3", "-march=native", "-std=c++17", *parallel, *warnings, "-isystem", str(include), sizes]
        types = {"s": "float", "d": "double", "c": "std::complex<float>", "z": "std::complex<double>"}

        def make(dtype: str) -> ctypes.CDLL:
            return ctypes.CDLL(str(build(HERE / "eigen.cpp", f"eigen_{dtype}", [*common, f"-DTYPE={types[dtype]}"])))

        with ThreadPoolExecutor(2) as pool:
            self._libs = dict(zip(dtypes, pool.map(make, dtypes), strict=True))
        for lib in self._libs.values():
            lib.bench_eigen.restype, lib.bench_eigen_version.restype = ctypes.c_void_p, ctypes.c_char_p
        words = subprocess.run([compiler, "--version"], capture_output=True, text=True).stdout.partition("\n")[0]
        self.version = f"{self._libs[dtypes[0]].bench_eigen_version().decode()}, {words} -O3 -march=native"

    def task(self, problem: Problem) -> Task | None:
        size = 0
        if self._fixed:
            size = problem.shape.m
            if problem.shape.kind != "square" or size not in EIGEN_SIZES:
                return None
        run = self._libs[problem.dtype].bench_eigen(size, *(ord(letter) for letter in problem.mode))
        return new_task(problem, "sized", run) if run else None


# ---------------------------------------------------------------------------------------------------- finding


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise AbsentError(f"{error} (PyPI: pyproject's extra `bench`)") from None


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        raise AbsentError(f"no package {distribution} (PyPI: pyproject's extra `bench`)") from None


def find(names: Sequence[str] | None, more: Sequence[str], dtypes: str) -> tuple[list[Rival], dict[str, str]]:
    """Return the rivals that are here, and why each of the others is not assessed.

    Parameters
    ----------
    names : sequence of str, optional
        Only these; none at all for an empty sequence.
    more : sequence of str
        Further libraries, each NAME=LIB.so[:PREFIX].
    dtypes : str
        The types that will be asked for.
    """
    known: dict[str, Callable[[], Rival]] = {
        "openblas": openblas,
        "mkl": mkl,
        "blis": blis,
        "eigen": lambda: Eigen(False, dtypes),
        "eigen-fixed": lambda: Eigen(True, dtypes),
        "libxsmm": Libxsmm,
        "onednn": Onednn,
    }
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise SystemExit(f"no rival is called {', '.join(unknown)}; there are {', '.join(known)}")
    found: list[Rival] = []
    absent: dict[str, str] = {}
    for name, make in known.items():
        if names is None or name in names:
            try:
                found.append(make())
            except (AbsentError, StopIteration) as error:
                absent[name] = str(error)
    for text in more:
        name, _, where = text.partition("=")
        path, _, prefix = where.partition(":")
        if not path:
            raise SystemExit(f"--rival {text}: NAME=LIB.so[:PREFIX] is wanted")
        try:
            found.append(Cblas(name, Path(path).resolve() if "/" in path or Path(path).exists() else path, prefix))
        except AbsentError as error:
            raise SystemExit(f"--rival {text}: {error}") from None
    return found, absent


def install() -> None:
    """Install the rivals that PyPI and Debian have: pyproject's extra `bench`, and `DEBIAN` where apt-get is usable."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--disable-pip-version-check",
        "--editable",
        f"{ROOT}[bench]",
    ]
    subprocess.run(command, check=True, env={**os.environ, "TILEWRIGHT_SKIP_COMPILE": "1"})
    if shutil.which("apt-get") is None or os.geteuid():
        print(f"not installed, since that takes root and apt-get: {' '.join(DEBIAN)}")
        return
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    get = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *DEBIAN]
    if subprocess.run(get, env=environment, stdout=subprocess.DEVNULL).returncode:
        subprocess.run(["apt-get", "update", "-qq"], env=environment, check=True)
        subprocess.run(get, env=environment, stdout=subprocess.DEVNULL, check=True)
