"""From the numbers in the files to those of a cube: Sentinel-2 offset, Sentinel-1 decibels.

The kernels take and return NumPy arrays; :mod:`xglof.cube.load` maps them over blocks. Sentinel-1 is brought
to linear power first, because a mean of decibels is no mean of backscatter: ``to_power``, then resampling,
then ``to_db``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from xglof.errors import CatalogError, CubeError

#: What ESA adds to the digital numbers of Sentinel-2 from processing baseline 04.00 on (BOA_ADD_OFFSET).
BOA_OFFSET = 1000
_FIRST_WITH_OFFSET = 4.0
#: Bands whose darkest numbers tell whether the offset is in them: dark over water, shadow and plants, and
#: dark over snow.
DARK_BANDS = ("B02", "B04", "B11", "B12")
_VISIBLE, _INFRARED = ("B02", "B04"), ("B11", "B12")
#: Percentile of the valid numbers of a band that counts as its darkest: a few broken pixels do not.
_DARK_PERCENT = 1.0
_FEWEST_PIXELS = 100
#: Darkest numbers below the first hold no offset; from there to the second they do; above is too bright.
_DARK_LEVELS = (900.0, 1400.0)

#: Property of the processing baseline in most archives.
BASELINE_NAME = "s2:processing_baseline"

#: What the numbers of a Sentinel-1 file may be.
RadarUnits = Literal["power", "amplitude", "decibel", "digital_number"]
#: Fill of Planetary Computer's and the Copernicus Data Space's backscatter, where the file declares none.
_RADAR_FILL = -32768.0
#: What is said when a cube takes Sentinel-1 GRD.
GRD_WARNING = (
    "Sentinel-1 GRD knows no terrain: ground that lies h above the heights it was laid out with is off by "
    "h / tan(incidence), 1.0 to 1.8 km for 1000 m, and slopes change the brightness; "
    "over mountains use S1RTC"
)


@dataclass(frozen=True, slots=True)
class Offset:
    """How many digital numbers are subtracted from a Sentinel-2 item, and what says so.

    Attributes
    ----------
    value
        0 or 1000.
    source
        ``"flag"`` (the archive's own property), ``"baseline"`` or ``"pixels"`` (:func:`check_offset`).
    baseline
        Processing baseline as the item spells it; ``""`` where only the flag is known.
    """

    value: int
    source: Literal["flag", "baseline", "pixels"]
    baseline: str


def decide_offset(
    item_id: str,
    properties: Mapping[str, Any],
    flag_name: str | None,
    *,
    baseline_name: str = BASELINE_NAME,
) -> Offset:
    """The radiometric offset of one Sentinel-2 L2A item.

    The archive's flag is trusted where it says that the offset is gone; otherwise the processing baseline
    decides, never the date, because reprocessed scenes of before 2022 carry the offset too.

    Parameters
    ----------
    item_id
        For the message.
    properties
        Of the STAC item.
    flag_name
        Property that says whether the offset was removed, or ``None``.
    baseline_name
        Property that holds the processing baseline; ``"processing:version"`` in the Copernicus Data Space.

    Raises
    ------
    CatalogError
        Neither flag nor baseline tells, or one of them cannot be read.
    """
    stated = stated_offset(item_id, properties, flag_name, baseline_name=baseline_name)
    if stated is None:
        raise CatalogError(
            f"item {item_id} has no {baseline_name}, so its radiometric offset is unknown; "
            f"pass items with {baseline_name} set as catalog="
        )
    return stated


def stated_offset(
    item_id: str,
    properties: Mapping[str, Any],
    flag_name: str | None,
    *,
    baseline_name: str = BASELINE_NAME,
) -> Offset | None:
    """The radiometric offset as :func:`decide_offset` finds it, ``None`` where nothing is stated.

    Raises
    ------
    CatalogError
        Flag or baseline cannot be read.
    """
    flag = properties.get(flag_name) if flag_name else None
    text = str(properties.get(baseline_name) or "")
    if flag is not None and not isinstance(flag, bool):
        raise CatalogError(f"item {item_id}: {flag_name} is {flag!r}; expected true or false")
    if flag:
        return Offset(0, "flag", text)
    if not text:
        return None
    number = baseline_number(item_id, text, name=baseline_name)
    value = BOA_OFFSET if number >= _FIRST_WITH_OFFSET else 0
    return Offset(value, "baseline" if flag is None else "flag", text)


def dark_level(raw: Mapping[str, NDArray[np.integer[Any]]]) -> float:
    """The darkest numbers of a Sentinel-2 scene, as :func:`check_offset` takes them.

    The first percentile of each band's valid numbers is its darkest. One band below 900 is proof that no
    offset is in the numbers: products of baseline 04.00 and later hardly hold such numbers. That it is in
    them shows only where the visible and the short-wave infrared are both that dark: snow and desert are
    dark in one of the two, and a bright scene without the offset could pass for a dark one with it.

    Parameters
    ----------
    raw
        Arrays of any shape (an overview will do) by band name, digital numbers as in the files, nodata 0;
        at least one of B02 and B04 and one of B11 and B12, others are ignored. Set cloudy pixels to 0.

    Returns
    -------
    float
        The lowest of the bands where it is below 900, otherwise the brighter of the darkest visible and the
        darkest infrared band; NaN where too few pixels (100 a band) are valid to say so.

    Raises
    ------
    CubeError
        The bands are not there.

    Examples
    --------
    >>> shadow = np.full((20, 20), 1080, dtype="uint16")
    >>> dark_level({"B04": shadow, "B12": shadow + 100})
    1180.0
    >>> dark_level({"B04": shadow, "B12": shadow - 1000})
    80.0
    """
    kinds = [[name for name in kind if name in raw] for kind in (_VISIBLE, _INFRARED)]
    if not all(kinds):
        raise CubeError(
            f"dark_level was given {', '.join(raw) or 'no band'}; it takes one of {' and '.join(_VISIBLE)} "
            f"and one of {' and '.join(_INFRARED)} at least"
        )
    visible, infrared = (min(_darkest(raw[name]) for name in kind) for kind in kinds)
    if min(visible, infrared) < _DARK_LEVELS[0]:
        return min(visible, infrared)
    darkest = max(visible, infrared)
    return darkest if darkest < math.inf else math.nan


def _darkest(raw: NDArray[np.integer[Any]]) -> float:
    valid = raw[raw > 0]
    return float(np.percentile(valid, _DARK_PERCENT)) if valid.size >= _FEWEST_PIXELS else math.inf


def check_offset(item_id: str, stated: Offset | None, darkest: float) -> Offset:
    """The radiometric offset of an item once its pixels were looked at.

    Where the pixels contradict what is stated, or nothing is stated, the pixels decide. Where they cannot
    tell, what is stated stays. A baseline below 04 never had the offset: there numbers that could hold one
    are of dry rock or haze, and tell nothing.

    Parameters
    ----------
    item_id
        For the message.
    stated
        Of :func:`stated_offset`.
    darkest
        Of :func:`dark_level`, digital numbers: below 900 the offset is not in them, from 900 to 1400 it is,
        above (and NaN) nothing can be told.

    Raises
    ------
    CatalogError
        Nothing is stated and the pixels cannot tell.

    Examples
    --------
    >>> check_offset("x", Offset(1000, "flag", "05.11"), 240.0)
    Offset(value=0, source='pixels', baseline='05.11')
    """
    low, high = _DARK_LEVELS
    if not darkest <= high:  # NaN too
        if stated is None:
            found = "too few valid pixels" if math.isnan(darkest) else f"darkest numbers of {darkest:.0f}"
            raise CatalogError(
                f"item {item_id} states neither flag nor baseline, and {found} do not tell whether its "
                "radiometric offset was removed; pass items with the baseline set as catalog="
            )
        return stated
    value = 0 if darkest < low else BOA_OFFSET
    baseline = "" if stated is None else stated.baseline
    never = bool(baseline) and baseline_number(item_id, baseline) < _FIRST_WITH_OFFSET
    if stated is not None and (stated.value == value or (never and value)):
        return stated
    return Offset(value, "pixels", baseline)


def baseline_number(item_id: str, text: str, *, name: str = BASELINE_NAME) -> float:
    """A processing baseline as a number: ``"05.09"`` and ``"N0509"`` give 5.09; ``""`` gives 0.

    A baseline that was written as a number lost its last zero: ``"5.1"`` is 05.10.

    Raises
    ------
    CatalogError
        The text is no baseline.
    """
    if not text:
        return 0.0
    match = re.fullmatch(r"N?(\d{1,2})(?:\.(\d{1,2})|(\d{2}))", text.strip())
    if match is None:
        raise CatalogError(f"item {item_id}: {name} is {text!r}; expected a number such as '05.09'")
    return int(match[1]) + int((match[2] or match[3]).ljust(2, "0")) / 100


def remove_offset(raw: NDArray[np.uint16], offset: NDArray[np.integer[Any]] | int) -> NDArray[np.uint16]:
    """Reflectance x 10,000 without the radiometric offset.

    Validity is decided on the raw numbers: 0 stays 0 (nodata), and a valid pixel that the offset takes to 0
    or below becomes 1, so that dark water stays observed and nothing wraps.

    Parameters
    ----------
    raw
        Any shape, uint16 digital numbers, nodata 0.
    offset
        Digital numbers to subtract, 0 or more; broadcast against ``raw``.

    Examples
    --------
    >>> remove_offset(np.array([0, 1, 950, 1000, 1001, 1500], dtype="uint16"), 1000).tolist()
    [0, 1, 1, 1, 1, 500]
    """
    lowered = raw.astype(np.int32) - np.asarray(offset, dtype=np.int32)
    return np.where(raw == 0, 0, np.maximum(lowered, 1)).astype(np.uint16)


def describe_radar(kind: Literal["RTC", "GRD"], calibration: Literal["gamma0", "sigma0", "beta0"]) -> str:
    """What ``vv`` and ``vh`` are, as their attribute ``product`` says it.

    Examples
    --------
    >>> describe_radar("RTC", "gamma0")
    'RTC gamma0'
    """
    return f"{kind} {calibration}"


def radar_modality(product: str) -> Literal["S1RTC", "S1GRD"]:
    """The modality that a text of :func:`describe_radar` stands for.

    Raises
    ------
    CubeError
        The text begins with neither RTC nor GRD.

    Examples
    --------
    >>> radar_modality("GRD sigma0")
    'S1GRD'
    """
    kind = product.split()[0].upper() if product.split() else ""
    if kind not in ("RTC", "GRD"):
        raise CubeError(
            f"Sentinel-1 has the attribute product={product!r}; expected a text such as 'RTC gamma0' or "
            "'GRD sigma0', or no such attribute"
        )
    return "S1RTC" if kind == "RTC" else "S1GRD"


def check_radar_units(units: str) -> None:
    """Refuse Sentinel-1 files that hold something else than backscatter, before a graph is built.

    Raises
    ------
    CatalogError
        ``units`` is ``"digital_number"``, or none of :data:`RadarUnits`.
    """
    if units == "digital_number":
        raise CatalogError(
            "these Sentinel-1 files hold uncalibrated digital numbers, whose decibels are not sigma0 (the "
            "gain differs along the swath); calibrate them first with xglof.cube.calibration.calibrate_grd "
            "and the product's annotation, or use S1RTC"
        )
    if units not in get_args(RadarUnits):
        raise CatalogError(f"units of Sentinel-1 are {units!r}; expected one of power, amplitude, decibel")


def to_power(values: NDArray[Any], units: RadarUnits) -> NDArray[np.float32]:
    """Backscatter in linear power, which may be resampled and averaged.

    Parameters
    ----------
    values
        Any shape, numbers of a file. NaN, infinities and -32768 are nodata; for power and amplitude so are
        0 and below (archives fill borders with 0), while 0 dB is a valid decibel.
    units
        What they are.

    Returns
    -------
    numpy.ndarray
        Same shape, float32 linear power, nodata NaN.

    Raises
    ------
    CatalogError
        As :func:`check_radar_units`.

    Examples
    --------
    >>> to_power(np.array([0.5, 0, -32768]), "amplitude").tolist()
    [0.25, nan, nan]
    >>> to_power(np.array([0, -10, -32768]), "decibel").round(6).tolist()
    [1.0, 0.10000000149011612, nan]
    """
    check_radar_units(units)
    exact = np.asarray(values, dtype=np.float64)  # as in to_db: the same bits wherever a pixel lies
    valid = np.isfinite(exact) & ((exact != _RADAR_FILL) if units == "decibel" else (exact > 0))
    exact = np.where(valid, exact, np.nan)
    if units == "amplitude":
        exact = exact**2
    elif units == "decibel":
        exact = 10.0 ** (exact / 10.0)
    return exact.astype(np.float32)


def to_db(power: NDArray[np.float32]) -> NDArray[np.float32]:
    """Backscatter in decibels.

    Parameters
    ----------
    power
        Any shape, float32 linear power; NaN, infinity, 0 and below are nodata (archives fill borders
        with 0).

    Returns
    -------
    numpy.ndarray
        Same shape, float32 dB, nodata NaN.

    Examples
    --------
    >>> to_db(np.array([1.0, 0.1, 0.0], dtype="float32"))
    array([  0., -10.,  nan], dtype=float32)
    """
    # through float64, whose logarithm gives the same bits wherever a pixel lies in its block
    valid = np.where((power > 0) & (power < np.inf), power, np.nan).astype(np.float64)
    decibels: NDArray[np.float32] = (10.0 * np.log10(valid)).astype(np.float32)
    return decibels
