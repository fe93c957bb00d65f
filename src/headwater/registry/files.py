"""FileEntries: which files of its source a version's runs have read, kept beside the watermark that they belong to."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import msgspec
import sqlalchemy as sa

from headwater.database.transactions import reading, upsert, writing
from headwater.digests import blake2b
from headwater.planning.files import FileIdentity
from headwater.registry.tables import file_entries, file_runs, file_states

FORMAT = 1
KEPT_RUNS = 1_000
"""How many of a version's runs are known by their n; a watermark older than that makes the next run read everything."""

_MOST = 2**62


class _Identity(msgspec.Struct, omit_defaults=True):
    """A file's identity as it is stored, its path aside."""

    format: int
    size: int
    modified_ns: int
    inode: int | None = None
    device: str = ""
    etag: str | None = None
    rows: int | None = None
    settled: bool = True


class FileEntries:
    """The files that runs of view versions have read.

    A watermark carries the online store's epoch token and a number n, under which the run that wrote it recorded its
    files before. Entries of a greater n are of runs that never wrote theirs.

    Args:
        engine: of the registry's database.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def read(self, view: str, version: str, token: bytes, n: int) -> dict[str, FileIdentity] | None:
        """The files that a version has read up to its watermark, by path.

        Args:
            view, version: the version.
            token, n: those of its watermark.

        Returns:
            None where the database does not know this n: every file is to be read. An entry that cannot be read is
            left out: its file is read again.
        """
        if not 0 <= n < _MOST:
            return None
        epoch, mine = token.hex(), _of(file_entries, view, version)
        with reading(self._engine) as connection:
            known = sa.select(file_runs.c.n).where(_of(file_runs, view, version))
            if connection.execute(known.where(file_runs.c.token == epoch, file_runs.c.n == n)).first() is None:
                return None
            query = sa.select(file_entries.c.path, file_entries.c.identity)
            query = query.where(mine, file_entries.c.token == epoch, file_entries.c.n <= n)
            rows = connection.execute(query).all()
        entries = ((row.path, _unpacked(row.path, row.identity)) for row in rows)
        return {path: identity for path, identity in entries if identity is not None}

    def record(
        self,
        view: str,
        version: str,
        token: bytes,
        n: int,
        changed: Iterable[FileIdentity],
        listed: Iterable[str],
        *,
        known: int | None = None,
    ) -> int:
        """Note what a run has read, before it writes its watermark; one transaction, which writes what differs alone.

        Entries that `read` did not give to this run go too: another run wrote them meanwhile, as far as its own end.

        Args:
            view, version: the version.
            token: the epoch token that the run read before its first row.
            n: the greatest that a watermark of the version has had, one that did not count too; 0 where there was none.
            changed: the new and changed files, as they were when they were read.
            listed: the paths of all files that the run listed; entries of others are removed.
            known: the n that the run's `read` was given, 0 where it knew nothing; None: `n`.

        Returns:
            The n that the run's watermark carries.

        Raises:
            StoreReadOnly, StorageFull, Unavailable: what the database said.
        """
        # a damaged watermark's number fits no column
        n = n if 0 <= n < _MOST else 0
        epoch, mine = token.hex(), _of(file_entries, view, version)
        written = {_digest(file.path): file for file in changed}
        with writing(self._engine) as connection:
            number = _next(connection, view, version, n)
            connection.execute(file_runs.insert().values(view=view, version=version, n=number, token=epoch))
            old = _of(file_runs, view, version) & (file_runs.c.n <= number - KEPT_RUNS)
            connection.execute(file_runs.delete().where(old))
            unknown = (file_entries.c.token != epoch) | (file_entries.c.n > (n if known is None else known))
            connection.execute(file_entries.delete().where(mine, unknown))
            kept = {_digest(path) for path in listed} - written.keys()
            _remove(connection, view, version, kept)
            rows = [
                {
                    **{"view": view, "version": version, "path_digest": digest, "path": file.path},
                    **{"identity": _packed(file), "token": epoch, "n": number},
                }
                for digest, file in written.items()
            ]
            if rows:
                connection.execute(file_entries.insert(), rows)
        return number

    def remove_missing(self, view: str, version: str, present: Iterable[str]) -> list[str]:
        """Remove the entries of files that are gone: `force` removes their rows, and a file may come back as it was.

        Args:
            view, version: the version.
            present: the paths of the source's files.

        Returns:
            The paths that were removed.
        """
        with writing(self._engine) as connection:
            return _remove(connection, view, version, {_digest(path) for path in present})

    def forget(self, view: str, version: str) -> None:
        """Remove everything about a version; with its rows."""
        with writing(self._engine) as connection:
            for table in (file_entries, file_runs, file_states):
                connection.execute(table.delete().where(_of(table, view, version)))

    def warn_once(self, view: str, version: str) -> bool:
        """Whether a version's rows of missing files are still to be warned of; the first to ask is the one who does."""
        with writing(self._engine) as connection:
            noted = upsert(connection.dialect, file_states).values(view=view, version=version, n=0, warned=0)
            connection.execute(noted.on_conflict_do_nothing(index_elements=["view", "version"]))
            mine = _of(file_states, view, version) & (file_states.c.warned == 0)
            return connection.execute(file_states.update().where(mine).values(warned=1)).rowcount == 1

    def warn_again(self, view: str, version: str) -> None:
        """Let the next missing file of a version be warned of: `force` has removed what the last ones left."""
        with writing(self._engine) as connection:
            connection.execute(file_states.update().where(_of(file_states, view, version)).values(warned=0))


def _packed(file: FileIdentity) -> str:
    identity = (file.size, file.modified_ns, file.inode, file.device, file.etag, file.rows, file.settled)
    return msgspec.json.encode(_Identity(FORMAT, *identity)).decode()


def _unpacked(path: str, identity: str) -> FileIdentity | None:
    """A stored identity; None where it cannot be read: then the file is read again, and recorded again."""
    try:
        found = msgspec.json.decode(identity, type=_Identity)
    except (msgspec.MsgspecError, UnicodeError):
        return None
    if found.format > FORMAT:
        return None
    counted = (found.rows, found.settled)
    return FileIdentity(path, found.size, found.modified_ns, found.inode, found.device, found.etag, *counted)


def _digest(path: str) -> str:
    """A path as a key: paths are longer than an index takes."""
    return blake2b(path.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _of(table: sa.Table, view: str, version: str) -> sa.ColumnElement[bool]:
    return (table.c.view == view) & (table.c.version == version)


def _next(connection: sa.Connection, view: str, version: str, n: int) -> int:
    """One more than the greatest n that the database or a watermark has; of two runs one waits for the other."""
    known = file_states.c.n
    greater = sa.case((known > n, known + 1), else_=n + 1)
    noted = upsert(connection.dialect, file_states).values(view=view, version=version, n=n + 1, warned=0)
    connection.execute(noted.on_conflict_do_update(index_elements=["view", "version"], set_={"n": greater}))
    return int(connection.execute(sa.select(known).where(_of(file_states, view, version))).scalar_one())


def _remove(connection: sa.Connection, view: str, version: str, kept: Collection[str]) -> list[str]:
    """Remove the entries of a version whose digests are not among these; their paths."""
    mine = _of(file_entries, view, version)
    rows = connection.execute(sa.select(file_entries.c.path_digest, file_entries.c.path).where(mine)).all()
    gone = [row for row in rows if row.path_digest not in kept]
    if gone:
        one = file_entries.c.path_digest == sa.bindparam("gone")
        connection.execute(file_entries.delete().where(mine & one), [{"gone": row.path_digest} for row in gone])
    return sorted(row.path for row in gone)
