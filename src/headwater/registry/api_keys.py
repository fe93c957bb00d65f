"""API keys of servers: random, shown once, kept as a digest, with scopes, patterns and an end."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase

import msgspec
import sqlalchemy as sa

from headwater.clock import Clock, from_micros, to_micros
from headwater.database.transactions import now_micros, reading, writing_alone
from headwater.errors import NotFound, UsageError, nearest
from headwater.registry.tables import api_keys

READ, WRITE, ADMIN = "read", "write", "admin"
SCOPES = (READ, WRITE, ADMIN)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_TOKEN = re.compile(r"hw_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_NOBODY = bytes(32)


@dataclass(frozen=True, slots=True)
class APIKey:
    """A key as the registry has it: without its secret.

    Attributes:
        id: 12 hex digits, the part of the key that may be shown.
        name: what people call it.
        digest: SHA-256 of the whole key.
        scopes: of `read`, `write` (and delete) and `admin` (all).
        views, services: patterns (`weather*`) of what it may read; both empty: everything.
        created_at: when it was made (UTC).
        expires_at: from when on it is refused (UTC); None: never.
        revoked_at: when it was revoked (UTC); None: it was not.
    """

    id: str
    name: str
    digest: bytes
    scopes: frozenset[str]
    views: tuple[str, ...]
    services: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None

    def has(self, scope: str) -> bool:
        """Whether it may do what a scope covers."""
        return scope in self.scopes or ADMIN in self.scopes

    @property
    def unlimited(self) -> bool:
        """Whether it may read every view."""
        return not self.views and not self.services

    def names_view(self, view: str) -> bool:
        """Whether its patterns cover a view, known or not."""
        return self.unlimited or any(fnmatchcase(view, pattern) for pattern in self.views)

    def names_service(self, service: str) -> bool:
        """Whether its patterns cover a service by its name, known or not."""
        return self.unlimited or any(fnmatchcase(service, pattern) for pattern in self.services)

    def holds(self, now: datetime) -> bool:
        """Whether it is neither revoked nor expired."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


def digest_of(key: str) -> bytes:
    """What is kept of a key; it is random enough for a plain hash."""
    return hashlib.sha256(key.encode()).digest()


def key_id(key: str) -> str | None:
    """The part of a key by which it is found; None where it is not one."""
    match = _TOKEN.fullmatch(key)
    return None if match is None else match[1]


def is_key(key: str, known: APIKey | None) -> bool:
    """Whether a key is the one that is known under its id; as long for one that is unknown."""
    return hmac.compare_digest(digest_of(key), _NOBODY if known is None else known.digest) and known is not None


class APIKeys:
    """The keys of a project.

    Args:
        engine: of the registry's database.
        clock: tells the time where the database has no clock of its own that all share.
    """

    def __init__(self, engine: sa.Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock

    def create(
        self,
        name: str,
        scopes: Iterable[str],
        *,
        views: Sequence[str] = (),
        services: Sequence[str] = (),
        expires_at: datetime | None = None,
    ) -> tuple[str, APIKey]:
        """Make a key; it can be seen here and never again.

        Args:
            name: what people call it; of those that are not revoked one has it.
            scopes: of `read`, `write` and `admin`.
            views, services: patterns of what it may read.
            expires_at: UTC; None: never.

        Returns:
            The key, and what the registry has of it.

        Raises:
            UsageError: a bad name, scope or pattern, or a name that is taken.
        """
        wanted = frozenset(scopes)
        self._check(name, wanted, (*views, *services))
        identity = secrets.token_hex(6)
        key = f"hw_{identity}_{secrets.token_urlsafe(32)}"
        with writing_alone(self._engine) as connection:
            now = now_micros(connection, self._clock)
            taken = (api_keys.c.name == name) & api_keys.c.revoked_at.is_(None)
            if connection.execute(sa.select(api_keys.c.id).where(taken)).first() is not None:
                raise UsageError(f"there is a key {name!r}: revoke it first, or choose another name")
            connection.execute(
                api_keys.insert().values(
                    id=identity,
                    name=name,
                    digest=digest_of(key),
                    scopes=",".join(sorted(wanted)),
                    views=msgspec.json.encode(list(views)).decode(),
                    services=msgspec.json.encode(list(services)).decode(),
                    created_at=now,
                    expires_at=None if expires_at is None else to_micros(expires_at),
                )
            )
            row = connection.execute(sa.select(api_keys).where(api_keys.c.id == identity)).one()
        return key, _key(row)

    @staticmethod
    def _check(name: str, scopes: frozenset[str], patterns: Sequence[str]) -> None:
        if not _NAME.fullmatch(name):
            raise UsageError(f"{name!r} is not a name for a key: 1 to 64 letters, digits, '.', '_' or '-'")
        unknown = sorted(scopes - set(SCOPES))
        if unknown:
            near = nearest(unknown[0], SCOPES)
            raise UsageError(f"{unknown[0]!r} is not a scope{near}; they are {', '.join(SCOPES)}")
        if not scopes:
            raise UsageError(f"a key needs a scope: {', '.join(SCOPES)}")
        if not all(patterns):
            raise UsageError("a pattern of views or services must not be empty")

    def all(self) -> list[APIKey]:
        """Every key, revoked ones too, oldest first."""
        query = sa.select(api_keys).order_by(api_keys.c.created_at, api_keys.c.id)
        with reading(self._engine) as connection:
            return [_key(row) for row in connection.execute(query)]

    def revoke(self, name: str) -> APIKey:
        """Refuse a key from now on.

        Args:
            name: its name or id.

        Raises:
            NotFound: there is none, or it was revoked before.
        """
        mine = api_keys.c.revoked_at.is_(None) & ((api_keys.c.name == name) | (api_keys.c.id == name))
        with writing_alone(self._engine) as connection:
            # an earlier release could give a name to two keys
            found = connection.execute(sa.select(api_keys.c.id).where(mine)).scalars().all()
            connection.execute(api_keys.update().where(mine).values(revoked_at=now_micros(connection, self._clock)))
            for identity in found:
                return _key(connection.execute(sa.select(api_keys).where(api_keys.c.id == identity)).one())
        names = [key.name for key in self.all() if key.revoked_at is None]
        raise NotFound(f"no key {name!r} that is not revoked{nearest(name, names)}")


def _key(row: sa.Row[tuple[object, ...]]) -> APIKey:
    times = [None if at is None else from_micros(at) for at in (row.expires_at, row.revoked_at)]
    return APIKey(
        row.id,
        row.name,
        bytes(row.digest),
        frozenset(row.scopes.split(",")),
        tuple(msgspec.json.decode(row.views)),
        tuple(msgspec.json.decode(row.services)),
        from_micros(row.created_at),
        *times,
    )
