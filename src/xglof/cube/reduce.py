"""From the steps of a window to one plane: which observation stands for a pixel, and medians (arrays only).

Every function takes one window's steps, ``(time, y, x)``, and gives ``(1, y, x)``. Pixels know nothing of
their neighbours, so the cutting of a raster into blocks changes no bit.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntFlag
from typing import Any, ParamSpec

import numpy as np
from numpy.typing import NDArray

from xglof.cube.flags import Flag

P = ParamSpec("P")
#: Rows worked on at once: temporaries of all steps stay small beside the steps themselves.
_ROWS = 64
#: Of ``s2_day`` and ``s1_day``.
NO_DAY = int(np.iinfo(np.int32).min)
_NS_PER_DAY = 86_400_000_000_000
#: What a step is: when each sensor looked, nanoseconds since 1970; whether no earlier step of its window has
#: the same acquisition; the window's middle, nanoseconds; the height of the sun, degrees.
STEP = np.dtype(
    [("s2", "i8"), ("s1", "i8"), ("new_s2", "?"), ("new_s1", "?"), ("middle", "i8"), ("sun", "f8")]
)

OPTICAL = (
    Flag.s2_nodata
    | Flag.cloud
    | Flag.cloud_shadow
    | Flag.terrain_shadow
    | Flag.low_sun
    | Flag.snow
    | Flag.ice
)
RADAR = Flag.s1_nodata | Flag.s1_layover | Flag.s1_unknown
#: Sentinel-2's, and where only Sentinel-1 is usable those of the steps it is usable in.
FROZEN = Flag.snow | Flag.ice


class Use(IntFlag):
    """What an observation of a pixel is good for (uint8)."""

    s2 = 1 << 0
    s1 = 1 << 1
    #: Usable, and in the first step of its window with this acquisition: steps may share one.
    s2_once = 1 << 2
    s1_once = 1 << 3
    s2_failed = 1 << 4
    s1_failed = 1 << 5


@dataclass(frozen=True, slots=True)
class Sensor:
    """A sensor's bits.

    Attributes
    ----------
    own
        Bits of ``flags`` that tell about this sensor.
    unusable
        Those of them, and ``failed_read``, that make an observation unusable.
    missing
        The bit of a pixel that no observation tells about.
    use, counted, failed
        Bits of :class:`Use`: may be chosen, counts, its reading failed.
    """

    own: int
    unusable: int
    missing: int
    use: int
    counted: int
    failed: int


def _by_rows(kernel: Callable[P, NDArray[Any]]) -> Callable[P, NDArray[Any]]:
    """The kernel over some rows after the other; arrays of one row only go whole into each call."""

    @functools.wraps(kernel)
    def strips(*args: P.args, **kwargs: P.kwargs) -> NDArray[Any]:
        height = max(array.shape[1] for array in args if isinstance(array, np.ndarray))
        done = []
        for top in range(0, height, _ROWS):
            part = [
                each[:, top : top + _ROWS] if isinstance(each, np.ndarray) and each.shape[1] > 1 else each
                for each in args
            ]
            done.append(kernel(*part, **kwargs))  # type: ignore[arg-type]
        return done[0] if len(done) == 1 else np.concatenate(done, axis=1)

    return strips


@_by_rows
def usable(
    flags: NDArray[np.uint16],
    steps: NDArray[np.void],
    *arrays: NDArray[Any],
    gaps: Sequence[tuple[str, bool, float]],
    sensors: Mapping[str, Sensor],
) -> NDArray[np.uint8]:
    """Bits of :class:`Use` for every step; the only function here that gives as many steps as it takes.

    Parameters
    ----------
    flags, steps
        Of the cube, and :data:`STEP` ``(time, 1, 1)``.
    arrays, gaps
        Variables, and of each its sensor, whether a pixel without it is unobserved, and its nodata.
    sensors
        ``"s2"`` and ``"s1"``, of those at hand.
    """
    unseen = {name: np.zeros(flags.shape, bool) for name in ("s2", "s1")}
    lacks = {name: (flags & int(Flag[f"{name}_nodata"])) != 0 for name in ("s2", "s1", "dem")}
    for array, (name, needed, nodata) in zip(arrays, gaps, strict=True):
        gap = np.isnan(array) if np.isnan(nodata) else array == nodata
        lacks[name] |= gap
        unseen[name] |= gap & needed
    failed = (flags & int(Flag.failed_read)) != 0
    use = np.zeros(flags.shape, np.uint8)
    for name, sensor in sensors.items():
        use |= np.where(failed_of(name, failed, lacks), np.uint8(sensor.failed), np.uint8(0))
        good = ~unseen[name] & ((own_bits(flags, use, sensor) & np.uint16(sensor.unusable)) == 0)
        use |= np.where(good, np.uint8(sensor.use), np.uint8(0))
        use |= np.where(good & steps[f"new_{name}"], np.uint8(sensor.counted), np.uint8(0))
    return use


def failed_of(
    name: str, failed: NDArray[np.bool_], lacks: Mapping[str, NDArray[np.bool_]]
) -> NDArray[np.bool_]:
    """Where a failed read was one sensor's.

    ``failed_read`` says not which file failed. It counts against a sensor that lacks something here, and
    against all where nothing that is missing explains it.

    Parameters
    ----------
    name
        The sensor, a key of ``lacks``.
    failed
        Pixels with ``failed_read``, bool.
    lacks
        ``"s2"``, ``"s1"`` and ``"dem"``: where each has no data, bool.
    """
    others = functools.reduce(np.logical_or, (lacks[other] for other in lacks if other != name))
    return failed & (lacks[name] | ~others)


def own_bits(flags: NDArray[np.uint16], use: NDArray[np.uint8], sensor: Sensor) -> NDArray[np.uint16]:
    """The flags that tell about a sensor; ``failed_read`` only where it was this sensor's."""
    failed = np.where((use & np.uint8(sensor.failed)) != 0, np.uint16(Flag.failed_read), np.uint16(0))
    bits: NDArray[np.uint16] = (flags & np.uint16(sensor.own)) | failed
    return bits


