"""Tables of the refresh queue and its figures in the registry's database, and their migrations."""

from __future__ import annotations

import sqlalchemy as sa

from headwater.database.migrations import Migrations
from headwater.database.table_sets import TableSet

_WHAT = "refresh queue in"
"""What errors say of the database."""

metadata = sa.MetaData()

formats = sa.Table("refresh_format", metadata, sa.Column("version", sa.Integer, nullable=False))

hints = sa.Table(
    "refresh_hints",
    metadata,
    sa.Column("id", sa.LargeBinary(16), primary_key=True),
    sa.Column("view", sa.String(255), nullable=False),
    sa.Column("version", sa.String(64), nullable=False),
    sa.Column("key", sa.LargeBinary, nullable=False),
    sa.Column("event", sa.BigInteger, nullable=False),
    sa.Column("sla", sa.BigInteger, nullable=False),
    sa.Column("asked_at", sa.BigInteger, nullable=False),
    sa.Column("asked", sa.BigInteger, nullable=False),
    sa.Column("state", sa.SmallInteger, nullable=False),
    sa.Column("due", sa.BigInteger, nullable=False),
    sa.Column("tries", sa.Integer, nullable=False),
    sa.Column("token", sa.String(32), nullable=False),
    sa.Column("error", sa.Text, nullable=False),
    sa.Index("refresh_hints_state", "state", "due"),
)

times = sa.Table(
    "refresh_times",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("view", sa.String(255), nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("micros", sa.BigInteger, nullable=False),
)

totals = sa.Table(
    "refresh_totals",
    metadata,
    sa.Column("name", sa.String(32), primary_key=True),
    sa.Column("value", sa.BigInteger, nullable=False),
)


_FIRST = (
    "CREATE TABLE refresh_format (version INTEGER NOT NULL)",
    'CREATE TABLE refresh_hints (id {bytes} NOT NULL PRIMARY KEY, "view" VARCHAR(255) NOT NULL, '
    'version VARCHAR(64) NOT NULL, "key" {bytes} NOT NULL, event BIGINT NOT NULL, sla BIGINT NOT NULL, '
    "asked_at BIGINT NOT NULL, asked BIGINT NOT NULL, state SMALLINT NOT NULL, due BIGINT NOT NULL, "
    "tries INTEGER NOT NULL, token VARCHAR(32) NOT NULL, error TEXT NOT NULL)",
    "CREATE INDEX refresh_hints_state ON refresh_hints (state, due)",
    'CREATE TABLE refresh_times (id {serial} NOT NULL PRIMARY KEY, "view" VARCHAR(255) NOT NULL, at BIGINT NOT NULL, '
    "micros BIGINT NOT NULL)",
    "CREATE TABLE refresh_totals (name VARCHAR(32) NOT NULL PRIMARY KEY, value BIGINT NOT NULL)",
    "INSERT INTO refresh_format (version) VALUES (0)",
)

MIGRATIONS = Migrations(_WHAT, "refresh_format", "UPDATE refresh_format SET version = :version", (_FIRST,))

_TABLES = TableSet(_WHAT, MIGRATIONS)
migrate, stored_format, writing, reading = _TABLES.migrate, _TABLES.stored_format, _TABLES.writing, _TABLES.reading
