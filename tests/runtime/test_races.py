"""ThreadSanitizer over the pool, batches, blocks, plans and their cache."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ..support import ROOT, Unavailable, miss, tool
from .test_threads import CHECKS, compiled

pytestmark = pytest.mark.slow

OPTIONS = {"TSAN_OPTIONS": "halt_on_error=1 die_after_fork=0"}
UNSEEN = {"refused"}  # limits the address space, of which the sanitizer needs much


def run(program: Path, *arguments: str) -> None:
    ran = subprocess.run(
        [program, *arguments], capture_output=True, text=True, timeout=200, env={**os.environ, **OPTIONS}
    )
    assert ran.returncode == 0, ran.stderr


@pytest.fixture(scope="module")
def sanitizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a program in which ThreadSanitizer finds a race, or none of this proves anything."""
    folder = tmp_path_factory.mktemp("races")
    text = "#include <pthread.h>\nint x;\nvoid *f(void *p) { x++; return p; }\nint main(void) { pthread_t t; "
    (folder / "racy.c").write_text(text + "pthread_create(&t, 0, f, 0); x++; pthread_join(t, 0); return 0; }")
    try:
        command = [tool("gcc", why="for -fsanitize=thread"), "-fsanitize=thread", "-pthread", "racy.c", "-o", "racy"]
    except Unavailable as missing:
        miss(missing)
    made = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if made.returncode:
        miss(f"gcc has no ThreadSanitizer here: {made.stderr.splitlines()[-1]}")
    ran = subprocess.run([folder / "racy"], capture_output=True, text=True, env={**os.environ, **OPTIONS})
    if "data race" not in ran.stderr:
        miss(f"ThreadSanitizer does not run here: {ran.stderr.partition(chr(10))[0]}")
    return folder


def test_the_pool_has_no_races(sanitizer: Path) -> None:
    """A job read before it was written, or changed while a worker is still at it."""
    program = compiled(sanitizer, "-fsanitize=thread", "-g")
    for check in CHECKS:
        if check not in UNSEEN:
            run(program, check)


def test_plans_cache_batches_and_blocks_have_no_races(sanitizer: Path) -> None:
    """A plan found before it is complete; arguments shared by threads; one thread's message read by another."""
    generated, csrc = sanitizer / "build" / "generated", ROOT / "runtime" / "csrc"
    generate = [sys.executable, "-m", "generator", "generate", "--out", str(sanitizer / "build"), "--isa", "scalar"]
    subprocess.run(generate, cwd=ROOT, check=True, capture_output=True)
    everything = sanitizer / "kernels.c"
    everything.write_text("".join(f'#include "{path}"\n' for path in sorted(generated.rglob("*.c"))))
    flags = ["-std=c11", "-O1", "-g", "-fsanitize=thread", "-ffp-contract=off", '-DTW_VERSION="0"', "-w"]
    sources = [Path(__file__).with_name("race.c"), everything, *sorted(csrc.glob("*.c"))]
    program = sanitizer / "race"
    command = ["gcc", *flags, f"-I{csrc}", f"-I{generated}", *map(str, sources), "-lm", "-pthread", "-o", str(program)]
    made = subprocess.run(command, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr[-2000:]
    run(program)
