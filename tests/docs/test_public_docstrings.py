"""The public API: each method names its arguments, what it returns, and takes no `**options`."""

import enum
import importlib
import inspect
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

INNER = {
    # results and readers are made by the store; these are for the modules beside them
    *("HistoryResult.__init__", "OnlineResult.__init__", "PreparedReader.trusted", "PreparedReader.owner_ask"),
    *("PreparedReader.budget", "PreparedReader.ask_refresh", "PreparedReader.arguments", "Worker.on_step"),
    # made by the store
    *("TrainingSet.__init__", "TrainingRows.__init__"),
    # readers over HTTP are made by clients
    *("RemoteReader.__init__", "AsyncRemoteReader.__init__"),
    # a default of the class, which tests replace
    "OnlineStore.clock",
    # helpers of headwater's own messages
    *("errors.needs_package", "errors.was_closed", "errors.nearest", "errors.brief", "errors.printable"),
}


def entries(monkeypatch):
    """Every class and module of the API reference, by its name there."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import site_pages

    for page in site_pages.reference().values():
        for path in re.findall(r"^::: (\S+)$", page, re.MULTILINE):
            module, _, name = path.rpartition(".")
            parent = importlib.import_module(module)
            yield name, getattr(parent, name) if hasattr(parent, name) else importlib.import_module(path)


def callables(name, value):
    """Name → each public function of a module, or method of a class, and its docstring."""
    for key, found in vars(value).items():
        function = found.__func__ if isinstance(found, (classmethod, staticmethod)) else found
        public = inspect.isfunction(function) and not key.startswith("_")
        if public and (inspect.isclass(value) or function.__module__ == value.__name__):
            yield f"{name}.{key}", function, inspect.getdoc(function) or ""
    made = vars(value).get("__init__")
    if inspect.isfunction(made) and not hasattr(value, "__dataclass_fields__") and not issubclass(value, enum.Enum):
        yield f"{name}.__init__", made, inspect.getdoc(value) or ""


def problems(name, function, doc):
    """What the docstring of a function lacks."""
    signature = inspect.signature(function)
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            yield f"{name} takes **{parameter.name}"
        if parameter.name not in ("self", "cls") and not re.search(rf"^\s+{parameter.name}: ", doc, re.MULTILINE):
            yield f"{name} does not describe {parameter.name}"
    returns = signature.return_annotation not in (None, "None", inspect.Signature.empty)
    if returns and not re.search(r"^(Returns|Yields):$", doc, re.MULTILINE):
        yield f"{name} does not say what it returns"


def test_every_public_method_is_described(monkeypatch):
    found, count = [], 0
    shown = [(name, value) for name, value in entries(monkeypatch) if inspect.isclass(value) or inspect.ismodule(value)]
    for entry, value in shown:
        for name, function, doc in callables(entry, value):
            count += 1
            if name not in INNER:
                found += problems(name, function, doc)
    assert count > 120 and not found, "\n".join(found)


@pytest.mark.parametrize("lacking", ["does not describe b", "does not say what it returns", "takes **more"])
def test_what_a_docstring_lacks_is_found(lacking):
    def method(self, a: int, b: int, **more: int) -> int:
        """Add.

        Args:
            a: a number.
        """

    assert any(lacking in problem for problem in problems("method", method, inspect.getdoc(method)))
