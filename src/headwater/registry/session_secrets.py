"""The secrets that session tokens of a project are signed with: kept in the registry, made once they are needed."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

from headwater.cached_value import CachedValue
from headwater.registry.registry import FeatureRegistry

VALID_SECRETS = 2
"""How many of the newest secrets hold, so that one can be replaced while tokens are under way."""
_NAME = "session_secrets"
_KEPT = 60.0
"""Seconds after which the registry is asked whether there is a newer one."""
_SOON = 45.0
"""Seconds after which an event loop has that done on a thread, before anybody has to wait for it."""
_MOST = 16
"""How many are remembered: tokens of older ones are not known any more."""


class SessionSecrets:
    """The secrets of one registry, as this process knows them.

    Args:
        registry: theirs.
        now: seconds, of a clock that never goes back.
    """

    def __init__(self, registry: FeatureRegistry, now: Callable[[], float] = time.monotonic) -> None:
        self._registry = registry
        # a registry that cannot be written, or not be reached: what is known holds
        self._known: CachedValue[tuple[bytes, ...]] = CachedValue(self._read, (), _KEPT, now)

    def _read(self) -> tuple[bytes, ...]:
        return _parsed(self._registry.get_or_set(_NAME, secrets.token_hex(32)))

    def newest(self) -> bytes | None:
        """The one that tokens are signed with, made where there is none; None where it cannot be read or made."""
        known = self._known.get(wait=False)
        return known[0] if known else None

    @property
    def kept(self) -> tuple[bytes, ...]:
        """All of them as they were read last, newest first."""
        return self._known.value

    @property
    def due(self) -> bool:
        """Whether the registry is to be asked again soon, which may take as long as it does not answer."""
        return self._known.is_due(_SOON)

    def known(self, within: float = _KEPT) -> tuple[bytes, ...]:
        """All of them, newest first; the first `VALID_SECRETS` hold.

        Args:
            within: seconds for which those that were read last will do.
        """
        return self._known.get(within)

    def rotate(self) -> None:
        """Sign with a new secret; tokens of the one before still hold.

        Raises:
            StoreError: the registry cannot be written.
        """
        self._read()  # which makes the first
        self._registry.change_setting(_NAME, lambda text: _text((secrets.token_bytes(32), *_parsed(text))[:_MOST]))
        self._known.expire()


def holds(place: int | None) -> bool:
    """Whether a token holds that is signed with the secret at a place."""
    return place is not None and place < VALID_SECRETS


def _text(kept: tuple[bytes, ...]) -> str:
    return ",".join(secret.hex() for secret in kept)


def _parsed(text: str) -> tuple[bytes, ...]:
    return tuple(bytes.fromhex(part) for part in text.split(","))
