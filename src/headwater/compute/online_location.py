"""Where an online store is: its URL, by which any process opens it."""

from __future__ import annotations

from pathlib import Path

from headwater.errors import ConfigError
from headwater.loader import ONLINE_STORES, load_plugin
from headwater.online.base import OnlineStore
from headwater.urls import scheme_of, without_password
from headwater.values import Value


class OnlineLocation(Value, frozen=True):
    """Where an online store is.

    Attributes:
        url: its URL.
        folder: the project's folder, at which relative paths start.
    """

    url: str
    folder: Path

    def __repr__(self) -> str:
        return f"<OnlineLocation {without_password(self.url)}>"

    @property
    def kind(self) -> type[OnlineStore]:
        """The store's class.

        Raises:
            ConfigError, MissingExtra: the URL names no store, or one that cannot be used.
        """
        scheme = scheme_of(self.url)
        if scheme:
            try:
                kind: type[OnlineStore] = load_plugin(ONLINE_STORES, scheme)
                return kind
            except ConfigError:
                # what looks like a scheme may be a user, or the first part of a password
                if "@" not in self.url or self.url[len(scheme) :].startswith("://"):
                    raise
        raise ConfigError("[online] url: is not a URL such as lmdb:.headwater/online or redis://host:6379/0")

    def open(self) -> OnlineStore:
        """The store; who asks closes it.

        Raises:
            ConfigError, MissingExtra: as of `kind`, or a URL that the store cannot read.
        """
        return self.kind.from_url(self.url, self.folder)
