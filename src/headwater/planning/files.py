"""Files of a source: what identifies one, and which are new, changed or missing since a version's last run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from headwater.values import Value

SETTLED_MICROS = 2_000_000
"""A file that was modified less than this before it was listed may be modified again within the same tick of its file
system's clock: it counts as changed next time."""
_SHOWN = 5


class FileIdentity(Value, frozen=True):
    """What identifies the content of one file, taken before it was opened.

    Attributes:
        path: as the source names it: relative to the project's folder where the source's own path is, or a URL without
            its options.
        size: bytes.
        modified_ns: modification time, nanoseconds since 1970 (UTC), by the clock of whoever keeps the file.
        inode: its number on `device`; None where there is none.
        device: the host and the device that `inode` belongs to.
        etag: the object store's own mark of the content; None where it gives none.
        rows: how many rows were read from it; None where that is not known.
        settled: False where it was modified so shortly before it was listed that a later change may not show.
    """

    path: str
    size: int
    modified_ns: int
    inode: int | None = None
    device: str = ""
    etag: str | None = None
    rows: int | None = None
    settled: bool = True


def same_file(one: FileIdentity, other: FileIdentity) -> bool:
    """Whether both are the same content under the same path; what was counted in it aside."""
    if (one.path, one.size) != (other.path, other.size):
        return False
    if one.etag is not None or other.etag is not None:
        return one.etag == other.etag
    # another host numbers its devices and inodes in its own way
    same_inode = one.inode == other.inode or one.device != other.device
    return one.modified_ns == other.modified_ns and same_inode


class FileChanges(Value, frozen=True):
    """A listing of a source's files beside what a version's last run recorded.

    Attributes:
        new: files that were not recorded.
        changed: files whose identity is another than the recorded one, or was not settled.
        unchanged: files that are as they were recorded.
        missing: paths that were recorded and not listed.
        rewritten: paths of changed files that have fewer rows than were recorded (where rows are not known: fewer
            bytes).
    """

    new: tuple[FileIdentity, ...] = ()
    changed: tuple[FileIdentity, ...] = ()
    unchanged: tuple[FileIdentity, ...] = ()
    missing: tuple[str, ...] = ()
    rewritten: tuple[str, ...] = ()

    @property
    def whole(self) -> frozenset[str]:
        """The paths of files that are read whole."""
        return frozenset(file.path for file in (*self.new, *self.changed))

    @property
    def listed(self) -> frozenset[str]:
        """The paths of all files that were listed."""
        return self.whole | {file.path for file in self.unchanged}


def compare_files(
    recorded: Mapping[str, FileIdentity] | None, listed: Iterable[FileIdentity], listed_at: int
) -> FileChanges:
    """What is new, changed, unchanged, missing and rewritten; of new and changed files whether they are settled.

    Args:
        recorded: path → identity, of the version's last run; None where nothing that was recorded counts: all are new.
        listed: the source's files now.
        listed_at: when the listing began (microseconds since 1970, UTC).
    """
    before = recorded or {}
    new: list[FileIdentity] = []
    changed: list[FileIdentity] = []
    unchanged: list[FileIdentity] = []
    rewritten: list[str] = []
    there = set()
    for file in listed:
        there.add(file.path)
        known = before.get(file.path)
        if known is None:
            new.append(_settled(file, listed_at))
        elif known.settled and same_file(known, file):
            unchanged.append(known)
        else:
            changed.append(_settled(file, listed_at))
            if _is_smaller(file, known):
                rewritten.append(file.path)
    missing = tuple(sorted(before.keys() - there))
    return FileChanges(tuple(new), tuple(changed), tuple(unchanged), missing, tuple(rewritten))


def counted(files: Iterable[FileIdentity], rows: Mapping[str, int]) -> tuple[FileIdentity, ...]:
    """The same files with how many rows were read from each, where that is known by its path."""
    return tuple(replace(file, rows=rows[file.path]) if file.path in rows else file for file in files)


def moved_files(before: Iterable[FileIdentity], after: Iterable[FileIdentity]) -> tuple[frozenset[str], frozenset[str]]:
    """The paths of a listing that a second one has with another identity, and those that it has no more.

    Args:
        before: the files as they were listed before they were read.
        after: the files as they were listed once they were read.
    """
    now = {file.path: file for file in after}
    listed = list(before)
    gone = frozenset(file.path for file in listed if file.path not in now)
    return frozenset(f.path for f in listed if f.path in now and not same_file(f, now[f.path])), gone


def lost_rows_warning(view: str, version: str, missing: Sequence[str], rewritten: Sequence[str]) -> str | None:
    """What a run says of files that are missing or have fewer rows than they had; None where there are none."""
    parts = []
    if missing:
        parts.append(
            f"{_number(missing)} of its source {'is' if len(missing) == 1 else 'are'} gone ({_names(missing)})"
        )
    if rewritten:
        verb = "was rewritten with" if len(rewritten) == 1 else "were rewritten with"
        parts.append(f"{_number(rewritten)} {verb} fewer rows ({_names(rewritten)})")
    if not parts:
        return None
    return (
        f"{view}@{version}: {' and '.join(parts)}: rows that only they had stay online; to remove them: "
        f'headwater materialize {view} --force; to keep them without this warning: [online] gone_files = "keep"'
    )


def moving_files_warning(view: str, version: str, files: Sequence[str]) -> str | None:
    """What a run says of files that changed each time they were read; None where there are none."""
    if not files:
        return None
    return (
        f"{view}@{version}: {_number(files)} changed whenever {'it was' if len(files) == 1 else 'they were'} read "
        f"({_names(files)}): the next run reads {'it' if len(files) == 1 else 'them'} again; write a file under "
        "another name and rename it when it is complete"
    )


def _settled(file: FileIdentity, listed_at: int) -> FileIdentity:
    # an object store's mark tells two contents apart whenever they were written
    settled = file.etag is not None or listed_at * 1000 - file.modified_ns >= SETTLED_MICROS * 1000
    return file if settled == file.settled else replace(file, settled=settled)


def _is_smaller(now: FileIdentity, before: FileIdentity) -> bool:
    if now.rows is not None and before.rows is not None:
        return now.rows < before.rows
    return now.size < before.size


def _number(files: Sequence[str]) -> str:
    return f"{len(files):,} file{'' if len(files) == 1 else 's'}"


def _names(files: Sequence[str]) -> str:
    shown = ", ".join(sorted(files)[:_SHOWN])
    return shown if len(files) <= _SHOWN else f"{shown} and {len(files) - _SHOWN:,} more"
