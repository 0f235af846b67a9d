"""Both libraries with the hand-written C and the portable kernels compiled for ASan and UBSan.

Kernels of inline assembly are taken as the build compiled them: there is nothing in them that a compiler could check.
"""

from __future__ import annotations

import fcntl
import subprocess
from functools import cache
from pathlib import Path

from generator import ISAS, blas, library
from generator.compile import Compiler, Unit, compile_units, host_arch, link
from generator.outputs import kernel_units

from ..support import BUILD, ROOT, Unavailable

OUT = BUILD / host_arch()
FOLDER = OUT / "instrumented"
CHECKS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g", "-O1")
ENVIRONMENT = {
    "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=1:strict_string_checks=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
}


@cache
def libraries() -> Path:
    """The folder of the instrumented libraries, made on first use.

    Raises
    ------
    Unavailable
        Nothing was built, or this compiler has no sanitizers.
    """
    with (BUILD / ".instrumented.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _make()


def _make() -> Path:
    compiler = Compiler.find(host_arch())
    runtime, generated, objects = ROOT / "runtime", OUT / "generated", FOLDER / "obj"
    csrc, include = runtime / "csrc", OUT / "include"
    own = library._common_units(generated, csrc)
    kernels = kernel_units(generated, {name: tuple(isa.cflags) for name, isa in ISAS.items()})
    portable = [unit for unit in kernels if unit.name.startswith("scalar-")]
    assembly = [OUT / "obj" / f"{unit.name}.o" for unit in kernels if unit not in portable]
    if not all(path.exists() for path in assembly):
        raise Unavailable("build/ holds no compiled kernels; run: python3 build.py")
    checked = [Unit(unit.name, unit.text, unit.sources, (*unit.flags, *CHECKS)) for unit in (*own, *portable)]
    folders, headers = [generated, csrc], [*generated.glob("*.h"), *csrc.glob("*.h")]
    made, _ = compile_units(compiler, checked, objects, include=folders, headers=headers, jobs=2)
    lib, records = FOLDER / "lib", objects / "linked"
    flags = [*CHECKS, "-lm", "-pthread"]
    main = lib / library.LIBRARY
    link(compiler, [*made, *assembly], main, records=records, flags=[*flags, f"-Wl,-soname,{library.LIBRARY}"])
    entries = [
        Unit("blas-entries", blas.entries_source(), (), CHECKS),
        *(Unit(f"blas-{c.stem}", f"#include <{c.name}>\n", (c,), CHECKS) for c in (runtime / "blas").glob("*.c")),
    ]
    folders, headers = (
        [csrc, runtime / "blas", include],
        [*headers, *(runtime / "blas").glob("*.h"), *include.glob("*")],
    )
    made, _ = compile_units(compiler, entries, objects, include=folders, headers=headers)
    named = [f"-Wl,-soname,{library.BLAS}", "-Wl,-rpath,$ORIGIN"]
    link(compiler, [*made, main], lib / library.BLAS, records=records, flags=[*CHECKS, *named])
    return lib


def runtime_of(compiler: str = "cc") -> Path:
    """ASan's own library, which programs that are not instrumented must load first."""
    found = subprocess.run([compiler, "-print-file-name=libasan.so"], capture_output=True, text=True).stdout.strip()
    if not Path(found).is_absolute():
        raise Unavailable(f"{compiler} has no libasan.so")
    return Path(found).resolve()
