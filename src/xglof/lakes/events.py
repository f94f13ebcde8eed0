"""The clearest drop of area in a series, for pictures and a first look. It is no alert."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

_SIGMAS = 3.0
_SHARE = 0.2  # of the area before; large lakes pass three sigma by the seasons alone
_STEADY = 3  # observations whose median is the area before: one false outline must not drain


@dataclass(frozen=True, slots=True)
class Drop:
    """A lake that lost area and did not get it back.

    Attributes
    ----------
    lake
        Its id.
    before, after
        Indices along ``time`` of the observations on either side.
    share
        Part of the area before that no later observation has, up to 1.
    """

    lake: str
    before: int
    after: int
    share: float


def largest_drop(series: xr.Dataset) -> Drop | None:
    """The lake and the two observations between which area was lost for good, by the most sigmas.

    The area before is the lower of the last observation and of the median of the last three; the area after
    is the largest of all that follow. The loss is a fifth of the area or more and passes three sigma; by
    share alone a speck that vanishes would come before an outburst. Dates without an area are passed over.

    Parameters
    ----------
    series
        ``area`` and ``area_sigma``, ``(lake, time)`` m2, as :func:`xglof.lakes.lake_area` returns them.

    Returns
    -------
    Drop or None
        ``None`` where no lake lost as much.
    """
    area = series["area"].transpose("lake", "time").to_numpy()
    sigma = series["area_sigma"].transpose("lake", "time").to_numpy()
    best: Drop | None = None
    clearest = _SIGMAS
    for name, values, errors in zip(series["lake"].to_numpy(), area, sigma, strict=True):
        seen = np.flatnonzero(np.isfinite(values))
        for place in range(1, len(seen)):
            steady = seen[max(place - _STEADY, 0) : place]
            before = float(min(np.median(values[steady]), values[steady[-1]]))
            loss = before - float(values[seen[place:]].max())
            error = float(np.hypot(errors[steady].max(), errors[seen[place]]))
            if error > 0 and loss >= _SHARE * before and loss > clearest * error:
                clearest = loss / error
                best = Drop(str(name), int(seen[place - 1]), int(seen[place]), loss / before)
    return best


def drop_sentence(series: xr.Dataset, drop: Drop) -> str:
    """A drop in words: the lake, its area (km²) and the date on either side, the share lost for good.

    The share is not that between the two areas: see :func:`largest_drop` for what it compares.
    """
    ends = (drop.before, drop.after)
    areas = [float(series["area"].sel(lake=drop.lake).isel(time=index)) / 1e6 for index in ends]
    days = [day(series["time"].to_numpy()[index]) for index in ends]
    return (
        f"{drop.lake}: {areas[0]:.3f} km² on {days[0]}, {areas[1]:.3f} km² on {days[1]} "
        f"(at least {drop.share:.0%} lost for good)"
    )


def day(date: Any) -> str:
    """A date as ``2023-07-01``."""
    return str(np.datetime_as_string(np.datetime64(date), unit="D"))
