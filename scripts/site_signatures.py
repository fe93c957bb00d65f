"""Signatures of the API reference: how values and definitions are made.

An extension of Griffe (`mkdocs.yml`), which knows of dataclasses alone; headwater's are structs of msgspec. Like
Griffe it reads the sources and imports nothing.
"""

import griffe

GIVEN = frozenset({"place"})
"""Fields that a definition fills in by itself."""


class StructSignatures(griffe.Extension):
    """Gives each struct the `__init__` that msgspec makes of its fields."""

    def on_package(self, *, pkg, **_):
        """Go through the classes of a package that was loaded."""
        for class_ in _classes(pkg):
            if "__init__" not in class_.members and _is_struct(class_):
                class_.set_member("__init__", _init(class_))


def _classes(where):
    for member in list(where.members.values()):
        if member.is_alias:
            continue
        if member.is_class:
            yield member
        if member.is_class or member.is_module:
            yield from _classes(member)


def _is_struct(class_):
    """Whether a class is msgspec's `Struct` further up."""
    named = any(str(getattr(base, "canonical_path", base)) == "msgspec.Struct" for base in class_.bases)
    return named or any(base.is_class and _is_struct(base) for base in class_.resolved_bases)


def _init(class_):
    fields = {}
    for parent in [*reversed(class_.mro()), class_]:
        if _is_struct(parent):
            fields |= {field.name: field for field in _fields(parent)}
    ordered = sorted(fields.values(), key=lambda field: field.kind is griffe.ParameterKind.keyword_only)
    own = griffe.Parameter("self", kind=griffe.ParameterKind.positional_or_keyword)
    return griffe.Function(
        "__init__", lineno=0, endlineno=0, parent=class_, parameters=griffe.Parameters(own, *ordered), returns="None"
    )


def _fields(class_):
    """The fields that a class adds, as parameters."""
    by_name = griffe.ParameterKind.keyword_only
    kind = by_name if class_.keywords.get("kw_only") == "True" else griffe.ParameterKind.positional_or_keyword
    for member in class_.members.values():
        # class variables and properties have other labels
        if not member.is_attribute or member.annotation is None or "instance-attribute" not in member.labels:
            continue
        if member.name not in GIVEN:
            yield griffe.Parameter(member.name, annotation=member.annotation, kind=kind, default=_default(member.value))


def _default(value):
    """What a parameter shows: of `msgspec.field(default_factory=dict)` that is `dict()`."""
    if isinstance(value, griffe.ExprCall) and value.canonical_path == "msgspec.field":
        given = {argument.name: argument.value for argument in value.arguments}
        if "default_factory" in given:
            return griffe.ExprCall(function=given["default_factory"], arguments=[])
        return given.get("default")
    return value
