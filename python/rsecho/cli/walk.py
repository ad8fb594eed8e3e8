"""The files below a directory, in an order that does not depend on the disk."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Found:
    """What lies below a directory."""

    files: list[tuple[Path, tuple[str, ...], int]] = field(default_factory=list)
    """Each regular file: its path, its name's components from the directory on, its length."""
    left_out: list[tuple[Path, str]] = field(default_factory=list)
    """Entries that are not files, and why they are left out."""
    unreadable: list[tuple[Path, str]] = field(default_factory=list)
    """Directories that could not be read, and why."""


def walk(top: Path, name: tuple[str, ...]) -> Found:
    """All below `top`, which is called `name`. Symbolic links are left out."""
    found = Found()
    _walk(top, name, found)
    return found


def _walk(directory: Path, name: tuple[str, ...], found: Found) -> None:
    try:
        with os.scandir(directory) as entries:
            inside = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        found.unreadable.append((directory, error.strerror or str(error)))
        return
    for entry in inside:
        path, words = Path(entry.path), (*name, entry.name)
        try:
            status = entry.stat(follow_symlinks=False)
        except OSError as error:
            found.unreadable.append((path, error.strerror or str(error)))
            continue
        if stat.S_ISREG(status.st_mode):
            found.files.append((path, words, status.st_size))
        elif stat.S_ISDIR(status.st_mode):
            _walk(path, words, found)
        else:
            found.left_out.append((path, _kind(status.st_mode)))


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFLNK: "a symbolic link",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFBLK: "a device",
        stat.S_IFCHR: "a device",
    }
    return kinds.get(stat.S_IFMT(mode), "no file")
