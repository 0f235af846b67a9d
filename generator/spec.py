"""Specs: YAML files that say which kernels exist, read with the line of every value so that errors can point at it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .dtypes import DTYPES, MODES
from .isa.base import find, isa_names
from .small.tile import Tile

__all__ = ["SPEC_FOLDER", "Entry", "Located", "Reader", "SpecError", "read_spec"]

LARGEST = 256
"""Rows or columns of a tile: beyond any register file; a slip of the pen must not ask for millions of kernels."""

SPEC_FOLDER = Path(__file__).parent / "specs"

_OPTIONS: dict[str, type | tuple[str, ...]] = {
    "form": ("outer", "dot", "quad", "paired"),
    "transposed": bool,
    "unroll": int,
    "pipeline": bool,
    "sets": int,
    "interleave": ("even", "threes", "front", "none"),
    "prefetch": bool,
    "ahead": bool,
    "paced": bool,
}


class SpecError(ValueError):
    """A spec that cannot be used; the message begins with file and line."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One kernel that a spec asks for, and the line that asks for it."""

    isa: str
    family: str
    letter: str
    tile: Tile
    where: str


class Located(dict[Any, Any]):
    """A mapping that knows the line of each key."""

    lines: dict[Any, int]
    line: int


def read_spec(path: Path) -> list[Entry]:
    """All kernels a spec file asks for.

    Raises
    ------
    SpecError
        For anything that is not as it should be: "specs/neon.yaml:14: ...".
    """
    reader = Reader(path)
    if reader.root.get("family") == "exact":
        from .exact import exact_entries  # which reads the specs of the small family with this module

        return list(exact_entries(reader))
    if reader.root.get("family") == "packed":
        from .packed import packed_entries

        return list(packed_entries(reader))
    return list(reader.entries())


