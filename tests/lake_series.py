"""Synthetic series of lake areas, in the shape in which :func:`xglof.lakes.lake_area` returns them."""

from __future__ import annotations

import numpy as np
import xarray as xr

_SHARES = {"unknown": (np.nan, np.nan), "s1": (1.0, 0.0), "s2": (0.0, 1.0), "s1_and_s2": (1.0, 1.0)}


def season_dates(years, *, first=2016, months=(6, 7, 8, 9, 10), per_year=12):
    """``years * per_year`` dates, evenly spread over the days 2 to 27 of some months of each year."""
    spots = (np.arange(per_year) + 0.5) / per_year * len(months)
    days = []
    for year in range(first, first + years):
        for spot in spots:
            month = np.datetime64(f"{year}-{months[int(spot)]:02d}", "D")
            days.append(month + np.timedelta64(1 + int(25 * (spot % 1)), "D"))
    return np.array(days, "datetime64[ns]")


def area_series(
    values,
    *,
    times=None,
    sigma=None,
    sensors="s2",
    orbit=None,
    latitude=28.0,
    observed=1.0,
    frozen=0.0,
    part_of=None,
) -> xr.Dataset:
    """Dataset ``(lake, time)`` of areas (m2), ``(time)`` or ``(lake, time)``, NaN for no point value.

    ``times`` are 12 dates in June to October of each year. ``sigma`` (``area_sigma``, m2) is Hanshaw's for a
    square at 10 m. ``sensors`` is one word or an array of them ("unknown", "s1", "s2", "s1_and_s2") that
    broadcasts against the values. ``orbit`` is the text ``relative_orbit`` of each date, "19" where any lake
    rests on radar and "" elsewhere. ``observed`` and ``frozen`` are shares, ``part_of`` indices along
    ``lake``; all broadcast. Where there is no value though all was observed, the bounds are NaN.
    """
    area = np.atleast_2d(np.asarray(values, float))
    lakes, steps = area.shape
    times = season_dates(-(-steps // 12))[:steps] if times is None else np.asarray(times, "datetime64[ns]")
    sensors = np.broadcast_to(np.asarray(sensors), area.shape)
    shares = np.array([_SHARES[str(word)] for word in sensors.ravel()]).reshape(lakes, steps, 2)
    radar = (shares[..., 0] == 1).any(axis=0)
    orbit = np.where(radar, "19", "") if orbit is None else np.broadcast_to(np.asarray(orbit, str), (steps,))
    observed = np.broadcast_to(np.asarray(observed, float), area.shape)
    holder = np.arange(lakes)[:, None] if part_of is None else np.asarray(part_of)
    perimeter = 4 * np.sqrt(np.maximum(area, 0))
    lower = np.where(np.isnan(area) & (observed == 1), np.nan, np.nan_to_num(area) * observed)
    floats = {
        "area": area,
        "area_sigma": perimeter / 10 * 0.6872 * 10**2 / 2 if sigma is None else sigma + 0 * area,
        "perimeter": perimeter,
        "area_lower": lower,
        "area_upper": lower + (1 - observed) * np.nanmax(np.append(area, 0.0)),
        "observed_fraction": observed,
        "frozen_fraction": np.broadcast_to(np.asarray(frozen, float), area.shape),
        "requested_fraction": np.ones(area.shape),
        "s1_fraction": shares[..., 0],
        "s2_fraction": shares[..., 1],
    }
    dims = ("lake", "time")
    series = xr.Dataset({name: (dims, np.array(array, float)) for name, array in floats.items()})
    series["part_of"] = (dims, np.broadcast_to(holder, area.shape).astype("int32"))
    for name in floats:
        fraction = name.endswith("_fraction")
        series[name].attrs.update(units="1" if fraction else "m" if name == "perimeter" else "m2")
    at = np.broadcast_to(np.asarray(latitude, float), (lakes,))
    longitude = 86.5 + 0.01 * np.arange(lakes)
    ids = [
        f"GL{round(east * 1000):06d}E{abs(round(north * 1000)):05d}{'N' if north >= 0 else 'S'}"
        for east, north in zip(longitude, at, strict=True)
    ]
    state = np.where(orbit == "", "", "descending")
    places = {"longitude": longitude, "latitude": at, "x": longitude, "y": at}
    return series.assign_coords(
        lake=ids,
        time=times,
        relative_orbit=("time", orbit),
        orbit_state=("time", state),
        **{name: ("lake", place) for name, place in places.items()},
    ).assign_attrs(model="synthetic", min_observed=0.7, buffer_px=2)
