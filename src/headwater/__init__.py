"""headwater: features defined once, joined point-in-time correct for training, served fresh for inference."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_DOOR = {
    "AccessDenied": "errors",
    "Aggregation": "definitions.aggregation",
    "Array": "types",
    "AsyncClient": "client.async_client",
    "AsyncFeatureStore": "async_store",
    "Bool": "types",
    "Bytes": "types",
    "CSVSource": "definitions.sources",
    "Cancelled": "errors",
    "ChangeRefused": "errors",
    "ChangedColumn": "compute.training_sets.report",
    "Client": "client.client",
    "ClockError": "errors",
    "ConfigError": "errors",
    "ConsistencyError": "errors",
    "ConsistencyLevel": "types",
    "ConsistencyLost": "errors",
    "ConsistencyNotSupported": "errors",
    "DataError": "errors",
    "Date": "types",
    "DefinitionError": "errors",
    "Embedding": "types",
    "Entity": "definitions.entity",
    "EntityKeyError": "errors",
    "EntityNotFound": "errors",
    "Feature": "definitions.feature",
    "FeatureConsistencyManager": "monitoring.consistency",
    "FeatureKind": "types",
    "FeatureNotFound": "errors",
    "FeatureService": "definitions.service",
    "FeatureServiceNotFound": "errors",
    "FeatureStore": "store",
    "FeatureStoreArchitectureComparator": "advisor.comparator",
    "FeatureStoreComponent": "advisor.profiles",
    "FeatureStoreType": "advisor.profiles",
    "FeatureVector": "online.reading.vector",
    "FeatureView": "definitions.view",
    "FeatureViewNotFound": "errors",
    "Float32": "types",
    "Float64": "types",
    "FormatError": "errors",
    "HeadwaterError": "errors",
    "IdempotencyKeyReused": "errors",
    "InputChange": "compute.training_sets.report",
    "InputChangeKind": "compute.training_sets.report",
    "Int32": "types",
    "Int64": "types",
    "JSONSource": "definitions.sources",
    "LogDamaged": "errors",
    "LogMismatch": "errors",
    "MissingExtra": "errors",
    "Model": "definitions.model",
    "NotFound": "errors",
    "OnDemandError": "errors",
    "OnDemandFeatureView": "definitions.on_demand",
    "ParquetSource": "definitions.sources",
    "PushSource": "definitions.sources",
    "RegistryConflict": "errors",
    "RegistryError": "errors",
    "RemovalsRefused": "errors",
    "RequestField": "definitions.on_demand",
    "RequestInProgress": "errors",
    "RowsRejected": "errors",
    "SQLSource": "definitions.sources",
    "SparkSource": "definitions.sources",
    "SparkOfflineEngine": "offline.engines.spark.engine",
    "Session": "online.session",
    "SessionRequired": "errors",
    "SourceError": "errors",
    "SpineError": "errors",
    "StalePolicy": "types",
    "Status": "types",
    "StorageFull": "errors",
    "StoreError": "errors",
    "StoreReadOnly": "errors",
    "String": "types",
    "TableSource": "definitions.sources",
    "TransformSource": "definitions.transforms",
    "Timestamp": "types",
    "TrainingRows": "offline.training_sets.rows",
    "TrainingSet": "compute.training_sets.training_set",
    "TrainingSetReport": "compute.training_sets.report",
    "TrainingSetVerdict": "compute.training_sets.report",
    "Unavailable": "errors",
    "UsageError": "errors",
    "VersionConflict": "errors",
    "VersionNotFound": "errors",
    "WriteTarget": "types",
    "on_demand": "definitions.on_demand",
    "transform": "definitions.transforms",
}

_MODULES = ("errors", "freshness", "mlflow", "skew", "testing")

__all__ = [
    "AccessDenied",
    "Aggregation",
    "Array",
    "AsyncClient",
    "AsyncFeatureStore",
    "Bool",
    "Bytes",
    "CSVSource",
    "Cancelled",
    "ChangeRefused",
    "ChangedColumn",
    "Client",
    "ClockError",
    "ConfigError",
    "ConsistencyError",
    "ConsistencyLevel",
    "ConsistencyLost",
    "ConsistencyNotSupported",
    "DataError",
    "Date",
    "DefinitionError",
    "Embedding",
    "Entity",
    "EntityKeyError",
    "EntityNotFound",
    "Feature",
    "FeatureConsistencyManager",
    "FeatureKind",
    "FeatureNotFound",
    "FeatureService",
    "FeatureServiceNotFound",
    "FeatureStore",
    "FeatureStoreArchitectureComparator",
    "FeatureStoreComponent",
    "FeatureStoreType",
    "FeatureVector",
    "FeatureView",
    "FeatureViewNotFound",
    "Float32",
    "Float64",
    "FormatError",
    "HeadwaterError",
    "IdempotencyKeyReused",
    "InputChange",
    "InputChangeKind",
    "Int32",
    "Int64",
    "JSONSource",
    "LogDamaged",
    "LogMismatch",
    "MissingExtra",
    "Model",
    "NotFound",
    "OnDemandError",
    "OnDemandFeatureView",
    "ParquetSource",
    "PushSource",
    "RegistryConflict",
    "RegistryError",
    "RemovalsRefused",
    "RequestField",
    "RequestInProgress",
    "RowsRejected",
    "SQLSource",
    "Session",
    "SessionRequired",
    "SourceError",
    "SparkOfflineEngine",
    "SparkSource",
    "SpineError",
    "StalePolicy",
    "Status",
    "StorageFull",
    "StoreError",
    "StoreReadOnly",
    "String",
    "TableSource",
    "Timestamp",
    "TrainingRows",
    "TrainingSet",
    "TrainingSetReport",
    "TrainingSetVerdict",
    "TransformSource",
    "Unavailable",
    "UsageError",
    "VersionConflict",
    "VersionNotFound",
    "WriteTarget",
    "errors",
    "freshness",
    "mlflow",
    "on_demand",
    "skew",
    "transform",
]

if TYPE_CHECKING:
    from headwater import errors, freshness, mlflow, skew
    from headwater import testing as testing
    from headwater.advisor.comparator import FeatureStoreArchitectureComparator
    from headwater.advisor.profiles import FeatureStoreComponent, FeatureStoreType
    from headwater.async_store import AsyncFeatureStore
    from headwater.client.async_client import AsyncClient
    from headwater.client.client import Client
    from headwater.compute.training_sets.report import (
        ChangedColumn,
        InputChange,
        InputChangeKind,
        TrainingSetReport,
        TrainingSetVerdict,
    )
    from headwater.compute.training_sets.training_set import TrainingSet
    from headwater.definitions.aggregation import Aggregation
    from headwater.definitions.entity import Entity
    from headwater.definitions.feature import Feature
    from headwater.definitions.model import Model
    from headwater.definitions.on_demand import OnDemandFeatureView, RequestField, on_demand
    from headwater.definitions.service import FeatureService
    from headwater.definitions.sources import (
        CSVSource,
        JSONSource,
        ParquetSource,
        PushSource,
        SparkSource,
        SQLSource,
        TableSource,
    )
    from headwater.definitions.transforms import TransformSource, transform
    from headwater.definitions.view import FeatureView
    from headwater.errors import (
        AccessDenied,
        Cancelled,
        ChangeRefused,
        ClockError,
        ConfigError,
        ConsistencyError,
        ConsistencyLost,
        ConsistencyNotSupported,
        DataError,
        DefinitionError,
        EntityKeyError,
        EntityNotFound,
        FeatureNotFound,
        FeatureServiceNotFound,
        FeatureViewNotFound,
        FormatError,
        HeadwaterError,
        IdempotencyKeyReused,
        LogDamaged,
        LogMismatch,
        MissingExtra,
        NotFound,
        OnDemandError,
        RegistryConflict,
        RegistryError,
        RemovalsRefused,
        RequestInProgress,
        RowsRejected,
        SessionRequired,
        SourceError,
        SpineError,
        StorageFull,
        StoreError,
        StoreReadOnly,
        Unavailable,
        UsageError,
        VersionConflict,
        VersionNotFound,
    )
    from headwater.monitoring.consistency import FeatureConsistencyManager
    from headwater.offline.engines.spark.engine import SparkOfflineEngine
    from headwater.offline.training_sets.rows import TrainingRows
    from headwater.online.reading.vector import FeatureVector
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


def _public(name: str) -> Any:
    module = _DOOR.get(name)
    if module is not None:
        value = getattr(importlib.import_module(f"headwater.{module}"), name)
    elif name in _MODULES:
        value = importlib.import_module(f"headwater.{name}")
    else:
        raise AttributeError(f"module 'headwater' has no attribute {name!r}")
    globals()[name] = value
    return value


if not TYPE_CHECKING:
    # a type checker that saw it would take every name for one that there is
    __getattr__ = _public


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