class Reader:
    """A spec file with the line of every value, and what reads it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.label = f"{path.parent.name}/{path.name}"
        try:
            self.root = self._value(yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader))
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            raise SpecError(f"{self.label}:{line}: not YAML: {error.problem}") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise SpecError(f"{self.label}:1: not YAML: {error}") from error
        except RecursionError as error:
            raise SpecError(f"{self.label}:1: an alias stands for something it is itself part of") from error
        if not isinstance(self.root, Located):
            raise SpecError(f"{self.label}:1: a spec is a mapping with schema, isa, family and tiles")

    @property
    def isa_names(self) -> list[str]:
        """Every instruction set there is."""
        return isa_names()

    def entries(self, only: str = "") -> Iterator[Entry]:
        """What a spec of the small family asks for, for one type or all."""
        root = self.root
        self.keys(root, {"schema", "isa", "family", "defaults", "tiles"}, required={"schema", "isa", "family", "tiles"})
        if root["schema"] != 1:
            self.fail(root, "schema", f"schema {root['schema']!r} is unknown; this generator reads 1")
        if root["family"] != "small":
            self.fail(root, "family", f"family {root['family']!r} is unknown; there is small")
        if root["isa"] not in isa_names():
            self.fail(root, "isa", f"isa {root['isa']!r} is unknown; there are {', '.join(isa_names())}")
        defaults = self._mapping(root, "defaults") if "defaults" in root else _located({}, root.line)
        options = self._options(defaults)
        tiles = self._mapping(root, "tiles")
        for letter, rows in tiles.items():
            if letter not in DTYPES:
                self.fail(tiles, letter, f"type {letter!r} is none of {', '.join(DTYPES)}")
            if not isinstance(rows, list):
                self.fail(tiles, letter, f"{letter} needs a list of {{modes, tiles}}")
            for row in rows if only in ("", letter) else ():
                if not isinstance(row, Located):
                    self.fail(tiles, letter, f"{row!r} is no mapping with modes and tiles")
                yield from self._row(row, letter, options)

    def _row(self, row: Located, letter: str, defaults: dict[str, Any]) -> Iterator[Entry]:
        self.keys(row, {"modes", "tiles", "rows", "columns", *_OPTIONS}, required={"modes"})
        options = {**defaults, **self._options(row)}
        given = [key for key in ("tiles", "rows", "columns") if key in row]
        if len(given) != 1:
            self.fail(
                row, "modes", "give one of tiles, rows (exact rows of C) and columns (vector columns), not more or less"
            )
        if not isinstance(row["modes"], list):
            self.fail(row, "modes", f"modes must be a list, not {row['modes']!r}")
        for mode in row["modes"]:
            if not isinstance(mode, str) or mode not in MODES:
                self.fail(row, "modes", f"mode {mode!r} is none of {', '.join(MODES)}")
            if mode in ("nc", "cn", "tc") and not DTYPES[letter].complex:
                self.fail(row, "modes", f"mode {mode} conjugates, type {letter} is real")
        table = self._mapping(row, given[0])
        for first, limit in table.items():
            sizes = limit if isinstance(limit, list) else list(range(1, limit + 1)) if _is_size(limit) else []
            if not sizes or not all(_is_size(size) for size in sizes):
                wanted = f"neither a largest size nor a list of sizes, 1 to {LARGEST}"
                self.fail(table, first, f"{first}: {limit!r} is {wanted}")
            where = f"{self.label}:{table.lines[first]}"
            for mode in row["modes"]:
                for size in sizes:
                    yield Entry(
                        self.root["isa"],
                        next((name for name in ("paced", "ahead") if options.get(name)), self.root["family"]),
                        letter,
                        self._tile(table, mode, letter, given[0], first, size, options),
                        where,
                    )

    def _tile(
        self, table: Located, mode: str, letter: str, kind: str, first: Any, size: int, options: dict[str, Any]
    ) -> Tile:
        transposed = bool(options.get("transposed"))
        isa = find(self.root["isa"], letter)
        if options.get("form", "outer") not in isa.forms:
            self.fail(
                table, first, f"{isa.name} builds {letter} by {', '.join(sorted(isa.forms))}, not {options['form']}"
            )
        isa = isa.formed(options.get("form", "outer"))
        if kind == "columns":
            if not isa.has_columns(first):
                self.fail(table, first, f"{self.root['isa']} has no vector columns called {first!r}")
            tile = Tile(MODES[mode], *((size, 0) if transposed else (0, size)), widths=first, **options)
        else:
            if not _is_size(first):
                self.fail(table, first, f"{first!r} is no size, 1 to {LARGEST}")
            rows, columns = (size, first) if transposed and kind == "tiles" else (first, size)
            tile = Tile(MODES[mode], rows, columns, **options)
        reason = isa.refusal(tile)
        if reason:
            self.fail(table, first, f"{isa.name} cannot build {mode} {first}: {reason}")
        if tile.form == "quad" and not tile.narrow:
            self.fail(
                table,
                first,
                f"quad is for two vector elements or one scalar, the other side contiguous along k; {mode} "
                f"{tile.mr}x{tile.nr} is not",
            )
        return tile

    def _options(self, mapping: Located) -> dict[str, Any]:
        found = {}
        for key, kind in _OPTIONS.items():
            if key not in mapping:
                continue
            value = mapping[key]
            if isinstance(kind, tuple):
                if value not in kind:
                    self.fail(mapping, key, f"{key} {value!r} is none of {', '.join(kind)}")
            elif type(value) is not kind:
                self.fail(mapping, key, f"{key} must be {kind.__name__}, not {value!r}")
            if key == "unroll" and (value < 1 or value & (value - 1)):
                self.fail(mapping, key, f"unroll {value} is no power of two")
            if key == "sets" and value not in (1, 2):
                self.fail(mapping, key, f"sets {value} is neither 1 nor 2")
            found[key] = value
        return found

    def keys(self, mapping: Located, allowed: set[str], required: set[str]) -> None:
        """Refuse keys that are unknown, and what lacks one."""
        for key in mapping:
            if key not in allowed:
                self.fail(mapping, key, f"unknown key {key!r}; known are {', '.join(sorted(allowed))}")
        for key in sorted(required - set(mapping)):
            raise SpecError(f"{self.label}:{mapping.line}: {key} is missing")

    def _mapping(self, mapping: Located, key: str) -> Located:
        value = mapping[key]
        if not isinstance(value, Located):
            raise self._error(mapping, key, f"{key} must be a mapping, not {value!r}")
        return value

    def fail(self, mapping: Located, key: Any, message: str) -> None:
        """Refuse a value, naming its line."""
        raise self._error(mapping, key, message)

    def _error(self, mapping: Located, key: Any, message: str) -> SpecError:
        return SpecError(f"{self.label}:{mapping.lines.get(key, mapping.line)}: {message}")

    def _value(self, node: Any) -> Any:
        if isinstance(node, yaml.MappingNode):
            result = _located({}, node.start_mark.line + 1)
            for key_node, value_node in node.value:
                key = self._value(key_node)
                line = key_node.start_mark.line + 1
                if not isinstance(key, (str, int)):
                    raise SpecError(f"{self.label}:{line}: {key!r} cannot be a key")
                if key in result:
                    raise SpecError(f"{self.label}:{line}: {key!r} stands twice")
                result[key] = self._value(value_node)
                result.lines[key] = line
            return result
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item) for item in node.value]
        return yaml.SafeLoader("").construct_object(node) if node is not None else None


def _is_size(value: object) -> bool:
    return type(value) is int and 1 <= value <= LARGEST


def _located(values: dict[str, Any], line: int) -> Located:
    result = Located(values)
    result.lines, result.line = {}, line
    return result
