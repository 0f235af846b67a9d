#!/usr/bin/env python3
"""Generate, compile and prove Tilewright: ``python3 build.py``, and ``python3 build.py --help`` for its parts.

Only the standard library is used until `.venv` exists; then this file runs itself again inside it. Everything made
lies in `build/<arch>/` and can be deleted at any time; whatever is missing, changed or half-written is made again.
"""

import sys

if sys.version_info < (3, 10):
    sys.exit("build.py: Python 3.10 or newer is needed, this is {}.{}; try python3.12".format(*sys.version_info))

import argparse
import contextlib
import difflib
import fcntl
import fnmatch
import hashlib
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from generator.compile import Digests

ROOT = Path(__file__).resolve().parent
BUILD = ROOT / "build"
VENV = ROOT / ".venv"
ARCHES = ("x86_64", "aarch64")
WITH_TORCH = ("linear", "topv", "topv_cost", "vlm")  # benchmarks that need the extra `test`
INSTALLING = "installing"  # in .venv/.tilewright until all is installed
CLEAR = "\r\x1b[K"  # a terminal's line, emptied
Item = TypeVar("Item")


class BuildError(Exception):
    """What stops the build, said in one line where one line is enough."""


# ---------------------------------------------------------------------------------------------- environment


def enter_environment(argv: list[str], extras: "Sequence[str]" = ()) -> None:
    """Make sure that the interpreter running is `.venv`'s with everything installed; re-execute in it if not."""
    python = VENV / "bin" / "python"
    inside = Path(sys.prefix).resolve() == VENV.resolve()
    stamps = [VENV / f".tilewright{suffix}" for suffix in ("", *(f"-{extra}" for extra in extras))]
    made = False
    if any(read(stamp) != environment_key(python) for stamp in stamps):
        refuse_foreign_environment()
        with lock():
            if any(read(stamp) != environment_key(python) for stamp in stamps):  # nobody made it meanwhile
                make_environment(python, inside, extras)
        made = True
    if made or not inside:
        os.execv(python, [str(python), str(ROOT / "build.py"), *argv])


def use_environment(argv: list[str]) -> None:
    """Re-execute in `.venv` if it is there, ours and whole, whatever it was made from; otherwise go on as we are."""
    python = VENV / "bin" / "python"
    inside = Path(sys.prefix).resolve() == VENV.resolve()
    if not inside and python.exists() and read(VENV / ".tilewright") not in (None, "", INSTALLING):
        os.execv(python, [str(python), str(ROOT / "build.py"), *argv])


def refuse_foreign_environment() -> None:
    """A `.venv` without our stamp is somebody's work: neither filled nor erased."""
    if VENV.exists() and read(VENV / ".tilewright") is None and any(VENV.iterdir()):
        raise BuildError(
            f"{VENV} was not made by build.py: move it away, or give --no-venv to use the Python and packages at hand."
        )


def environment_key(python: Path) -> str:
    """Return what `.venv` was or would be made from: pins and interpreter."""
    text = (ROOT / "pyproject.toml").read_bytes() + os.path.realpath(python).encode() + str(ROOT).encode()
    return hashlib.sha256(text).hexdigest()


def make_environment(python: Path, inside: bool, extras: "Sequence[str]" = ()) -> None:
    """Create `.venv` or bring it up to date. One that works is kept; one left half-made is made anew."""
    works = "import pip, sys; sys.exit(sys.version_info < (3, 10))"
    whole = python.exists() and read(VENV / ".tilewright") != INSTALLING
    if not whole or subprocess.call([str(python), "-c", works], stderr=subprocess.DEVNULL):
        if inside:
            raise BuildError(".venv is broken: run build.py with the system's python3, which makes it anew.")
        missing = [name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None]
        if missing:
            raise BuildError(
                f"this Python has no module {' and no '.join(missing)}, so .venv cannot be made. "
                "Debian, Ubuntu: apt-get install python3-venv."
            )
        say(f"environment: making .venv with Python {sys.version.split()[0]}")
        VENV.mkdir(exist_ok=True)
        (VENV / ".tilewright").write_text(INSTALLING)  # first: what an interruption leaves must be known for ours
        for path in VENV.iterdir():
            if path.name != ".tilewright":
                remove(path)
        run([sys.executable, "-m", "venv", str(VENV)], "python -m venv")
    (VENV / ".tilewright").write_text(INSTALLING)
    names = ",".join(["dev", *extras])
    say(f"environment: installing the pinned requirements and the project (pyproject.toml, extra {names})")
    install = [str(python), "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-compile"]
    run([*install, "--editable", f".[{names}]"], "pip install", env={**os.environ, "TILEWRIGHT_SKIP_COMPILE": "1"})
    for extra in extras:
        (VENV / f".tilewright-{extra}").write_text(environment_key(python))
    (VENV / ".tilewright").write_text(environment_key(python))


