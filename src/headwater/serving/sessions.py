"""Sessions of clients: tokens that this project has signed, and no others."""

from __future__ import annotations

from headwater.errors import ConsistencyLost
from headwater.event_loops import LOOKUPS
from headwater.online.session import MOST_CHARACTERS, Session, too_long
from headwater.online.session_tokens import signer
from headwater.registry.session_secrets import holds
from headwater.serving.answers import invalid
from headwater.store import FeatureStore

_AGAIN = 1.0
"""Seconds after which a token that is not known has the registry read again."""


class Sessions:
    """Reads the tokens that clients bring.

    Args:
        store: the store that they are of.
    """

    def __init__(self, store: FeatureStore) -> None:
        self._store = store
        self._asking = False

    async def read(self, token: bytes) -> Session:
        """The session of a token, or of several with commas between them; an empty one begins a session.

        Raises:
            Refused: 400: not signed by this project.
            ConsistencyLost: too long, or signed with a secret that does not hold any more; has a fresh session.
        """
        await self._follow()
        if not token:
            return await LOOKUPS.run(self._store.session)
        if len(token) > MOST_CHARACTERS:
            raise ConsistencyLost(too_long(len(token)), await LOOKUPS.run(self._store.session))
        text = token.decode("latin-1")
        for part in text.split(","):
            await self._check(part)
        return Session.from_token(text)

    async def _follow(self) -> None:
        """Have the secrets read again in time, by one request: the others go on with what is known."""
        secrets = self._store.context.session_secrets
        if secrets.due and not self._asking:
            self._asking = True
            try:
                await LOOKUPS.run(secrets.known, 0.0)
            finally:
                self._asking = False

    async def _check(self, text: str) -> None:
        secrets = self._store.context.session_secrets
        place = signer(text, secrets.kept)
        if not holds(place):
            place = signer(text, await LOOKUPS.run(secrets.known, _AGAIN))
        if place is None:
            raise invalid(
                "Headwater-Session: not a token of this project: send back the last answer's, or an empty one"
            )
        if not holds(place):
            lost = "this session's token is too old to be checked: continue with the one that comes with this answer"
            raise ConsistencyLost(lost, await LOOKUPS.run(self._store.session))
