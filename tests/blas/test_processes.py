"""The BLAS library loaded early, by many threads, before forks, beside other interposers; what it says and does not."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from tilewright.runtime import cli

from .entries import LIBRARY
from .programs import compiled, ran

PRODUCT = """
import ctypes
x, c = (ctypes.c_double * 1)(6), (ctypes.c_double * 1)()
one = (ctypes.c_double(1), x, 1, x, 1, ctypes.c_double(0), c, 1)
ctypes.CDLL(None).cblas_dgemm(101, 111, 111, 1, 1, 1, *one)
print(c[0])
"""


def test_many_threads_while_libraries_are_loaded(tmp_path: Path) -> None:
    """Called before its own constructors, when no instruction set is chosen yet, by eight threads at once."""
    text = """
    __attribute__((constructor)) static void early(void)
    {
        char line[64];
        int length = snprintf(line, sizeof line, "early: %ld wrong\\n", check_in_threads());
        if (write(1, line, (size_t)length) < 0)
            abort();
    }
    """
    early = compiled(text, tmp_path / "early.so", "-shared", "-fPIC", link=False)
    program = compiled('int main(void) { return puts("main") < 0; }', tmp_path / "program", link=False)
    for order in (f"{LIBRARY}:{early}", f"{early}:{LIBRARY}"):
        done = ran(program, LD_PRELOAD=order)
        assert (done.stdout, done.stderr, done.returncode) == ("early: 0 wrong\nmain\n", "", 0)


def test_forked_children(tmp_path: Path) -> None:
    """A lock or a pool's threads that did not survive the fork; children of children."""
    text = """
    static long family(int depth)
    {
        long wrong = check_in_threads();
        if (depth > 0)
            for (int i = 0; i < 2; i++) {
                pid_t child = fork();
                if (child == 0)
                    _exit(family(depth - 1) != 0);
                int status = 1;
                waitpid(child, &status, 0);
                wrong += status != 0;
            }
        return wrong;
    }
    int main(void)
    {
        return family(0) + family(2) != 0;
    }
    """
    done = ran(compiled(text, tmp_path / "family"))
    assert (done.stderr, done.returncode) == ("", 0)


def test_loaded_late_and_closed(tmp_path: Path) -> None:
    """No room for what is thread-local where a program opens the library long after it started."""
    text = f"""
    int main(void)
    {{
        for (int i = 0; i < 2; i++) {{
            void *library = dlopen("{LIBRARY}", RTLD_NOW | RTLD_LOCAL);
            if (library == NULL)
                return puts(dlerror());
            double x = 3, c = 0, one = 1, zero = 0;
            int n = 1;
            void (*dgemm)(const char *, const char *, int *, int *, int *, double *, double *, int *, double *, int *,
                          double *, double *, int *);
            *(void **)&dgemm = dlsym(library, "dgemm_");
            dgemm("N", "N", &n, &n, &n, &one, &x, &n, &x, &n, &zero, &c, &n);
            printf("%g\\n", c);
            dlclose(library);
        }}
        return 0;
    }}
    """
    program = compiled(text.replace("check(", "unused("), tmp_path / "late", link=False)
    done = ran(program)
    assert (done.stdout, done.returncode) == ("9\n9\n", 0)


def test_behind_another_interposer(tmp_path: Path) -> None:
    """``tilewright run`` in front of a profiler's wrapper, which then sees no call, or twice in one LD_PRELOAD."""
    text = """
    void cblas_dgemm(CBLAS_LAYOUT layout, CBLAS_TRANSPOSE ta, CBLAS_TRANSPOSE tb, int m, int n, int k, double alpha,
                     const double *a, int lda, const double *b, int ldb, double beta, double *c, int ldc)
    {
        void (*next)(CBLAS_LAYOUT, CBLAS_TRANSPOSE, CBLAS_TRANSPOSE, int, int, int, double, const double *, int,
                     const double *, int, double, double *, int);
        *(void **)&next = dlsym(RTLD_NEXT, "cblas_dgemm");
        fprintf(stderr, "wrapper\\n");
        next(layout, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
    }
    """
    wrapper = compiled(text, tmp_path / "wrapper.so", "-shared", "-fPIC", link=False)
    tilewright = (sys.executable, "-m", "tilewright.runtime.cli", "run")
    child = f"""if True:
        import os, subprocess, sys
        print(os.environ["LD_PRELOAD"], flush=True)
        subprocess.run([sys.executable, "-c", {PRODUCT!r}])
    """
    done = ran(*tilewright, *tilewright, sys.executable, "-c", child, LD_PRELOAD=str(wrapper), TILEWRIGHT_VERBOSE="1")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{wrapper}:{LIBRARY.resolve()}\n36.0\n"
    said = done.stderr.splitlines()
    assert said[0] == "wrapper"
    assert said[1].startswith("tilewright: cblas_dgemm: 1 calls, ")
    assert said[2].startswith("tilewright: 1 x dgemm row-major NN m=1 n=1 k=1")
    assert len(said) == 3  # nothing from the processes that multiplied nothing


