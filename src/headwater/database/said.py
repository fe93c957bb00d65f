"""What a database says of a failure, in headwater's errors."""

from __future__ import annotations

from headwater.database.sqlite import BUSY_SECONDS
from headwater.errors import FormatError, StorageFull, StoreError, StoreReadOnly, Unavailable

_CODES = {
    "25006": "read-only",
    "42501": "permission denied",
    "53100": "no space",
    "55P03": "locked",
}


def store_error(where: str, text: str, code: str = "", *, refused: bool = False) -> StoreError:
    """The error for what a database said.

    Args:
        where: whose data it is, and the database's location.
        text: what it said.
        code: its SQLSTATE, where it has one.
        refused: whether it refused the statement itself.
    """
    text = " ".join(text.split())
    # a server's words may be in any language, its codes are not
    said = _CODES.get(code) or text.casefold()
    if "readonly" in said or "read-only" in said or "permission denied" in said:
        return StoreReadOnly(f"{where}: is read-only ({text}); check {_rights(where)}")
    if "is full" in said or "no space" in said or ("disk i/o" in said and "full" in said):
        return StorageFull(f"{where}: no space left ({text}); all acknowledged writes are kept")
    if "not a database" in said or "malformed" in said:
        return FormatError(f"{where}: is not a headwater database, or is damaged ({text})")
    if "locked" in said:
        return Unavailable(f"{where}: locked by another process for {BUSY_SECONDS:.0f} s ({text}); try again")
    if refused:
        return StoreError(f"{where}: rejected a statement ({text})")
    return Unavailable(f"{where}: cannot be used ({text})")


def _rights(where: str) -> str:
    return (
        "the user's rights, and that it is not a standby"
        if "://" in where
        else "the permissions of the file and its folder"
    )
