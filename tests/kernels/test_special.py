"""Kernels for one size and across batches, through plans, between guard pages; ARM's under the emulator."""

from __future__ import annotations

import json
import os
import re
import subprocess

import pytest

from ..support import BUILD, Unavailable, miss
from .machines import ARCHES, EMULATED_CPU, HERE, compile_c, emulator, is_native


@pytest.mark.parametrize("arch", ARCHES)
def test_products_of_one_size_and_batches(arch: str) -> None:
    """A remainder of a batch left out, a stride of 0 or below taken for another, an element of a problem's neighbour.

    Also: a read past the last problem's last element, NaN between matrices let in, C's surroundings written, alpha = 0
    that reads A; and a kernel that ships but that no plan finds.
    """
    library = BUILD / arch / "lib" / "libtilewright.so"
    manifest = BUILD / arch / "manifest.json"
    if not library.exists():
        miss(f"{library} is missing: run python3 build.py")
    specials = json.loads(manifest.read_text())["specials"]
    try:
        program = compile_c(arch, BUILD / arch / "tests" / "special_check", [HERE / "special_check.c"], "-lm")
        command = [] if is_native(arch) else emulator(arch, next(reversed(EMULATED_CPU[arch])))
    except Unavailable as reason:
        miss(reason)
    ran = subprocess.run([*command, str(program), str(library)], capture_output=True, text=True, timeout=250)
    at_work = ran.stderr.splitlines()[-1:]
    assert ran.returncode == 0, f"{at_work}: exit status {ran.returncode}"
    *wrong, last = ran.stdout.splitlines()
    assert not wrong, "\n".join(wrong[:10])
    found = re.fullmatch(r"checked (\d+) kernels, (\d+) products", last)
    assert found
    runnable = {line for line in ran.stderr.splitlines() if "__" in line}
    assert len(runnable) == int(found[1])
    if not is_native(arch):
        assert int(found[1]) == len(specials)


def test_the_check_sees_kernels_that_are_not_used() -> None:
    """The check above, seen to fail: without these kernels plans run others, and it must say so."""
    arch = next(filter(is_native, ARCHES))
    library = BUILD / arch / "lib" / "libtilewright.so"
    if not library.exists():
        miss(f"{library} is missing: run python3 build.py")
    program = compile_c(arch, BUILD / arch / "tests" / "special_check", [HERE / "special_check.c"], "-lm")
    environment = {**os.environ, "TILEWRIGHT_SPECIAL": "off"}
    ran = subprocess.run([program, library], capture_output=True, text=True, timeout=250, env=environment)
    assert ran.stdout.count("the plan runs another kernel") > len(ran.stderr.splitlines())
