"""Conditions of aggregations (`where=`): a small part of SQL, parsed without SQLGlot, since writers that serve use it.

Comparisons, AND, OR, NOT, IN, BETWEEN, IS NULL, + − * over columns and literals; nothing else.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import NamedTuple, NoReturn

from headwater.errors import brief
from headwater.values import Value

_TOKEN = re.compile(
    r"""\s*(?:(?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)
    |(?P<text>'(?:[^']|'')*')
    |(?P<quoted>"(?:[^"]|"")+")
    |(?P<word>[^\W\d]\w*)
    |(?P<sign><>|!=|<=|>=|==|\|\||::|\S))""",
    re.VERBOSE,
)
_COMPARISONS = {"=": "=", "<>": "<>", "!=": "<>", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
_WORDS = frozenset({"AND", "OR", "NOT", "IN", "BETWEEN", "IS", "NULL", "TRUE", "FALSE", "DATE", "TIMESTAMP"})
_ALLOWED = "a condition has comparisons, AND, OR, NOT, IN, BETWEEN, IS NULL, +, - and * over columns and literals"
_DEEPEST = 30
_MOST_SIGNS = 100
_TOO_LARGE = "the number is too large: whole numbers have 64 bits"


class ConditionError(ValueError):
    """A text that is not a condition: what is wrong, and where."""


class Column(Value, frozen=True):
    """A column of the source."""

    name: str


class Literal(Value, frozen=True):
    """A number, a text or a bool; `kind`: `date` or `timestamp` for a text that is said to be one."""

    value: int | float | str | bool | None
    kind: str = ""


class Arithmetic(Value, frozen=True):
    """`+`, `-` or `*` of two numbers."""

    sign: str
    left: Term
    right: Term


class Comparison(Value, frozen=True):
    """`=`, `<>`, `<`, `<=`, `>` or `>=` of two values."""

    sign: str
    left: Term
    right: Term


class OneOf(Value, frozen=True):
    """Whether a value is one of some literals."""

    value: Term
    literals: tuple[Literal, ...]


class IsNull(Value, frozen=True):
    """Whether a value is NULL."""

    value: Term


class Not(Value, frozen=True):
    """The opposite; of NULL NULL."""

    value: Term


class Every(Value, frozen=True):
    """Whether all hold."""

    parts: tuple[Term, ...]


class Some(Value, frozen=True):
    """Whether one holds."""

    parts: tuple[Term, ...]


Term = Column | Literal | Arithmetic | Comparison | OneOf | IsNull | Not | Every | Some


class _Token(NamedTuple):
    """A part of a condition's text: `number`, `text`, `quoted`, `word`, `sign` or `end`; `at` counts from 1."""

    kind: str
    text: str
    at: int


@lru_cache(maxsize=1024)
def parse_condition(text: str) -> Term:
    """The tree of a condition.

    Raises:
        ConditionError: a text that is not a condition, with the position.
    """
    return _Parser(text).whole()


@lru_cache(maxsize=1024)
def condition_columns(text: str) -> tuple[str, ...]:
    """The columns that a condition names, in the order of their first use; none of a text that is not one."""
    try:
        return tuple(dict.fromkeys(_columns(parse_condition(text))))
    except ConditionError:
        return ()


def _columns(term: Term) -> list[str]:
    match term:
        case Column():
            return [term.name]
        case Literal():
            return []
        case Arithmetic() | Comparison():
            return [*_columns(term.left), *_columns(term.right)]
        case OneOf() | IsNull() | Not():
            return _columns(term.value)
    return [name for part in term.parts for name in _columns(part)]


def canonical_condition(text: str) -> str:
    """A condition as it is stored: the same text for every way to write the same tree.

    Raises:
        ConditionError: a text that is not a condition.
    """
    return condition_text(parse_condition(text))


