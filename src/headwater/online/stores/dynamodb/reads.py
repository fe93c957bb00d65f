"""Reads and writes of DynamoDB as plans: batches of keys, guarded puts, one partition of a scan."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import msgspec

from headwater.errors import StoreError
from headwater.online.base import PutOutcome
from headwater.online.guard import merge, stands_at
from headwater.online.stores.dynamodb.calls import Call, Done, NoTable, Plan, Unlike, gave_up
from headwater.online.stores.dynamodb.items import (
    READ,
    Attributes,
    Item,
    address,
    at_least,
    at_sequence,
    bytes_of,
    guarded,
    holds,
    item_of,
    partition,
    plain,
    raw_item,
    resequenced,
    unchanged,
)

READ_BATCH, WRITE_BATCH, TRANSACTION = 100, 25, 100
"""How many keys one request may have: the service's limits."""


class _Batch(msgspec.Struct):
    Responses: dict[str, list[Item]] = {}
    UnprocessedKeys: dict[str, dict[str, Any]] = {}


class _Written(msgspec.Struct):
    UnprocessedItems: dict[str, list[dict[str, Any]]] = {}


class _One(msgspec.Struct):
    Item: Item | None = None


class Page(msgspec.Struct):
    """Some items of a scan, and where the next ones begin."""

    Items: list[Item] = []
    LastEvaluatedKey: dict[str, Any] | None = None


def chunks(keys: Sequence[bytes]) -> list[list[bytes]]:
    """Distinct keys by the request they are read in."""
    distinct = iter(dict.fromkeys(keys))
    found = []
    while chunk := list(islice(distinct, READ_BATCH)):
        found.append(chunk)
    return found


def get_chunk(call: Call, keys: Sequence[bytes], consistent: bool) -> Plan[dict[bytes, bytes]]:
    """The bytes under at most a hundred distinct keys; keys that are not there are left out.

    What the service leaves unprocessed is asked for again, with a pause.

    Raises:
        NoTable: the table is not there.
        Unavailable: as `Call.ask`, or some keys stayed unprocessed.
    """
    table = call.location.table
    wanted: dict[str, Any] = {
        "Keys": [address(key) for key in keys],
        "ProjectionExpression": READ,
        "ConsistentRead": consistent,
    }
    found: dict[bytes, bytes] = {}
    tries, refused = 0, ""
    while True:
        response = yield from call.ask("BatchGetItem", {"RequestItems": {table: wanted}}, _Batch, refused=refused)
        for item in response.Responses.get(table, ()):
            if item.k is not None and item.k.B is not None:
                found[item.k.B] = bytes_of(item)
        left = response.UnprocessedKeys.get(table)
        if not left:
            return found
        refused = f"throttled: {len(left['Keys'])} of {len(keys)} keys were not read within {call.patience.seconds:g} s"
        pause = call.patience.pause(tries)
        if pause is not None:
            yield pause
        if pause is None or call.patience.left <= 0:
            raise gave_up(f"{call.location.shown}: {refused}")
        wanted["Keys"] = left["Keys"]
        tries += 1


def put_row(call: Call, key: bytes, row: bytes, expires_at: int | None) -> Plan[PutOutcome]:
    """Put a row by the guard: one request where what is stored is an older row, or nothing.

    Raises:
        FormatError: a stored row was written by a newer headwater.
    """

    def renewed() -> dict[str, Any]:
        # what may have been stored is not stored again under its sequence: a delete may have come between
        nonlocal row
        row = resequenced(row)
        return base | guarded(key, row, expires_at)

    seen: Item | None
    base = _telling(call)
    if plain(row):
        try:
            yield from call.ask("UpdateItem", base | guarded(key, row, expires_at), Done, renewed)
            return PutOutcome.APPLIED
        except Unlike as other:
            seen = other.item
    else:
        seen = yield from _get(call, key)
    # superseded, a tie, or there already; or bytes of another form, or a row with a D that gets no expiry: then it is
    # put on what was seen
    while True:
        merged = merge(None if seen is None else bytes_of(seen), row)
        if not isinstance(merged, bytes):
            return merged
        try:
            yield from call.ask("PutItem", base | {"Item": item_of(key, merged, expires_at)} | unchanged(seen), Done)
            return PutOutcome.APPLIED
        except Unlike as other:
            seen, row = other.item, resequenced(row)


