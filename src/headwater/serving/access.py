"""Who may do what: API keys as workers know them, and what a request's key allows."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from headwater.cached_value import CachedValue
from headwater.clock import Clock
from headwater.definitions.model import Model
from headwater.errors import AccessDenied
from headwater.event_loops import LOOKUPS
from headwater.planning.references import parse_reference
from headwater.planning.snapshot import RegistrySnapshot
from headwater.registry.api_keys import ADMIN, APIKey, is_key, key_id
from headwater.serving.answers import busy

READ_EVERY = 1.0
"""Seconds between two readings of the keys: a revoked one is refused after that at the latest."""
_HELD = 60.0
"""Seconds that a known key holds while the registry cannot be read."""
_FRESH = 5.0
"""Seconds after a reading of the keys for which a key that is not among them does not exist."""
_LONGEST, _MOST_CHECKED = 256, 1_024
"""Bytes of an Authorization header that is kept with what it allows until the keys are read again, and how many are."""
_NO_KEY = (
    "this server needs an API key: send 'Authorization: Bearer KEY' (in Python hw.Client(url, api_key=KEY)); "
    "'headwater keys create' makes one"
)
_THIS_HOST = (
    "this route is for operators: ask from the server's own host, or start the server with API keys and send one of "
    "scope admin"
)
_FORBIDDEN = (
    "this API key does not allow this request: its scopes, or its patterns of views and services, do not cover it"
)


@dataclass(frozen=True, slots=True)
class Access:
    """What one request may do.

    Attributes:
        key: its key; None: no keys are asked for here, so that everything is allowed.
    """

    key: APIKey | None = None

    def check(self, scope: str) -> None:
        """Refuse what the key's scopes do not cover."""
        if self.key is not None and not self.key.has(scope):
            raise forbidden()

    def check_view(self, snapshot: RegistrySnapshot, view: str) -> None:
        """Refuse a view that the key's patterns do not cover, known or not.

        Raises:
            AccessDenied: they do not.
            FeatureViewNotFound: they do, and nobody registered it; names no view that they do not cover.
        """
        if not self.limited:
            return
        if not self.sees_view(view):
            raise forbidden()
        if view not in snapshot.views:
            self._visible(snapshot).view(view)

    def check_features(self, snapshot: RegistrySnapshot, references: Iterable[str]) -> None:
        """Refuse references of which one is to a view that the patterns do not cover; raises as `check_view` does.

        An on-demand view is covered where every view that it is made of is.
        """
        if not self.limited:
            return
        asked = [parse_reference(reference) for reference in references]
        for name, version in dict.fromkeys((reference.name, reference.version) for reference in asked):
            if name not in snapshot.on_demand:
                self.check_view(snapshot, name)
            elif not self.sees_features(snapshot, name, version):
                raise forbidden()

    def check_service(self, snapshot: RegistrySnapshot, name: str) -> None:
        """Refuse a service that the patterns cover neither by its name nor by all views behind it, known or not.

        Raises:
            AccessDenied: they do not.
            FeatureServiceNotFound: they do, and nobody registered it; names nothing that they do not cover.
        """
        if not self.limited:
            return
        if not self.sees_service(snapshot, name):
            raise forbidden()
        bare = name.partition("@")[0]
        if bare not in snapshot.services:
            self._visible(snapshot).service(bare)

    def check_model(self, snapshot: RegistrySnapshot, model: Model) -> None:
        """Refuse a model whose service the patterns do not cover, or that nobody logged: both in the same words.

        Raises:
            AccessDenied: they do not.
        """
        if not self.limited:
            return
        versions = snapshot.models.get(model.name, {})
        logged = versions.get(max(versions, default=0) if model.version is None else model.version)
        if logged is None or not self.sees_service(snapshot, f"{logged.service}@{logged.service_version}"):
            raise forbidden()

    @property
    def limited(self) -> bool:
        """Whether there is something that the key may not read."""
        return self.key is not None and not self.key.unlimited

    def sees_view(self, view: str) -> bool:
        """Whether the patterns cover a view."""
        return self.key is None or self.key.names_view(view)

    def sees_features(self, snapshot: RegistrySnapshot, name: str, version: str | None = None) -> bool:
        """Whether the patterns cover all that features of a view, or an on-demand view, are made of.

        Args:
            snapshot: the registry.
            name: the view.
            version: its version; None: the live one.
        """
        return self.key is None or all(map(self.key.names_view, views_behind(snapshot, name, version)))

    def sees_service(self, snapshot: RegistrySnapshot, name: str) -> bool:
        """Whether the patterns cover a service by its name (`name` or `name@version`), or by every view behind it."""
        if self.key is None or self.key.names_service(name.partition("@")[0]):
            return True
        bare, _, version = name.partition("@")
        record = snapshot.services.get(bare)
        registered = None if record is None else record.versions.get(version or record.live or "")
        read = () if registered is None else registered.views_read
        return bool(read) and all(self.sees_features(snapshot, view, number) for view, number in read)

    def _visible(self, snapshot: RegistrySnapshot) -> RegistrySnapshot:
        """What is registered, as far as the key may know of it."""
        views = {name: record for name, record in snapshot.views.items() if self.sees_view(name)}
        computed = {n: record for n, record in snapshot.on_demand.items() if self.sees_features(snapshot, n)}
        services = {name: record for name, record in snapshot.services.items() if self.sees_service(snapshot, name)}
        return replace(snapshot, views=views, on_demand=computed, services=services, entities={})


