"""The `headwater` command: it calls `FeatureStore` and draws what comes back."""

from __future__ import annotations

try:
    from headwater.cli.application import app, main
except KeyboardInterrupt:
    # Ctrl-C before there is anything to undo
    raise SystemExit(130) from None

__all__ = ["app", "main"]
