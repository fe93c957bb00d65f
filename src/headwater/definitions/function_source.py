"""Source text of functions: what the registry keeps of one, and what it may name where it runs without its project."""

from __future__ import annotations

import ast
import builtins
import importlib.util
import inspect
import linecache
import symtable
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from importlib import metadata
from pathlib import PurePath
from types import ModuleType
from typing import Any

from headwater.values import Value

_INSTALLED = frozenset({"site-packages", "dist-packages"})
_BUILTINS = frozenset(dir(builtins))


class FunctionSource(Value, frozen=True):
    """A function as the registry keeps it.

    Attributes:
        text: its definition, without decorators, from the first column on.
        imports: the import statements of its module that it uses, one for each name, in the order of their texts: in
            which order and in how many lines the module has them is no part of the function.
        problems: why it cannot be kept, one line each.
    """

    text: str = ""
    imports: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def source_of(function: Any) -> FunctionSource:
    """The source text of a function and the imports that it uses; raises nothing."""
    if not inspect.isfunction(function):
        return FunctionSource(problems=(f"{function!r} is not a function written with `def`",))
    kinds = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    if any(kind(function) for kind in kinds):
        return FunctionSource(problems=("the function must be a plain `def`: neither async nor a generator",))
    try:
        text = textwrap.dedent(inspect.getsource(function))
        node = ast.parse(text).body[0]
    except (OSError, TypeError, SyntaxError, IndexError, ValueError) as bad:
        return FunctionSource(
            problems=(f"its source text cannot be read ({bad}): define the function in a file or a notebook cell",)
        )
    if not isinstance(node, ast.FunctionDef):
        return FunctionSource(problems=("the function must be written with `def`, not lambda",))
    if not hasattr(function, "__wrapped__") and node.name != function.__code__.co_name:
        return FunctionSource(problems=("its file was changed since it was imported: import it again",))
    own = "\n".join(text.splitlines()[node.lineno - 1 : node.end_lineno]) + "\n"
    imports = _in_order(_imports_used(function, frozenset(global_names(own))))
    # now, while the modules that it imports can be found
    problems = list(name_problems(own, imports))
    if len(node.decorator_list) > 1 or hasattr(function, "__wrapped__"):
        problems.append("other decorators are not kept: remove them, or call what they add inside the function")
    return FunctionSource(own, imports, tuple(problems))


def name_of(text: str) -> str:
    """The name under which a function's source text defines it."""
    return _definition(text).name


def parameters(text: str) -> tuple[str, ...]:
    """The parameters of a function's source text; `*args` and `**kwargs` with their stars."""
    arguments = _definition(text).args
    names = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    names += [f"*{arguments.vararg.arg}"] if arguments.vararg else []
    names += [f"**{arguments.kwarg.arg}"] if arguments.kwarg else []
    return tuple(names)


def call_problems(text: str, *, by_name: bool) -> Iterator[str]:
    """Parameters of a function's source text that the way it is called cannot give.

    Args:
        text: its source text.
        by_name: whether it is called with an argument for each name; else with one by its place.
    """
    arguments = _definition(text).args
    if by_name:
        for argument in arguments.posonlyargs:
            yield f"parameter {argument.arg!r} of the function cannot be given by name: remove the '/' after it"
    else:
        for argument in arguments.kwonlyargs:
            yield f"parameter {argument.arg!r} of the function can only be given by name: remove the '*' before it"


def global_names(text: str) -> list[str]:
    """The names that a function's source text takes from outside of it, annotations aside, each once."""
    tree = _WithoutAnnotations().visit(ast.parse(text))
    table = symtable.symtable(ast.unparse(tree), "<function>", "exec")
    outer = [s.get_name() for s in table.get_symbols() if s.is_referenced()]
    return list(dict.fromkeys([*outer, *_globals_in(table.get_children())]))


def name_problems(text: str, imports: Iterable[str]) -> Iterator[str]:
    """What a function's source text names and would not find where it runs from the registry.

    Args:
        text: its source text.
        imports: the import statements that are kept with it.
    """
    bound: dict[str, ast.Import | ast.ImportFrom] = {}
    for statement in imports:
        node = ast.parse(statement).body[0]
        assert isinstance(node, (ast.Import, ast.ImportFrom))
        bound |= dict.fromkeys(_bound(node), node)
    for name in global_names(text):
        if name in bound:
            yield from _module_problems(bound[name], name)
        elif name not in _BUILTINS:
            yield (
                f"it uses {name!r}, which is not an argument, a builtin or an import of its module: pass it as an "
                "input, or define it inside the function"
            )
    for inner in ast.walk(ast.parse(text)):
        if isinstance(inner, (ast.Import, ast.ImportFrom)):
            yield from _module_problems(inner, None)
        elif isinstance(inner, ast.Global):
            names = ", ".join(map(repr, inner.names))
            yield f"it declares {names} global: a function keeps nothing from one call to the next"


