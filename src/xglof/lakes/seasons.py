"""The open-water season: in which months a view of a lake can be taken for water."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from xglof.errors import CubeError

__all__ = ["OPEN_WATER", "in_months", "month_pair", "open_water_months"]

#: Open water where no months are stated: first and last month, both inclusive. A convention.
OPEN_WATER = {"north": (6, 10), "south": (12, 4), "tropics": (1, 12)}
#: Between the tropics lakes have no season of their own.
_TROPIC_DEG = 23.5


def open_water_months(series: xr.Dataset, open_water: tuple[int, int] | None = None) -> xr.DataArray:
    """First and last month of open water of every lake, both inclusive.

    Parameters
    ----------
    series
        With the coordinate ``latitude`` along ``lake``, which only ``open_water=None`` reads.
    open_water
        The months, or ``None`` for the convention by latitude that :func:`flag_series` states.

    Returns
    -------
    xarray.DataArray
        ``(lake, month)`` int64, 1 to 12; of size 2 along ``month``.

    Raises
    ------
    CubeError
        ``open_water`` is no pair of months, or is ``None`` and there is no latitude.

    Examples
    --------
    >>> lakes = xr.Dataset(coords={"lake": ["a", "b"], "latitude": ("lake", [28.0, -33.0])})
    >>> open_water_months(lakes).values.tolist()
    [[6, 10], [12, 4]]
    """
    if open_water is not None:
        pair = month_pair(open_water, "open_water")
        return xr.DataArray(np.tile(pair, (series.sizes["lake"], 1)), dims=("lake", "month"))
    if "latitude" not in series.coords:
        raise CubeError(
            "the series has no latitude along lake, by which the open-water season is chosen; state it: "
            "open_water=(6, 10) for June to October"
        )
    latitude = series["latitude"].drop_vars(series["latitude"].coords)
    if latitude.chunks is None and not np.isfinite(latitude).all():
        raise CubeError("a lake has no latitude; state the season: open_water=(6, 10) for June to October")
    ends = []
    for north, south, tropics in zip(*OPEN_WATER.values(), strict=True):
        beyond = xr.where(latitude < -_TROPIC_DEG, south, tropics)
        ends.append(xr.where(latitude > _TROPIC_DEG, north, beyond))
    season: xr.DataArray = xr.concat(ends, dim="month").transpose("lake", "month")
    return season


def in_months(month: xr.DataArray, months: xr.DataArray) -> xr.DataArray:
    """Whether months lie in a season, which passes the turn of the year where its first is after its last.

    Parameters
    ----------
    month
        ``(time)`` whole numbers, 1 to 12.
    months
        ``(lake, month)``, as :func:`open_water_months` returns them.

    Returns
    -------
    xarray.DataArray
        ``(lake, time)`` bool.
    """
    first, last = months.isel(month=0), months.isel(month=1)
    after, before = month >= first, month <= last
    inside: xr.DataArray = xr.where(first <= last, after & before, after | before).transpose("lake", ...)
    return inside


def month_pair(months: Any, name: str) -> tuple[int, int]:
    """The first and the last month, if they are two whole numbers from 1 to 12.

    Raises
    ------
    CubeError
        They are not; ``name`` is what they are called in the message.
    """
    try:
        first, last = (int(month) for month in months)
        whole = [first, last] == list(months) and 1 <= first <= 12 and 1 <= last <= 12
    except (TypeError, ValueError):
        whole = False
    if not whole:
        raise CubeError(f"{name} is {months!r}; expected first and last month, such as (6, 10)")
    return first, last
