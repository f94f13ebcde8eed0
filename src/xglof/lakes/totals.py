"""Total area of many lakes, with an error whose rule of summing is said."""

from __future__ import annotations

from typing import Literal, get_args

import xarray as xr

from xglof.errors import CubeError

Combine = Literal["quadrature", "linear"]

_MEANING = {
    "quadrature": "root of the sum of squares: the errors of lakes are independent of each other",
    "linear": "sum: the errors of all lakes have the same sign and are fully correlated",
}
_NEEDED = ("area", "area_sigma", "area_lower", "area_upper", "requested_fraction")
_ERRORS = ("area_sigma", "sigma_repeat")
_ATTRS: dict[str, dict[str, str]] = {
    "area": {
        "long_name": "total lake area",
        "units": "m2",
        "comment": "sum over the lakes with a point value, see lakes_measured; NaN where none of the lakes "
        "has one, 0 without lakes. Low by the lakes without one",
    },
    "area_sigma": {"long_name": "one sigma of total lake area by boundary pixels", "units": "m2"},
    "sigma_repeat": {
        "long_name": "one sigma of total lake area by scatter on stable dates",
        "units": "m2",
    },
    "area_lower": {"long_name": "lower bound of total lake area", "units": "m2"},
    "area_upper": {
        "long_name": "upper bound of the total area of the lakes with bounds",
        "units": "m2",
        "comment": "of the lakes_bounded lakes; one of which a part was not requested has no bounds. A pixel "
        "that was not observed counts for every lake that it may belong to: too high where these overlap",
    },
    "lakes_measured": {"long_name": "number of lakes with a point value of area", "units": "1"},
    "lakes_bounded": {"long_name": "number of lakes with bounds of area", "units": "1"},
    "lakes_all": {
        "long_name": "number of lakes",
        "units": "1",
        "comment": "without those that another lake holds, before a split or after a merge",
    },
}


def total_area(series: xr.Dataset, *, combine: Combine) -> xr.Dataset:
    """Area of all lakes together at every time step, lazily.

    The error of a sum depends on how the errors of lakes go together, and published regional totals differ
    by orders of magnitude for it: 2080 +- 2.3 km2 of 30,121 lakes in quadrature (Wang and others 2020), 1306
    +- 214 km2 summed linearly (Hi-MAG, Chen and others 2021). So there is no default. Errors that change from
    lake to lake, such as mixed pixels, tend to quadrature; errors of one cause, such as a threshold or a
    season, to the linear sum.

    Parameters
    ----------
    series
        ``(lake, [time])`` as :func:`xglof.lakes.lake_area` returns it, flagged or not.
    combine
        ``"quadrature"`` for independent errors, ``"linear"`` for fully correlated ones.

    Returns
    -------
    xarray.Dataset
        Dims ``(time)``, or none without time. ``area``, float64 m2: the sum over lakes with a point value,
        NaN where there is none, 0 of no lakes. ``area_sigma``, and ``sigma_repeat`` where the series has it,
        of the same lakes by the rule; NaN where one of them has no such error. ``area_lower`` and
        ``area_upper`` of the lakes with bounds, NaN where lakes exist and none has. The lower one counts all
        water once; the upper one may count an unobserved pixel for two lakes that have both been there, and
        is then too high. ``lakes_measured``, ``lakes_bounded`` and ``lakes_all`` int64: lakes with a point
        value, with bounds, and all that no other lake holds.

    Raises
    ------
    CubeError
        Another ``combine``, or a variable that is missing.

    References
    ----------
    Wang and others (2020), Earth System Science Data 12, 2169-2182, doi:10.5194/essd-12-2169-2020. Chen and
    others (2021), Earth System Science Data 13, 741-766, doi:10.5194/essd-13-741-2021.

    Examples
    --------
    >>> names = ("area", "area_sigma", "area_lower", "area_upper", "requested_fraction")
    >>> series = xr.Dataset({name: ("lake", [3.0, 4.0]) for name in names})
    >>> [float(total_area(series, combine=each).area_sigma) for each in ("quadrature", "linear")]
    [5.0, 7.0]
    """
    if combine not in get_args(Combine):
        raise CubeError(f"combine is {combine!r}; expected 'quadrature' (independent errors) or 'linear'")
    missing = [name for name in _NEEDED if name not in series]
    if missing:
        raise CubeError(f"the series has no {', '.join(missing)}; expected a Dataset as lake_area() gives it")
    least = min(1, series.sizes["lake"])  # no lakes have no area; of lakes without a value nothing is known
    measured = series["area"].notnull()
    bounded = series["area_upper"].notnull()
    total = {
        "area": series["area"].sum("lake", min_count=least),
        **{name: _combined(series[name], measured, combine) for name in _ERRORS if name in series},
        "area_lower": series["area_lower"].sum("lake", min_count=least),
        "area_upper": series["area_upper"].sum("lake", min_count=least),
        "lakes_measured": measured.sum("lake"),
        "lakes_bounded": bounded.sum("lake"),
        "lakes_all": series["requested_fraction"].notnull().sum("lake"),
    }
    found = xr.Dataset({name: each.assign_attrs(_ATTRS[name]) for name, each in total.items()})
    return found.assign_attrs({**series.attrs, "combine": combine, "combine_comment": _MEANING[combine]})


def _combined(sigma: xr.DataArray, measured: xr.DataArray, combine: Combine) -> xr.DataArray:
    """Error of the sum over measured lakes, NaN where one of them has none or none is measured."""
    known = (measured & sigma.isnull()).sum("lake") == 0
    own, least = sigma.where(measured), min(1, sigma.sizes["lake"])
    if combine == "linear":
        return own.sum("lake", min_count=least).where(known)
    return ((own**2).sum("lake", min_count=least) ** 0.5).where(known)
