"""URLs of stores and registries as they may be shown: one rule for every kind, so that a password never is."""

from __future__ import annotations

import re

from headwater.deferred import deferred_pattern
from headwater.values import Value

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(?=:)")
_URL: re.Pattern[str] = deferred_pattern(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<netloc>[^/?#]*)(?P<path>[^?#]*)(?:\?(?P<query>[^#]*))?"
)
_HOST: re.Pattern[str] = deferred_pattern(r"(?:[\w.-]+|\[[0-9A-Fa-f:.%]+\])(?::\d{1,5})?", re.ASCII)
_PATH: re.Pattern[str] = deferred_pattern(r"[^:@]*")
_OPTION: re.Pattern[str] = deferred_pattern(r"(?P<name>\w+)=(?P<value>.*)", re.ASCII)
_FILES = ("sqlite", "lmdb", "memory")
"""Schemes of stores in files: they have no users, and their paths may hold any character."""
_HARMLESS = (
    "replicas tls ca verify connect_timeout timeout sentinel_user table endpoint profile create connections patience "
    "write_patience host hostaddr port dbname user sslmode sslrootcert target_session_attrs application_name region "
    "keepalives keepalives_idle keepalives_interval keepalives_count tcp_user_timeout sync map_size mode cache "
    "endpoint_override use_ssl user_id session_id user_agent"
)
_SPARK = "sc"
"""Of Spark Connect, whose options follow a semicolon in the path: `sc://host:15002/;token=…`."""
_SHOWN = frozenset(_HARMLESS.split())
"""Options whose values are shown; of any other, known or not, the name alone is."""

ESCAPED = "write special characters of a user or password as %2F for /, %40 for @, %23 for #, %3F for ?, %25 for %"


class _Parts(Value, frozen=True):
    """A URL that parses without doubt."""

    scheme: str
    login: str
    hosts: str
    path: str
    query: str


def scheme_of(url: str) -> str:
    """The scheme of a URL (`redis+cluster`), lower case; empty where it has none."""
    found = _SCHEME.match(url)
    return "" if found is None else found.group().lower()


def is_clear(url: str) -> bool:
    """Whether a URL of a server can be read in one way alone, so that its parts may be shown.

    An `@`, `/`, `?` or `#` of a password that is not escaped makes it unclear where the password ends.
    """
    return _parts(url) is not None


def shown_location(location: str) -> str:
    """A path, the URL of an object store, or the address of a Spark Connect server, as it may be shown."""
    hides = "@" in location or "?" in location or (";" in location and scheme_of(location) == _SPARK)
    return without_password(location) if "://" in location and hides else location


def without_password(url: str) -> str:
    """A URL as it may be shown.

    The password is `***`, and so are the values of options that are not known to be harmless. Of a URL that cannot be
    read in one way alone nothing but the scheme is shown.
    """
    scheme = scheme_of(url)
    if not scheme:
        return "***"
    rest = url[len(scheme) + 1 :]
    if scheme.partition("+")[0] in _FILES and not re.match(r"//[^/]", rest):
        path, mark, query = url.partition("?")
        return path + mark + _options(query)
    parts = _parts(url)
    if parts is None:
        # what looks like a scheme may be a user, or the first part of a password
        return f"{scheme}://***" if rest.startswith("//") else "***"
    user, colon, _ = parts.login.partition(":")
    login = "" if not parts.login else f"{user}:***@" if colon else "***@"
    query = f"?{_options(parts.query)}" if parts.query else ""
    path, mark, options = parts.path.partition(";") if scheme == _SPARK else (parts.path, "", "")
    return f"{scheme}://{login}{parts.hosts}{path}{mark}{_options(options, ';')}{query}"


def _parts(url: str) -> _Parts | None:
    found = _URL.fullmatch(url)
    if found is None or not url.isprintable() or " " in url:
        return None
    login, _, hosts = found["netloc"].rpartition("@")
    query = found["query"] or ""
    clear = (
        "@" not in login
        and all(_HOST.fullmatch(host) for host in hosts.split(",") if hosts)
        and _PATH.fullmatch(found["path"])
        and "@" not in query
        and all(_OPTION.fullmatch(option) for option in query.split("&") if option)
    )
    return _Parts(found["scheme"], login, hosts, found["path"], query) if clear else None


def _options(query: str, mark: str = "&") -> str:
    return mark.join(map(_option, filter(None, query.split(mark))))


def _option(text: str) -> str:
    found = _OPTION.fullmatch(text)
    if found is None:
        return "***"
    name, value = found["name"], found["value"]
    if name not in _SHOWN or "@" in value:
        return f"{name}=***"
    return f"{name}={without_password(value) if '://' in value else value}"
