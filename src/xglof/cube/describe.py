"""What a cube says of itself: coordinates along time, and attributes of its variables and of the whole."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

import numpy as np

from xglof.bands import LAYERS, MODALITIES
from xglof.cube.harmonise import describe_radar
from xglof.cube.series import Series
from xglof.cube.steps import Scene, Step

#: When the radars of the Copernicus DEM (TanDEM-X) looked.
DEM_EPOCH = "2011/2015"
_DEGREES = {"units": "degree"}
_LAYER_ATTRS: dict[str, dict[str, Any]] = {
    "SCL": {
        "flag_values": np.arange(12, dtype=np.uint8),
        "flag_meanings": (
            "no_data saturated_or_defective dark_area cloud_shadow vegetation bare_soil water unclassified "
            "cloud_medium_probability cloud_high_probability thin_cirrus snow_or_ice"
        ),
    },
    "s1_mask": {
        "flag_values": np.arange(4, dtype=np.uint8),
        "flag_meanings": "clear shadow layover layover_and_shadow",
    },
}


def time_coordinates(
    axis: Sequence[datetime], optical: Series | None, radar: Series | None
) -> dict[str, Any]:
    """Coordinates along time, as :func:`xglof.open_cube` documents them."""
    moments = [np.datetime64(moment.replace(tzinfo=None), "ns") for moment in axis]
    coords: dict[str, Any] = {"time": ("time", np.array(moments, dtype="datetime64[ns]"))}
    if optical:
        coords |= _optical_coordinates(optical)
    if radar:
        coords |= _radar_coordinates(radar)
    for name, series in (("s2", optical), ("s1", radar)):
        if series and [step and step.when for step in series.placed] != list(axis):
            coords[f"{name}_gap_days"] = ("time", np.array(series.gap_days(axis)), {"units": "days"})
    return coords


def _optical_coordinates(series: Series) -> dict[str, Any]:
    steps = series.placed
    return {
        "s2_items": _texts(steps, lambda scene: scene.id),
        "s2_time": ("time", np.array([_moment(step) for step in steps], dtype="datetime64[ns]")),
        "s2_baseline": _texts(steps, lambda scene: scene.offset.baseline if scene.offset else ""),
        "s2_offset": ("time", np.array([_largest_offset(step) for step in steps], dtype=np.int32)),
        "s2_offset_source": _texts(steps, lambda scene: scene.offset.source if scene.offset else ""),
        "s2_offset_by_item": _texts(steps, _said_of_offset),
        "sun_azimuth": _numbers(steps, lambda scene: scene.solar_azimuth, mean_direction),
        "sun_elevation": _numbers(steps, lambda scene: scene.solar_elevation, _mean),
        "cloud_cover": ("time", _each(steps, _cloud_cover), {"units": "percent"}),
    }


def _radar_coordinates(series: Series) -> dict[str, Any]:
    steps = series.placed
    return {
        "s1_items": _texts(steps, lambda scene: scene.id),
        "s1_time": ("time", np.array([_moment(step) for step in steps], dtype="datetime64[ns]")),
        "orbit_state": _texts(steps, lambda scene: scene.orbit_state),
        "relative_orbit": _texts(steps, lambda scene: scene.relative_orbit),
    }


def _moment(step: Step | None) -> Any:
    return np.datetime64("NaT") if step is None else np.datetime64(step.when.replace(tzinfo=None), "ns")


def _said_of_offset(scene: Scene) -> str:
    return f"{scene.id}: {scene.offset.value} by {scene.offset.source}" if scene.offset else scene.id


def _largest_offset(step: Step | None) -> int:
    return max((scene.offset.value for scene in step.scenes if scene.offset), default=0) if step else 0


def _cloud_cover(step: Step) -> float:
    """Mean of what the items state, percent."""
    stated = [scene.item.properties.get("eo:cloud_cover") for scene in step.scenes]
    return _mean([float(value) for value in stated if isinstance(value, (int, float))])


def _numbers(
    steps: Iterable[Step | None],
    value: Callable[[Scene], float],
    join: Callable[[Sequence[float]], float],
) -> Any:
    def known(step: Step) -> float:
        return join([number for scene in step.scenes if math.isfinite(number := value(scene))])

    return "time", _each(steps, known), _DEGREES


def _each(steps: Iterable[Step | None], value: Callable[[Step], float]) -> Any:
    return np.array([math.nan if step is None else value(step) for step in steps], dtype=np.float64)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def mean_direction(azimuths: Sequence[float]) -> float:
    """Mean of directions in degrees, 0 to 360: that of 358 and 4 is 1. NaN for none."""
    if not azimuths:
        return math.nan
    first = azimuths[0]  # as turns from the first, so that equal ones keep their bits
    turns = [(azimuth - first + 180.0) % 360.0 - 180.0 for azimuth in azimuths]
    return (first + sum(turns) / len(turns)) % 360.0


def _texts(steps: Iterable[Step | None], value: Callable[[Scene], str]) -> Any:
    return "time", np.array(["" if step is None else step.joined(value) for step in steps], dtype=object)


def band_attrs(name: str, radar: Series | None) -> dict[str, Any]:
    """Attributes of a variable of a cube."""
    bands = [*(band for modality in MODALITIES.values() for band in modality.bands)]
    bands += [layer for layers in LAYERS.values() for layer in layers]
    band = next(band for band in bands if band.name == name)
    attrs: dict[str, Any] = {"long_name": band.long_name, "units": band.units}
    if band.dtype.startswith("uint"):
        attrs["nodata"] = int(band.nodata)
    if name in ("vv", "vh") and radar:
        attrs |= {"product": radar_product(radar)}
    if name == "dem":
        attrs |= {"epoch": DEM_EPOCH, "vertical_datum": "EGM2008"}
    return attrs | _LAYER_ATTRS.get(name, {})


def radar_product(radar: Series) -> str:
    """What vv and vh are, such as ``"RTC gamma0"``."""
    product = radar.chosen.product
    calibration = product.calibration or "gamma0"  # uncalibrated numbers are refused before
    return describe_radar("GRD" if product.modality == "S1GRD" else "RTC", calibration)
