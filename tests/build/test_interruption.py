"""However a build ends, the next one makes what a first one would have made, byte for byte."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from generator.compile import host_arch

from .conftest import FEW, Checkout

INTERRUPTED = "build.py: interrupted; the next run goes on from here."


def first(folder: Path, pattern: str) -> Path:
    """Return the first file of that pattern."""
    return sorted(folder.glob(pattern))[0]


def cut(path: Path) -> None:
    """Keep the first half, as a full disk or a lost power supply would."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def replace(path: Path, old: str, new: str) -> None:
    """Change what a file says."""
    path.write_text(path.read_text().replace(old, new))


def remove(folder: Path, pattern: str) -> None:
    """Delete every file of that pattern."""
    for path in folder.glob(pattern):
        path.unlink()


DAMAGES: dict[str, Callable[[Path], object]] = {
    "manifest cut": lambda out: cut(out / "manifest.json"),
    "manifest of nothing": lambda out: (out / "manifest.json").write_text('{"kernels": [{}]}'),
    "manifest of another kind": lambda out: (out / "manifest.json").write_text("[]"),
    "manifest changed": lambda out: replace(out / "manifest.json", '"mr": 4', '"mr": 5'),
    "manifest's sizes changed": lambda out: replace(out / "manifest.json", '"compiled": true', '"compiled": false'),
    "manifest gone": lambda out: (out / "manifest.json").unlink(),
    "record of generated files cut": lambda out: cut(out / "generated.json"),
    "record of generated files of another kind": lambda out: (out / "generated.json").write_text('{"inputs": 1}'),
    "kernel source cut": lambda out: cut(first(out, "generated/*/*.c")),
    "kernel source gone": lambda out: first(out, "generated/*/*.c").unlink(),
    "kernel table emptied": lambda out: (out / "generated" / "kernel_table.c").write_text(""),
    "kernel of an older version": lambda out: (first(out, "generated/*").parent / "scalar" / "old.c").write_text(
        "#error"
    ),
    "object cut": lambda out: cut(first(out, "obj/*.o")),
    "object gone": lambda out: first(out, "obj/*.o").unlink(),
    "all keys gone": lambda out: remove(out, "obj/*.key"),
    "key cut": lambda out: cut(first(out, "obj/*.key")),
    "library cut": lambda out: cut(out / "lib" / "libtilewright.so.0"),
    "module emptied": lambda out: (out / "lib" / "_tilewright.abi3.so").write_bytes(b""),
    "extension cut": lambda out: cut(out / "lib" / "_fast.abi3.so"),
    "extension gone": lambda out: (out / "lib" / "_fast.abi3.so").unlink(),
    "header gone": lambda out: (out / "include" / "tilewright.h").unlink(),
    "link gone": lambda out: (out / "lib" / "libtilewright.so").unlink(),
    "temporary left": lambda out: (out / "obj" / ".x.o.1.tmp").write_text("half"),
    "objects gone": lambda out: shutil.rmtree(out / "obj"),
    "all gone": lambda out: shutil.rmtree(out),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_mended(built: Checkout, own: Checkout, damage: str) -> None:
    """A build that trusts time stamps or mere presence keeps a truncated object or library for ever."""
    DAMAGES[damage](own.out)
    assert own.contents() != built.contents() or damage.startswith("record")
    own.build("compile", *FEW)
    assert own.contents() == built.contents()
    assert (own.root / "runtime" / "libtilewright.so.0").exists()


@pytest.mark.parametrize(
    "moment",
    ["generated/*/*.c", "generated.json", "obj/*.tmp", "obj/*.o", "lib/.*.tmp", "lib/libtilewright.so.0"],
)
def test_killed_build_is_continued(built: Checkout, checkout: Checkout, moment: str) -> None:
    """Killed without warning, with its compilers, at several points of its way."""
    killed = checkout.kill_when(lambda: any(checkout.out.glob(moment)), "compile", *FEW)
    assert killed or moment.startswith("lib"), "over before it could be killed"
    checkout.build("compile", *FEW)
    assert checkout.contents() == built.contents()


def test_interrupt_is_one_line(checkout: Checkout) -> None:
    """Ctrl-C prints no traceback of build.py and says that nothing is lost."""
    process = checkout.start("compile", *FEW)
    while process.poll() is None and not any(checkout.out.glob("obj/*.o")):
        pass
    os.killpg(process.pid, signal.SIGINT)
    _, complaint = process.communicate(timeout=60)
    assert process.returncode != 0
    assert complaint.strip() == INTERRUPTED


@pytest.mark.parametrize("wait", [0.02, 0.2, 0.5])
def test_interrupt_stops_generating(checkout: Checkout, wait: float) -> None:
    """The children got the signal too and printed a traceback each; those not yet begun were begun."""
    process = checkout.start("generate", "--jobs", "1")
    assert process.stdout is not None
    process.stdout.readline()  # it says what it begins
    time.sleep(wait)
    os.killpg(process.pid, signal.SIGINT)
    _, complaint = process.communicate(timeout=10)
    assert process.returncode != 0
    assert complaint.strip() == INTERRUPTED
    assert not any(checkout.root.glob("build/*/manifest.json"))


def test_interrupt_stops_proving(checkout: Checkout) -> None:
    """One process a type; no other is begun."""
    spec = checkout.root / "generator" / "specs" / "scalar.yaml"
    spec.write_text(re.sub(r"\[nn, .*?\]", "[nn]", spec.read_text()))  # few kernels
    process = checkout.start("all", "--target", host_arch(), "--isa", "scalar", "--jobs", "1")
    assert process.stdout is not None
    while not process.stdout.readline().startswith("compile"):
        assert process.poll() is None
    time.sleep(0.3)
    os.killpg(process.pid, signal.SIGINT)
    _, complaint = process.communicate(timeout=10)
    assert process.returncode != 0
    assert complaint.strip() == INTERRUPTED
    assert len([*checkout.out.glob("proofs/*")]) < 3


def test_two_builds_at_once(built: Checkout, checkout: Checkout) -> None:
    """The second waits for the first and both succeed."""
    both = [checkout.start("compile", *FEW) for _ in range(2)]
    said = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum("waiting for another build.py" in text for text in said) == 1
    assert checkout.contents() == built.contents()
