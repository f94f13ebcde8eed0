"""Tables of lakes, of patches and of events, as heads and rows; the first cell of a row is a lake's id."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from xglof.plot.account import NOT_COMPUTABLE, WORDS, told_events
from xglof.plot.findings import Findings
from xglof.plot.words import NONE, area_words, date, interval_words, range_words, share

if TYPE_CHECKING:
    from collections.abc import Sequence

Table = tuple[list[str], list[list[object]]]


def event_table(found: Findings) -> Table:
    """The lineage of lakes that are no patches, without first sights."""
    events = told_events(found)[0]
    rows = events[events["event"] != "new"].sort_values("time", kind="stable")
    cells: list[list[object]] = [
        [
            row["lake_id"],
            date(row["time"]),
            WORDS.get(str(row["event"]), row["event"]),
            row["parents"] or NONE,
        ]
        for _, row in rows.iterrows()
    ]
    return ["lake", "date", "event", "parents"], cells


def lake_table(found: Findings, names: Sequence[str]) -> Table:
    """A row for each of some lakes."""
    heads = [
        "lake", "alerts", "latest area", "interval", "date", "bounds at the latest view", "observed",
        "trend, m² a year", "detectable change", "longest blind, days", "events",
    ]  # fmt: skip
    events = told_events(found)[0]
    kinds = events[events["event"] != "new"].groupby("lake_id")["event"].agg(list).to_dict()
    alerts = found.alerts.groupby("lake")["status"].agg(list).to_dict()
    slopes = dict(zip(found.trends["lake"].values, found.trends["slope"].values, strict=True))
    limits = {} if found.limits is None else _limits(found.limits)
    rows: list[list[object]] = []
    for name in names:
        now, (least, blind) = found.latest(name), limits.get(name, (np.nan, np.nan))
        rows.append(
            [
                name,
                ", ".join(dict.fromkeys(alerts.get(name, []))) or NONE,
                area_words(now.area),
                interval_words(now.area, now.lower, now.upper, now.sigma),
                date(now.date),
                range_words(now.least, now.most),
                share(now.observed),
                f"{slopes[name]:+,.0f}" if np.isfinite(slopes[name]) else NOT_COMPUTABLE,
                area_words(least),
                NONE if not np.isfinite(blind) else f"{blind:.0f}",
                ", ".join(dict.fromkeys(kinds.get(name, []))) or NONE,
            ]
        )
    return heads, rows


def patch_table(found: Findings, names: Sequence[str]) -> Table:
    """A row for each of some patches: there is little to say of them."""
    heads = ["id", "most water seen", "date of it", "values above 0", "bounds at the latest view", "observed"]
    rows: list[list[object]] = []
    for name in names:
        one, now = found.series.sel(lake=name), found.latest(name)
        seen = one["area_lower"].fillna(0).to_numpy()
        step = int(seen.argmax())
        rows.append(
            [
                name,
                area_words(seen[step]),
                date(one["time"].values[step]),
                str(int((one["area"] > 0).sum())),
                range_words(now.least, now.most),
                share(now.observed),
            ]
        )
    return heads, rows


def _limits(limits: xr.Dataset) -> dict[str, tuple[float, float]]:
    """Smallest detectable change and longest blind interval of each lake."""
    columns = (
        limits[name].values.tolist() for name in ("smallest_detectable_change", "longest_blind_interval")
    )
    return {str(name): (low, far) for name, low, far in zip(limits["lake"].values, *columns, strict=True)}
