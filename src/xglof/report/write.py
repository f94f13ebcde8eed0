"""The report as a file: written aside, then renamed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import xarray as xr

from xglof.errors import CubeError
from xglof.lakes.export import check_place, write_aside
from xglof.plot.findings import find_facts
from xglof.report import page
from xglof.report.markup import document

if TYPE_CHECKING:
    import geopandas
    import pandas as pd


def write_report(
    path: str | os.PathLike[str],
    *,
    cube: xr.Dataset,
    seg: xr.Dataset,
    lakes: geopandas.GeoDataFrame,
    series: xr.Dataset,
    alerts: pd.DataFrame | None = None,
    title: str = "Glacial lakes",
    largest: int = 5,
    overwrite: bool = False,
) -> Path:
    """The HTML file that a report was written to: it works offline, on a phone, in print and without scripts.

    Pictures, styles and tables are inside the file; its own rules forbid a browser to load anything else.
    Alerts come first, the greatest change above the others, and those of lakes that were always small (below
    0.02 km2) under a heading of their own. Then the map, a table of the lakes, and a card for each lake with
    an alert (40 at the most) and for the largest ones. Patches, which are small lakes without an alert and
    with fewer than two values above 0, have a table of their own that opens on request. Names and reviews of
    :func:`xglof.lakes.keep_review` and :func:`xglof.lakes.lake_attributes` are shown where ``lakes`` has
    them. This computes: the series, and of the cube the dates that are drawn.

    Parameters
    ----------
    path
        Of the file, in a folder that is there.
    cube, seg
        Cube with ``time`` and its segmentation. Their attributes say what was mapped by what.
    lakes
        What :func:`xglof.lakes.tracking.track` returned.
    series
        As :func:`xglof.lakes.lake_area` or :func:`xglof.lakes.series.flag_series` returns it.
    alerts
        As :func:`xglof.lakes.alerts.find_alerts` returns them; ``None`` finds them here, at 1 false alarm in
        100 lake-years.
    title
        Of the page.
    largest
        How many of the largest lakes get a card whether they have an alert or not.
    overwrite
        Replace the file at ``path``.

    Raises
    ------
    CubeError
        No time, no date, polygons without ``lake_id``, or as :func:`xglof.plot.map_lakes`.
    OutputError
        ``path`` is taken, an address, or cannot be written.
    """
    target = check_place(path, overwrite=overwrite)
    for what, data in (("series", series), ("cube", cube)):
        if "time" not in data.dims:
            raise CubeError(f"the {what} has no time; a report needs dates")
        if not data.sizes["time"]:
            raise CubeError(f"the {what} has a time but no date; a report needs at least one observation")
    if "lake_id" not in lakes:
        raise CubeError("the polygons have no 'lake_id'; give those that xglof.lakes.track() returned")
    if largest < 0:
        raise CubeError(f"largest is {largest}; expected a number of lakes, 0 or more")
    found = find_facts(series, lakes, alerts=alerts)
    carded = found.shown(largest, most_alerts=page.MOST_ALERT_CARDS)
    body = "".join(
        (
            page.head(title, found, cube, seg),
            page.alerts(found, carded),
            page.summary(found, cube, seg),
            page.overview(found, cube, seg),
            page.lake_table(found, carded),
            page.cards(found, cube, seg, carded),
            page.history(found),
            page.method(),
        )
    )
    text = document(title, body)
    return write_aside(target, lambda made: made.write_text(text, encoding="utf-8"), overwrite=overwrite)
