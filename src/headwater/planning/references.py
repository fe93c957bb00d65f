"""References as users write them: `view:feature`, `view@1.2.0:feature`, `view:*`, `service@1.0.0`."""

from __future__ import annotations

import re

from headwater.errors import UsageError, brief
from headwater.values import Value

_REFERENCE = re.compile(r"(?P<view>[^@:\s]+)(?:@(?P<version>[^@:\s]+))?(?::(?P<feature>[^:\s]+))?")


class Reference(Value, frozen=True):
    """A parsed reference; `feature` is None for a bare name, `*` for all."""

    name: str
    version: str | None
    feature: str | None

    def __str__(self) -> str:
        version = f"@{self.version}" if self.version else ""
        return f"{self.name}{version}" + (f":{self.feature}" if self.feature else "")


def parse_reference(text: str) -> Reference:
    """Parse a reference.

    Raises:
        UsageError: text of another form; the message shows the right ones.
    """
    found = _REFERENCE.fullmatch(text.strip()) if isinstance(text, str) else None
    if found is None:
        raise UsageError(f"{brief(text)} is not a reference; write 'view:feature', 'view@1.2.0:feature' or 'view:*'")
    return Reference(found["view"], found["version"], found["feature"])
