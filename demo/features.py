"""What the demo's model knows before a flight leaves New York: weather, airports, and how late others arrived."""

import headwater as hw

airport = hw.Entity("airport", join_keys={"airport": hw.String})
carrier = hw.Entity("carrier", join_keys={"carrier": hw.String})
route = hw.Entity("route", join_keys={"origin": hw.String, "dest": hw.String})
aircraft = hw.Entity("aircraft", join_keys={"tailnum": hw.String})

weather = hw.FeatureView(
    "weather",
    entity=airport,
    description="hourly reports; the row of an hour is complete, and known, when the hour is over",
    source=hw.ParquetSource("data/weather.parquet", event_time="time_hour", created_time="observed_at"),
    join_key_map={"airport": "origin"},
    features=[
        hw.Feature("temp", hw.Float64, column="temp_f", description="degrees Fahrenheit"),
        hw.Feature("dew_point", hw.Float64, column="dewp_f", description="degrees Fahrenheit"),
        hw.Feature("humidity", hw.Float64, column="humid", description="percent"),
        hw.Feature("wind_speed", hw.Float64, description="miles an hour"),
        hw.Feature("wind_dir", hw.Float64, description="degrees"),
        hw.Feature("precip", hw.Float64, description="inches in the hour"),
        hw.Feature("pressure", hw.Float64, description="millibar"),
        hw.Feature("visibility", hw.Float64, column="visib", description="miles"),
    ],
    ttl="6h",
    freshness_sla="2h",
)

airport_facts = hw.FeatureView(
    "airport_facts",
    entity=airport,
    description="where an airport lies: a table without times, valid always",
    source=hw.CSVSource("data/airports.csv"),
    join_key_map={"airport": "faa"},
    features=[
        hw.Feature("elevation", hw.Float64, column="alt", description="feet"),
        hw.Feature("lat", hw.Float64, description="degrees"),
        hw.Feature("lon", hw.Float64, description="degrees"),
    ],
)

arrivals = hw.ParquetSource("data/arrivals.parquet", event_time="arrived_at", event_id="flight")


def delay_history(
    name: str, entity: hw.Entity, *, last: int, ttl: str, event_time: str = "arrived_at", delay: str = "10m"
) -> hw.FeatureView:
    """The mean arrival delay, in minutes, of the last flights of an entity.

    A delay is known when the flight has arrived and ten minutes have passed. Another `event_time` gives the same
    numbers at another instant: `run.py` takes the scheduled departure, as a join without such care does.
    """
    keys = ", ".join(entity.join_keys)
    query = f"""
        SELECT {keys}, {event_time},
               avg(arr_delay) OVER (PARTITION BY {keys} ORDER BY {event_time}, flight
                                    ROWS BETWEEN {last - 1} PRECEDING AND CURRENT ROW) AS {name}
        FROM arrivals
        QUALIFY row_number() OVER (PARTITION BY {keys}, {event_time} ORDER BY flight DESC) = 1"""
    return hw.FeatureView(
        name,
        entity=entity,
        description=f"minutes late, mean of the last {last} arrivals",
        source=hw.SQLSource(query, tables={"arrivals": arrivals}, event_time=event_time, delay=delay),
        features=[hw.Feature(name, hw.Float64, description="minutes")],
        ttl=ttl,
        freshness_sla="12h",
    )


carrier_delay = delay_history("carrier_delay", carrier, last=20, ttl="1d")
route_delay = delay_history("route_delay", route, last=10, ttl="7d")
aircraft_delay = delay_history("aircraft_delay", aircraft, last=3, ttl="2d")


def delay_windows(name: str, entity: hw.Entity) -> hw.FeatureView:
    """The mean arrival delay, in minutes, of an entity's arrivals of the last hour, day and week."""
    return hw.FeatureView(
        name,
        entity=entity,
        description="minutes late, mean of the arrivals in a window of time",
        source=hw.ParquetSource("data/arrivals.parquet", event_time="arrived_at", event_id="flight", delay="10m"),
        features=[
            hw.Aggregation("arr_delay", "mean", window, name=f"delay_{window}", description="minutes")
            for window in ("1h", "1d", "7d")
        ],
    )


carrier_windows = delay_windows("carrier_windows", carrier)
route_windows = delay_windows("route_windows", route)
aircraft_windows = delay_windows("aircraft_windows", aircraft)


@hw.on_demand(
    inputs=[carrier_delay["carrier_delay"], hw.RequestField("hour", hw.Int64, "local hour of departure")],
    features=[hw.Feature("delay_by_hour", hw.Float64, description="minutes; delays add up over the day")],
)
def delay_by_hour(carrier_delay, hour):
    return {"delay_by_hour": carrier_delay * hour / 24}


delay_model = hw.FeatureService(
    "delay_model",
    [
        weather.alias("origin_weather", join_key_map={"airport": "origin"}),
        airport_facts.alias("origin_airport", join_key_map={"airport": "origin"})["elevation"],
        airport_facts.alias("dest_airport", join_key_map={"airport": "dest"}),
        carrier_delay,
        route_delay,
        aircraft_delay,
        *(view.alias(view.name) for view in (carrier_windows, route_windows, aircraft_windows)),
        delay_by_hour,
    ],
    description="what is known before departure",
)