def test_run_is_silent_and_passes_on_what_the_program_says(tmp_path: Path) -> None:
    """An exit status, arguments that look like options or output that are not the program's own."""
    tilewright = (sys.executable, "-m", "tilewright.runtime.cli", "run")
    code = f"{PRODUCT}\nimport sys; print(sys.argv[1:]); sys.exit(3)"
    done = ran(*tilewright, sys.executable, "-c", code, "--help", "-x")
    assert (done.stdout, done.stderr, done.returncode) == ("36.0\n['--help', '-x']\n", "", 3)
    done = ran(*tilewright, "no-such-program")
    assert done.stderr == "tilewright run: no-such-program: there is no such program in PATH\n"
    assert done.returncode == 1


def test_no_instruction_set_is_no_silent_zero() -> None:
    """A product that is not computed while the program goes on, since BLAS returns nothing."""
    done = ran(sys.executable, "-c", PRODUCT, LD_PRELOAD=str(LIBRARY), TILEWRIGHT_ISA="none")
    assert done.returncode == -signal.SIGABRT
    assert done.stdout == ""
    assert done.stderr.startswith("tilewright: cblas_dgemm: TILEWRIGHT_ISA=none: not built; this machine can run ")
    quiet = ran(sys.executable, "-c", "print(1)", LD_PRELOAD=str(LIBRARY), TILEWRIGHT_ISA="none")
    assert (quiet.stdout, quiet.stderr) == ("1\n", "")


def test_own_error_handlers(tmp_path: Path) -> None:
    """A program's xerbla_ or cblas_xerbla that is not asked, or asked in the other's name."""
    text = """
    void xerbla_(const char *name, const int *argument, size_t length)
    {
        printf("xerbla_ %.*s %d\\n", (int)length, name, *argument);
    }
    void cblas_xerbla(int argument, const char *name, const char *form, ...)
    {
        printf("cblas_xerbla %s %d %d\\n", name, argument, form != NULL);
    }
    extern void zgemm_(const char *, const char *, const int *, const int *, const int *, const double *, const void *,
                       const int *, const void *, const int *, const double *, void *, const int *);
    int main(void)
    {
        double x[2] = {1, 0};
        int one = 1, none = 0;
        cblas_zgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, 1, 1, 1, x, x, 1, x, 0, x, x, 1);
        zgemm_("N", "N", &one, &one, &one, x, x, &one, x, &none, x, x, &one);
        return 0;
    }
    """
    done = ran(compiled(text, tmp_path / "handlers", "-rdynamic"))
    assert done.stdout == "cblas_xerbla cblas_zgemm 11 1\nxerbla_ ZGEMM  10\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["info"], "libtilewright_blas.so"),
        (["explain", "8", "8", "8", "--dtype", "float32", "--trans", "NT"], "one kernel"),
        (["selftest"], "all exact"),
    ],
)
def test_commands(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A subcommand that is listed and does not run."""
    assert cli.main(arguments) == 0
    assert words in capsys.readouterr().out


def test_commands_say_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    """A traceback where a line is enough."""
    assert cli.main(["explain", "8", "-8", "8"]) == 1
    assert capsys.readouterr().err.startswith("tilewright explain: ")
    with pytest.raises(SystemExit):
        cli.main(["frobnicate"])
    assert "invalid choice: 'frobnicate'" in capsys.readouterr().err