@contextlib.contextmanager
def lock() -> Iterator[None]:
    """Hold the build folder against a second build; the system drops the lock however this process ends."""
    BUILD.mkdir(exist_ok=True)
    with open(BUILD / ".lock", "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another build.py to finish")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


# ------------------------------------------------------------------------------------------- what to build


class Target:
    """One architecture: what to build for it, where, and its compiler, None where there is none."""

    def __init__(self, arch: str, options: argparse.Namespace) -> None:
        from generator.compile import Compiler, CompilerMissingError, host_arch

        self.arch, self.out = arch, BUILD / arch
        self.native = arch == host_arch()
        self.isas = [name for name in isas_of(arch) if not options.isa or name in options.isa]
        self.only: list[str] = []  # patterns of kernel names; none: all
        self.compiler: Compiler | None = None
        self.why_not = ""
        try:
            self.compiler = Compiler.find(
                arch, options.cc if self.native or options.target else None, werror=options.werror
            )
        except CompilerMissingError as error:
            if self.native or options.target:
                raise
            self.why_not = str(error)

    def selection(self, options: argparse.Namespace) -> list[str]:
        """Return the generator's options for ``--isa`` and ``--only``."""
        isas = [f"--isa={isa}" for isa in self.isas] if options.isa else []
        return [*isas, *(f"--only={pattern}" for pattern in self.only)]


def isas_of(arch: str) -> list[str]:
    """Return the instruction sets generated for `arch`."""
    from generator import ISAS

    return [name for name, isa in ISAS.items() if isa.arch in (arch, None)]


def targets(options: argparse.Namespace) -> list[Target]:
    """Return the architectures to build, the host's first, less what ``--target``, ``--isa`` and ``--only`` exclude."""
    from generator.compile import host_arch

    arches = [options.target] if options.target else sorted(ARCHES, key=lambda arch: arch != host_arch())
    there = list(dict.fromkeys(isa for arch in arches for isa in isas_of(arch)))
    unknown = [isa for isa in options.isa if isa not in there]
    if unknown:
        raise BuildError(f"--isa {' '.join(unknown)}: there is no such instruction set; there are {', '.join(there)}.")
    chosen = [target for target in (Target(arch, options) for arch in arches) if target.isas]
    if options.only:
        from generator.generate import select

        try:
            names = {t: [str(kernel.name) for kernel in select(t.arch, t.isas if options.isa else ())] for t in chosen}
        except ValueError as error:  # a spec that cannot be read
            raise BuildError(str(error)) from None
        for pattern in options.only:
            if not any(fnmatch.filter(names[target], pattern) for target in chosen):
                alike = difflib.get_close_matches(pattern, [name for of in names.values() for name in of], 4, 0)
                raise BuildError(
                    f"--only {pattern}: no kernel is called that; there are {', '.join(alike)} and others."
                )
        for target in chosen:
            target.only = [pattern for pattern in options.only if fnmatch.filter(names[target], pattern)]
        chosen = [target for target in chosen if target.only]
    return chosen


# -------------------------------------------------------------------------------------------------- building


def generate(chosen: list[Target], options: argparse.Namespace, digests: "Digests") -> None:
    """Write the kernels of each target, all at once, where inputs changed or outputs are not what was written."""
    from generator import outputs

    started = time.monotonic()
    inputs = {target: outputs.inputs_digest(digests, target.selection(options)) for target in chosen}
    stale = [target for target in chosen if not outputs.is_current(target.out, inputs[target], digests)]

    def generate_one(target: Target) -> None:
        outputs.forget(target.out)
        generator("generate", "--arch", target.arch, "--out", target.out, *target.selection(options))
        outputs.remember(target.out, inputs[target])

    for target in stale:
        say(f"generate {target.arch}: {', '.join(target.isas)}")
    each("generate", generate_one, stale, options.jobs)
    digests.forget()
    for target in chosen:
        state = f"{time.monotonic() - started:.1f} s" if target in stale else "nothing changed"
        say(f"generate {target.arch}: {len(outputs.read_manifest(target.out)['kernels'])} kernels, {state}")


