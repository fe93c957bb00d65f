"""What of a query is not decided by its tables: the same rows would give other values another time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sqlglot import exp

from headwater.definitions.query_scopes import Fault, Scope, Tree, argument, is_query, own_nodes, parts
from headwater.definitions.query_windows import function_name, function_of, is_windowed, over_of

_NOW = """now today current_date current_time current_timestamp current_datetime get_current_time get_current_timestamp
transaction_timestamp statement_timestamp clock_timestamp localtime localtimestamp current_localtime
current_localtimestamp ago"""
_RANDOM = "rand random uuid gen_random_uuid uuidv4 uuidv7 randn setseed"
_SESSION = """nextval currval current_user session_user user current_role current_catalog current_database
current_schema current_schemas current_setting getenv getvariable version current_version txid_current current_query
in_search_path current_connection_id current_query_id current_transaction_id setval inet_client_addr inet_client_port
inet_server_addr inet_server_port pg_postmaster_start_time pg_conf_load_time which_secret write_log sleep_ms stats
vector_type"""
_OF_SESSION = ("duckdb_", "pragma_")
"""How functions begin that make tables of what the session is."""
_OF_SPARK = """monotonically_increasing_id spark_partition_id shuffle input_file_name input_file_block_start
input_file_block_length"""
_CATALOGS = frozenset(("information_schema", "pg_catalog"))
_SCHEMAS = frozenset(("main", "pg_catalog"))
"""What may stand before a function's name without being its first argument."""
_CHOOSE = "arg_max arg_min max_by min_by argmax argmin arg_max_null arg_min_null arg_max_nulls_last arg_min_nulls_last"
_CHOOSING = frozenset(_CHOOSE.split())
_LIST = """first last any_value arbitrary array_agg list group_concat string_agg listagg json_group_array
json_group_object mode"""
_ORDERED = _CHOOSING | frozenset(_LIST.split())
"""Aggregates whose value depends on the order of their rows, or that choose one among equals."""
_APPROXIMATE = "approx_quantile reservoir_quantile approx_top_k"
_TELL_APART = "row_number ntile lag lead first first_value last last_value nth_value any_value fill"
_BY_ROW = frozenset(_TELL_APART.split())
"""Window functions that tell rows apart which their ORDER BY does not."""
_CHANGING = {
    **dict.fromkeys(_NOW.split(), "is another time at each run: use a column of time"),
    **dict.fromkeys(_RANDOM.split(), "is random: derive the value from columns, by hash(…) for one"),
    **dict.fromkeys(_SESSION.split(), "depends on the session, not on the tables"),
    **dict.fromkeys(_OF_SPARK.split(), "depends on how Spark divides the rows, not on the rows"),
    **dict.fromkeys(
        _APPROXIMATE.split(), "depends on the order in which rows come: use quantile_disc or quantile_cont"
    ),
    **dict.fromkeys(
        ("query", "json_execute_serialized_sql"),
        "runs a query in a text, which cannot be checked: write the query itself",
    ),
}


def changing_faults(tree: Tree) -> Iterator[Fault]:
    """Functions, samples and joins that give something else at each run."""
    for node in tree.walk():
        if isinstance(node, exp.TableSample):
            yield Fault(node, "a sample is random: choose rows by hash(…) of a column")
        elif isinstance(node, exp.Join) and node.method.upper() == "POSITIONAL":
            yield Fault(node.this, "a POSITIONAL JOIN depends on the order in which rows come: join by a column")
        elif isinstance(node, exp.Table) and node.db.lower() in _CATALOGS:
            yield Fault(node, f"{node.db}.{node.name} {_CHANGING['current_setting']}")
        elif isinstance(node, exp.Summarize):
            yield Fault(node.this, "SUMMARIZE gives approximate quantiles: select the aggregates that are needed")
        elif isinstance(node, exp.Func):
            name = function_name(node)
            reason = _CHANGING.get(name)
            if name.startswith(_OF_SESSION):
                reason = _CHANGING["current_setting"]
            if name == "age" and _count_of_arguments(node) == 1:
                reason = "with one argument counts from today: give both, age(later, earlier)"
            if reason is not None:
                yield Fault(node, f"{name}() {reason}")


def _count_of_arguments(function: Tree) -> int:
    """How many arguments a function has, `x` of `x.f()` among them."""
    parent, count = function.parent, len(function.expressions)
    if isinstance(parent, exp.Dot) and parent.expression is function:
        is_schema = isinstance(parent.this, exp.Identifier) and parent.this.name.lower() in _SCHEMAS
        count += not (is_schema or isinstance(parent.this, exp.Dot))
    return count


