"""What is kept of a function's source text, and what it may name: it runs where its project is not."""

import functools
import importlib.util
import linecache
import math as m
import os.path
import textwrap
from datetime import timedelta as duration

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import headwater as hw
from headwater.compute.transforms.compiled import compiled
from headwater.definitions.function_source import global_names, name_problems, parameters, source_of
from headwater.testing import SCALE

LIMIT = 32


def helper(x):
    return x


def test_text_and_imports_of_a_function():
    def cold(temp: np.ndarray, hour: int = 9) -> dict[str, np.ndarray]:
        """Comments and texts stay as they are written."""
        low = m.floor(LOW := 1)  # as this one
        return {"cold": np.where(temp < low, hour, os.path.sep), "LOW": LOW, "d": duration(1)}

    found = source_of(cold)
    assert found.problems == ()
    assert found.imports == (
        "from datetime import timedelta as duration",
        "import math as m",
        "import numpy as np",
        "import os.path",
    )
    assert found.text.startswith("def cold(temp: np.ndarray, hour: int = 9)")
    assert "# as this one" in found.text
    assert parameters(found.text) == ("temp", "hour")


def test_a_file_that_was_changed_since_its_import_is_refused(tmp_path):
    file = tmp_path / "changed.py"
    file.write_text("def first(a):\n    return a\n")
    spec = importlib.util.spec_from_file_location("changed", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert source_of(module.first).problems == ()
    file.write_text("def another(a):\n    return -a\n\n\ndef first(a):\n    return a\n")
    assert any("changed since it was imported" in problem for problem in source_of(module.first).problems)


IMPORTS = ["import numpy as np", "import os.path", "import os", "from math import cos", "from math import sin as s"]
USING = "def f(x):\n    return np.sin(x) + cos(x) + s(x) + len(os.path.sep + os.name)\n"


def module_of(folder, imports):
    """The function of a module of the project with these import statements."""
    file = folder / "features.py"
    file.write_text("\n".join([*imports, "", USING]))
    linecache.checkcache(str(file))
    spec = importlib.util.spec_from_file_location("features", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.f


@given(st.permutations(IMPORTS))
@settings(max_examples=10 * SCALE, deadline=None)
def test_the_order_of_imports_is_no_part_of_a_function(tmp_path_factory, order):
    found = source_of(module_of(tmp_path_factory.mktemp("p"), order))
    assert found.imports == tuple(sorted(IMPORTS)) and not found.problems


def test_imports_in_one_statement_and_those_that_nothing_uses_are_no_part_of_a_function(tmp_path):
    one = ["import os, os.path, json, numpy as np", "from math import sin as s, tan, cos"]
    assert source_of(module_of(tmp_path, one)).imports == tuple(sorted(IMPORTS))


def test_of_imports_of_one_name_the_last_counts(tmp_path):
    for first, last in (("import os", "from headwater import types as os"), ("from cmath import cos", "import os")):
        found = source_of(module_of(tmp_path, [*IMPORTS[:1], *IMPORTS[3:], first, last]))
        assert last in found.imports
        assert (first in found.imports) == (first == "from cmath import cos")
        assert "from math import cos" not in found.imports or first != "from cmath import cos"


def test_a_function_of_the_name_of_an_import_is_the_function():
    assert (
        compiled("f", "def cos(x):\n    return np.floor(x)\n", ["from math import cos", "import numpy as np"])(1.5) == 1
    )


def test_a_module_of_the_project_is_refused_by_name(tmp_path):
    (tmp_path / "helpers.py").write_text("def scale(x):\n    return x\n")
    (tmp_path / "features.py").write_text(
        textwrap.dedent(
            """
            import headwater as hw
            import helpers
            from helpers import scale

            @hw.on_demand(inputs=[hw.RequestField("x", hw.Float64)], features=[hw.Feature("y", hw.Float64)])
            def scaled(x):
                return {"y": scale(helpers.scale(x))}
            """
        )
    )
    (tmp_path / "headwater.toml").write_text('[online]\nurl = "memory:"\n')
    with hw.FeatureStore(tmp_path) as store, pytest.raises(hw.DefinitionError) as caught:
        store.plan()
    first, *problems = str(caught.value).splitlines()
    assert first == "2 problems in the definitions:"
    assert all("features.py:6 scaled: it uses" in line and "a module of the project" in line for line in problems)
    assert "'scale' of helpers" in problems[0] + problems[1]


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ("return LIMIT + a", "LIMIT"),
        ("return helper(a)", "helper"),
        ("return f(a)", "f"),
        ("return [LIMIT for _ in a]", "LIMIT"),
        ("return (lambda: LIMIT)()", "LIMIT"),
        ("def inner():\n        return LIMIT\n    return inner()", "LIMIT"),
        ("global counted\n    counted = a\n    return counted", "counted"),
        ("from . import thing\n    return thing", "."),
        ("class Inner:\n        x = LIMIT\n    return Inner.x", "LIMIT"),
    ],
)
def test_names_that_are_not_there_where_it_runs(body, name):
    problems = list(name_problems(f"def f(a):\n    {body}\n", ()))
    assert any(name in problem for problem in problems), problems


