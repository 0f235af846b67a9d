"""Files that appear whole or not at all: written beside their place, then renamed. Standard library only."""

from __future__ import annotations

import os
import threading
from pathlib import Path

__all__ = ["remove_temporaries", "temporary_beside", "write_atomically"]


def write_atomically(path: Path, data: str | bytes) -> bool:
    """Write `data` to `path` by rename, only if it differs; return whether it did.

    Raises
    ------
    OSError
        With the name of the file, which the system leaves out where a disk is full.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     [write_atomically(Path(folder, "x", "a"), "1"), write_atomically(Path(folder, "x", "a"), "1")]
    [True, False]
    """
    data = data.encode() if isinstance(data, str) else data
    try:
        if path.read_bytes() == data:
            return False
    except OSError:
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with temporary_beside(path) as temporary:
            temporary.write_bytes(data)
            os.replace(temporary, path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    return True


class temporary_beside:  # noqa: N801  (reads as a function where it is used)
    """A name to write to before the rename to `path`; removed if still there at the end."""

    def __init__(self, path: Path) -> None:
        self.path = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *_: object) -> None:
        self.path.unlink(missing_ok=True)


def remove_temporaries(folder: Path) -> None:
    """Delete what a killed build left half-written; only while holding the build's lock."""
    for path in folder.rglob("*.tmp"):
        path.unlink(missing_ok=True)
