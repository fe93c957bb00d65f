"""Key forms: which join keys of a view's versions are the same ones, whatever each version calls them."""

from __future__ import annotations

from collections.abc import Collection

from headwater.definitions.view import FeatureView

KeyForm = tuple[tuple[str, str, str], ...]
"""The join keys of a version, in its order: name, dtype (integers of any width are one) and the source's column."""


def key_form(view: FeatureView) -> KeyForm:
    """The form of a version's join keys."""
    return tuple(
        (name, str(dtype).replace("int32", "int64"), view.key_column(name)) for name, dtype in view.join_keys.items()
    )


def names_in_forms(form: KeyForm, forms: Collection[KeyForm]) -> dict[KeyForm, tuple[str, ...]]:
    """What the join keys of one form are called in each form that has the same ones, in the order of the one.

    Two forms have the same keys where their names and dtypes are the same, in any order; else where those are read from
    the same columns. So a key that was renamed over its column stays the key, step by step.
    """
    found = {form: tuple(name for name, _, _ in form)}
    todo = [form]
    while todo:
        one = todo.pop()
        for other in forms:
            names = None if other in found else _renamed(one, found[one], other)
            if names is not None:
                found[other] = names
                todo.append(other)
    return found


def other_names(form: KeyForm, forms: Collection[KeyForm]) -> tuple[tuple[str, ...], ...]:
    """The other names of a form's join keys, each in its order."""
    if len(forms) < 2:
        return ()
    own = {name for name, _, _ in form}
    every = names_in_forms(form, forms).values()
    return tuple(dict.fromkeys(names for names in every if set(names) != own))


def _renamed(one: KeyForm, names: tuple[str, ...], other: KeyForm) -> tuple[str, ...] | None:
    """What `names`, the keys of one form in some order, are called in another; None: it has other keys."""
    if {key[:2] for key in one} == {key[:2] for key in other}:
        return names
    columns = {name: (dtype, column) for name, dtype, column in one}
    theirs = {(dtype, column): name for name, dtype, column in other}
    if set(columns.values()) != theirs.keys() or not len(columns) == len(theirs) == len(other):
        return None
    return tuple(theirs[columns[name]] for name in names)