@pytest.mark.parametrize(
    "body",
    [
        "return sum(abs(x) for x in a)",
        "import math\n    return math.pi",
        "def inner(n):\n        return inner(n - 1) if n else a\n    return inner(3)",
        "try:\n        return a\n    except ValueError as bad:\n        return str(bad)",
        "total: NotThere = 1\n    return total",
        "return {k: v for k, v in a.items()}",
        "match a:\n        case [first, *rest]:\n            return first, rest\n    return None",
    ],
)
def test_names_that_are_there(body):
    assert list(name_problems(f"def f(a: NotThere) -> NotThere:\n    {body}\n", ())) == []


def test_global_names_are_each_given_once():
    assert global_names("def f(a, b=LIMIT):\n    return x(a) + x(b) + y.z\n") == ["LIMIT", "x", "y"]


def twice(function):
    return function


@twice
@twice
def decorated(a):
    return a


def wrapped(a):
    return a


@functools.wraps(wrapped)
def around(*given):
    return wrapped(*given)


async def later(a):
    return a


def many(a):
    yield a


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda a: a, "with `def`"),
        (decorated, "other decorators are not kept"),
        (around, "other decorators are not kept"),
        (later, "neither async nor a generator"),
        (many, "neither async nor a generator"),
        (len, "is not a function written with `def`"),
        (eval("lambda a: a"), "source text cannot be read"),
    ],
)
def test_what_is_not_a_plain_function(function, words):
    assert any(words in problem for problem in source_of(function).problems), source_of(function).problems


FIELD = hw.RequestField("a", hw.Float64)
OUT = [hw.Feature("b", hw.Float64)]
ENTITY = hw.Entity("e", join_keys={"k": hw.Int64})
VIEW = hw.FeatureView("v", entity=ENTITY, source=hw.PushSource(event_time="t"), features=[hw.Feature("x", hw.Float64)])


def identity(a):
    return {"b": a}


def of(**changes):
    given = {"inputs": [FIELD], "features": OUT, "function": identity} | changes
    return hw.OnDemandFeatureView("f", **given)


@pytest.mark.parametrize(
    ("view", "words"),
    [
        (of(inputs=[FIELD, VIEW["x"]]), "input 'x' is not a parameter of the function; it has a"),
        (of(inputs=[VIEW["x"]]), "parameter 'a' of the function is not an input"),
        (of(inputs=[]), "must have at least one input"),
        (of(features=[]), "must have at least one feature"),
        (of(inputs=["v:x"]), "'v:x' is not an input"),
        (of(inputs=[FIELD, hw.RequestField("a", hw.Int64)]), "two inputs are named 'a'"),
        (of(mode="panda"), "mode: 'panda' is not one of numpy, pandas, arrow, rows"),
        (of(nulls=True), "nulls: True is not one of skip, pass"),
        (of(errors="skip"), "errors: 'skip' is not one of raise, null"),
        (of(features=[hw.Feature("b", hw.Float64, default=0.0)]), "default: an on-demand feature has none"),
        (of(features=[hw.Feature("b", hw.Float64, column="c")]), "column: an on-demand feature has no source column"),
        (of(features=[hw.Feature("b", hw.Float64, freshness_sla="1h")]), "freshness_sla: an on-demand feature"),
        (of(features=[hw.Feature("a", hw.Float64)]), "'a' is named like its request field"),
        (of(inputs=[hw.RequestField("a", "float")]), "'float' is not a dtype"),
        (of(inputs=[hw.RequestField("a b", hw.Int64)]), "not a valid name for a request field"),
        (of(function=None, source="def f(*a):\n    return a\n"), "the function has *a: name each input"),
        (of(function=None, source="def f(a, /):\n    return a\n"), "'a' of the function cannot be given by name"),
        (
            of(mode="rows", function=None, source="def f(*, a):\n    return a\n"),
            "'a' of the function can only be given by",
        ),
        (of(mode="rows", function=None, source="def f(a, /):\n    return a\n"), None),
        (of(mode="rows", inputs=[FIELD, VIEW["x"]]), None),
        (of(mode="pandas", function=None, source="def f(a, b):\n    return a\n"), "must have one parameter"),
    ],
)
def test_what_is_wrong_with_a_definition_is_said_by_plan(view, words, tmp_path):
    with hw.FeatureStore(tmp_path, registry=f"sqlite:///{tmp_path}/r.db", online="memory:") as store:
        if words is None:
            assert store.plan([VIEW, view]).stages
            return
        with pytest.raises(hw.DefinitionError) as caught:
            store.plan([VIEW, view])
    assert words in str(caught.value), str(caught.value)
