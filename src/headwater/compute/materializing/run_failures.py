"""What fails within one materialization: noted by view and version, while the others go on."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from headwater.compute.context import StoreContext
from headwater.compute.materializing.run import Run
from headwater.compute.materializing.window_run import WindowRun
from headwater.compute.reports import MaterializeReport, RunReport
from headwater.errors import (
    ClockError,
    HeadwaterError,
    LogMismatch,
    SourceError,
    StoreError,
    StoreReadOnly,
    Unavailable,
    brief,
    printable,
)
from headwater.offline.log.state import LogRestored
from headwater.online.meta import token_key
from headwater.planning.pointers import way_out
from headwater.planning.watermark import Watermark

_OF_ALL = (ClockError, LogMismatch, StoreReadOnly)
"""What fails in one run would fail in every other."""
_OTHERS = "the other versions went on; "


class RunFailures:
    """The failures of one materialization.

    Args:
        context: the store's parts and settings.
        force: whether it is a force run.

    Attributes:
        problems: view → what failed for it beside its runs.
        ended: whether no other run is worth a try: a store that all need cannot be reached.
    """

    def __init__(self, context: StoreContext, force: bool) -> None:
        self._context = context
        self._option = " --force" if force else ""
        self._errors: list[Exception] = []
        self.problems: dict[str, str] = {}
        self.ended = False

    def run(self, run: Run | WindowRun, peer: Watermark | None) -> RunReport:
        """Run one version; where that fails, the report says why, and `status` until a run of it ends well.

        Raises:
            LogRestored: all has to begin again.
        """
        began = time.monotonic()
        try:
            report = run.run(peer)
        except LogRestored:
            raise
        except Exception as bad:
            self._add(bad)
            error = _words(bad)
            context, view = self._context, run.view
            if not self.ended:
                # what ends every run is not this version's; and the database may be what failed
                with suppress(StoreError):
                    context.failures.note(view.name, view.version, context.clock(), error)
            return run.failed(time.monotonic() - began, error)
        return report

    @contextmanager
    def beside(self, view: str) -> Iterator[None]:
        """What is done for a view beside its runs; where it fails, the other views go on.

        Raises:
            LogRestored: all has to begin again.
        """
        try:
            yield
        except LogRestored:
            raise
        except Exception as bad:
            self._add(bad)
            self.problems[view] = _words(bad)

    def forget(self, planned: Sequence[Run | WindowRun], reports: Sequence[RunReport]) -> None:
        """Forget earlier failures of the versions that were filled."""
        filled = [(r.view, r.version) for run, r in zip(planned, reports, strict=False) if run.fills and not r.error]
        with suppress(StoreError):
            self._context.failures.clear(filled)

    def _add(self, error: Exception) -> None:
        self._errors.append(error)
        self.ended = self.ended or isinstance(error, _OF_ALL) or (isinstance(error, Unavailable) and self._cut_off())

    def _cut_off(self) -> bool:
        """Whether a store that every run needs cannot be reached."""
        try:
            self._context.online.multi_get([token_key(self._context.project)])
            self._context.log.head_position()
        except StoreError:
            return True
        return False

    def check(self, report: MaterializeReport) -> None:
        """Raise what failed, if anything did: the error itself where it is one, else one that names them all.

        Raises:
            HeadwaterError: its `report` says what was done all the same.
        """
        if not self._errors:
            return
        first = error = self._errors[0]
        failed = [f"{run.view}@{run.version}: {run.error}" for run in report.failed]
        failed += [f"{view}: {why}" for view, why in report.problems.items()]
        if len(failed) > 1:
            # one that says whether to try again, where they all do
            of_all = (kind for kind in (SourceError, Unavailable) if all(isinstance(bad, kind) for bad in self._errors))
            kind = next(of_all, StoreError)
            error = kind(f"materialize: {len(failed):,} views or versions failed: {'; '.join(failed)}")
        elif not isinstance(error, HeadwaterError):
            error = StoreError(f"materialize: {failed[0]}")
        assert isinstance(error, HeadwaterError)
        error.report = report
        views = " ".join(dict.fromkeys([*(run.view for run in report.failed), *report.problems]))
        others = _OTHERS if len(report.runs) > len(report.failed) else ""
        snapshot = self._context.registry.snapshot()
        notes = [f"{others}once that is fixed, run:", f"  headwater materialize {views}{self._option}"]
        for run in report.failed:
            way = way_out(snapshot, run.view, run.version)
            if way:
                notes += [f"or, if {run.view} {run.version} is no longer needed:", *(f"  {command}" for command in way)]
        for note in notes:
            error.add_note(note)
        raise error from (None if error is first else first)


def _words(error: Exception) -> str:
    """An error in one line."""
    text = str(error) if isinstance(error, HeadwaterError) else f"{type(error).__name__}: {brief(str(error))}"
    return printable("; ".join(line.strip() for line in text.splitlines())) or type(error).__name__
