"""headwater: features defined once, joined point-in-time correct for training, served fresh for inference."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_DOOR = {
    "Array": "types",
    "AsyncFeatureStore": "async_store",
    "Bool": "types",
    "Bytes": "types",
    "CSVSource": "definitions.sources",
    "JSONSource": "definitions.sources",
    "ClockError": "errors",
    "ConsistencyLevel": "types",
    "Date": "types",
    "Embedding": "types",
    "Entity": "definitions.entity",
    "Feature": "definitions.feature",
    "FeatureConsistencyManager": "monitoring.consistency",
    "FeatureKind": "types",
    "FeatureService": "definitions.service",
    "FeatureStore": "store",
    "FeatureStoreArchitectureComparator": "advisor.comparator",
    "FeatureStoreComponent": "advisor.profiles",
    "FeatureStoreType": "advisor.profiles",
    "FeatureVector": "online.result",
    "FeatureView": "definitions.view",
    "Float32": "types",
    "Float64": "types",
    "HeadwaterError": "errors",
    "Int32": "types",
    "Int64": "types",
    "ParquetSource": "definitions.sources",
    "PushSource": "definitions.sources",
    "SQLSource": "definitions.sources",
    "Session": "online.session",
    "StalePolicy": "types",
    "Status": "types",
    "String": "types",
    "TableSource": "definitions.sources",
    "Timestamp": "types",
    "WriteTarget": "types",
}

_MODULES = ("errors", "freshness", "skew", "testing")

__all__ = [
    "Array",
    "AsyncFeatureStore",
    "Bool",
    "Bytes",
    "CSVSource",
    "ClockError",
    "ConsistencyLevel",
    "Date",
    "Embedding",
    "Entity",
    "Feature",
    "FeatureConsistencyManager",
    "FeatureKind",
    "FeatureService",
    "FeatureStore",
    "FeatureStoreArchitectureComparator",
    "FeatureStoreComponent",
    "FeatureStoreType",
    "FeatureVector",
    "FeatureView",
    "Float32",
    "Float64",
    "HeadwaterError",
    "Int32",
    "Int64",
    "JSONSource",
    "ParquetSource",
    "PushSource",
    "SQLSource",
    "Session",
    "StalePolicy",
    "Status",
    "String",
    "TableSource",
    "Timestamp",
    "WriteTarget",
    "errors",
]

if TYPE_CHECKING:
    from headwater import errors
    from headwater.advisor.comparator import FeatureStoreArchitectureComparator
    from headwater.advisor.profiles import FeatureStoreComponent, FeatureStoreType
    from headwater.async_store import AsyncFeatureStore
    from headwater.definitions.entity import Entity
    from headwater.definitions.feature import Feature
    from headwater.definitions.service import FeatureService
    from headwater.definitions.sources import CSVSource, JSONSource, ParquetSource, PushSource, SQLSource, TableSource
    from headwater.definitions.view import FeatureView
    from headwater.errors import ClockError, HeadwaterError
    from headwater.monitoring.consistency import FeatureConsistencyManager
    from headwater.online.result import FeatureVector
    from headwater.online.session import Session
    from headwater.store import FeatureStore
    from headwater.types import (
        Array,
        Bool,
        Bytes,
        ConsistencyLevel,
        Date,
        Embedding,
        FeatureKind,
        Float32,
        Float64,
        Int32,
        Int64,
        StalePolicy,
        Status,
        String,
        Timestamp,
        WriteTarget,
    )


def __getattr__(name: str) -> Any:
    module = _DOOR.get(name)
    if module is not None:
        value = getattr(importlib.import_module(f"headwater.{module}"), name)
    elif name in _MODULES:
        value = importlib.import_module(f"headwater.{name}")
    elif name.endswith("Error") or name in ("NotFound", "Unavailable", "MissingExtra"):
        value = getattr(importlib.import_module("headwater.errors"), name, None)
        if value is None:
            raise AttributeError(f"module 'headwater' has no attribute {name!r}")
    else:
        raise AttributeError(f"module 'headwater' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