def order_faults(scopes: Iterable[Scope], tree: Tree) -> Iterator[Fault]:
    """Values and rows that an order decides which is not there, or leaves ties."""
    for scope in scopes:
        yield from _aggregates(parts(scope.select))
        yield from _windows(scope)
        yield from _limits(scope.select, scope)
        yield from _asof_joins(scope.select, tree)
    yield from _aggregates(tree.find_all(exp.Pivot))
    for query in tree.find_all(exp.SetOperation, exp.Subquery):
        yield from _limits(query, None)


def _aggregates(trees: Iterable[Tree]) -> Iterator[Fault]:
    for part in trees:
        for node in own_nodes(part):
            name = function_name(node) if isinstance(node, exp.Func) else ""
            if name not in _ORDERED or is_windowed(node) or _is_ordered(node):
                continue
            shown = "string_agg" if name in ("group_concat", "listagg") else name
            values = [_text(value) for value in _values(node)[:1]]
            if name in _CHOOSING:
                by = [_text(value) for value in _values(node)[1:2]]
                way = "DESC" if "max" in name else "ASC"
                hint = (
                    f"first({values[0]} ORDER BY {' '.join([*by, way])}, {values[0]})" if by else "first(… ORDER BY …)"
                )
                text = f"{shown}() takes any of the rows that tie: write {hint}"
            else:
                hint = f"{shown}({', '.join(values)} ORDER BY …, {', '.join(values)})"
                text = f"{shown}() depends on the order in which rows come: write {hint}"
            yield Fault(node, text)


def _is_ordered(node: Tree) -> bool:
    """Whether an aggregate says in which order it takes its rows, and what it takes of those that tie."""
    order = node.find(exp.Order) or (node.parent if isinstance(node.parent, exp.WithinGroup) else None)
    if isinstance(order, exp.WithinGroup):
        order = order.find(exp.Order)
    if isinstance(node.this, exp.Distinct) and order is None:
        return False
    if order is None:
        return False
    keys = {_text(key.this) for key in order.expressions}
    return all(_text(value) in keys or not _columns(value) for value in _values(node)[:1])


def _values(node: Tree) -> list[Tree]:
    """The arguments of a function, without ORDER BY and DISTINCT."""
    given = (
        [node.this, node.args.get("expression"), *node.expressions]
        if not isinstance(node, exp.Anonymous)
        else [*node.expressions]
    )
    found: list[Tree] = []
    for value in given:
        while isinstance(value, exp.Order):
            value = value.this
        if isinstance(value, exp.Distinct):
            found += value.expressions
        elif isinstance(value, Tree):
            found.append(value)
    return found


def _windows(scope: Scope) -> Iterator[Fault]:
    for part in parts(scope.select):
        for window in own_nodes(part):
            if not isinstance(window, exp.Window) or window.parent is scope.select:
                continue
            over, name = over_of(window, scope.select), function_name(window.this)
            by_rows = over.frame.startswith("rows") and not over.is_whole
            listing = name in _ORDERED and name not in _BY_ROW
            if not (name in _BY_ROW or by_rows or listing) or _is_ordered(function_of(window.this)):
                continue
            keys = {*over.partition, *(_key(text) for text in over.order)}
            lacking = _lacking(scope, keys)
            if lacking is None:
                yield Fault(
                    window, f"{name}() OVER must order by all columns that the SELECT gives: name them, without *"
                )
            elif lacking:
                yield Fault(
                    window,
                    f"{name}() OVER leaves rows that tie in any order: add {', '.join(lacking)} to its ORDER BY, so "
                    "that all columns of the SELECT are in it or in PARTITION BY",
                )


def _limits(query: Tree, scope: Scope | None) -> Iterator[Fault]:
    """LIMIT, OFFSET and DISTINCT ON choose rows by an order, and ARRAY(SELECT …) puts them into one."""
    limit = argument(query, "limit") or argument(query, "offset")
    distinct = argument(query, "distinct")
    on = None if distinct is None else distinct.args.get("on")
    listed = query if isinstance(query.parent, exp.Array) else None
    part = limit or (distinct if on is not None else None) or listed
    if part is None:
        return
    order = argument(query, "order")
    word = "DISTINCT ON" if part is distinct else "ARRAY(SELECT …)" if part is listed else "LIMIT"
    given = [] if order is None else order.expressions
    keys = {_text(key.this) for key in given}
    if any(key in ("all", "*") for key in keys):
        return
    if isinstance(on, exp.Tuple) and keys:
        keys |= {_text(one) for one in on.expressions}
    select = query if scope is not None else query.find(exp.Select)
    names = [item.alias_or_name.lower() for item in select.expressions] if isinstance(select, exp.Select) else []
    keys |= {names[int(key) - 1] for key in keys if key.isdigit() and 0 < int(key) <= len(names)}
    lacking = (
        _lacking(scope, keys, by_alias=True) if scope is not None else [name for name in names if name not in keys]
    )
    if lacking is None or (names and "*" in names):
        yield Fault(part, f"{word} must order by all columns that the SELECT gives: write ORDER BY ALL")
    elif lacking:
        done = "needs an ORDER BY" if order is None else "leaves rows that tie in any order"
        yield Fault(part, f"{word} {done}: add {', '.join(lacking)}, or write ORDER BY ALL")


