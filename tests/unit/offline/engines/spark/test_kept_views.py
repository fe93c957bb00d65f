"""Temporary views of a session: those in use stay, of the others the oldest go."""

from headwater.offline.engines.spark import kept_views
from headwater.offline.engines.spark.kept_views import KeptViews


def test_views_in_use_stay_and_of_the_others_the_oldest_go(monkeypatch):
    monkeypatch.setattr(kept_views, "MOST", 2)
    dropped = []
    views = KeptViews(dropped.append)
    for name in ("a", "b", "c", "d", "e"):
        views.use(name)
    views.use("a")
    views.release(["a", "b", "c"])
    assert dropped == []
    views.release(["d"])
    assert dropped == ["b"]
    views.use("c")
    views.release(["c", "e"])
    assert dropped == ["b", "d"]
    views.release(["a", "unknown"])
    assert dropped == ["b", "d", "e"] or dropped == ["b", "d", "c"]
    views.drop_all()
    assert sorted(dropped) == ["a", "b", "c", "d", "e"]


def test_a_view_that_cannot_be_dropped_holds_up_nothing(monkeypatch):
    monkeypatch.setattr(kept_views, "MOST", 0)

    def gone(name):
        raise RuntimeError("no session")

    views = KeptViews(gone)
    views.use("a")
    views.release(["a"])
    views.use("b")
    views.drop_all()
