"""gcc and clang at every optimisation level make the same bits of a sample of kernels, inlined or not."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from generator import ISAS

from ..support import BUILD, Unavailable, miss, tool
from .cases import AT_END, Case, execute
from .machines import Machines, is_native, listed_isas, manifest, start
from .problems import DEPTHS, normal_problem, variants
from .showcase import SHOWCASE
from .worker import MODES, Kernel, Worker

pytestmark = pytest.mark.slow

SAMPLE = 40  # kernels an ISA beside the showcase
OPTIMISATIONS = ("-O0", "-O2", "-O3", "-O2 -flto")

# Every kernel is called from two places into which the linker may inline it: a label that is not unique, or a parameter
# that the asm changes without saying so, shows (OpenBLAS issue 6009).
CALLERS = """
#include "tw_kernel.h"

#define PUBLIC __attribute__((visibility("default")))

static void same(const void *volatile *kept, const void *a, const void *b, const void *c, const void *args)
{
    if (kept[0] != a || kept[1] != b || kept[2] != c || kept[3] != args) {
        __builtin_trap();
    }
}

#define FLATTEN static __attribute__((flatten)) void
#define CALLERS(name)                                                                   \\
    TW_KERNEL(name);                                                                    \\
    FLATTEN once_##name(const void *a, const void *b, void *c, const tw_args *args)     \\
    {                                                                                   \\
        const void *volatile kept[] = {a, b, c, args};                                  \\
        name(a, b, c, args);                                                            \\
        same(kept, a, b, c, args);                                                      \\
    }                                                                                   \\
    FLATTEN again_##name(const void *a, const void *b, void *c, const tw_args *args)    \\
    {                                                                                   \\
        if (args->k >= 0) {                                                             \\
            name(a, b, c, args);                                                        \\
        }                                                                               \\
    }