def condition_text(term: Term) -> str:
    """A tree as text, with as few parentheses as are needed, but that what NOT turns stands in some."""
    match term:
        case Column(name):
            plain = name.isidentifier() and name.upper() not in _WORDS
            return name if plain else '"' + name.replace('"', '""') + '"'
        case Literal(value, kind):
            text = "'" + value.replace("'", "''") + "'" if isinstance(value, str) else str(value).upper()
            return f"{kind.upper()} {text}" if kind else text
        case Arithmetic(sign, left, right):
            level = _level(term)
            return f"{_at_least(level, left)} {sign} {_at_least(level + 1, right)}"
        case Comparison(sign, left, right):
            return f"{_at_least(_SUM, left)} {sign} {_at_least(_SUM, right)}"
        case OneOf(value, literals):
            return f"{_at_least(_SUM, value)} IN ({', '.join(map(condition_text, literals))})"
        case IsNull(value):
            return f"{_at_least(_SUM, value)} IS NULL"
        case Not(IsNull(value)):
            return f"{_at_least(_SUM, value)} IS NOT NULL"
        case Not(OneOf(value, literals)):
            return f"{_at_least(_SUM, value)} NOT IN ({', '.join(map(condition_text, literals))})"
        case Not(value):
            return f"NOT {_at_least(_ATOM, value)}"
        case Every(parts):
            return " AND ".join(_at_least(_NOT, part) for part in parts)
        case Some(parts):
            return " OR ".join(_at_least(_ALL, part) for part in parts)


_ANY, _ALL, _NOT, _PREDICATE, _SUM, _PRODUCT, _ATOM = range(7)
"""What holds how tight, the loosest first."""


def _level(term: Term) -> int:
    match term:
        case Column() | Literal():
            return _ATOM
        case Arithmetic(sign):
            return _PRODUCT if sign == "*" else _SUM
        case Some():
            return _ANY
        case Every():
            return _ALL
        case Not(IsNull() | OneOf()):
            return _PREDICATE
        case Not():
            return _NOT
    return _PREDICATE


def _at_least(level: int, term: Term) -> str:
    text = condition_text(term)
    return text if _level(term) >= level else f"({text})"