@_by_rows
def count(use: NDArray[np.uint8], *, bit: int) -> NDArray[np.uint16]:
    """How many of the steps have a bit of :class:`Use`."""
    number: NDArray[np.uint16] = ((use & np.uint8(bit)) != 0).sum(axis=0, keepdims=True, dtype=np.uint16)
    return number


@_by_rows
def middle_index(use: NDArray[np.uint8], *, sensor: Sensor, least: int) -> NDArray[np.int16]:
    """Of the n usable steps the one in the middle, the earlier of two; -1 under ``least`` of them."""
    good = (use & np.uint8(sensor.counted)) != 0
    rank = good.cumsum(axis=0, dtype=np.int16)
    total = rank[-1:]
    index = (rank > (total - 1) // 2).argmax(axis=0)[None]  # the first to reach that rank is usable
    return np.where(total >= least, index, -1).astype(np.int16)


@_by_rows
def best_index(
    use: NDArray[np.uint8], flags: NDArray[np.uint16], steps: NDArray[np.void], *, sensor: Sensor, least: int
) -> NDArray[np.int16]:
    """The usable step with the fewest bits, then the highest sun, then nearest to the window's middle."""
    line = steps[:, 0, 0]
    sun = np.where(np.isnan(line["sun"]), -np.inf, line["sun"])
    order = np.lexsort((np.abs(line["s2"] - line["middle"]), -sun))  # stable: the earlier of two
    rank = np.empty(len(order), np.int32)
    rank[order] = np.arange(len(order))
    bits = np.bitwise_count(own_bits(flags, use, sensor)).astype(np.int32)
    score = bits * np.int32(len(order)) + rank[:, None, None]
    return _least(score, use, sensor, least)


@_by_rows
def medoid_index(
    use: NDArray[np.uint8], *bands: NDArray[np.uint16], sensor: Sensor, least: int
) -> NDArray[np.int16]:
    """The usable step whose bands are nearest to their medians, the earlier of two; in whole numbers."""
    good = (use & np.uint8(sensor.use)) != 0
    distance = np.zeros(use.shape, np.int64)
    for band in bands:
        low, high = _middle_two(band, good)
        twice = 2 * band.astype(np.int64) - (low.astype(np.int64) + high)  # the median may be a half
        distance += twice * twice
    return _least(distance, use, sensor, least)


def _least(
    score: NDArray[np.signedinteger[Any]], use: NDArray[np.uint8], sensor: Sensor, least: int
) -> NDArray[np.int16]:
    good = (use & np.uint8(sensor.use)) != 0
    index = np.where(good, score, np.iinfo(score.dtype).max).argmin(axis=0)[None]
    enough = ((use & np.uint8(sensor.counted)) != 0).sum(axis=0) >= least
    return np.where(enough, index, -1).astype(np.int16)


@_by_rows
def nearest_index(
    use: NDArray[np.uint8],
    steps: NDArray[np.void],
    chosen: NDArray[np.int16] | None = None,
    *,
    sensor: Sensor,
    least: int,
) -> NDArray[np.int16]:
    """The usable step of Sentinel-1 nearest in time to the chosen one of Sentinel-2, or to the middle."""
    line = steps[:, 0, 0]
    target = np.full((1, *use.shape[1:]), line["middle"][0])
    if chosen is not None:
        target = np.where(chosen >= 0, line["s2"][chosen], target)
    distance = np.abs(line["s1"][:, None, None] - target)
    return _least(distance, use, sensor, least)


@_by_rows
def take(values: NDArray[Any], index: NDArray[np.int16], *, nodata: float) -> NDArray[Any]:
    """The value of the chosen step, nodata where none is chosen."""
    chosen = np.take_along_axis(values, np.maximum(index, 0).astype(np.intp), axis=0)
    return np.where(index >= 0, chosen, values.dtype.type(nodata))


@_by_rows
def median(
    values: NDArray[Any], use: NDArray[np.uint8], index: NDArray[np.int16], *, bit: int, nodata: float
) -> NDArray[Any]:
    """Median over the usable steps, nodata where no step is chosen.

    Whole numbers are rounded half to even. Decibels (floats) are averaged as linear power in float64, which
    matters where two observations are in the middle.
    """
    good = (use & np.uint8(bit)) != 0
    if values.dtype.kind == "f":
        return np.where(index >= 0, _power_between(*_middle_two(values, good)), values.dtype.type(nodata))
    known = good & (values != nodata)  # a layer may lack what the bands have
    low, high = (each.astype(np.uint32) for each in _middle_two(values, known))
    half, odd = (low + high) >> 1, (low + high) & 1
    between = half + (odd & half)
    found = (index >= 0) & known.any(axis=0)
    return np.where(found, between, np.uint32(nodata)).astype(values.dtype)


def _power_between(low_db: NDArray[Any], high_db: NDArray[Any]) -> NDArray[Any]:
    """Decibels of the mean of two linear powers; equal ones keep their bits."""
    low, high = low_db.astype(np.float64), high_db.astype(np.float64)
    power = (10.0 ** (low / 10.0) + 10.0 ** (high / 10.0)) / 2.0
    return np.where(low == high, low, 10.0 * np.log10(power)).astype(low_db.dtype)


def _middle_two(values: NDArray[Any], good: NDArray[np.bool_]) -> tuple[NDArray[Any], NDArray[Any]]:
    """The two values around the median of the good steps, equal for an odd number of them."""
    last = np.inf if values.dtype.kind == "f" else np.iinfo(values.dtype).max
    ordered = np.sort(np.where(good, values, values.dtype.type(last)), axis=0)
    number = good.sum(axis=0, keepdims=True, dtype=np.intp)
    low = np.take_along_axis(ordered, np.maximum(number - 1, 0) // 2, axis=0)
    return low, np.take_along_axis(ordered, np.minimum(number // 2, len(values) - 1), axis=0)


@_by_rows
def mode(
    values: NDArray[Any], use: NDArray[np.uint8], index: NDArray[np.int16], *, bit: int, nodata: int
) -> NDArray[Any]:
    """The most frequent class of the usable steps, the smallest of several; nodata where none is chosen."""
    known = ((use & np.uint8(bit)) != 0) & (values != nodata)
    ordered = np.sort(np.where(known, values, np.iinfo(values.dtype).max), axis=0)
    number = known.sum(axis=0, dtype=np.int16)
    found = np.full(number.shape, nodata, values.dtype)
    run, most = np.zeros_like(number), np.zeros_like(number)
    for step, here in enumerate(ordered):
        alike = here == ordered[step - 1] if step else np.zeros(number.shape, bool)
        run = np.where(alike, run, 0) + np.int16(1)
        better = (run > most) & (step < number)  # classes ascend: an equal run is of a greater one
        found, most = np.where(better, here, found), np.where(better, run, most)
    return np.where(index >= 0, found, values.dtype.type(nodata))


@_by_rows
def day(index: NDArray[np.int16], steps: NDArray[np.void], *, field: str) -> NDArray[np.int32]:
    """Day (UTC) of the chosen step, counted from 1970-01-01; :data:`NO_DAY` for none."""
    days = (steps[field][:, 0, 0] // _NS_PER_DAY).astype(np.int32)
    return np.where(index >= 0, days[index], np.int32(NO_DAY))


@_by_rows
def sensor_flags(
    flags: NDArray[np.uint16],
    use: NDArray[np.uint8],
    index: NDArray[np.int16],
    other: NDArray[np.int16] | None = None,
    *,
    sensor: Sensor,
    majority: bool,
) -> NDArray[np.uint16]:
    """A sensor's bits of a composite.

    Where no step is chosen all bits of the window's steps, of which the sensor's ``missing`` stays only where
    no other tells why. Elsewhere the bits of the chosen step, or those of at least half of the usable ones;
    of Sentinel-1's, snow and ice need more than half, since they may be a guess by the season.

    Parameters
    ----------
    flags, use
        Of the window's steps.
    index, other
        The chosen step of this sensor, and of the other one where the cube holds it: where only Sentinel-1
        has one, snow and ice are told with it, and no other step says that the window is frozen.
    sensor, majority
        The sensor's bits, and whether its usable steps vote.
    """
    bits, nothing = own_bits(flags, use, sensor), np.uint16(0)
    radar = sensor.missing == Flag.s1_nodata
    if radar and other is not None:
        bits |= np.where(other < 0, flags & np.uint16(FROZEN), nothing)
    together = np.bitwise_or.reduce(bits, axis=0, keepdims=True)
    if not radar and other is not None:
        together &= ~np.where(other >= 0, np.uint16(FROZEN), nothing)
    # cloud at one date says more than no acquisition at another
    missing = np.uint16(sensor.missing)
    explained = (together & np.uint16(sensor.unusable) & ~missing) != 0
    hidden = np.where(explained, together & ~missing, together | missing)
    if majority:
        seen = _common(bits, (use & np.uint8(sensor.counted)) != 0, doubted=FROZEN if radar else Flag(0))
    else:
        seen = np.take_along_axis(bits, np.maximum(index, 0).astype(np.intp), axis=0)
    return np.where(index >= 0, seen, hidden)


def _common(bits: NDArray[np.uint16], good: NDArray[np.bool_], *, doubted: Flag) -> NDArray[np.uint16]:
    """The bits that at least half of the good steps have, the doubted ones more than half."""
    number = good.sum(axis=0, keepdims=True, dtype=np.int32)
    common = np.zeros(number.shape, np.uint16)
    for bit in Flag:
        have = (good & ((bits & int(bit)) != 0)).sum(axis=0, keepdims=True, dtype=np.int32)
        least = number // 2 + 1 if bit & doubted else np.maximum(1, (number + 1) // 2)
        common |= np.where(have >= least, np.uint16(bit), np.uint16(0))
    return common


@_by_rows
def dem_flags(flags: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """``dem_nodata`` where any step has it, with ``failed_read`` where all steps then have both."""
    both = np.uint16(Flag.dem_nodata | Flag.failed_read)
    gap = np.bitwise_or.reduce(flags & np.uint16(Flag.dem_nodata), axis=0, keepdims=True)
    always = ((flags & both) == both).all(axis=0, keepdims=True)
    bits: NDArray[np.uint16] = np.bitwise_or(gap, np.where(always, both, np.uint16(0)))
    return bits
