"""What is found at run time: stores and engines through entry points, missing extras, and the project's definitions."""

from __future__ import annotations

import contextlib
import functools
import importlib
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from headwater.deferred import deferred
from headwater.definitions.entity import Entity
from headwater.definitions.on_demand import OnDemandFeatureView
from headwater.definitions.service import FeatureService
from headwater.definitions.view import FeatureView
from headwater.errors import ConfigError, DefinitionError, MissingExtra, nearest, needs_package, raised
from headwater.values import Value

metadata, util = deferred("importlib.metadata"), deferred("importlib.util")

ONLINE_STORES = "headwater.online_stores"
OFFLINE_ENGINES = "headwater.offline_engines"
_KINDS = {ONLINE_STORES: "online store", OFFLINE_ENGINES: "offline engine"}


def load_plugin(group: str, name: str) -> Any:
    """The class that an entry point names.

    Args:
        group: `headwater.online_stores` or `headwater.offline_engines`.
        name: the URL's scheme, or the engine's name.

    Raises:
        ConfigError: nobody registered that name; the message gives those there are.
        MissingExtra: its package needs another that is not installed.
    """
    point = find_plugin(group, name)
    try:
        with needs_package(name.partition("+")[0]):
            return point.load()
    except MissingExtra as missing:
        cause = missing.__cause__
        if isinstance(cause, ModuleNotFoundError) and (cause.name is None or point.module.startswith(cause.name)):
            raise ConfigError(
                f"{_KINDS[group]} {point.name!r} names {point.value}, which does not exist: {cause}"
            ) from cause
        raise


class Plugin(Value, frozen=True):
    """An entry point.

    Attributes:
        name: the store's or engine's.
        value: `module:class`.
    """

    name: str
    value: str

    @property
    def module(self) -> str:
        """The module that has the class."""
        return self.value.partition(":")[0].strip()

    def load(self) -> Any:
        """The class."""
        return getattr(importlib.import_module(self.module), self.value.partition(":")[2].partition("[")[0].strip())


def find_plugin(group: str, name: str) -> Plugin:
    """The entry point of a store or engine; see `load_plugin`. What headwater itself registers nobody else can.

    Raises:
        ConfigError: nobody registered that name.
    """
    places = tuple(_dated(place) for place in sys.path)
    own = _own_points(group, places)
    if name in own:
        return own[name]
    found = {**_points(group, places), **own}
    point = found.get(name) or found.get(name.partition("+")[0])
    if point is None:
        raise ConfigError(f"no {_KINDS[group]} {name!r}{nearest(name, found)}; installed: {', '.join(sorted(found))}")
    return point


@functools.lru_cache(maxsize=8)
def _points(group: str, _places: tuple[tuple[str, int], ...]) -> Mapping[str, Plugin]:
    """The entry points of a group by name; reading every package's metadata takes tens of milliseconds."""
    return {point.name: Plugin(point.name, point.value) for point in metadata.entry_points(group=group)}


@functools.lru_cache(maxsize=8)
def _own_points(group: str, places: tuple[tuple[str, int], ...]) -> Mapping[str, Plugin]:
    """Those of headwater's own package, by its metadata alone; empty where it is installed in another way."""
    for place, _ in places:
        with contextlib.suppress(OSError):
            for folder in Path(place).iterdir():
                if folder.name.startswith("headwater-") and folder.suffix == ".dist-info":
                    return _in_group((folder / "entry_points.txt").read_text(encoding="utf-8"), group)
    return {}


def _in_group(text: str, group: str) -> Mapping[str, Plugin]:
    """The entry points of a group in a file of them."""
    found, inside = {}, False
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            inside = line == f"[{group}]"
        elif inside and "=" in line and not line.startswith(("#", ";")):
            name, _, value = (part.strip() for part in line.partition("="))
            found[name] = Plugin(name, value)
    return found


def _dated(place: str) -> tuple[str, int]:
    """A place that packages are installed in, and when one was last added or removed."""
    try:
        return place, Path(place).stat().st_mtime_ns
    except OSError:
        return place, 0