class _Parser:
    """Recursive descent, one token ahead."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(_tokens(text))
        self._next = 0
        self._depth = 0
        self._signs = 0

    def whole(self) -> Term:
        found = self._any()
        if self._token.kind != "end":
            self._refuse(self._token)
        return found

    @property
    def _token(self) -> _Token:
        return self._tokens[self._next]

    def _refuse(self, token: _Token, advice: str = _ALLOWED) -> NoReturn:
        what = "the condition ends too early" if token.kind == "end" else f"unexpected {brief(token.text)}"
        raise ConditionError(f"{what} at character {token.at} of {brief(self._text)}; {advice}")

    def _word(self, *words: str) -> bool:
        """Take the next tokens if they are these words."""
        ahead = self._tokens[self._next : self._next + len(words)]
        if [token.text.upper() if token.kind == "word" else "" for token in ahead] != [*words]:
            return False
        self._next += len(words)
        return True

    def _sign(self, *signs: str) -> str | None:
        """Take the next token if it is one of these signs."""
        token = self._token
        if token.kind != "sign" or token.text not in signs:
            return None
        self._next += 1
        return token.text

    def _operator(self, *signs: str) -> str | None:
        """Take the next token if it is one of these signs of arithmetic, each of which makes the tree deeper."""
        token = self._token
        found = self._sign(*signs)
        self._signs += found is not None
        if self._signs > _MOST_SIGNS:
            self._refuse(token, f"a condition has at most {_MOST_SIGNS} of +, - and *")
        return found

    def _expect(self, sign: str) -> None:
        if self._sign(sign) is None:
            self._refuse(self._token, f"{sign!r} is expected there")

    def _any(self) -> Term:
        self._depth += 1
        if self._depth > _DEEPEST:
            self._refuse(self._token, f"a condition is at most {_DEEPEST} parentheses deep")
        parts = [self._all()]
        while self._word("OR"):
            parts.append(self._all())
        self._depth -= 1
        flat = [inner for part in parts for inner in (part.parts if isinstance(part, Some) else (part,))]
        return parts[0] if len(parts) == 1 else Some(tuple(flat))

    def _all(self) -> Term:
        parts = [self._opposite()]
        while self._word("AND"):
            parts.append(self._opposite())
        flat = [inner for part in parts for inner in (part.parts if isinstance(part, Every) else (part,))]
        return parts[0] if len(parts) == 1 else Every(tuple(flat))

    def _opposite(self) -> Term:
        turned = False
        while self._word("NOT"):
            turned = not turned
        found = self._predicate()
        return Not(found) if turned else found

    def _predicate(self) -> Term:
        left = self._sum()
        token = self._token
        sign = self._sign(*_COMPARISONS)
        if sign is not None:
            return Comparison(_COMPARISONS[sign], left, self._sum())
        if token.text == "==":
            self._refuse(token, "values are compared by =")
        if self._word("IS", "NOT", "NULL"):
            return Not(IsNull(left))
        if self._word("IS", "NULL"):
            return IsNull(left)
        if self._word("NOT", "IN"):
            return Not(self._one_of(left))
        if self._word("IN"):
            return self._one_of(left)
        if self._word("NOT", "BETWEEN"):
            return Not(self._between(left))
        return self._between(left) if self._word("BETWEEN") else left

    def _one_of(self, left: Term) -> Term:
        self._expect("(")
        literals: list[Literal] = []
        while True:
            token = self._token
            found = self._factor()
            if not isinstance(found, Literal):
                self._refuse(token, "IN takes literals: IN ('a', 'b')")
            literals.append(found)
            if self._sign(",") is None:
                break
        self._expect(")")
        return OneOf(left, tuple(literals))

    def _between(self, left: Term) -> Term:
        least = self._sum()
        if not self._word("AND"):
            self._refuse(self._token, "BETWEEN takes two values: x BETWEEN 1 AND 5")
        return Every((Comparison(">=", left, least), Comparison("<=", left, self._sum())))

    def _sum(self) -> Term:
        left = self._product()
        while (sign := self._operator("+", "-")) is not None:
            left = Arithmetic(sign, left, self._product())
        return left

    def _product(self) -> Term:
        left = self._factor()
        while self._operator("*") is not None:
            left = Arithmetic("*", left, self._factor())
        return left

    def _factor(self) -> Term:
        negative = False
        while (sign := self._sign("+", "-")) is not None:
            negative = negative != (sign == "-")
        token = self._token
        found = self._atom()
        if not negative:
            if isinstance(found, Literal) and found.value == 2**63:
                self._refuse(token, _TOO_LARGE)
            return found
        if isinstance(found, Literal) and isinstance(found.value, (int, float)) and not isinstance(found.value, bool):
            return Literal(-found.value)
        if isinstance(found, Literal):
            self._refuse(token, "only a number can be negative")
        return Arithmetic("-", Literal(0), found)

    def _atom(self) -> Term:
        token = self._token
        self._next += 1
        match token.kind:
            case "number":
                return Literal(self._number(token))
            case "text":
                return Literal(token.text[1:-1].replace("''", "'"))
            case "quoted":
                return Column(token.text[1:-1].replace('""', '"'))
            case "word":
                return self._named(token)
        if token.text != "(":
            self._refuse(token)
        found = self._any()
        self._expect(")")
        return found

    def _number(self, token: _Token) -> int | float:
        if token.text.isdigit() and len(token.text.lstrip("0")) > len(str(2**63)):
            self._refuse(token, _TOO_LARGE)
        number = int(token.text) if token.text.isdigit() else float(token.text)
        if (isinstance(number, float) and not math.isfinite(number)) or (isinstance(number, int) and number > 2**63):
            self._refuse(token, _TOO_LARGE)
        return number

    def _named(self, token: _Token) -> Term:
        word, after = token.text.upper(), self._token
        if word in ("TRUE", "FALSE"):
            return Literal(word == "TRUE")
        if word in ("DATE", "TIMESTAMP") and after.kind == "text":
            self._next += 1
            return Literal(after.text[1:-1].replace("''", "'"), word.lower())
        if word == "NULL":
            self._refuse(token, "compare with NULL by IS NULL or IS NOT NULL")
        if word in _WORDS - {"DATE", "TIMESTAMP"}:
            self._refuse(token)
        if after.kind == "sign" and after.text == "(":
            self._refuse(token, f"functions are not allowed; {_ALLOWED}")
        if after.kind == "sign" and after.text == ".":
            self._refuse(token, "name a column alone, without a table")
        return Column(token.text)


def _tokens(text: str) -> list[_Token]:
    found: list[_Token] = []
    end = len(text.rstrip())
    at = 0
    while at < end:
        made = _TOKEN.match(text, at)
        assert made is not None and made.lastgroup is not None
        found.append(_Token(made.lastgroup, made.group(made.lastgroup), made.start(made.lastgroup) + 1))
        at = made.end()
    return [*found, _Token("end", "", end + 1)]
