"""Temporary folders and unfinished files: each held by a lock while its process lives, so that later ones can tell.

What a killed process leaves has nobody who holds its lock: whoever makes something of the same kind in the same place
removes it. A process number would not tell: numbers are used again, and containers that share a folder see others.
"""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import tempfile
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from headwater import forks
from headwater.state_files import make_folder, opener

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_FOLDER, _UNTOLD = "headwater-temp-", "headwater-unlocked-"
_OWNER = ".owner"
_PARTIAL = ".unfinished"
_POLL = 0.005


class TempFolder:
    """A folder of this process; gone with the object, with the process, or once another is made beside it.

    Args:
        parent: where it is made; None: where the system keeps temporary files.

    Attributes:
        path: the folder.
    """

    def __init__(self, parent: Path | None = None) -> None:
        if parent is not None:
            make_folder(parent)
        remove_abandoned(Path(parent or tempfile.gettempdir()))
        self.path, owner = _made(parent)
        # also where nobody removes it
        self._end = weakref.finalize(self, _remove, self.path, owner, forks.generation())
        forks.after_fork(self, TempFolder._in_child)

    def close(self) -> None:
        """Remove it now; again is a no-op."""
        self._end()

    def _in_child(self) -> None:
        # it is the parent's
        self._end.detach()


class _Held:
    """The lock of an open file, held until it is let go; a child has no part in it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        forks.after_fork(self, _Held.let_go)

    def let_go(self) -> None:
        """Close the file; in a child the parent's lock stays, and goes with the parent."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def _made(parent: Path | None) -> tuple[Path, _Held | None]:
    """A new folder, and its lock; None where the file system has none."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=_FOLDER, dir=parent))
        try:
            owner = os.open(path / _OWNER, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        except FileNotFoundError:
            continue  # somebody took it, still empty, for abandoned
        held = _hold(owner)
        if held and (path / _OWNER).exists():
            return path, _Held(owner)
        os.close(owner)
        if held is None:
            shutil.rmtree(path, ignore_errors=True)
            return Path(tempfile.mkdtemp(prefix=_UNTOLD, dir=parent)), None


def _remove(path: Path, owner: _Held | None, born: int) -> None:
    if born != forks.generation():
        return  # in a child what holds the folder may be gone before the folder is told of the fork
    shutil.rmtree(path, ignore_errors=True)
    if owner is not None:
        owner.let_go()


def _hold(descriptor: int) -> bool | None:
    """Take the lock of a file; False where somebody has it, None where there are no locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def remove_abandoned(parent: Path) -> None:
    """Remove the temporary folders in a folder whose processes are gone; those of other users are left alone."""
    for found in _own(parent, _FOLDER, ""):
        owner = _opened(found / _OWNER)
        if owner is None:
            with suppress(OSError):
                found.rmdir()  # its process was killed before it could say that it is its own
            continue
        try:
            if _hold(owner):
                shutil.rmtree(found, ignore_errors=True)
        finally:
            os.close(owner)


def _own(parent: Path, start: str, end: str) -> list[Path]:
    """This user's entries of a folder with such names."""
    try:
        with os.scandir(parent) as entries:
            found = [e for e in entries if e.name.startswith(start) and e.name.endswith(end)]
            return [Path(e.path) for e in found if e.stat(follow_symlinks=False).st_uid == os.geteuid()]
    except OSError:
        return []


def _opened(file: Path) -> int | None:
    try:
        how = os.O_RDONLY if file.is_dir() else os.O_RDWR
        found = os.open(file, how | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    mode = os.fstat(found).st_mode
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return found
    os.close(found)
    return None


def remove_unfinished(folder: Path, start: str = ".") -> None:
    """Remove the unfinished files and folders in a folder whose processes are gone; those of other users stay.

    Args:
        folder: where they are.
        start: what their names begin with.
    """
    for left in _own(folder, start, _PARTIAL):
        held = _opened(left)
        if held is not None:
            if _hold(held):
                _remove_any(left)
            os.close(held)


def _remove_any(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def locked_folder(folder: Path, seconds: float) -> Iterator[bool]:
    """The lock of a folder, of one thread of one process at a time; False where others had it for all the time.

    Where the file system has no locks nobody waits.

    Args:
        folder: it exists.
        seconds: how long to wait at most.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows opens no folders
        yield True
        return
    until = time.monotonic() + seconds
    held_by = _Held(descriptor)
    try:
        while (held := _hold(descriptor)) is False and time.monotonic() < until:
            time.sleep(_POLL)
        yield held is not False
    finally:
        held_by.let_go()


@contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """A path to write to, which takes the target's place once the block is done: it appears whole or not at all.

    Raises:
        OSError: the folder takes no files.
    """
    start = _start(target)
    remove_unfinished(target.parent, start)
    partial, held_by = _begun(target, start)
    born = forks.generation()
    try:
        yield partial
        forks.check_same(born, f"the writing of {target}")
        partial.replace(target)
    finally:
        if born == forks.generation():
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            held_by.let_go()


def _begun(target: Path, start: str) -> tuple[Path, _Held]:
    """A new file beside the target, and its lock."""
    while True:
        partial = target.with_name(f"{start}{secrets.token_hex(6)}{_PARTIAL}")
        descriptor = opener(str(partial), os.O_RDWR | os.O_CREAT | os.O_EXCL)
        held = _hold(descriptor)
        if held is None or (held and partial.exists()):
            return partial, _Held(descriptor)
        os.close(descriptor)  # somebody took it, not yet held, for abandoned


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """The path of a folder to be made, which takes the target's place once the block is done: whole or not at all.

    A file or folder of that name is replaced: where the process is killed between the two steps, neither is there.

    Raises:
        OSError: the folder around it takes none.
    """
    start = _start(target)
    remove_unfinished(target.parent, start)
    aside, held_by = _begun_folder(target, start)
    born = forks.generation()
    try:
        yield aside / "new"
        forks.check_same(born, f"the writing of {target}")
        with suppress(FileNotFoundError):
            target.rename(aside / "old")
        (aside / "new").rename(target)
    finally:
        if born == forks.generation():
            shutil.rmtree(aside, ignore_errors=True)
            if held_by is not None:
                held_by.let_go()


def _begun_folder(target: Path, start: str) -> tuple[Path, _Held | None]:
    """A new folder beside the target, and its lock; None where folders have none."""
    while True:
        aside = target.with_name(f"{start}{secrets.token_hex(6)}{_PARTIAL}")
        aside.mkdir()
        try:
            descriptor = os.open(aside, os.O_RDONLY)
        except FileNotFoundError:
            continue  # somebody took it, not yet held, for abandoned
        except OSError:  # Windows opens no folders
            return aside, None
        if _hold(descriptor) is None or aside.exists():
            return aside, _Held(descriptor)
        os.close(descriptor)


def _start(target: Path) -> str:
    """What the names of unfinished files begin with that are to take a target's place."""
    name = target.name.encode(errors="surrogateescape")[:100].decode(errors="ignore")
    return f".{name}."
