"""The steps that bring the offline log's tables from nothing to their newest form."""

from __future__ import annotations

from headwater.clock import MIN_MICROS
from headwater.database.migrations import Migrations, OnPostgreSQL

_FIRST = (
    "CREATE TABLE log_format (version INTEGER NOT NULL)",
    "CREATE TABLE log_counter (id INTEGER NOT NULL PRIMARY KEY, log_id VARCHAR(36) NOT NULL, salt {bytes} NOT NULL, "
    "position BIGINT NOT NULL, head_rows BIGINT NOT NULL)",
    'CREATE TABLE log_views ("view" VARCHAR(255) NOT NULL PRIMARY KEY, arrival BIGINT NOT NULL, '
    "through BIGINT NOT NULL, rolled BIGINT NOT NULL, epoch BIGINT NOT NULL, purges INTEGER NOT NULL)",
    'CREATE TABLE log_shapes (id {serial} NOT NULL PRIMARY KEY, "view" VARCHAR(255) NOT NULL, columns TEXT NOT NULL, '
    'schema {bytes} NOT NULL, UNIQUE ("view", columns))',
    'CREATE TABLE log_head (first BIGINT NOT NULL PRIMARY KEY, last BIGINT NOT NULL, "view" VARCHAR(255) NOT NULL, '
    "shape INTEGER NOT NULL, rows INTEGER NOT NULL, arrival BIGINT NOT NULL, offsets {bytes}, batch {bytes} NOT NULL)",
    'CREATE INDEX log_head_view ON log_head ("view", first)',
    'CREATE TABLE log_files (id {serial} NOT NULL PRIMARY KEY, "view" VARCHAR(255) NOT NULL, shape INTEGER NOT NULL, '
    "name VARCHAR(255) NOT NULL, first BIGINT NOT NULL, last BIGINT NOT NULL, rows BIGINT NOT NULL, "
    "replaced_at BIGINT)",
    'CREATE INDEX log_files_view ON log_files ("view")',
    'CREATE TABLE log_deletes (id {serial} NOT NULL PRIMARY KEY, "view" VARCHAR(255) NOT NULL, '
    "position BIGINT NOT NULL, digest {bytes} NOT NULL, through BIGINT NOT NULL, shape INTEGER NOT NULL, "
    '"key" {bytes} NOT NULL)',
    'CREATE INDEX log_deletes_view ON log_deletes ("view", digest)',
    'CREATE TABLE log_purges (id {serial} NOT NULL PRIMARY KEY, "view" VARCHAR(255) NOT NULL, '
    "position BIGINT NOT NULL, digest {bytes} NOT NULL, through BIGINT NOT NULL, asked_at BIGINT NOT NULL, "
    "erased_at BIGINT)",
    'CREATE INDEX log_purges_view ON log_purges ("view", digest)',
    "INSERT INTO log_counter (id, log_id, salt, position, head_rows) VALUES (1, :new_uuid, :new_bytes, 0, 0)",
    "INSERT INTO log_format (version) VALUES (0)",
)

_FOLDER = (
    "CREATE TABLE log_folder (id VARCHAR(36) NOT NULL PRIMARY KEY)",
    # its compression hardly makes numbers smaller, and takes more time than all the rest of an append
    OnPostgreSQL("ALTER TABLE log_head ALTER COLUMN batch SET STORAGE EXTERNAL"),
)

_CLOCK = (
    f"ALTER TABLE log_counter ADD COLUMN clock BIGINT NOT NULL DEFAULT {MIN_MICROS + 1}",
    "ALTER TABLE log_counter ADD COLUMN generation VARCHAR(36) NOT NULL DEFAULT ''",
    "UPDATE log_counter SET clock = (SELECT CASE WHEN max(arrival) > max(through) THEN max(arrival) "
    "ELSE max(through) + 1 END FROM log_views) WHERE EXISTS (SELECT 1 FROM log_views)",
    "ALTER TABLE log_deletes ADD COLUMN hides_before BIGINT",
    "ALTER TABLE log_purges ADD COLUMN hides_before BIGINT",
    'CREATE INDEX log_deletes_position ON log_deletes ("view", position)',
    'CREATE INDEX log_purges_position ON log_purges ("view", position)',
    "CREATE TABLE log_gaps (id {serial} NOT NULL PRIMARY KEY, lo BIGINT NOT NULL, hi BIGINT NOT NULL, "
    "noted_at BIGINT NOT NULL)",
    "UPDATE log_counter SET generation = :new_uuid",
)

_FILES = (
    "ALTER TABLE log_files ADD COLUMN size BIGINT",
    "ALTER TABLE log_files ADD COLUMN checksum {bytes}",
    "ALTER TABLE log_files ADD COLUMN arrived_from BIGINT",
    "ALTER TABLE log_files ADD COLUMN arrived_to BIGINT",
    "ALTER TABLE log_files ADD COLUMN damage TEXT",
    "CREATE TABLE log_removals (name VARCHAR(255) NOT NULL PRIMARY KEY, noted_at BIGINT NOT NULL)",
    'CREATE TABLE log_left_out (id {serial} NOT NULL PRIMARY KEY, "view" VARCHAR(255) NOT NULL, '
    "kind VARCHAR(16) NOT NULL, name VARCHAR(255) NOT NULL, first BIGINT NOT NULL, last BIGINT NOT NULL, "
    "rows BIGINT NOT NULL, arrived_from BIGINT, arrived_to BIGINT, reason TEXT NOT NULL, noted_at BIGINT NOT NULL, "
    "shape INTEGER, content {bytes})",
    'CREATE INDEX log_left_out_view ON log_left_out ("view")',
)

_REQUESTS = (
    "CREATE TABLE log_requests (owner VARCHAR(64) NOT NULL, request {bytes} NOT NULL, body {bytes} NOT NULL, "
    '"view" VARCHAR(255) NOT NULL, after_position BIGINT NOT NULL, positions BIGINT NOT NULL, arrival BIGINT NOT NULL, '
    "places {bytes} NOT NULL, until BIGINT NOT NULL, answer TEXT, noted_at BIGINT NOT NULL, "
    "PRIMARY KEY (owner, request))",
    "CREATE INDEX log_requests_noted ON log_requests (noted_at)",
)

MIGRATIONS = Migrations(
    "offline log in",
    "log_format",
    "UPDATE log_format SET version = :version",
    (_FIRST, _FOLDER, _CLOCK, _FILES, _REQUESTS),
)
"""How many steps there are is also the version of what the tables' columns hold."""