def prove(chosen: list[Target], options: argparse.Namespace, digests: "Digests") -> None:
    """Run the interpreter's proofs for what changed since the last time they all held."""
    from generator import letters_of, outputs

    inputs = {target: outputs.inputs_digest(digests, target.selection(options)) for target in chosen}
    stale = [target for target in chosen if read(target.out / "proofs.key") != inputs[target]]
    # A type of an instruction set a process, each with its own cache; the largest sets come last and start first.
    whole = [
        (t, [f"gemm_{letter}_*__{isa}*"])
        for t in stale
        if not t.only
        for isa in reversed(t.isas)
        for letter in letters_of(isa)
    ]
    parts = [*whole, *((t, t.only) for t in stale if t.only)]

    def prove_one(part: tuple[Target, list[str]]) -> None:
        (target, names), started = part, time.monotonic()
        folder = target.out / "proofs" / hashlib.sha256(" ".join(names).encode()).hexdigest()[:12]
        only = [f"--only={name}" for name in names]
        result = generator("prove", "--arch", target.arch, "--out", folder, *only).strip().partition(": ")[2]
        say(f"prove    {target.arch} {' '.join(names)}: {result}, {time.monotonic() - started:.1f} s")

    each("prove", prove_one, parts, options.jobs)
    for target in chosen:
        if target in stale:
            write(target.out / "proofs.key", inputs[target])
        else:
            say(f"prove    {target.arch}: nothing changed")


def compile_all(chosen: list[Target], options: argparse.Namespace, digests: "Digests") -> None:
    """Compile and link the library and the Python module of each target that has a compiler."""
    from generator import library, outputs
    from generator.files import remove_temporaries

    for target in chosen:
        remove_temporaries(target.out)
        if target.compiler is None:
            say(f"compile  {target.arch}: left out, {target.why_not}")
        else:
            started = time.monotonic()
            made = library.make_library(
                target.compiler,
                target.out,
                ROOT / "runtime",
                jobs=options.jobs,
                digests=digests,
                tidy=not target.selection(options),
                progress=Progress(f"compile  {target.arch}"),
            )
            if target.native:  # where `import runtime` and the editable install look
                for name in (
                    library.LIBRARY,
                    library.BLAS,
                    library.MODULE,
                    *([] if made.without_fast else [library.FAST]),
                ):
                    library.link_to(ROOT / "runtime" / name, f"../build/{target.arch}/lib/{name}")
                if made.without_fast:
                    (ROOT / "runtime" / library.FAST).unlink(missing_ok=True)
            where = made.library.relative_to(ROOT)
            took = f"{made.compiled} of {made.units} units in {time.monotonic() - started:.1f} s"
            size = f"{made.library.stat().st_size / 2**20:.1f} MB"
            state = took if made.changed else "nothing changed"
            say(f"compile  {target.arch}: {where}, {size}, {state} ({target.compiler.version})")
            if made.without_fast:
                words = made.without_fast.splitlines()  # a command and what the compiler said, or one line
                why = next((line for line in words if "error: " in line), words[0])
                say(f"compile  {target.arch}: the extension is left out, so calls go through cffi: {why}")
        outputs.complete_manifest(target.out, compiled=target.compiler is not None)


# -------------------------------------------------------------------------------------------------- commands


def command_all(options: argparse.Namespace) -> None:
    """Make everything, prove it and show it at work."""
    chosen = build(options)
    if not any(target.native and target.compiler for target in chosen):
        return
    tune(None, False)
    run([sys.executable, "-m", "tilewright.runtime.bench"], "tilewright bench", env=checkout_first())
    say("")
    say("next   python3 build.py test              all tests")
    say("       python3 build.py info              what was built, for which CPU")
    say("       .venv/bin/python                   import tilewright.runtime as tw; help(tw.gemm)")
    say("       README.md, docs/architecture.md    where things are")


