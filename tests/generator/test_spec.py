"""Specs that are wrong: the error must point at the line and say what would be right."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from generator.kernel import kernels_of
from generator.spec import SpecError, read_spec

HEAD = "schema: 1\nisa: neon\nfamily: small\n"


def spec(folder: Path, text: str) -> Path:
    path = folder / "neon.yaml"
    path.write_text(text)
    return path


EXACT = "schema: 1\nfamily: exact\nsizes:\n"
WIDE = EXACT + "  - {isas: [avx512], types: s, modes: [nn], sizes: [[64, 1, 8]], batch: true, "


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("schema: 1\nfamily: exact\n", r":1: sizes is missing"),
        ("schema: 1\nfamily: exact\nsizes: 3\n", r":3: sizes must be a list"),
        (EXACT + "  - 3\n", r":3: 3 is no mapping with isas"),
        (EXACT + "  - {isas: [avx512], types: s, cubes: [2]}\n", r":4: modes is missing"),
        (EXACT + "  - {isas: [avx512], types: s, modes: [nn]}\n", r":4: give one of cubes"),
        (EXACT + "  - {isas: [avx9], types: s, modes: [nn], cubes: [2]}\n", r":4: 'avx9' is none of .*avx512"),
        (EXACT + "  - {isas: [avx512], types: sq, modes: [nn], cubes: [2]}\n", r":4: 'q' is none of s, d, c, z"),
        (EXACT + "  - {isas: [avx512], types: s, modes: [nn], cubes: [0]}\n", r":4: \[0, 0, 0\] is no size"),
        (EXACT + "  - {isas: [avx512], types: s, modes: [nn], sizes: [[2, 2]]}\n", r":4: \[2, 2\] is no size"),
        (EXACT + "  - {isas: [avx512], types: s, modes: [nn], sizes: [[2, 2, 65]]}\n", r":4: k = 65 is beyond 64"),
        (EXACT + "  - {isas: [avx512], types: s, modes: [nn], cubes: [60]}\n", r":4: avx512 has no tile of s nn 60x60"),
        (EXACT + "  - {isas: [neon], types: s, modes: [nn], cubes: [2], lanes: y}\n", r":4: neon has no kernels of s"),
        (WIDE + "columns: q}\n", r":4: avx512 has no vector columns called 'q'"),
        (WIDE + "columns: zzz}\n", r":4: zzz are 48 elements of s, not 64"),
        (WIDE + "columns: zzzz, fetch: 7}\n", r":4: fetch is 7; it must be a multiple of 64"),
        (WIDE + "fetch: 64}\n", r":4: fetch is for tiles that columns describe"),
        (EXACT + "  - {isas: [avx2], types: s, modes: [nn], cubes: [2], tiles: 3}\n", r":4: unknown key 'tiles'"),
    ],
)
def test_errors_of_exact_specs_name_the_line(tmp_path: Path, text: str, said: str) -> None:
    """A size that no kernel can do, found out by the compiler or not at all."""
    path = tmp_path / "exact.yaml"
    path.write_text(text)
    with pytest.raises(SpecError, match=r"exact\.yaml" + said):
        read_spec(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("schema: [1\n", r"neon\.yaml:2: not YAML"),
        ("- 1\n", r"neon\.yaml:1: a spec is a mapping"),
        (
            "schema: 2\nisa: neon\nfamily: small\ntiles: {}\n",
            r"neon\.yaml:1: schema 2 is unknown; this generator reads 1",
        ),
        ("schema: 1\nisa: neon\nfamily: big\ntiles: {}\n", r"neon\.yaml:3: family 'big' is unknown; there is small"),
        ("schema: 1\nisa: sve\nfamily: small\ntiles: {}\n", r"neon\.yaml:2: isa 'sve' is unknown; there are .*neon"),
        (HEAD, r"neon\.yaml:1: tiles is missing"),
        (HEAD + "tiles: 3\n", r"neon\.yaml:4: tiles must be a mapping, not 3"),
        (HEAD + "tilez: {}\ntiles: {}\n", r"neon\.yaml:4: unknown key 'tilez'; known are defaults, family"),
        (HEAD + "tiles:\n  q: []\n", r"neon\.yaml:5: type 'q' is none of s, d, c, z"),
        (HEAD + "tiles:\n  s: {}\n", r"neon\.yaml:5: s needs a list"),
        (HEAD + "tiles:\n  s:\n    - {modes: [nx], tiles: {4: 4}}\n", r"neon\.yaml:6: mode 'nx' is none of nn, nt"),
        (
            HEAD + "tiles:\n  s:\n    - {modes: [nc], tiles: {4: 4}}\n",
            r"neon\.yaml:6: mode nc conjugates, type s is real",
        ),
        (HEAD + "tiles:\n  s:\n    - {tiles: {4: 4}}\n", r"neon\.yaml:6: modes is missing"),
        (HEAD + "tiles:\n  s:\n    - {modes: [nn]}\n", r"neon\.yaml:6: give one of tiles, rows"),
        (HEAD + "tiles:\n  s:\n    - {modes: nn, tiles: {4: 4}}\n", r"neon\.yaml:6: modes must be a list"),
        (HEAD + "tiles:\n  s:\n    - {modes: [nn], tiles: {four: 4}}\n", r"neon\.yaml:6: 'four' is no size"),
        (
            HEAD + "tiles:\n  s:\n    - {modes: [nn], tiles: {4: -4}}\n",
            r"neon\.yaml:6: 4: -4 is neither a largest size",
        ),
        (HEAD + "tiles:\n  s:\n    - {modes: [nn], tiles: {4: [1, x]}}\n", r"neon\.yaml:6: 4: \[1, 'x'\] is neither"),
        (
            HEAD + "tiles:\n  s:\n    - {modes: [nn], unroll: 3, tiles: {4: 4}}\n",
            r"neon\.yaml:6: unroll 3 is no power of two",
        ),
        (
            HEAD + "tiles:\n  s:\n    - {modes: [nn], unroll: yes, tiles: {4: 4}}\n",
            r"neon\.yaml:6: unroll must be int, not True",
        ),
        (
            HEAD + "tiles:\n  s:\n    - {modes: [nn], interleave: odd, tiles: {4: 4}}\n",
            r"neon\.yaml:6: interleave 'odd' is none of even",
        ),
        (
            HEAD + "tiles:\n  s:\n    - {modes: [nn], tiles: {4: 4}, tiles: {3: 4}}\n",
            r"neon\.yaml:6: 'tiles' stands twice",
        ),
        (
            HEAD + "tiles:\n  s:\n    - {modes: [tn], form: dot, ahead: true, tiles: {2: 4}}\n",
            r"neon\.yaml:6: neon cannot build tn 2: it does not ask for lines ahead of time",
        ),
        (
            HEAD + "tiles:\n  s:\n    - {modes: [tn], form: dot, paced: true, tiles: {2: 4}}\n",
            r"neon\.yaml:6: neon cannot build tn 2: only what asks ahead is paced",
        ),
        (
            HEAD + "tiles:\n  s:\n    - {modes: [nn], form: quad, tiles: {2: 4}}\n",
            r"neon\.yaml:6: neon builds s by dot, outer, not quad",
        ),
        (
            HEAD + "tiles:\n  c:\n    - {modes: [nt], form: quad, tiles: {2: 4}}\n",
            r"neon\.yaml:6: quad is for two vector elements or one scalar, .*; nt 2x1 is not",
        ),
        (
            HEAD + "tiles:\n  c:\n    - {modes: [tn], form: quad, tiles: {3: 2}}\n",
            r"neon\.yaml:6: quad is for two vector elements or one scalar, .*; tn 3x2 is not",
        ),
        (
            HEAD + "tiles:\n  s:\n    - {modes: [nn], columns: {zz: [4]}}\n",
            r"neon\.yaml:6: neon has no vector columns called 'zz'",
        ),
        (HEAD + "defaults: 3\ntiles: {}\n", r"neon\.yaml:4: defaults must be a mapping, not 3"),
        (HEAD + "tiles:\n  s:\n    - {modes: [[nn]], tiles: {4: 4}}\n", r"neon\.yaml:6: mode \['nn'\] is none of nn"),
        (HEAD + "tiles:\n  s:\n    - {modes: [nn], tiles: {true: 2}}\n", r"neon\.yaml:6: True is no size"),
        (HEAD + "tiles:\n  s:\n    - {modes: [nn], tiles: {4: 30000000}}\n", r"neon\.yaml:6: 4: 30000000 is neither"),
        (HEAD + "tiles: &all\n  s: [*all]\n", r"neon\.yaml:1: an alias stands for something it is itself part of"),
        (HEAD + "tiles:\n  <<: 3\n", r"neon\.yaml:"),
        (HEAD + "tiles: \0\n", r"neon\.yaml:1: not YAML"),
        (
            HEAD + "tiles:\n  s:\n    - {modes: [nn], form: dot, tiles: {4: 4}}\n",
            r"neon\.yaml:6: neon cannot build nn 4: dot",
        ),
        (
            HEAD.replace("neon", "scalar") + "tiles:\n  s:\n    - {modes: [tt], transposed: true, tiles: {4: 4}}\n",
            r"neon\.yaml:6: scalar cannot build tt 4: it keeps C as it is",
        ),
        (
            HEAD.replace("neon", "avx2") + "tiles:\n  s:\n    - {modes: [nn], unroll: 8, columns: {y: 4}}\n",
            r"neon\.yaml:6: avx2 cannot build nn y: unroll is 8, its addressing reaches 4 steps",
        ),
        (
            HEAD.replace("neon", "avx2") + "tiles:\n  c:\n    - {modes: [nc], columns: {y: 4}}\n",
            r"neon\.yaml:6: avx2 cannot build nc y: its kernels conjugate by tw_args.pair",
        ),
        (
            HEAD.replace("neon", "avx512") + "tiles:\n  s:\n    - {modes: [tn], columns: {zm: 4}}\n",
            r"neon\.yaml:6: avx512 cannot build tn zm: a masked column must lie side by side",
        ),
    ],
)
def test_wrong_specs_are_refused(text: str, said: str, tmp_path: Path) -> None:
    """A misprint in a spec that generates other kernels than were meant, or a traceback instead of a line number."""
    with pytest.raises(SpecError, match=said):
        kernels_of(spec(tmp_path, text))


def test_too_many_registers(tmp_path: Path) -> None:
    """A tile that does not fit must be refused with its line, not spilled or generated wrong."""
    path = spec(tmp_path, HEAD + "tiles:\n  s:\n    - modes: [nn]\n      tiles: {12: [12]}\n")
    (kernel,) = kernels_of(path)
    said = r"neon\.yaml:7: tile 12x12 for s needs more registers than neon has: .*there are 32"
    with pytest.raises(SpecError, match=said):
        kernel.program  # noqa: B018


def test_one_name_twice(tmp_path: Path) -> None:
    """Two entries for one kernel: one would silently win."""
    path = spec(
        tmp_path, HEAD + "tiles:\n  s:\n    - {modes: [nn], tiles: {4: 2}}\n    - {modes: [nn], tiles: {4: 1}}\n"
    )
    with pytest.raises(SpecError, match=r"neon\.yaml:7: gemm_s_nn_4x1__neon is asked for twice, first at .*:6"):
        kernels_of(path)


def test_every_smaller_size_is_meant(tmp_path: Path) -> None:
    """{4: 3} is 4x1, 4x2 and 4x3; {4: [3]} is 4x3 alone."""
    path = spec(tmp_path, HEAD + "tiles:\n  d:\n    - {modes: [nn, nt], tiles: {4: 3, 2: [3]}}\n")
    sizes = [(entry.tile.mode.name, entry.tile.mr, entry.tile.nr) for entry in read_spec(path)]
    assert sizes == [
        (mode, *size)
        for mode, size in [
            ("nn", (4, 1)),
            ("nn", (4, 2)),
            ("nn", (4, 3)),
            ("nt", (4, 1)),
            ("nt", (4, 2)),
            ("nt", (4, 3)),
            ("nn", (2, 3)),
            ("nt", (2, 3)),
        ]
    ]


@given(st.text(alphabet="abdemnorstxz:{}[]-,&*! 0123456789\n", max_size=120))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_is_a_spec_or_a_spec_error(tmp_path: Path, text: str) -> None:
    """A traceback where a line number should be, for whatever somebody's editor left in the file."""
    with contextlib.suppress(SpecError):
        kernels_of(spec(tmp_path, HEAD + "tiles:\n  s:\n    - " + text))
