"""Claims: before a write, that the offline log and the online store are this project's, and neither was restored."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import astuple
from typing import TYPE_CHECKING

from headwater.clock import from_micros
from headwater.deferred import deferred
from headwater.digests import blake2b
from headwater.errors import LogMismatch, Unavailable, UsageError
from headwater.forks import lazy
from headwater.offline.log.log_id import read_log_id
from headwater.online.base import OnlineStore, new_token
from headwater.online.meta import (
    fill_record_key,
    greatest_key,
    location_key,
    log_id_key,
    number_of,
    pack_location,
    pack_log_id,
    read_watermarks,
    token_key,
    unpack_location,
    unpack_log_id,
)
from headwater.online.powers import Removable
from headwater.online.void_windows import void_entries, void_rows
from headwater.planning.resolve import whole_view
from headwater.planning.snapshot import RegistrySnapshot
from headwater.planning.watermark import Watermark
from headwater.registry.registry import FeatureRegistry

if TYPE_CHECKING:
    from headwater.compute import registry_location
    from headwater.offline.files import local
    from headwater.offline.log.log import OfflineLog
else:
    registry_location = deferred("headwater.compute.registry_location")
    local = deferred("headwater.offline.files.local")

SECONDS = 5.0
"""How long a look at the online store's log id counts: as long as a snapshot of the registry."""