"""


def sample(arch: str, isa: str) -> list[str]:
    """The showcase and some more kernels, always the same."""
    names = sorted(kernel["name"] for kernel in manifest(arch) if kernel["isa"] == isa and kernel["compiled"])
    showcase = [name for name in SHOWCASE if name in names]
    return list(dict.fromkeys(showcase + random.Random(7).sample(names, min(SAMPLE, len(names)))))


def compiler(kind: str, arch: str) -> list[str]:
    """The command of gcc or clang for an architecture."""
    why = f"to compare {kind}'s kernels with the build's"
    if kind == "clang":
        return [tool("clang-22", "clang", why=why), f"--target={arch}-linux-gnu"]
    return [tool("gcc" if is_native(arch) else f"{arch}-linux-gnu-gcc", why=why)]


def callers(names: list[str], arch: str) -> str:
    """C text of callers for some kernels and a kernel table of the callers."""
    rows, lines = [], [CALLERS]
    for kernel in (kernel for kernel in manifest(arch) if kernel["name"] in names):
        name = kernel["name"]
        lines.append(f"CALLERS(tw_{name})")
        fields = {
            "isa": f"TW_ISA_{kernel['isa'].upper()}",
            "dtype": "sdcz".index(kernel["dtype"]),
            "mode": MODES.index(kernel["mode"]),
            "family": f"TW_{kernel['family'].upper()}",
            **{key: int(kernel[key]) for key in ("vector_dim", "mask_span", "paired", "mr", "nr")},
        }
        rest = ", ".join(f".{field} = {value}" for field, value in fields.items())
        for suffix, run in (("", "once"), ("/again", "again")):
            rows.append(f'    {{.name = "{name}{suffix}", .run = {run}_tw_{name}, {rest}}},')
    lines += [
        "PUBLIC const tw_kernel tw_kernels[] = {",
        *rows,
        "};",
        f"PUBLIC const int tw_kernel_count = {len(rows)};",
        "",
    ]
    return "\n".join(lines)


def build(
    folder: Path,
    command: list[str],
    arch: str,
    isa: str,
    names: list[str],
    optimisation: str,
    old: str = "",
    new: str = "",
) -> Path:
    """A library of the sample: kernels in one unit, their callers in another, linked; `old` replaced in the kernels."""
    generated = BUILD / arch / "generated"
    texts = [(generated / isa / f"{name}.c").read_text() for name in names]
    assert all(old in text for text in texts)
    (folder / "kernels.c").write_text("".join(texts).replace(old, new))
    (folder / "callers.c").write_text(callers(names, arch))
    library = folder / "libsample.so"
    flags = [
        "-std=c11",
        "-fPIC",
        "-shared",
        "-fvisibility=hidden",
        f"-I{generated}",
        *optimisation.split(),
        *ISAS[isa].cflags,
    ]
    done = subprocess.run(
        [*command, *flags, str(folder / "kernels.c"), str(folder / "callers.c"), "-o", str(library)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return library


def cases(kernels: list[Kernel]) -> Iterator[Case]:
    """Calls whose results are not integers, so that a changed order of operations changes bits."""
    for kernel in kernels:
        settings = variants(kernel)
        for d, k in enumerate(DEPTHS):
            size = kernel.sizes()[d % len(kernel.sizes())]
            yield normal_problem(kernel, size, k, settings[d % len(settings)], pads=(1, 2, 3), place=(AT_END,) * 3)


def results(worker: Worker, kernels: list[Kernel]) -> list[tuple[str, bytes]]:
    """The bits that every case leaves in C."""
    found = []
    for laid, answer in execute(worker, cases(kernels)):
        assert answer.trap == 0, f"{laid.case}: trap {answer.trap}"
        found.append((str(laid.case).replace("/again", ""), laid.c.tobytes()))
    return found


@cache
def results_of_build(machines: Machines, arch: str, isa: str) -> list[tuple[str, bytes]]:
    """What the library that was built leaves in C."""
    worker = machines.worker(arch, isa)
    return results(worker, [worker.kernels[name] for name in sample(arch, isa)])


@pytest.mark.parametrize("optimisation", OPTIMISATIONS)
@pytest.mark.parametrize("kind", ["gcc", "clang"])
@pytest.mark.parametrize(("arch", "isa"), listed_isas(), ids=["-".join(pair) for pair in listed_isas()])
def test_same_bits(machines: Machines, tmp_path: Path, arch: str, isa: str, kind: str, optimisation: str) -> None:
    """An asm contract that only holds for one compiler's registers or inlining, or scalar C reordered or fused."""
    try:
        command = compiler(kind, arch)
        reference = results_of_build(machines, arch, isa)
        emulated = not is_native(arch)
        names = sample(arch, isa)
        library = build(tmp_path, command, arch, isa, names, optimisation)
        worker = start(arch, library, emulated, isa=isa if emulated else "scalar")
    except Unavailable as reason:
        miss(reason)
    try:
        for suffix in ("", "/again"):
            assert results(worker, [worker.kernels[name + suffix] for name in names]) == reference
    finally:
        worker.close()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('[a] "+&r"(a), [b] "+&r"(b), [c] "+&r"(c)\n        : ', ': [a] "r"(a), [b] "r"(b), [c] "r"(c), ', "trap"),
        ("%=", "", "already defined"),
    ],
    ids=["parameter-changed-behind-the-compiler", "label-not-unique"],
)
def test_broken_contract_is_seen(machines: Machines, tmp_path: Path, old: str, new: str, said: str) -> None:
    """The test above, seen to fail: link-time inlining must bring out what a function call hides."""
    name = "gemm_z_nc_4x4__neon"
    try:
        command = compiler("gcc", "aarch64")
        machines.worker("aarch64", "neon")
    except Unavailable as reason:
        miss(reason)

    def build_and_run() -> None:
        library = build(tmp_path, command, "aarch64", "neon", [name], "-O2 -flto", old, new)
        worker = start("aarch64", library, not is_native("aarch64"))
        try:
            results(worker, [worker.kernels[name]])
        finally:
            worker.close()

    with pytest.raises(AssertionError, match=said):
        build_and_run()