def command_generate(options: argparse.Namespace) -> None:
    """Write the C files and manifests, compile nothing."""
    from generator.compile import Digests

    with lock():
        generate(targets(options), options, Digests())


def command_compile(options: argparse.Namespace) -> None:
    """Generate and compile, prove nothing."""
    build(options, proofs=False)


def build(options: argparse.Namespace, proofs: bool = True) -> list[Target]:
    """Bring `build/` up to date."""
    from generator.compile import Digests

    with lock():
        chosen, digests = targets(options), Digests()
        generate(chosen, options, digests)
        compile_all(chosen, options, digests)
        if proofs:
            prove(chosen, options, digests)
    return chosen


def command_test(options: argparse.Namespace) -> None:
    """Build what is not up to date, then run pytest; what is not an option of the build goes to pytest."""
    build(options)
    parallel = ["-n", str(options.workers)] if options.workers else []
    sys.exit(subprocess.call([sys.executable, "-m", "pytest", *parallel, *options.rest], cwd=ROOT))


def command_bench(options: argparse.Namespace) -> None:
    """Build what is not up to date, then run benchmarks/NAME.py, or a folder NAME, with the remaining arguments."""
    there = {path.stem: path for path in sorted((ROOT / "benchmarks").glob("[!_]*.py"))}
    there |= {path.parent.name: path.parent for path in sorted((ROOT / "benchmarks").glob("*/__main__.py"))}
    if options.name not in there:
        raise BuildError(f"bench {options.name or ''}: give one of {', '.join(there)}.")
    build(options)
    sys.exit(subprocess.call([sys.executable, str(there[options.name]), *options.rest], cwd=ROOT, env=checkout_first()))


def checkout_first() -> dict[str, str]:
    """Return an environment in which ``import tilewright`` finds this checkout, whatever is installed.

    tilewright is a namespace package, so that a folder of links on the path is as good as an installation.
    """
    from generator.library import link_to

    folder = BUILD / "import"
    for package in ("generator", "runtime", "templates", "topv"):
        if (ROOT / package).is_dir():
            (folder / "tilewright").mkdir(parents=True, exist_ok=True)
            link_to(folder / "tilewright" / package, f"../../../{package}")
    path = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path)}


def command_show(options: argparse.Namespace) -> None:
    """Print the C source of one kernel; nothing is built, no file touched."""
    if not options.name:
        raise BuildError("show: give a kernel's name, as in python3 build.py show gemm_d_nn_4x4__neon.")
    print(generator("show", options.name), end="")


def command_tune(options: argparse.Namespace) -> None:
    """Build what is not up to date, then time the kernels on this machine; what was timed before is gone on from."""
    if any(target.native and target.compiler for target in build(options)):
        tune(options.seconds, options.full)


def tune(seconds: "float | None", full: bool) -> None:
    """Time what has no time yet. Nowhere to write is no reason to fail: the library works without."""
    from runtime import TuningError
    from runtime.tuning import tune as time_kernels

    if os.environ.get("TILEWRIGHT_TUNING") == "off":
        say("tune     left out, TILEWRIGHT_TUNING=off")
        return
    try:
        result = time_kernels(seconds, full=full, progress=Progress("tune"))
    except TuningError as error:
        say(f"tune     left out: {error}")
        return
    missing = result.runnable - len(result.times) - len(result.wrong)
    state = f"{result.timed} timed in {result.seconds:.1f} s" if result.timed else "nothing changed"
    rest = f", {missing} left for the next time" if missing else ""
    say(f"tune     {len(result.times)} of {result.runnable} kernels, {state}{rest}: {result.path}")
    if result.wrong:
        raise BuildError("tune: " + " ".join(result.wrong.values()))


def command_install(options: argparse.Namespace) -> None:
    """Build what is not up to date, then copy libraries, headers, pkg-config and CMake files below a folder."""
    from generator.install import install

    if not options.prefix:
        raise BuildError("install: give --prefix DIR; libraries go to DIR/lib, headers to DIR/include.")
    for target in build(options, proofs=False):
        if target.compiler is not None and (target.native or options.target):
            for path in install(target.out, Path(options.prefix).absolute()):
                say(f"install  {path}")


