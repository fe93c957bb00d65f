"""Signatures of session tokens: by a secret of the project, so that nobody makes one up.

A process signs the tokens of each store whose secret it has learned. A token without a signature is read by a store all
the same: who holds a store may do anything with it; a server, whose clients do not, asks for one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from headwater.deferred import deferred

if TYPE_CHECKING:
    import base64
    import hashlib
    import hmac
else:
    base64, hashlib, hmac = deferred("base64"), deferred("hashlib"), deferred("hmac")

_SIGNATURE = 16
_SECRETS: dict[str, bytes] = {}
"""Store → the secret that its tokens are signed with."""


def sign_with(store: str, secret: bytes) -> None:
    """Sign the tokens of a store's sessions from now on."""
    _SECRETS[store] = secret


def signed(text: str, store: str) -> str:
    """A token with its signature, where the store's secret is known; else as it is."""
    secret = _SECRETS.get(store)
    return text if secret is None else f"{text}.{_signature(text, secret)}"


def is_signed_here(store: str) -> bool:
    """Whether this process knows a store's secret."""
    return store in _SECRETS


def unsigned(token: str) -> str:
    """A token without its signature."""
    return token.partition(".")[0]


def signer(token: str, secrets: Sequence[bytes]) -> int | None:
    """The place of the secret that a token is signed with; None: with none of these."""
    text, _, signature = token.partition(".")
    found = None
    for place, secret in enumerate(secrets):
        if hmac.compare_digest(_signature(text, secret).encode(), signature.encode()) and found is None:
            found = place
    return found


def _signature(text: str, secret: bytes) -> str:
    made = hmac.digest(secret, text.encode(), hashlib.sha256)[:_SIGNATURE]
    return base64.urlsafe_b64encode(made).decode().rstrip("=")