class _WithoutAnnotations(ast.NodeTransformer):
    """Annotations are not evaluated where a function runs from the registry."""

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.annotation = ast.Constant(None)
        return self.generic_visit(node)


def _globals_in(tables: Iterable[symtable.SymbolTable]) -> Iterator[str]:
    for table in tables:
        yield from (s.get_name() for s in table.get_symbols() if s.is_global() and s.is_referenced())
        yield from _globals_in(table.get_children())


def _definition(text: str) -> ast.FunctionDef:
    node = ast.parse(text).body[0]
    assert isinstance(node, ast.FunctionDef)
    return node


def _imports_used(function: Callable[..., Any], names: frozenset[str]) -> Iterator[str]:
    """The import statements of a function's module that bind some names; of a notebook those that would."""
    space = function.__globals__
    lines = linecache.getlines(function.__code__.co_filename, space)
    found: set[str] = set()
    try:
        statements = ast.parse("".join(lines)).body
    except (SyntaxError, ValueError):
        statements = []
    for node in statements:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            kept = [a for a in node.names if _binds(node, a) in names]
            if kept:
                found.update(_binds(node, a) for a in kept)
                node.names = kept
                yield ast.unparse(node)
    if "__file__" not in space:
        # the cells of a notebook are texts of their own
        for name in sorted(names - found - _BUILTINS):
            made = _import_of(name, space.get(name))
            if made is not None:
                yield made


def _in_order(statements: Iterable[str]) -> tuple[str, ...]:
    """Import statements one for each name, sorted; of several that bind one name to different things the last."""
    found: dict[str, list[str]] = {}
    for statement in statements:
        node = ast.parse(statement).body[0]
        assert isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names:
            own = ast.unparse(type(node)(**{**dict(ast.iter_fields(node)), "names": [alias]}))
            before = found.setdefault(_binds(node, alias), [])
            # `import a.b` and `import a.c` add to one a
            if not all(_is_package(one) for one in (*before, own)):
                before.clear()
            before.append(own)
    return tuple(sorted({one for each in found.values() for one in each}))


def _is_package(statement: str) -> bool:
    """Whether an import statement binds the package that its module is in."""
    return statement.startswith("import ") and " as " not in statement


def _import_of(name: str, value: Any) -> str | None:
    """The statement that imports a value under a name; None where there is none."""
    if isinstance(value, ModuleType):
        return f"import {value.__name__}" if name == value.__name__ else f"import {value.__name__} as {name}"
    module, own = getattr(value, "__module__", None), getattr(value, "__name__", None)
    if not (isinstance(module, str) and isinstance(own, str)) or module == "__main__":
        return None
    if getattr(sys.modules.get(module), own, None) is not value:
        return None
    return f"from {module} import {own}" + ("" if own == name else f" as {name}")


def _binds(node: ast.Import | ast.ImportFrom, alias: ast.alias) -> str:
    if alias.asname is not None:
        return alias.asname
    return alias.name.partition(".")[0] if isinstance(node, ast.Import) else alias.name


def _bound(node: ast.Import | ast.ImportFrom) -> list[str]:
    return [_binds(node, alias) for alias in node.names]


def _module_problems(node: ast.Import | ast.ImportFrom, name: str | None) -> Iterator[str]:
    modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
    relative = isinstance(node, ast.ImportFrom) and node.level > 0
    for module in modules:
        if relative or not _is_installed(module.partition(".")[0]):
            used = "it imports" if name is None else f"it uses {name!r} of"
            yield (
                f"{used} {'.' * getattr(node, 'level', 0)}{module}, a module of the project, which a process that only "
                "serves does not have: define what it needs inside the function"
            )


def _is_installed(module: str) -> bool:
    """Whether a module is of Python or of an installed package, not of the project."""
    if module in sys.stdlib_module_names or module in sys.builtin_module_names or module == "headwater":
        return True
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError, AttributeError):
        spec = None
    if spec is None:
        return True  # whether it is there shows where it runs; a file of the project would have been found
    places = [spec.origin or "", *(spec.submodule_search_locations or ())]
    if any(_INSTALLED.intersection(PurePath(place).parts) for place in places):
        return True
    return module in metadata.packages_distributions()
