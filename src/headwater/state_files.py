"""Files and folders of the project's own state: below `.headwater` only their owner may read them, whatever the umask.

Elsewhere, in folders that the settings name, the process's umask decides as usual.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

STATE = ".headwater"
"""The folder of a project's state."""


def is_private(path: Path) -> bool:
    """Whether a path is in a project's state."""
    return STATE in Path(os.path.normpath(path.absolute())).parts


def make_folder(path: Path) -> None:
    """Make a folder and those above it that do not exist.

    Raises:
        OSError: it cannot be made, or is not a folder.
    """
    missing = [path]
    while not missing[-1].exists():
        missing.append(missing[-1].parent)
    for folder in reversed(missing[:-1]):
        with suppress(FileExistsError):
            folder.mkdir(0o700 if is_private(folder) else 0o777)
            if is_private(folder):
                folder.chmod(0o700)
    if not path.is_dir():
        raise NotADirectoryError(20, os.strerror(20), str(path))


def make_file(path: Path) -> bool:
    """Make an empty file where there is none; whether there was none.

    Raises:
        OSError: it cannot be made.
    """
    private = is_private(path)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600 if private else 0o666)
    except FileExistsError:
        return False
    try:
        if private:
            os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)
    return True


def opener(path: str, flags: int) -> int:
    """An `opener` of `open`: what it makes in a project's state only its owner may read."""
    return os.open(path, flags | os.O_CLOEXEC, 0o600 if is_private(Path(path)) else 0o666)


def narrow(*paths: Path) -> None:
    """Take from others the rights that an earlier release left them, where this user owns the file or folder."""
    for path in paths:
        with suppress(OSError):
            there = path.stat()
            if is_private(path) and _is_wide(there) and there.st_uid == os.geteuid():
                path.chmod(stat.S_IMODE(there.st_mode) & 0o700)


def narrow_all(folder: Path) -> None:
    """`narrow` for a folder and all that is in it; a folder that is narrow already is left as it is."""
    with suppress(OSError):
        if is_private(folder) and _is_wide(folder.stat()):
            narrow(*_below(folder))
            narrow(folder)


def exposed(folder: Path) -> list[Path]:
    """What others may read of a project's state: nothing, where the folder is its owner's alone."""
    found: list[Path] = []
    with suppress(OSError):
        if is_private(folder) and _is_wide(folder.stat()):
            for path in _below(folder):
                with suppress(OSError):
                    if path.stat().st_mode & 0o044:
                        found.append(path)
    return sorted(found)


def _below(folder: Path) -> Iterator[Path]:
    for path, _, files in os.walk(folder):
        yield from (Path(path, name) for name in files)
        if Path(path) != folder:
            yield Path(path)


def _is_wide(there: os.stat_result) -> bool:
    return bool(there.st_mode & 0o077)
