"""Purges in the rows of window versions: put like deletes, and rows that hold nothing are removed."""

from __future__ import annotations

from collections.abc import Mapping

from headwater.compute.context import StoreContext
from headwater.compute.windows.driving import Driver, fill_records
from headwater.compute.windows.putting import put
from headwater.compute.windows.requests import Batch
from headwater.compute.writing.swap import Until, update
from headwater.offline.base import Tombstone
from headwater.online.meta import greatest_key
from headwater.online.rows.windows.codec import row_facts
from headwater.online.rows.windows.row import NEVER
from headwater.planning.resolved import ResolvedView


def purge_window_rows(
    context: StoreContext, view: ResolvedView, purges: Mapping[bytes, Tombstone], until: Until
) -> None:
    """Put purges (stored key → P and D, microseconds) into their rows, and remove those that then hold nothing.

    A row that counts as missing, since it is of an older fill, is removed whatever it holds: the next fill makes it
    from the log, which the purged events are erased from.
    """
    if not purges:
        return
    driver = Driver(context, view, until)
    # D is not before the arrival: a fill that began before has it in the log
    deletes = {key: Batch(position, d, delete=d) for key, (position, d) in purges.items()}
    driver.do(put(driver.version, deletes))
    record = fill_records(context, [(view.name, view.version)])[view.name, view.version]
    keys = list(purges)

    def change(i: int, row: bytes | None) -> bytes | None:
        facts = row_facts(row)
        if row is None or facts is None:
            return None
        position, _ = purges[keys[i]]
        missing = record is None or facts.fill < record.fill
        emptied = facts.newest_known == NEVER and facts.position <= position
        return None if missing or emptied else row

    high_water = (greatest_key(context.project), max(position for position, _ in purges.values()))
    update(context.online, keys, context.online.multi_get(keys), change, until=until, high_water=high_water)
