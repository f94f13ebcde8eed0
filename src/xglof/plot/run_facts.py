"""What was mapped, from what and by what, as names and values."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from xglof.cube.card_facts import counted
from xglof.plot.account import hash_words
from xglof.plot.findings import Findings
from xglof.plot.words import date, degrees, share


def summary_facts(found: Findings, cube: xr.Dataset, seg: xr.Dataset) -> list[tuple[str, str]]:
    """Names and values of what was mapped, from what, by what."""
    times = found.series["time"].to_numpy()
    west, south, east, north = cube.odc.geobox.geographic_extent.boundingbox.bbox
    attrs = {**found.series.attrs, **seg.attrs}
    confirmed, waiting = (
        int((found.alerts["status"] == word).sum()) for word in ("confirmed", "provisional")
    )
    rows = [
        ("Place", f"around {degrees((west + east) / 2, (south + north) / 2)}"),
        ("Dates", f"{len(times)}, {date(times[0])} to {date(times[-1])}"),
        ("Scenes", _scenes(cube)),
        ("Archive", str(cube.attrs.get("catalog", "unknown"))),
        ("Model", str(attrs.get("model", "unknown"))),
        ("Model weights", hash_words(seg)),
        ("Threshold", f"{attrs['threshold']} of lake probability" if "threshold" in attrs else "unknown"),
        ("Effective resolution", _resolution(attrs)),
        ("Lakes", _lakes(found)),
        ("Values", str(int(np.isfinite(found.series["area"]).sum()))),
        ("Alerts", "not looked for" if found.composite else f"{confirmed} confirmed, {waiting} provisional"),
        ("Least share for a value", share(float(attrs.get("min_observed", np.nan)))),
    ]
    if found.composite:
        rows.append(("Composite", f"{attrs['composite']}, {attrs.get('composite_window', 'unknown window')}"))
    return [*rows, ("Software", str(attrs.get("source", "xglof")))]


def _lakes(found: Findings) -> str:
    """How many hold water, of how many ids."""
    wet = sum(found.latest(name).least > 0 for name in found.lakes)
    ids = counted(found.series.sizes["lake"], "id")
    told = f"{counted(wet, 'lake')} with water at the last view, {ids} ever"
    if not found.patches:
        return told
    return f"{told}, {len(found.patches)} of them patches seen once or never whole"


def _resolution(attrs: dict[str, Any]) -> str:
    value = attrs.get("effective_resolution_m")
    return "that of the grid" if value is None else f"{float(value):g} m"


def _scenes(cube: xr.Dataset) -> str:
    """Items used by sensor, as the coordinates of a cube name them."""
    parts = []
    for sensor, name in (("Sentinel-2", "s2_items"), ("Sentinel-1", "s1_items")):
        if name in cube.coords:
            items = {
                item for text in np.atleast_1d(cube[name].to_numpy()) for item in str(text).split() if item
            }
            parts.append(f"{len(items)} of {sensor}")
    if "dem" in cube:
        parts.append("a DEM")
    return ", ".join(parts) or f"{cube.attrs.get('items_used', 'unknown')} items"