def views_behind(snapshot: RegistrySnapshot, name: str, version: str | None = None) -> Iterator[str]:
    """The views that features are made of: of an on-demand view its inputs', without any its own name.

    Args:
        snapshot: the registry.
        name: a view or an on-demand view.
        version: its version; None: the live one.
    """
    record = snapshot.on_demand.get(name)
    found = None if record is None else record.versions.get(version or record.live or "")
    if found is None or not found.views_read:
        yield name
        return
    for view, number in found.views_read:
        yield from views_behind(snapshot, view, number)


def forbidden() -> AccessDenied:
    """The error, with one text for all that is not allowed: it says of nothing whether it exists."""
    return AccessDenied(_FORBIDDEN, authenticated=True)


EVERYTHING = Access()


class KeyRing:
    """The keys of the registry, read again every second.

    Args:
        load: reads all of them; called on a thread.
        clock: tells which have expired.
    """

    def __init__(self, load: Callable[[], list[APIKey]], clock: Clock) -> None:
        self._clock = clock
        self._keys: CachedValue[dict[str, Access]] = CachedValue(
            lambda: {key.id: Access(key) for key in load()}, {}, READ_EVERY
        )
        self._checked: dict[bytes, Access] = {}
        self._checked_against: object = None

    async def read(self) -> None:
        """Read them once; where the registry cannot be read, those of before hold for a while."""
        await LOOKUPS.run(self._keys.refresh)

    def check_age(self) -> None:
        """Refuse every request once the keys were read too long ago.

        Raises:
            Refused: 503: the registry cannot be read, so that no key can be checked.
        """
        if self._keys.age > _HELD:
            raise busy("Unavailable", "the registry cannot be read, so that no key can be checked: try again")

    @property
    def checked(self) -> dict[bytes, Access]:
        """Header → what it allows, of the keys that were found valid since they were read last."""
        keys = self._keys.value
        if self._checked_against is not keys:
            self._checked, self._checked_against = {}, keys
        return self._checked

    def access(self, headers: Mapping[bytes, bytes]) -> Access:
        """What a request with these headers may do.

        Raises:
            AccessDenied: there is no valid key.
            Refused: 503: the registry cannot be read, so that no key can be checked.
        """
        given = headers.get(b"authorization", b"")
        access = self.checked.get(given)
        if access is not None and access.key is not None and access.key.holds(self._clock()):
            self.check_age()
            return access
        kind, _, text = given.partition(b" ")
        if kind != b"Bearer" and kind.lower() != b"bearer":
            raise AccessDenied(_NO_KEY)
        key = text.strip().decode("latin-1")
        access = self._keys.value.get(key_id(key) or "")
        known = None if access is None else access.key
        if is_key(key, known) and access is not None and known is not None and known.holds(self._clock()):
            self.check_age()
            if len(given) <= _LONGEST and len(self.checked) < _MOST_CHECKED:
                self.checked[given] = access
            return access
        if self._keys.age > _FRESH:
            raise busy("Unavailable", "the registry cannot be read, so that this key cannot be checked: try again")
        raise AccessDenied("this API key is not known, has expired or was revoked")


def needs_admin(access: Access, client: str) -> None:
    """Refuse what is for operators: they ask from this host, or with a key of scope `admin`.

    Args:
        access: what the request's key allows.
        client: its address; empty: not over a network.

    Raises:
        AccessDenied: another host asks, without such a key or where no keys are asked for.
    """
    if client and not is_loopback(client):
        if access.key is None:
            raise AccessDenied(_THIS_HOST, authenticated=True)
        access.check(ADMIN)


def is_loopback(host: str) -> bool:
    """Whether only this host can reach an address, or be it."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
