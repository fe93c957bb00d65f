"""What a store says of what is registered."""

from __future__ import annotations

import headwater as hw

USER = hw.Entity("user", join_keys={"user": hw.Int64})
VIEW = hw.FeatureView(
    "v", entity=USER, source=hw.PushSource(event_time="at"), features=[hw.Feature("x", hw.Float64)], ttl="1d"
)


def test_views_services_and_entities_are_looked_up_and_listed() -> None:
    with hw.FeatureStore.in_memory([VIEW, hw.FeatureService("svc", [VIEW["x"].rename({"x": "y"})])]) as store:
        store.refresh_registry()
        assert store.get_entity("user") == USER
        assert store.list_entities() == [USER]
        assert [view.name for view in store.list_feature_views()] == ["v"]
        assert [service.name for service in store.list_feature_services()] == ["svc"]
        assert store.get_feature_view("v").output_schema.names == ["user", "x"]
        service = store.get_feature_service("svc")
        assert service.output_schema.names == ["user", "y"]
        assert service.features == ("v@1.0.0:x",)
        assert service.join_keys == {"user": hw.Int64}
