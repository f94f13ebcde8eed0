"""Which dates tell most: the clearest ones, of a year or on either side of a change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from xglof.cube.flags import Flag
from xglof.lakes.layer import to_degrees
from xglof.lakes.seasons import in_months, open_water_months

_PER_STEP = 0.15  # how much clearer a date must be to be shown instead of the one nearer to the change
_HIDES_GROUND = Flag.s2_nodata | Flag.cloud | Flag.cloud_shadow | Flag.snow


def telling_dates(
    cube: xr.Dataset, ts: xr.Dataset, alert: Mapping[str, Any] | None = None
) -> tuple[Any, Any]:
    """The clearest date of up to three on each side of an alert, else of the first and the last half."""
    times = ts["time"].to_numpy()
    clear = clear_share(cube, times)
    if alert is None:
        half = (len(times) + 1) // 2
        sides = np.arange(half), np.arange(min(half, len(times) - 1), len(times))
    else:
        last, first = (np.datetime64(alert[name]) for name in ("last_intact", "first_changed"))
        known = np.isfinite(ts["area"].sel(lake=alert["lake"]).to_numpy())
        known |= np.isin(times, [last, first])  # of a partial view the bounds tell
        sides = np.flatnonzero(known & (times <= last))[-3:], np.flatnonzero(known & (times >= first))[:3]
    near = sides[0][::-1], sides[1]
    before, after = (side[np.argmax(clear[side] - _PER_STEP * np.arange(len(side)))] for side in near)
    return times[before], times[after]


def clear_share(cube: xr.Dataset, times: Any) -> Any:
    """Share of the scene that true colour shows at each date; 1 where nothing is known of it."""
    if "flags" not in cube or "time" not in cube["flags"].dims:
        return np.ones(len(times))
    hidden = (cube["flags"].sel(time=times) & np.uint16(_HIDES_GROUND)) != 0
    return 1 - hidden.mean([dim for dim in hidden.dims if dim != "time"]).to_numpy()


def clearest_of_years(cube: xr.Dataset, *, years: Sequence[int] | None = None) -> dict[int, tuple[Any, bool]]:
    """The clearest date of every year, and whether it lies in the months of open water.

    Dates in those months come first (see :func:`xglof.lakes.seasons.open_water_months`). Of dates as clear
    the latest counts: lakes are largest at the end of the melt season.

    Parameters
    ----------
    cube
        With ``time``; its ``flags`` say how much is hidden.
    years
        Years wanted; ``None`` for all that have a date.
    """
    times = cube["time"].to_numpy().astype("datetime64[ns]")
    year = times.astype("datetime64[Y]").astype(int) + 1970
    place = xr.Dataset(coords={"latitude": ("lake", [_latitude(cube)])})
    season = in_months(cube["time"].dt.month, open_water_months(place)).isel(lake=0).to_numpy()
    wanted = np.unique(year) if years is None else np.unique(np.asarray([*years], int))
    found = {}
    for each in wanted:
        steps = np.flatnonzero((year == each) & season)
        inside = bool(steps.size)
        steps = steps if inside else np.flatnonzero(year == each)
        if steps.size:
            clear = np.round(clear_share(cube, times[steps]), 2)
            found[int(each)] = times[steps[np.flatnonzero(clear == clear.max())[-1]]], inside
    return found


def _latitude(cube: xr.Dataset) -> float:
    """Of the middle of a cube's grid, degrees north."""
    west, south, east, north = cube.odc.geobox.boundingbox.bbox
    return float(to_degrees(cube.odc.geobox.crs).transform((west + east) / 2, (south + north) / 2)[1])