class Claims:
    """What was looked at, and when.

    Args:
        project: the project's name.
        registry: the registry.
        open_log: gives the offline log.
        online: the online store.

    Attributes:
        mended: the generation of the offline log that `mend` was called for last.
    """

    def __init__(
        self,
        project: str,
        registry: FeatureRegistry,
        open_log: Callable[[], OfflineLog],
        online: OnlineStore,
    ) -> None:
        self._project = project
        self._registry = registry
        self._open_log = open_log
        self.online = online
        self.mended: str | None = None
        self._generation: str | None = None
        self._looked: float | None = None
        self._read_until = 0.0

    @property
    def _log(self) -> OfflineLog:
        return self._open_log()

    @lazy
    def log_id(self) -> str:
        """The id of the offline log; the log is opened where it has none yet."""
        return read_log_id(self._registry.database) or self._log.log_id

    def claim_log(self, *, look: bool = True) -> None:
        """Make sure, before a write, that this host writes to the folder of the offline log that all hosts use.

        Where the log ends below what the online store holds it was restored from an older copy: its positions go on
        above all that the store has, and the store's token is renewed.

        Args:
            look: look at the registry's database; not needed before an append, which does so in its own transaction.

        Raises:
            LogMismatch: its folder is another one.
        """
        if look:
            # what the log says of its generation is as old as this process's last look
            self._log.head_position()
        if self._generation is not None and self._generation == self._log.generation:
            return
        try:
            greatest = self._greatest()
        except Unavailable:
            # rows for the log alone need no online store; the next write looks again
            self._log.claim(0)
            return
        if self._log.head_position() < greatest:
            self.renew_token()
        if self._log.claim(greatest):
            self._registry.refresh()
        self._generation = self._log.generation

    def claim_online(self, *, always: bool = False, look: bool = True) -> None:
        """Make sure, before a write, that the online store belongs to this offline log; an empty one becomes its own.

        Args:
            always: look at the online store even where it was looked at a moment ago.
            look: see `claim_log`.

        Raises:
            LogMismatch: another log's rows are in it.
        """
        self.claim_log(look=look or always)
        if not always and self._looked is not None and time.monotonic() - self._looked < SECONDS:
            return
        self.check_owner(claim=True)
        # a log that was restored to no earlier than this process knew it, on a server say, ends below the store all
        # the same; the store is asked first, since others go on writing
        (data,) = self.online.multi_get([greatest_key(self._project)])
        if number_of(data) > self._log.head_position():
            self._generation = None
            self.claim_log(look=False)
        self._looked = time.monotonic()

    def check_owner(self, *, claim: bool = False) -> None:
        """Refuse an online store that another offline log writes to.

        Args:
            claim: whether an online store without an id becomes this log's.

        Raises:
            LogMismatch: another log's rows are in it.
            Unavailable: its files are gone, and it is not to be claimed.
        """
        if not claim:
            self.check_there()
        elif isinstance(self.online, Removable):
            self.online.begin_again()
        key = self.owner_key
        data, known = self.online.multi_get([key, self._location_key])
        if data is None and claim:
            if self.online.put_meta({key: pack_log_id(self._project, self.log_id)}, expected={key: None}):
                # sessions are held to the epoch from the first row on
                self.online.epoch(token_key(self._project))
                self._note_files()
                data = pack_log_id(self._project, self.log_id)
            else:
                data, known = self.online.multi_get([key, self._location_key])
        self._check(data)
        mine = self._location()
        if self._is_of_copy(mine, known):
            raise self._copied(known)
        if data is not None and claim and mine is not None and known != mine:
            # another process may write it at the same time: both see to it again with a later write
            self.online.put_meta({self._location_key: mine}, expected={key: data, self._location_key: known})

    def check_there(self) -> None:
        """Refuse reads of a store whose files are gone, before one of them makes an empty store.

        Raises:
            Unavailable: this project put rows into a store of these files.
        """
        online = self.online
        if isinstance(online, Removable) and not online.is_there() and self._registry.setting(self._files_key):
            raise Unavailable(
                f"the online store {online.files} was removed or moved: put it back, or fill a new one with "
                "'headwater materialize'"
            )

    @property
    def _files_key(self) -> str:
        """The setting of the registry which says that the files of the online store were once there."""
        assert isinstance(self.online, Removable)
        name = f"{local.this_host()}\0{self.online.files}"
        return f"online:{blake2b(name.encode(), digest_size=16).hexdigest()}"

    def _note_files(self) -> None:
        """Have the registry know the files of a store that became this log's."""
        if isinstance(self.online, Removable):
            self._registry.get_or_set(self._files_key, "1")

    @property
    def _location_key(self) -> bytes:
        return location_key(self._project)

    def _location(self) -> bytes | None:
        """Where this registry is, as it is stored; None where it has no location of its own."""
        here = registry_location.location_of(self._registry.database, self.online)
        return None if here is None else pack_location(*astuple(here))

    def _is_of_copy(self, mine: bytes | None, known: bytes | None) -> bool:
        """Whether the online store was written from another registry with the same log, since one is a copy."""
        if mine is None or known is None or mine == known:
            return False
        mine_at, known_at = (registry_location.RegistryLocation(*unpack_location(place)) for place in (mine, known))
        return registry_location.is_copy(mine_at, known_at, self.log_id)

    def _copied(self, known: bytes | None) -> LogMismatch:
        """The error where the online store was written from another registry with the same log, with the ways on."""
        assert known is not None
        there = registry_location.RegistryLocation(*unpack_location(known))
        host = "" if there.host == local.this_host() else " on another host"
        return LogMismatch(
            f"project {self._project!r}: the online store {self.online.info()['place']} holds the rows of the registry "
            f"{there.path}{host}; {self._registry.database.place} has the same offline log, {self.log_id}: one is a "
            "copy of the other. If this one is the copy, give it its own name: headwater rename-project NAME. If "
            f"this registry replaces the other, run: headwater claim-store --from {self.log_id}"
        )

    def _check(self, data: bytes | None) -> None:
        """Compare what stands under `owner_key` with this log's id."""
        if data is not None:
            _, log_id = unpack_log_id(data)
            if log_id != self.log_id:
                raise self._mismatch(log_id)

    @property
    def owner_key(self) -> bytes:
        """The key under which the online store has the id of the offline log that it belongs to."""
        return log_id_key(self._project)

    @property
    def reads_due(self) -> bool:
        """Whether the next read has to look at whose the online store is."""
        return time.monotonic() >= self._read_until

    def saw(self, data: bytes | None) -> None:
        """Take note, for reads, of what stands under `owner_key`.

        Raises:
            LogMismatch: another log's rows are in the store.
        """
        self._check(data)
        self._read_until = time.monotonic() + SECONDS

    def check_reads(self) -> None:
        """Before rows are read: refuse an online store that another offline log writes to.

        One that cannot be reached now is looked at with a later read.

        Raises:
            LogMismatch: another log's rows are in it.
        """
        if not self.reads_due:
            return
        try:
            (data,) = self.online.multi_get([self.owner_key])
        except Unavailable as bad:
            if bad.closed:
                raise
            return
        self.saw(data)

    def take_over(self, log_id: str) -> int:
        """Let this log own an online store that another one wrote to.

        The position counter goes on above all that the store has, so that every row and delete of the other log has a
        lower position; watermarks are void, so that the next runs fill every version; the token is renewed. Rows and
        deletes of the other log stay until they are replaced, or `force` removes what history lacks. Rows of window
        views go at once: they are numbered by the other log's clock, which may be ahead of this one's.

        Args:
            log_id: of the log that owns the store now.

        Returns:
            The position after which this log goes on.

        Raises:
            UsageError: the store is owned by a third log, by this one, or by none.
            Unavailable: it was written to meanwhile; it still belongs to the other log, whose next run fills the window
                views again.
        """
        key = log_id_key(self._project)
        data, known = self.online.multi_get([key, self._location_key])
        here = self._location()
        owner = None if data is None else unpack_log_id(data)[1]
        if owner != log_id or (owner == self.log_id and not self._is_of_copy(here, known)):
            said = "no offline log" if owner is None else f"offline log {owner}"
            mine = ", which is this registry's" if owner == self.log_id else ""
            raise UsageError(f"the online store belongs to {said}{mine}, not to {log_id}; nothing was changed")
        # the log's own positions are settled before they go on above the store's
        self.claim_log()
        (greatest,) = self.online.multi_get([greatest_key(self._project)])
        snapshot = self._registry.refresh()
        views = snapshot.views.values()
        pairs = [(view.name, version) for view in views for version in view.versions]
        marks = read_watermarks(self.online, self._project, pairs)
        position = max([number_of(greatest), *(mark.position for mark in marks.values() if mark is not None)])
        self._log.raise_position(position)
        token = token_key(self._project)
        (old,) = self.online.multi_get([token])
        entries: dict[bytes, bytes | None] = {}
        for pair in pairs:
            entries |= void_entries(self._project, *pair)
        expected: dict[bytes, bytes | None] = {key: data, token: old, self._location_key: known}
        expected |= self._void_windows(snapshot, expected)
        entries |= {key: pack_log_id(self._project, self.log_id), token: new_token(), self._location_key: here}
        if not self.online.put_meta(entries, expected=expected):
            raise self._written_meanwhile()
        self.look_again()
        return position

    def _void_windows(
        self, snapshot: RegistrySnapshot, expected: dict[bytes, bytes | None]
    ) -> dict[bytes, bytes | None]:
        """Remove the rows of window views while the store is the other log's: who is killed here can begin again.

        Returns:
            What the store must have instead when it is taken over: no record of a fill that went on meanwhile.
        """
        windows = [
            whole_view(record, version)
            for record in snapshot.views.values()
            for version in record.versions.values()
            if version.view.aggregations
        ]
        if not windows:
            return {}
        token = token_key(self._project)
        # runs and puts of the epoch before begin no row from here on
        renewed: dict[bytes, bytes | None] = {token: new_token()}
        entries = dict(renewed)
        for view in windows:
            entries |= void_entries(self._project, view.name, view.version)
        if not self.online.put_meta(entries, expected=expected):
            raise self._written_meanwhile()
        for view in windows:
            void_rows(self.online, self._project, view)
        return renewed | {fill_record_key(self._project, view.name, view.version): None for view in windows}

    def _written_meanwhile(self) -> Unavailable:
        return Unavailable("the online store was written to while it was taken over; its owner is unchanged, try again")

    def look_again(self) -> None:
        """Let the next write and the next read look whose the online store is, however lately that was seen."""
        self._looked, self._read_until = None, 0.0

    def renew_token(self) -> None:
        """Begin another epoch of the online store: sessions and runs of the one before end."""
        key = token_key(self._project)
        while True:
            (token,) = self.online.multi_get([key])
            if self.online.put_meta({key: new_token()}, expected={key: token}):
                return

    def _greatest(self) -> int:
        """The greatest log position that anything put into the online store has; 0 where it is another's."""
        keys = [greatest_key(self._project), self.owner_key, self._location_key]
        data, owner, known = self.online.multi_get(keys)
        if owner is not None and unpack_log_id(owner)[1] != self.log_id:
            return 0
        if known is not None and self._is_of_copy(self._location(), known):
            return 0
        # a store of an earlier release has watermarks alone
        marks = self._watermarks() if data is None else []
        return max([number_of(data), *(mark.position for mark in marks)])

    def _watermarks(self) -> list[Watermark]:
        views = self._registry.snapshot().views.values()
        pairs = [(view.name, version) for view in views for version in view.versions]
        return [mark for mark in read_watermarks(self.online, self._project, pairs).values() if mark is not None]

    def _mismatch(self, log_id: str) -> LogMismatch:
        """The error where an online store belongs to another offline log, with the ways on."""
        last = max((mark.end for mark in self._watermarks()), default=None)
        when = (
            "" if last is None or abs(last) > 2**55 else f", materialized up to {from_micros(last):%Y-%m-%d %H:%M} UTC"
        )
        return LogMismatch(
            f"project {self._project!r}: the online store {self.online.info()['place']} holds the rows of offline log "
            f"{log_id}{when}; the offline log of this registry is {self.log_id}. If these are two projects, give "
            "this one its own name: headwater rename-project NAME. If hosts of one project write here, use the "
            "same [registry] url on all of them. If this registry replaces the other, run: headwater claim-store "
            f"--from {log_id}"
        )
