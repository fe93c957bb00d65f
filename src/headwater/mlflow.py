"""MLflow: a model logged together with the service whose features it takes."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwater.definitions.model import Model
from headwater.errors import UsageError, brief, needs_package
from headwater.planning.resolve import resolve
from headwater.planning.resolved import ResolvedRequest
from headwater.planning.service_columns import service_version

if TYPE_CHECKING:
    from headwater.compute.context import StoreContext
    from headwater.compute.training_sets.training_set import TrainingSet
    from headwater.store import FeatureStore

_FLAVORS = {"torch": "pytorch", "tensorflow": "tensorflow", "keras": "tensorflow", "mlflow": "pyfunc"}
"""What a model's package is called in MLflow, where that is another name; and MLflow's own models."""


@dataclass(frozen=True)
class LoggedModel:
    """A model that was logged.

    Attributes:
        model: names it in place of features: `store.get_online_features(logged.model, entities)`.
        service: `name@version` of the service that it takes.
        uri: where MLflow has it, for its `load_model`.
        info: what MLflow's `log_model` returned.
    """

    model: Model
    service: str
    uri: str
    info: Any


def log_model(
    model: Any,
    service: Any,
    training_set: TrainingSet | None = None,
    *,
    name: str | None = None,
    store: FeatureStore | None = None,
    flavor: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> LoggedModel:
    """Log a model by MLflow, and register which version of a service it takes: serving its name reads these features.

    MLflow keeps the model, in the active run or one of its own, with the service, its columns and the training set's
    manifest. The registry keeps name → service@version, as the next version of that name: `hw.Model(name)` in place of
    features, or `"model": name` over HTTP, reads that version of the service. No model is run.

    Args:
        model: a trained model, of any package that MLflow has a flavor for.
        service: the service whose features it takes: an object, a name or `name@version`.
        training_set: what it was trained on; its features must be the service's.
        name: what the model is called; None: as the service.
        store: whose registry it is written into; None: the training set's.
        flavor: MLflow's module for it, such as `sklearn`; None: by the model's package.
        options: further arguments of that module's `log_model`, such as `registered_model_name`.

    Returns:
        The model's name and version, and where it is.

    Raises:
        MissingExtra: MLflow is not installed.
        UsageError: neither store nor training set, a training set of other features, or no flavor for the model.
        NotFound: the service or its version is not registered.
        StoreError: the registry cannot be written.
    """
    context = _context(store, training_set)
    snapshot = context.registry.refresh()
    found = service_version(snapshot, service, history=True)
    if found is None:
        raise UsageError(f"service: {brief(service)} is not a service: give one, or its name")
    wanted = Model.of(found.name if name is None else name)
    if wanted.version is not None:
        raise UsageError(f"name={name!r}: versions are numbered here; give the name alone")
    request = resolve(snapshot, f"{found.name}@{found.version}", history=True)
    trained = None if training_set is None else f"{training_set.name}@{training_set.version}"
    if training_set is not None:
        _check_columns(training_set, request, f"{found.name}@{found.version}")
    with needs_package("mlflow", "mlflow"):
        mlflow = importlib.import_module("mlflow")
        module = _flavor(model, flavor)
    takes = f"{found.name}@{found.version}"
    columns = [column.name for column in request.outputs]
    about = {"project": context.project, "service": takes, "columns": columns, "training_set": trained}
    given = {"name": wanted.name, **(options or {})}
    given["metadata"] = {**(given.get("metadata") or {}), "headwater": about}
    with nullcontext() if mlflow.active_run() is not None else mlflow.start_run():
        argument = {"python_model": model} if module.__name__ == "mlflow.pyfunc" else {}
        info = module.log_model(*(() if argument else (model,)), **argument, **given)
        mlflow.set_tags({f"headwater.{key}": str(value) for key, value in about.items() if key != "columns" and value})
        if training_set is not None:
            _log_manifest(mlflow, training_set)
    made = context.registry.log_model(
        wanted.name,
        (found.name, found.version),
        uri=info.model_uri,
        training_set=trained,
        now=context.clock(),
    )
    return LoggedModel(Model(made.name, made.version), takes, info.model_uri, info)


def _context(store: FeatureStore | None, training_set: TrainingSet | None) -> StoreContext:
    if store is not None:
        return store.context
    if training_set is None:
        raise UsageError("log_model: give store=…, or the training set that the model was trained on")
    return training_set.context


def _check_columns(training_set: TrainingSet, request: ResolvedRequest, service: str) -> None:
    """Refuse a training set of which the service would serve other features.

    Raises:
        UsageError: naming the first that differs.
    """
    served = [
        (column.name, request.owner(column).definition.column_fingerprints[column.feature.name])
        for column in request.outputs
    ]
    trained = [(c.name, c.fingerprint) for c in training_set.manifest.columns if c.role == "feature"]
    if served == trained:
        return
    what = f"training set {training_set.name}@{training_set.version}"
    names, others = [name for name, _ in trained], [name for name, _ in served]
    if names != others:
        raise UsageError(f"{what} has the features {', '.join(names)}, service {service} has {', '.join(others)}")
    differs = next(name for (name, one), (_, other) in zip(trained, served, strict=True) if one != other)
    raise UsageError(
        f"{what}: feature {differs!r} has another definition than in service {service}; save the set again"
    )


def _flavor(model: Any, named: str | None) -> Any:
    package = type(model).__module__.partition(".")[0]
    for kind in type(model).__mro__:
        if kind.__module__.partition(".")[0] == "mlflow":
            package = "mlflow"  # somebody's own class over MLflow's
    flavor = named or _FLAVORS.get(package, package)
    try:
        module = importlib.import_module(f"mlflow.{flavor}")
    except ModuleNotFoundError as missing:
        if missing.name not in (f"mlflow.{flavor}", f"mlflow.{flavor.partition('.')[0]}"):
            raise
        raise UsageError(f"MLflow has no flavor {flavor!r} for {brief(model)}: name one with flavor=…") from None
    if not hasattr(module, "log_model"):
        raise UsageError(f"MLflow has no flavor {flavor!r} for {brief(model)}: name one with flavor=…")
    return module


def _log_manifest(mlflow: Any, training_set: TrainingSet) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"training_set_{training_set.name}_{training_set.version}.json"
        file.write_bytes((training_set.path / "manifest.json").read_bytes())
        mlflow.log_artifact(str(file), "headwater")
