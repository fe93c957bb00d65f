"""The folder of a project's training sets: `NAME/VERSION`, each of which appears whole or not at all."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from msgspec.structs import replace

from headwater.deferred import deferred_pattern
from headwater.errors import FormatError, NotFound, StoreError, UsageError, brief, listing, nearest
from headwater.offline.training_sets.manifest import FILE, Manifest, decode
from headwater.offline.training_sets.writing import explained, make_durable, write_manifest
from headwater.scratch import TempFolder, locked_folder, remove_abandoned
from headwater.state_files import make_folder

_NAME: re.Pattern[str] = deferred_pattern(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_VERSION: re.Pattern[str] = deferred_pattern(r"[1-9][0-9]{0,8}")
_TAKEN = (errno.ENOTEMPTY, errno.EEXIST)
_WAIT = 60.0
"""Seconds that somebody waits for the folder's lock."""


class NewPurges(Protocol):
    """The purges that were asked for since a set's history was read."""

    def erase(self, folder: Path) -> Manifest:
        """Take the rows of the keys that are purged by now out of the set in a folder; its manifest from now on."""

    def more(self) -> bool:
        """Whether there are purges that the last `erase` has not seen."""


class TrainingSets:
    """The training sets in a folder.

    Args:
        path: the folder, which is made with the first set; None: a temporary one, which goes with this object.
    """

    def __init__(self, path: Path | None) -> None:
        self._temporary = TempFolder() if path is None else None
        self.path: Path = path if self._temporary is None else self._temporary.path  # type: ignore[assignment]

    def names(self) -> list[str]:
        """The names that have at least one version, in order."""
        return [name for name in self._entries(self.path, _NAME) if self._has_versions(name)]

    def _has_versions(self, name: str) -> bool:
        """Whether a name has versions, or a folder that cannot be listed."""
        try:
            return bool(self.versions(name))
        except StoreError:
            return True

    def versions(self, name: str) -> list[int]:
        """The versions of a name, in order; none of one that nobody has."""
        return sorted(map(int, self._entries(self.path / name, _VERSION)))

    @staticmethod
    def _entries(folder: Path, pattern: re.Pattern[str], *, folders: bool = True) -> list[str]:
        try:
            with os.scandir(folder) as entries:
                named = [entry for entry in entries if pattern.fullmatch(entry.name)]
                return sorted(entry.name for entry in named if not folders or entry.is_dir())
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as bad:
            raise StoreError(f"cannot list training sets in {folder}: {bad.strerror}") from bad

    def find(self, name: str, version: int | None = None) -> tuple[Path, Manifest]:
        """The folder and the manifest of a set.

        Args:
            name: the set's.
            version: None: the newest.

        Raises:
            NotFound: there is none, with the nearest name.
            UsageError: not a name or version.
            FormatError: its manifest is damaged, or a newer headwater wrote it.
        """
        check_name(name)
        if version is not None and (isinstance(version, bool) or not isinstance(version, int)):
            raise UsageError(f"version={brief(version)}: the version of a training set is a number such as 3")
        versions = self.versions(name)
        if not versions:
            names = self.names()
            there = f"there are {listing(names)}" if names else "none was saved yet: save_training_set() saves one"
            raise NotFound(f"no training set {name!r} in {self.path}{nearest(name, names)}; {there}")
        wanted = versions[-1] if version is None else version
        if wanted not in versions:
            raise NotFound(f"training set {name!r} has no version {wanted}; it has {listing(map(str, versions))}")
        folder = self.path / name / str(wanted)
        return folder, read_manifest(folder)

    def all(self) -> Iterator[tuple[Path, Manifest | StoreError]]:
        """Every set, by name and version: its folder, and its manifest or why it cannot be read.

        Raises:
            StoreError: the folder cannot be listed.
        """
        for name in self._entries(self.path, _NAME):
            try:
                folders = [self.path / name / str(version) for version in self.versions(name)]
            except StoreError as bad:
                yield self.path / name, bad
                continue
            for folder in folders:
                try:
                    yield folder, read_manifest(folder)
                except StoreError as bad:
                    yield folder, bad

    @contextmanager
    def begun(self, name: str) -> Iterator[Path]:
        """A folder to write a new set into; gone after the block, whatever is still in it.

        Raises:
            UsageError: not a name.
            StorageFull, StoreError: no folder can be made there.
        """
        check_name(name)
        with explained(self.path):
            temporary = TempFolder(self.path)
            try:
                make_folder(temporary.path / "set")
            except BaseException:
                temporary.close()
                raise
        try:
            yield temporary.path / "set"
        finally:
            temporary.close()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Let nobody else publish a set, or list the sets to erase from, within the block; it is short.

        Where the file system has no locks, nobody waits.

        Raises:
            StoreError: another process held the lock for a minute.
        """
        with locked_folder(self.path, _WAIT) as held:
            if not held:
                raise StoreError(f"{self.path} is locked by another process: try again once that has ended")
            yield

    def to_erase_from(self) -> tuple[list[Path], list[str]]:
        """The folders of all sets that are published by now, and what is in the way of listing others."""
        if not self.path.exists():
            return [], []
        folders: list[Path] = []
        problems: list[str] = []
        remove_abandoned(self.path)  # what killed processes had begun may have purged keys too
        try:
            with self._alone():
                names = self._entries(self.path, _NAME)
        except StoreError as bad:
            return [], [str(bad)]
        for name in names:
            try:
                folders += [self.path / name / str(version) for version in self.versions(name)]
            except StoreError as bad:
                problems.append(str(bad))
        return folders, problems

    def publish(self, name: str, begun: Path, manifest: Manifest, purges: NewPurges) -> Path:
        """Give a written set the next version: it is there whole, and without purged keys, from one moment on.

        Whoever erases lists the sets under the lock, so that no erase can begin between the last look for purges and
        the moment at which it would see the set: a purged key is found by one of the two, also where this process is
        killed.

        Args:
            name: the set's.
            begun: its folder, as `begun` gave it.
            manifest: its manifest, of any version.
            purges: those of the set's views.

        Returns:
            Its folder from now on.

        Raises:
            StorageFull, StoreError: it cannot be written.
        """
        with explained(self.path / name):
            make_folder(self.path / name)
        write_manifest(begun, manifest)
        while True:
            made = purges.erase(begun)  # takes long, so not under the lock
            with self._alone():
                if not purges.more():
                    target = self._renamed(name, begun, made)
                    make_durable(self.path / name)
                    return target

    def _renamed(self, name: str, begun: Path, manifest: Manifest) -> Path:
        while True:
            # no file takes a number away, one that is not a set's either
            version = max(map(int, self._entries(self.path / name, _VERSION, folders=False)), default=0) + 1
            write_manifest(begun, replace(manifest, version=version))
            target = self.path / name / str(version)
            try:
                # a folder takes the place of none that has anything in it: of two savers one gets the next version
                begun.rename(target)
            except OSError as bad:
                if bad.errno in _TAKEN:
                    continue
                raise StoreError(f"cannot write {target}: {bad}") from bad
            return target


def read_manifest(folder: Path) -> Manifest:
    """The manifest in a set's folder.

    Raises:
        FormatError: it is damaged or missing, or a newer headwater wrote it.
        StoreError: it cannot be read.
    """
    file = folder / FILE
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        raise FormatError(
            f"{file} does not exist: restore the training set from a copy, or remove its folder"
        ) from None
    except OSError as bad:
        raise StoreError(f"cannot read {file}: {bad.strerror}") from bad
    return decode(content, str(file))


def check_name(name: str) -> None:
    """Refuse what cannot be the name of a training set.

    Raises:
        UsageError: saying what can.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UsageError(
            f"{brief(name)} is not a valid name for a training set: use letters, digits, '.', '_' and '-', and begin "
            "with a letter or digit"
        )