def command_info(options: argparse.Namespace) -> None:
    """Say what was built and with what."""
    from generator import __version__
    from generator.outputs import read_manifest

    say(f"tilewright {__version__}, Python {sys.version.split()[0]} at {sys.executable}")
    if read(VENV / ".tilewright") != environment_key(VENV / "bin" / "python") and not options.no_venv:
        say("environment: .venv is missing or out of date; every other command makes it first")
    for target in targets(options):
        say(f"{target.arch}: {target.compiler.version if target.compiler else 'not compiled, ' + target.why_not}")
        for isa in target.isas:
            kernels = [kernel for kernel in read_manifest(target.out)["kernels"] if kernel["isa"] == isa]
            compiled = [kernel["code_bytes"] for kernel in kernels if kernel["compiled"]]
            say(f"  {isa:8} {len(kernels):5} kernels, {len(compiled)} compiled, {sum(compiled) / 1024:.0f} kB of code")
    try:
        from runtime import info
    except ImportError as error:
        say(str(error))
    else:
        say(str(info()))


def command_clean(options: argparse.Namespace) -> None:
    """Delete build/ and the links to it; with --all .venv too."""
    if options.all:
        refuse_foreign_environment()
    if BUILD.exists():
        with lock():
            for path in [*BUILD.iterdir(), *(ROOT / "runtime").glob("*.so*")]:
                if path.name != ".lock":
                    remove(path)
    if options.all and VENV.exists():
        remove(VENV)


# ---------------------------------------------------------------------------------------------------- tools


def say(text: str) -> None:
    """Print a line, in place of a bar that may be there."""
    print(CLEAR + text if sys.stdout.isatty() else text, flush=True)


def read(path: Path) -> "str | None":
    """Return the text of a file, None where there is none."""
    try:
        return path.read_text()
    except OSError:
        return None