def load_definitions(folder: Path, files: Iterable[str]) -> list[Any]:
    """The entities, views and services that a project's files define, in order; what they print goes to standard error.

    Args:
        folder: the project's folder; it is importable while the files run.
        files: file names or globs, relative to the folder.

    Raises:
        DefinitionError: a file that is missing or fails, with its place.
    """
    folder = folder.resolve()
    found: dict[int, Any] = {}
    # standard output is the caller's own: what a command answers stands there alone
    with _importable(folder), contextlib.redirect_stdout(sys.stderr):
        for file in _files(folder, files):
            for value in _definitions(_run(file, folder)):
                found[id(value)] = value
    return list(found.values())


@contextlib.contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """The folder importable, and its modules read again: what was imported from it before is as it was afterwards."""
    writes_bytecode = sys.dont_write_bytecode
    before = _modules_of(folder)
    for name in before:
        del sys.modules[name]
    sys.path.insert(0, str(folder))
    # two versions of a file written within a second may have one size: Python's cache would take them for one
    sys.dont_write_bytecode = True
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.dont_write_bytecode = writes_bytecode
        sys.path.remove(str(folder))
        for name in _modules_of(folder):
            del sys.modules[name]
        sys.modules.update(before)


def _modules_of(folder: Path) -> dict[str, ModuleType]:
    """The modules imported from a folder; not installed packages below it, nor headwater where it is there."""
    found = {}
    for name, module in list(sys.modules.items()):
        file = Path(getattr(module, "__file__", None) or "/")
        kept = name == "__main__" or name.partition(".")[0] == "headwater" or "site-packages" in file.parts
        if not kept and file.is_relative_to(folder):
            found[name] = module
    return found


def _files(folder: Path, files: Iterable[str]) -> Iterator[Path]:
    for name in files:
        matches = sorted(folder.glob(name)) if any(c in name for c in "*?[") else [folder / name]
        if not matches or not all(match.is_file() for match in matches):
            raise DefinitionError(f"{folder / name}: no such file; `definitions` in headwater.toml names it")
        yield from matches


class _SourceAlone(SourceFileLoader):
    """Reads the file itself, never its cached bytecode."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


def _run(file: Path, folder: Path) -> ModuleType:
    """The file's module, under the name that other files import it by, so that each definition is there once."""
    name = ".".join(file.relative_to(folder).with_suffix("").parts) if file.is_relative_to(folder) else file.stem
    present = sys.modules.get(name)
    if present is not None and getattr(present, "__file__", None) == str(file):
        return present
    if present is not None or name in sys.stdlib_module_names:
        name = f"_headwater_project_{name}"
    spec = util.spec_from_file_location(name, file, loader=_SourceAlone(name, str(file)))
    assert spec is not None and spec.loader is not None
    module: ModuleType = util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (DefinitionError, KeyboardInterrupt):
        raise
    except BaseException as bad:
        raise DefinitionError(f"{_place(bad, file)}: {raised(bad, 1000)}") from bad
    return module


def _place(bad: BaseException, file: Path) -> str:
    """The innermost line of the user's file that the failure passed through."""
    if isinstance(bad, SyntaxError) and bad.filename:
        return f"{Path(bad.filename).name}:{bad.lineno}"
    lines = [f.lineno for f in traceback.extract_tb(bad.__traceback__) if f.filename == str(file)]
    return f"{file.name}:{lines[-1]}" if lines else file.name


def _definitions(module: ModuleType) -> Iterator[Any]:
    """Definitions at the top of a module, also in lists, tuples and dicts there."""
    for name, value in vars(module).items():
        if name.startswith("__"):
            continue
        values = value if isinstance(value, (list, tuple)) else value.values() if isinstance(value, dict) else (value,)
        yield from (v for v in values if isinstance(v, (Entity, FeatureView, OnDemandFeatureView, FeatureService)))
