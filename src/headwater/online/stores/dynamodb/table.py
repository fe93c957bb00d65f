"""The table of a DynamoDB store: made when it is not there, looked at, told of."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from headwater.errors import ConfigError, StoreError, Unavailable
from headwater.online.stores.dynamodb.calls import Call, Done, NoTable, Plan

_KEY = [{"AttributeName": "p", "KeyType": "HASH"}, {"AttributeName": "k", "KeyType": "RANGE"}]
_TYPES = [{"AttributeName": "p", "AttributeType": "B"}, {"AttributeName": "k", "AttributeType": "B"}]
_EXPIRY = "t"
_LOOK = 0.5
"""Seconds between two looks at a table that is being made."""


class Billing(msgspec.Struct):
    """How a table's requests are paid."""

    BillingMode: str = "PROVISIONED"


class Table(msgspec.Struct):
    """What the service says of a table; size and count are some hours old."""

    TableStatus: str = ""
    TableId: str = ""
    KeySchema: list[dict[str, str]] = []
    AttributeDefinitions: list[dict[str, str]] = []
    ItemCount: int = 0
    TableSizeBytes: int = 0
    BillingModeSummary: Billing | None = None


class _Table(msgspec.Struct):
    Table: Table


class _Expiry(msgspec.Struct):
    TimeToLiveStatus: str = "DISABLED"
    AttributeName: str = ""


class _Expiries(msgspec.Struct):
    TimeToLiveDescription: _Expiry = msgspec.field(default_factory=_Expiry)


def describe(call: Call) -> Plan[Table | None]:
    """The table; None where it is not there.

    Raises:
        ConfigError: it has another key than the store's.
    """
    try:
        found = (yield from call.ask("DescribeTable", {"TableName": call.location.table}, _Table)).Table
    except NoTable:
        return None
    types = {kind["AttributeName"]: kind["AttributeType"] for kind in found.AttributeDefinitions}
    if found.KeySchema != _KEY or (types.get("p"), types.get("k")) != ("B", "B"):
        raise ConfigError(
            f"{call.location.shown}: the table was not created by headwater (different key schema): use another table "
            "in [online] url"
        )
    return found


def identity(call: Call) -> Plan[bytes]:
    """What another table of the same name, one restored from a backup too, does not have."""
    found = yield from describe(call)
    return b"" if found is None else found.TableId.encode()


def _expiry(call: Call) -> Plan[_Expiry]:
    arguments = {"TableName": call.location.table}
    return (yield from call.ask("DescribeTimeToLive", arguments, _Expiries)).TimeToLiveDescription


def provision(call: Call) -> Plan[None]:
    """Make the table where it is not there, paid by request; wait until it can be used; let it drop expired items.

    Raises:
        ConfigError: the table is another's, or none may be made.
        Unavailable: it is not ready in time.
    """
    found = yield from describe(call)
    if found is None:
        if not call.location.create:
            raise ConfigError(
                f"{call.location.shown}: the table does not exist, and [online] url has create=false: create it with "
                "binary partition key p and binary sort key k, and enable its time to live on attribute t"
            )
        yield from _create(call)
    while found is None or found.TableStatus not in ("ACTIVE", "UPDATING"):
        if found is not None:
            if call.patience.left < _LOOK:
                raise Unavailable(f"{call.location.shown}: the table is {found.TableStatus}: try again later")
            yield _LOOK
        found = yield from describe(call)
    expiry = yield from _expiry(call)
    if call.location.create and expiry.TimeToLiveStatus in ("DISABLED", "DISABLING"):
        wanted = {"Enabled": True, "AttributeName": _EXPIRY}
        arguments = {"TableName": call.location.table, "TimeToLiveSpecification": wanted}
        yield from call.ask("UpdateTimeToLive", arguments, Done)


def _create(call: Call) -> Plan[None]:
    try:
        yield from call.ask(
            "CreateTable",
            {
                "TableName": call.location.table,
                "KeySchema": _KEY,
                "AttributeDefinitions": _TYPES,
                "BillingMode": "PAY_PER_REQUEST",
            },
            Done,
        )
    except StoreError as bad:
        # somebody else makes it at this moment
        if "ResourceInUseException" not in str(bad):
            raise


def table_info(call: Call) -> Plan[Mapping[str, str | int]]:
    """What `status` shows."""
    found = yield from describe(call)
    warnings = []
    if found is None:
        warnings.append(f"{call.location.shown}: the table does not exist yet: apply or the first write creates it")
    else:
        if found.BillingModeSummary is None or found.BillingModeSummary.BillingMode != "PAY_PER_REQUEST":
            warnings.append(f"{call.location.shown}: capacity is provisioned: beyond it requests are throttled")
        expiry = yield from _expiry(call)
        if expiry.AttributeName != _EXPIRY or expiry.TimeToLiveStatus not in ("ENABLED", "ENABLING"):
            warnings.append(f"{call.location.shown}: expired rows are not removed: enable time to live on attribute t")
    return {
        "kind": "dynamodb",
        "place": call.location.shown,
        "entries": found.ItemCount if found is not None else 0,
        "bytes": found.TableSizeBytes if found is not None else 0,
        "warnings": "; ".join(warnings),
    }