def remove(path: Path) -> None:
    """Delete a file, a link or a folder with all that is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def write(path: Path, text: str) -> None:
    """Write a file by rename, if it changes."""
    from generator.files import write_atomically

    write_atomically(path, text)


def run(command: list[str], name: str, env: "dict[str, str] | None" = None) -> None:
    """Run a program; a failure is an error that names it."""
    code = subprocess.call(command, cwd=ROOT, env=env)
    if code:
        raise BuildError(f"{name} failed (exit status {code}); its own words are above.")


def generator(*arguments: "str | Path") -> str:
    """Run ``python -m generator`` and return what it printed. Its complaints are ours to print: none after Ctrl-C."""
    command = [sys.executable, "-m", "generator", *map(str, arguments)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if ran.returncode in (-signal.SIGINT, 128 + signal.SIGINT):
        raise KeyboardInterrupt
    if ran.returncode:
        words = ran.stderr.strip() or f"exit status {ran.returncode}"
        last = words.rpartition("\n")[2]
        words = last if re.match(r"\w+Error: \[Errno ", last) else words  # from the system: it names the file
        raise BuildError(f"python -m generator {arguments[0]} failed: {words}")
    return ran.stdout


def each(name: str, work: "Callable[[Item], None]", items: "Sequence[Item]", jobs: int) -> None:
    """Do the work for every item, several at once; after a failure nothing new is begun."""
    from generator.compile import run_each

    run_each(work, items, jobs, Progress(name))


class Progress:
    """Called with (done, total), often: a bar on a terminal, a line every quarter of a minute elsewhere."""

    def __init__(self, name: str) -> None:
        self.name, self.started, self.lines = name, time.monotonic(), 0

    def __call__(self, done: int, total: int) -> None:
        """Show that `done` of `total` are done."""
        seconds = time.monotonic() - self.started
        if sys.stdout.isatty():
            filled = 30 * done // max(1, total)
            bar = f"{self.name} [{'#' * filled}{'.' * (30 - filled)}] {done}/{total}, {seconds:.0f} s"
            print(f"{CLEAR}{bar if done < total else ''}", end="", flush=True)
        elif seconds // 15 > self.lines:
            self.lines = int(seconds // 15)
            say(f"{self.name}: {done} of {total} done after {seconds:.0f} s")


def explain(error: OSError) -> str:
    """Say in a line which file the system refused, and why; the place of a rename rather than what was to go there."""
    if isinstance(error, (FileExistsError, NotADirectoryError)):
        why = "a file where a folder should be; move it away"
    elif isinstance(error, IsADirectoryError):
        why = "a folder where a file should be; move it away"
    else:
        why = str(error.strerror or error)
    return ": ".join([*filter(None, [error.filename2 or error.filename]), why]) + "."


def parse(argv: list[str]) -> argparse.Namespace:
    """Read the command line; without a command it is "all"."""
    common = argparse.ArgumentParser(add_help=False)
    add = common.add_argument
    add("--isa", nargs="+", action="extend", default=[], help="only these instruction sets")
    add("--only", nargs="+", action="extend", default=[], metavar="NAME", help="only kernels so named; * and ? do")
    add("--target", choices=ARCHES, help="only this architecture; otherwise both, where a cross compiler is there")
    add("--jobs", type=int, help="processes at once (default: one a core; test: pytest workers, default one)")
    add("--cc", help="C compiler (default: $CC, else gcc, cc or clang)")
    add("--no-werror", dest="werror", action="store_false", help="let the compiler warn; so it is in installs by pip")
    words = "also install these extras of pyproject.toml, as test, which the command test brings by itself"
    add("--with", dest="extras", nargs="+", action="extend", default=[], metavar="EXTRA", help=words)
    add("--no-venv", action="store_true", help="use the Python that runs this and what is installed in it")
    parser = argparse.ArgumentParser(prog="build.py", description=str(__doc__).partition("\n")[0])
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, function in COMMANDS.items():
        words = str(function.__doc__)
        sub = commands.add_parser(name, parents=[common], help=words, description=words, allow_abbrev=False)
        if name == "show":
            sub.add_argument("name", nargs="?", help="a kernel's name, as in manifest.json")
        if name == "bench":
            sub.add_argument("name", nargs="?", help="a file of benchmarks/, without .py")
        if name == "tune":
            sub.add_argument("--full", action="store_true", help="more and longer repetitions: minutes")
            sub.add_argument("--seconds", type=float, help="what not to exceed (default: 30, with --full 300)")
        if name == "install":
            sub.add_argument("--prefix", metavar="DIR", help="where to, for example /usr/local")
        if name == "clean":
            sub.add_argument("--all", action="store_true", help="delete .venv as well")
    bare = not argv or (argv[0].startswith("-") and argv[0] not in ("-h", "--help"))
    options, rest = parser.parse_known_args(["all", *argv] if bare else argv)
    options.rest = rest
    options.werror &= not (ROOT / "PKG-INFO").exists()  # an unpacked source distribution
    if options.rest and options.command not in ("test", "bench"):
        there = f"python3 build.py {options.command} --help lists what there is"
        parser.error(f"{options.command}: {' '.join(options.rest)} is not an option; {there}.")
    if options.command == "test" or (options.command == "bench" and options.name in WITH_TORCH):
        options.extras.append("test")
    options.workers, options.jobs = options.jobs, options.jobs or len(os.sched_getaffinity(0))
    return options


COMMANDS: "dict[str, Callable[[argparse.Namespace], None]]" = {
    "all": command_all,
    "generate": command_generate,
    "compile": command_compile,
    "test": command_test,
    "bench": command_bench,
    "show": command_show,
    "tune": command_tune,
    "install": command_install,
    "info": command_info,
    "clean": command_clean,
}


def main(argv: list[str]) -> None:
    """Run one command inside the project's environment."""
    if __spec__ is not None:
        raise BuildError(
            "`python -m build` found this file, not PyPA's build. For a wheel: pip wheel . (or pyproject-build); "
            "to build in place: python3 build.py."
        )
    options = parse(argv)
    sys.path.insert(0, str(ROOT))
    if options.no_venv or options.command == "clean":
        pass  # what runs this will do
    elif options.command == "info":
        use_environment(argv)
    else:
        enter_environment(argv, options.extras)
    COMMANDS[options.command](options)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit("\nbuild.py: interrupted; the next run goes on from here.")
    except (BuildError, RuntimeError) as error:
        sys.exit(f"build.py: {error}")
    except OSError as error:
        sys.exit(f"build.py: {explain(error)}")
    except ModuleNotFoundError as error:
        sys.exit(f"build.py: {error}; it is among pyproject.toml's dependencies, which python3 build.py installs.")
