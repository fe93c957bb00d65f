"""Bytes as text, one notation for CSV, JSON, `--key` and tables: `0x` and hex digits, or the UTF-8 of the text.

PostgreSQL's `\\x` and hex digits is read too.
"""

from __future__ import annotations

import re

HEX_START = r"(?:0[xX]|\\{1,2}x)"
r"""How a text of hex digits begins; COPY's text form writes `\\x`, with two backslashes."""
HEX_BYTES = HEX_START + "((?:[0-9A-Fa-f]{2})*)"
"""Bytes in hex digits, in the syntax that Python and RE2 share; the digits are its group."""
_START, _WHOLE = re.compile(HEX_START), re.compile(HEX_BYTES)


def bytes_of_text(text: str) -> bytes:
    """The bytes that a text stands for.

    Raises:
        ValueError: what begins as hex digits goes on with other characters, or half a byte.
    """
    if _START.match(text) is None:
        return text.encode()
    digits = _WHOLE.fullmatch(text)
    if digits is None:
        raise ValueError(text)
    return bytes.fromhex(digits[1])


def begins_as_hex(text: str) -> bool:
    """Whether a text is read as hex digits, not as itself."""
    return _START.match(text) is not None