def _asof_joins(select: exp.Select, tree: Tree) -> Iterator[Fault]:
    """An ASOF JOIN takes any of the rows that have the key and the time."""
    for join in select.args.get("joins") or ():
        if join.method.upper() != "ASOF" or _is_unique(join, tree):
            continue
        yield Fault(
            join.this,
            f"ASOF JOIN takes any of the rows of {join.alias_or_name} that tie in the key and the time, such as a late "
            "row beside the one that it corrects: join a subquery with one row for each, SELECT DISTINCT ON (key, time)"
            " … ORDER BY key, time, and then all other columns",
        )


def _is_unique(join: exp.Join, tree: Tree) -> bool:
    """Whether what is joined has one row for each value of the columns that it is joined by."""
    alias = join.alias_or_name.lower()
    query: Tree | None = join.this
    if isinstance(query, exp.Table):
        name = query.name.lower()
        query = next((table.this for table in tree.find_all(exp.CTE) if table.alias_or_name.lower() == name), None)
    while isinstance(query, (exp.Subquery, exp.Paren)):
        query = query.this
    if not isinstance(query, exp.Select):
        return False
    on = join.args.get("on")
    using = {name.name.lower() for name in join.args.get("using") or ()}
    columns = [] if on is None else [c for c in own_nodes(on) if isinstance(c, exp.Column)]
    by = using | {column.name.lower() for column in columns if column.table.lower() == alias}
    group, distinct = argument(query, "group"), argument(query, "distinct")
    chosen = None if distinct is None else distinct.args.get("on")
    names = {
        _text(item.this if isinstance(item, exp.Alias) else item): item.alias_or_name.lower()
        for item in query.expressions
    }
    if group is not None and not group.args.get("all"):
        keys = list(group.expressions)
    elif isinstance(chosen, Tree):
        keys = list(chosen.expressions) if isinstance(chosen, exp.Tuple) else [chosen]
    else:
        return False
    numbered = [item.alias_or_name.lower() for item in query.expressions]
    found = [
        numbered[int(key.name) - 1]
        if isinstance(key, exp.Literal) and key.is_int
        else names.get(_text(key), _text(key))
        for key in keys
    ]
    return bool(found) and {name.rpartition(".")[2] for name in found} <= by


def _lacking(scope: Scope, keys: set[str], *, by_alias: bool = False) -> list[str] | None:
    """The columns of a SELECT that its order does not decide; None where a star hides some.

    A column is decided where it is a key, or is made of keys alone.

    Args:
        scope: the SELECT.
        keys: the expressions by which it orders, in lower case.
        by_alias: whether a name among them is first that of a column of the SELECT, as in its own ORDER BY; in OVER it
            is first that of a column of FROM.
    """
    items = scope.items()
    if items is None:
        return None
    values = [(name, item.this if isinstance(item, exp.Alias) else item) for name, item in items]
    if by_alias:
        # a name stands for what the SELECT gives under it
        given = {name: _text(value) for name, value in values}
        keys = {given.get(key, key) for key in keys}
    known = {_full(scope, key) for key in keys}
    lacking = []
    for name, value in values:
        if value.find(exp.Window) is not None or _text(value) in keys or name in known:
            continue
        columns = [_full(scope, _text(column)) for column in _columns(value)]
        inner = any(is_query(node) for node in value.walk())
        aggregate = any(isinstance(node, exp.AggFunc) for node in own_nodes(value))
        if inner or aggregate or not known.issuperset(columns):
            lacking.append(name)
    return lacking


def _full(scope: Scope, text: str) -> str:
    """The text of a key; of a column of FROM with the name of its relation."""
    parts = text.replace('"', "").split(".")
    if len(parts) != 1 or not parts[0].isidentifier():
        return text.replace('"', "")
    alias = scope.relation_of(exp.column(parts[0]))
    return parts[0] if alias is None else f"{alias}.{parts[0]}"


def _columns(node: Tree) -> list[exp.Column]:
    return [one for one in own_nodes(node) if isinstance(one, exp.Column)]


def _key(text: str) -> str:
    """The expression of a key of ORDER BY, without its direction."""
    for end in (" nulls first", " nulls last", " desc", " asc"):
        text = text.removesuffix(end)
    return text


def _text(node: Tree) -> str:
    return node.sql(dialect="duckdb", comments=False).lower()
