"""The sample project's data: made up from a seed, ending at the moment it is asked for."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

SEED = 20130101
DAYS = 14
FLIGHTS = 2_000
AIRPORTS = {  # code: city, elevation in feet, usual temperature (°F)
    "JFK": ("New York", 13, 58.0),
    "LGA": ("New York", 22, 59.0),
    "EWR": ("Newark", 18, 60.0),
    "BOS": ("Boston", 19, 52.0),
    "ORD": ("Chicago", 672, 51.0),
    "DEN": ("Denver", 5_431, 50.0),
}
LAST_REPORT = timedelta(minutes=20)
"""How long ago the stations reported last, but for those that fell silent."""
SILENT = {"LGA": timedelta(hours=5), "ORD": timedelta(hours=20)}
_TIME = pa.timestamp("us", tz="UTC")


def write_data(folder: Path, now: datetime) -> None:
    """Write `weather.parquet`, `airports.csv`, `flights.parquet` and `correction.csv`.

    Args:
        folder: where; it is there already.
        now: the moment the data ends (aware).
    """
    now = now.replace(second=0, microsecond=0)
    chance = np.random.default_rng(SEED)
    weather = pa.concat_tables(_weather(chance, now, code) for code in AIRPORTS)
    silent = pa.array([t > now - SILENT.get(c, LAST_REPORT) for c, t in zip(*_columns(weather), strict=True)])
    reported = weather.filter(pc.invert(silent))
    pq.write_table(reported, folder / "weather.parquet")
    pq.write_table(_flights(chance, weather, now), folder / "flights.parquet")
    codes, facts = list(AIRPORTS), list(AIRPORTS.values())
    airports = pa.table({"code": codes, "city": [f[0] for f in facts], "elevation": [f[1] for f in facts]})
    pyarrow.csv.write_csv(airports, folder / "airports.csv")
    (folder / "correction.csv").write_text(_correction(reported, now), encoding="utf-8")


def _columns(weather: pa.Table) -> tuple[list[str], list[datetime]]:
    return weather["airport"].to_pylist(), weather["time"].to_pylist()


def _weather(chance: np.random.Generator, now: datetime, code: str) -> pa.Table:
    """A report an hour; known five minutes after, one in twenty an hour or more after."""
    times = [now - LAST_REPORT - timedelta(hours=h) for h in range(24 * DAYS, -1, -1)]
    size, usual = len(times), AIRPORTS[code][2]
    hours = np.array([t.hour + t.minute / 60 for t in times])
    temp = usual + 9 * np.sin((hours - 14) / 24 * 2 * np.pi) + np.cumsum(chance.normal(0, 0.6, size))
    late = np.where(chance.random(size) < 0.05, chance.integers(60, 180, size), 5)
    known = [min(t + timedelta(minutes=int(m)), now - LAST_REPORT / 2) for t, m in zip(times, late, strict=True)]
    return pa.table(
        {
            "airport": [code] * size,
            "time": pa.array(times, _TIME),
            "observed_at": pa.array(known, _TIME),
            "temp": temp.round(1),
            "wind_speed": np.abs(chance.normal(9, 5, size)).round(1),
            "reports": [t.hour + 1 for t in times],
        }
    )


def _flights(chance: np.random.Generator, weather: pa.Table, now: datetime) -> pa.Table:
    """Departures with their delay in minutes: it grows with the wind and in the cold, reported or not."""
    picked = weather.take(pa.array(chance.integers(0, weather.num_rows, FLIGHTS)))
    after = chance.integers(5, 60, FLIGHTS)
    times = [t + timedelta(minutes=int(m)) for t, m in zip(picked["time"].to_pylist(), after, strict=True)]
    wind, temp = picked["wind_speed"].to_numpy(), picked["temp"].to_numpy()
    delay = 2 + 1.1 * wind + 0.8 * np.maximum(50 - temp, 0) + chance.normal(0, 6, FLIGHTS)
    flights = {
        "flight": pa.array([f"HW{n:04d}" for n in range(FLIGHTS)]),
        "airport": picked["airport"],
        "timestamp": pa.array([min(t, now) for t in times], _TIME),
        "delay": pa.array(delay.round().astype("int64")),
    }
    return pa.table(flights).sort_by("timestamp")


def _correction(weather: pa.Table, now: datetime) -> str:
    """JFK's last report once more, seven degrees warmer and known only now."""
    jfk = [row for row in weather.to_pylist() if row["airport"] == "JFK"]
    last = max(jfk, key=lambda row: row["time"])
    head = "airport,time,observed_at,temp,wind_speed,reports"
    known = now.isoformat()
    body = f"JFK,{last['time'].isoformat()},{known},{last['temp'] + 7:.1f},{last['wind_speed']},{last['reports']}"
    return f"{head}\n{body}\n"
