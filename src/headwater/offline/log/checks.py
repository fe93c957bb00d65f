"""Checks of the offline log as a whole, and what is done about what they find."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from itertools import groupby

from headwater.errors import LogMismatch, StoreError, UsageError
from headwater.offline.log.cleaning import remove_pending
from headwater.offline.log.core import LogCore
from headwater.offline.log.files import LogFile, log_files, pending_removals, take_out_values
from headwater.offline.log.left_out import all_left_out
from headwater.offline.log.parts import UnreadableFile, unreadable_error
from headwater.offline.log.tables import files
from headwater.offline.log.verify import (
    LogCheck,
    LogDamage,
    check_database,
    check_file,
    check_folder,
    folder_mark,
    give_up,
    note_damaged,
    with_arrivals,
)

_LIVE = files.c.replaced_at.is_(None)


class LogChecks(LogCore):
    """Checks of an offline log; see `OfflineLog`."""

    def check(self) -> LogCheck:
        """Check every compacted file, every batch of the write buffer and every tombstone; in bounded memory.

        What is wrong with a file is noted in the database, so that readers look closely at it until it is whole again.

        Raises:
            StoreError: the database cannot be read.
        """
        check = LogCheck()
        with self._reading() as (connection, _, known):
            check_database(connection, known.shapes, check)
            live = log_files(connection, _LIVE)
            mark = folder_mark(connection)
        if self._folder is None:
            if live:
                reason = f"{len(live):,} files hold rows of the log, and no [offline] log folder is set"
                check.damaged.append(LogDamage("folder", "", "", reason))
            return check
        check_folder(mark, self._folder, check)
        found = self._checked(live)
        check.damaged += [with_arrivals(damage, live) for _, damage in found if damage is not None]
        check.files = len(live)
        check.file_rows = sum(file.rows for file in live)
        check.file_bytes = sum(file.stored.size or 0 for file in live)
        return check

    def examine(self, view: str, names: Sequence[str]) -> str | None:
        """Look closely at a view's files, once reading them has failed.

        Rows of values that nothing can read are taken out of their files and left out from then on.

        Args:
            view: the view.
            names: of the files that were read.

        Returns:
            What was wrong with them; None: nothing, so that the failure has another cause.
        """
        if self._folder is None or not names:
            return None
        with self._reading() as (connection, _, _):
            mine = log_files(connection, files.c.view == view)
        gone = set(names) - {file.name for file in mine}
        found = self._checked([file for file in mine if file.name in set(names) and file.replaced_at is None])
        damaged = [damage for _, damage in found if damage is not None]
        if any(damage.kind == "rows" for damage in damaged):
            with self._writing() as log:
                take_out_values(log.connection, self._folder, view, log.state.clock)
            remove_pending(self._engine, self._folder)
        unreadable = [
            UnreadableFile(file, f"{self._folder.path / file.name}: {damage.reason}")
            for file, damage in found
            if damage is not None and damage.kind != "rows"
        ]
        if unreadable:
            return str(unreadable_error(view, unreadable))
        if damaged:
            return (
                f"the offline log of view {view!r} held rows that cannot be read ({damaged[0].reason}); they are "
                "left out from now on: run it again"
            )
        if gone:
            return (
                f"the offline log of view {view!r} was rewritten since (rows were erased or left out): "
                f"{min(gone)} and others are gone; run it again"
            )
        return None

    def _checked(self, live: Sequence[LogFile]) -> list[tuple[LogFile, LogDamage | None]]:
        """What is wrong with files, noted; those that went from the log meanwhile are left out."""
        assert self._folder is not None
        found = [(file, check_file(self._folder, file)) for file in live]
        changed = any(damage is not None or file.damage is not None for file, damage in found)
        if not changed:
            return found
        with self._reading() as (connection, _, _):
            still = {file.number for file in log_files(connection, _LIVE)}
        found = [pair for pair in found if pair[0].number in still]
        # where nothing can be written, nothing is noted
        with suppress(StoreError), self._writing() as log:
            note_damaged(log.connection, found)
        return found

    def forget_files(self, names: Sequence[str]) -> tuple[str, ...]:
        """Let the log go on without files that are damaged or missing; histories and runs say so from then on.

        Args:
            names: of the files, with or without the folder.

        Returns:
            The names of those that were given up.

        Raises:
            UsageError: a name that is not a file of the log, or a file that is whole.
        """
        if self._folder is None:
            raise UsageError("the offline log has no files: no [offline] log folder is set")
        with self._writing() as log:
            return tuple(file.name for file in give_up(log.connection, self._folder, names, log.state.clock))

    def accept_folder(self) -> None:
        """Write the folder's `log.json` again, where it was lost or damaged, and the folder is the one all hosts use.

        Raises:
            UsageError: it is there and whole.
            LogMismatch: it names another log, or files of the log are missing in the folder.
        """
        if self._folder is None:
            raise UsageError("no [offline] log folder is set")
        # a claim needs the folder: where the database was restored as well, the next one notices
        with self._writing(claiming=True) as log:
            mark = folder_mark(log.connection)
            missing = [file.name for file in log_files(log.connection, _LIVE) if self._folder.missing(file.stored)]
            if missing:
                raise LogMismatch(
                    f"{self._folder.path}: is not the folder of this offline log, or incomplete: {len(missing):,} of "
                    f"its files are missing or cut short, {missing[0]} among them; headwater verify --forget "
                    "continues without them"
                )
            self._folder.mark_again(mark)

    def problems(self) -> tuple[str, ...]:
        """What somebody should look at: files that are missing or noted as damaged, and rows that are left out."""
        with self._reading() as (connection, _, _):
            live = log_files(connection, _LIVE)
            lost = all_left_out(connection)
            waiting = len(pending_removals(connection))
        wrong = [(file, file.damage or (self._folder.missing(file.stored) if self._folder else None)) for file in live]
        found = [
            f"offline log of {file.view!r}: file {file.name}: {reason}; headwater verify says how to go on"
            for file, reason in wrong
            if reason
        ]
        for view, some in groupby(lost, key=lambda left: left.view):
            rows = [left.rows for left in some]
            found.append(
                f"offline log of {view!r}: history and runs leave out {sum(rows):,} rows that were lost or "
                "cannot be read: headwater verify names them"
            )
        if waiting:
            found.append(f"offline log: {waiting:,} files are still to be removed; the next materialize tries it again")
        return tuple(found)

    def database_problem(self) -> str | None:
        """What is wrong with the database's own pages, where it is SQLite; None: nothing."""
        if self._engine.dialect.name != "sqlite":
            return None
        try:
            with self._reading() as (connection, _, _):
                said = str(connection.exec_driver_sql("PRAGMA quick_check(1)").scalar())
        except StoreError as bad:
            return str(bad)
        return None if said == "ok" else f"{self._engine.url.database}: is damaged ({said})"
