"""The `headwater` command: it calls `FeatureStore` and draws what comes back."""

from __future__ import annotations

from headwater.cli.application import app, main

__all__ = ["app", "main"]
