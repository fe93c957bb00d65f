"""Modules that take long to import, loaded when the command first uses them: `--help` waits for no Rich or Arrow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headwater.deferred import deferred

if TYPE_CHECKING:
    from headwater import scratch as scratch
    from headwater.advisor import report_html as report_html
    from headwater.advisor import requirements as requirements
    from headwater.cli import compare_ask as compare_ask
    from headwater.cli import compare_draw as compare_draw
    from headwater.cli import compare_measure as compare_measure
    from headwater.cli import draw as draw
    from headwater.cli import files as files
    from headwater.cli import sample as sample
    from headwater.cli import windows as windows
    from headwater.compute.writing import keys as keys
    from headwater.planning import catalog

    planning_catalog = catalog
    from headwater.planning import shown as shown
    from headwater.registry import registry as registry
    from headwater.serving import access as access
    from headwater.serving import logs as logs
    from headwater.serving import settings as settings
    from headwater.serving import tls as tls
    from headwater.wire import status as status
else:
    access = deferred("headwater.serving.access")
    compare_ask = deferred("headwater.cli.compare_ask")
    compare_draw = deferred("headwater.cli.compare_draw")
    compare_measure = deferred("headwater.cli.compare_measure")
    draw = deferred("headwater.cli.draw")
    files = deferred("headwater.cli.files")
    keys = deferred("headwater.compute.writing.keys")
    planning_catalog = deferred("headwater.planning.catalog")
    registry = deferred("headwater.registry.registry")
    report_html = deferred("headwater.advisor.report_html")
    requirements = deferred("headwater.advisor.requirements")
    scratch = deferred("headwater.scratch")
    sample = deferred("headwater.cli.sample")
    logs = deferred("headwater.serving.logs")
    settings = deferred("headwater.serving.settings")
    shown = deferred("headwater.planning.shown")
    tls = deferred("headwater.serving.tls")
    status = deferred("headwater.wire.status")
    windows = deferred("headwater.cli.windows")