def _telling(call: Call) -> dict[str, Any]:
    """The arguments of a write of one item that tells, where its condition does not hold, what is stored."""
    return {"TableName": call.location.table, "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}


def _get(call: Call, key: bytes) -> Plan[Item | None]:
    arguments = {"TableName": call.location.table, "Key": address(key), "ConsistentRead": True}
    return (yield from call.ask("GetItem", arguments, _One)).Item


def compare_and_put(call: Call, key: bytes, sequence: int, row: bytes | None) -> Plan[bool]:
    """As `OnlineStore.compare_and_put`."""
    condition = at_sequence(sequence)
    while True:
        operation, what = (
            ("DeleteItem", {"Key": address(key)}) if row is None else ("PutItem", {"Item": item_of(key, row)})
        )
        try:
            yield from call.ask(operation, _telling(call) | what | condition, Done)
            return True
        except Unlike as other:
            seen = other.item
        if not stands_at(None if seen is None else bytes_of(seen), sequence):
            return False
        # bytes that are no row, or a row in another form
        condition = unchanged(seen)


def raise_number(call: Call, key: bytes, number: int) -> Plan[None]:
    """Raise the number that is kept under a meta key to at least this."""
    try:
        yield from call.ask("UpdateItem", {"TableName": call.location.table} | at_least(key, number), Done)
    except Unlike:
        return


def put_absent(call: Call, key: bytes, data: bytes) -> Plan[bytes]:
    """Put a meta entry where nothing is; what is there in the end."""
    try:
        yield from call.ask("PutItem", _telling(call) | {"Item": raw_item(key, data)} | holds(None), Done)
        return data
    except Unlike as other:
        return data if other.item is None else bytes_of(other.item)


def put_meta(call: Call, entries: Mapping[bytes, bytes | None], expected: Mapping[bytes, bytes | None]) -> Plan[bool]:
    """Write meta entries, all or none, where others are as expected.

    Raises:
        StoreError: more keys than one transaction takes.
    """
    keys = dict.fromkeys([*entries, *expected])
    if len(keys) > TRANSACTION:
        raise StoreError(f"{call.location.shown}: {len(keys)} meta entries at once: a transaction takes {TRANSACTION}")
    table = {"TableName": call.location.table}
    if len(entries) == 1 and not expected:
        ((key, data),) = entries.items()
        operation, action = _meta_action(key, data)
        yield from call.ask(f"{operation}Item", table | action, Done)
        return True
    actions = []
    for key in keys:
        operation, action = _meta_action(key, entries[key]) if key in entries else _check(key, expected[key])
        actions.append({operation: table | action | (holds(expected[key]) if key in expected else {})})
    # the token makes a transaction that is sent again one: what was done is not done twice, nor refused
    token = str(uuid.uuid4())
    try:
        arguments = {"TransactItems": actions, "ClientRequestToken": token}
        yield from call.ask("TransactWriteItems", arguments, Done)
    except Unlike:
        return False
    return True


def _meta_action(key: bytes, data: bytes | None) -> tuple[str, dict[str, Any]]:
    return ("Delete", {"Key": address(key)}) if data is None else ("Put", {"Item": raw_item(key, data)})


def _check(key: bytes, data: bytes | None) -> tuple[str, dict[str, Any]]:
    """What compares an entry and leaves it as it is.

    An update that changes nothing, where something must be there: it needs no permission that a put does not.
    """
    if data is None:
        return "ConditionCheck", {"Key": address(key)}
    return "Update", {"Key": address(key), "UpdateExpression": "SET r = r"}


def write_batch(call: Call, writes: Sequence[dict[str, Any]]) -> Plan[None]:
    """Remove at most 25 items with distinct keys, without a condition; what stays unprocessed is tried again."""
    left, tries, refused = list(writes), 0, ""
    while True:
        items = {"RequestItems": {call.location.table: left}}
        response = yield from call.ask("BatchWriteItem", items, _Written, refused=refused)
        left = response.UnprocessedItems.get(call.location.table, [])
        if not left:
            return
        refused = f"throttled: {len(left)} items were not written"
        pause = call.patience.pause(tries)
        if pause is not None:
            yield pause
        if pause is None or call.patience.left <= 0:
            raise gave_up(f"{call.location.shown}: {refused}")
        tries += 1


def batches(writes: Sequence[dict[str, Any]]) -> list[Sequence[dict[str, Any]]]:
    """Writes without a condition by the request they are made in."""
    return [writes[start : start + WRITE_BATCH] for start in range(0, len(writes), WRITE_BATCH)]


def delete_request(key: bytes) -> dict[str, Any]:
    """One item of `write_batch`: a key to be removed."""
    return {"DeleteRequest": {"Key": address(key)}}


def get_page(call: Call, start: Attributes | None, prefix: bytes, bucket: int | None) -> Plan[Page]:
    """Items of one bucket of a prefix's namespace, or of the whole table (bucket None), from some item on."""
    arguments: dict[str, Any] = {
        "TableName": call.location.table,
        "ProjectionExpression": READ,
        "ConsistentRead": True,
    }
    if bucket is not None:
        arguments |= {
            "KeyConditionExpression": "p = :p",
            "ExpressionAttributeValues": {":p": partition(prefix, bucket)},
        }
    if start is not None:
        arguments["ExclusiveStartKey"] = start
    try:
        return (yield from call.ask("Scan" if bucket is None else "Query", arguments, Page))
    except NoTable:
        return Page()


def pairs(page: Page, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys with a prefix, and their bytes."""
    for item in page.Items:
        if item.k is not None and item.k.B is not None and item.k.B.startswith(prefix):
            yield item.k.B, bytes_of(item)
