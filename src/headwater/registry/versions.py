"""FeatureVersionManager: live pointers of views and services, each moved in one transaction."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from headwater.errors import RegistryConflict
from headwater.forks import OfOneProcess
from headwater.planning import pointers
from headwater.planning.catching_up import Watermarks
from headwater.planning.plan import Plan
from headwater.planning.pointers import GoingLive
from headwater.planning.snapshot import RegistrySnapshot
from headwater.planning.stages import Stage
from headwater.registry.registry import FeatureRegistry

_ATTEMPTS = 10


class FeatureVersionManager(OfOneProcess):
    """Moves what is live.

    Args:
        registry: the registry.
        who: for the change log.
    """

    def __init__(self, registry: FeatureRegistry, *, who: str = "") -> None:
        self._registry = registry
        self._who = who

    def promote(
        self, name: str, version: str, *, watermarks: Watermarks, now: datetime, force: bool = False
    ) -> tuple[Stage, ...]:
        """Make a version of a view or service live.

        Args:
            name: the view or service.
            version: the version.
            watermarks: of every version, from the online store.
            now: UTC.
            force: even where it has not caught up with the live version.

        Returns:
            What was done; nothing where it is live.

        Raises:
            NotFound: no such view, service or version.
            ChangeRefused: it is retired, or not materialized as far as the live one.
        """
        return self._run("promote", now, lambda s: pointers.promote(s, name, version, watermarks, force=force))

    def rollback(self, name: str, *, now: datetime) -> tuple[Stage, ...]:
        """Make the version live that was live before; the one rolled back from goes live again only by `promote`.

        Raises:
            NotFound: no such view or service.
            ChangeRefused: no version was live before, or it is retired.
        """
        return self._run("roll back", now, lambda s: pointers.roll_back(s, name))

    def retire(self, name: str, version: str, *, now: datetime) -> tuple[Stage, ...]:
        """End the updates of a version; it can be looked up for ever, and never comes back.

        Raises:
            NotFound: no such view, service or version.
            ChangeRefused: it is live, or read by services that are named.
        """
        return self._run("retire", now, lambda s: pointers.retire(s, name, version))

    def note_write(self, view: str, *, now: datetime) -> tuple[Stage, ...]:
        """Remember that a view is written to, before its first rows are: services then read versions that take them."""
        return self._run("write", now, lambda s: pointers.first_write(s, view))

    def request_promotion(self, plan: Plan, *, now: datetime) -> tuple[Stage, ...]:
        """Let what an applied plan names go live as soon as it has caught up, what would wait for `promote` too."""
        return self._run("promote", now, lambda s: pointers.request_promotion(s, plan))

    def go_live(self, watermarks: Watermarks, *, now: datetime) -> GoingLive:
        """Make live what waits and is materialized as far as the live version now; called after materialization.

        Args:
            watermarks: of every version, from the online store; one that is missing was never materialized.
            now: UTC.
        """
        found: list[GoingLive] = []

        def stages(snapshot: RegistrySnapshot) -> tuple[Stage, ...]:
            found.append(pointers.go_live(snapshot, watermarks, now))
            return found[-1].stages

        self._run("go live", now, stages)
        return found[-1]

    def _run(
        self, what: str, now: datetime, stages: Callable[[RegistrySnapshot], tuple[Stage, ...]]
    ) -> tuple[Stage, ...]:
        """Plan on the newest registry and commit; what somebody else changed meanwhile is planned on again."""
        for attempt in range(_ATTEMPTS):
            snapshot = self._registry.refresh()
            found = stages(snapshot)
            if not found:
                return ()
            try:
                self._registry.commit(found, snapshot.revision, now=now, what=what, who=self._who)
                return found
            except RegistryConflict:
                if attempt == _ATTEMPTS - 1:
                    raise
        raise AssertionError
