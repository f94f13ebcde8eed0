"""What is counted of the pixels of lakes at one date, as NumPy arrays of one window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xglof.cube.flags import Flag
from xglof.errors import CubeError
from xglof.lakes.cells import Cells
from xglof.lakes.layer import LAKE, UNOBSERVED, Float, check_values
from xglof.lakes.windows import Blocks, Shown, Window, joined
from xglof.lakes.zonal import UNIT

#: What is counted for each lake and time step. Water is one lake's; all else counts for every lake in whose
#: largest extent, its buffered form (reach) or its core it lies. A pixel that was not requested is only in
#: those that say so.
QUANTITIES = (
    "wet",  # lake, without snow on it
    "probability",  # of what was observed: sum in units of 2**-24
    "upright_edges",  # edges of wet pixels towards what is not the same lake, to the east or west
    "level_edges",  # the same, to the north or south
    "unobserved",  # reach: 255, and lake under snow; extent: also land under snow or ice
    "extent",
    "extent_not_requested",
    "core",
    "core_unobserved",
    "core_frozen",  # under snow or ice, whatever the map says
    "core_not_requested",
    "core_s1",  # observed, with s1_used
    "core_s2",
)


@dataclass(frozen=True, slots=True)
class _Reached:
    """Pixels by each lake that reaches them; a pixel in reach of two lakes occurs twice."""

    at: NDArray[np.int64]
    lake: NDArray[np.int64]
    inside: NDArray[np.bool_]
    reach: Float
    core: Float


@dataclass(frozen=True, slots=True)
class _Owned:
    """Pixels of the window and its neighbours by the home that has them; one that two cut occurs twice."""

    at: NDArray[np.int64]
    home: NDArray[np.int32]
    inside: NDArray[np.bool_]
    share: Float
    inner: NDArray[np.bool_]  # in the window itself, not in the row and column of neighbours


def count_window(
    cells: Cells,
    values: Blocks,
    bits: Blocks | None,
    probability: Blocks | None,
    *,
    window: Window,
    places: NDArray[np.integer],
    shown: Shown | None = None,
) -> Float:
    """Counts of :data:`QUANTITIES` in one window.

    Parameters
    ----------
    cells
        The pixels of its homes.
    values, bits, probability
        The blocks that it reads from, ``(time, y, x)``: uint8 lake layer, flags of any whole type, floating
        point.
    window
        Where it lies in the blocks.
    places
        ``(home, time)``, or time 1 where it never changes: place in ``window.lakes`` of the lake that holds
        each home, or their number for one of another window.
    shown
        Polygons of the dates: water in them is their lake's, whatever its home.

    Returns
    -------
    numpy.ndarray
        ``(lake, time, quantity)`` float64, of ``window.lakes``.

    Raises
    ------
    CubeError
        Values other than 0, 1 and 255; a probability that is not from 0 to 1 or, where observed, missing.
    """
    maps = check_values(joined(values, window))
    others = [None if each is None else joined(each, window) for each in (bits, probability)]
    owned = _owned(cells, window)
    reached: _Reached | None = None
    owner, counted = places[:, 0:0], []
    for step in range(len(maps)):
        now = places[:, min(step, places.shape[1] - 1)]
        if reached is None or (now != owner).any():
            owner, reached = now, _reached(cells, now, window)
        image = None if shown is None else shown.image(step, maps.shape[1:])
        lake = now[owned.home] if image is None else _shown_lake(image.ravel()[owned.at], now[owned.home])
        flags, likely = (None if each is None else each[step].ravel() for each in others)
        water = _water(maps[step].ravel(), flags, likely, owned, lake, window)
        counted.append([*water, *_extents(maps[step].ravel(), flags, reached, len(window.lakes))])
    return np.array(counted).reshape(len(maps), len(QUANTITIES), len(window.lakes)).transpose(2, 0, 1)


def _shown_lake(image: NDArray[np.int32], home: NDArray[np.integer]) -> NDArray[np.integer]:
    return np.where(image > 0, image - 1, home)


def _inner(at: NDArray[np.int64], window: Window) -> NDArray[np.bool_]:
    row, column = np.divmod(at, _width(window))
    return (row < window.shape[0]) & (column < window.shape[1])


def _width(window: Window) -> int:
    return int(window.read[1].stop - window.read[1].start)


def _owned(cells: Cells, window: Window) -> _Owned:
    own = cells.own > 0
    at = cells.at[own]
    return _Owned(at, cells.home[own], cells.inside[own], cells.own[own], _inner(at, window))


def _reached(cells: Cells, owner: NDArray[np.integer], window: Window) -> _Reached:
    lake = owner[cells.home]
    counted = np.flatnonzero((lake < len(window.lakes)) & _inner(cells.at, window))
    size = _width(window) * (window.read[0].stop - window.read[0].start)
    keys, first, entry = np.unique(
        lake[counted] * size + cells.at[counted], return_index=True, return_inverse=True
    )
    inside = np.bincount(entry, weights=cells.inside[counted], minlength=len(keys)) > 0
    # of places of which a lake holds several, a pixel's shares may overlap: together they are at most all
    reach, core = (
        np.minimum(np.bincount(entry, weights=each[counted], minlength=len(keys)), 1)
        for each in (cells.reach, cells.core)
    )
    return _Reached(cells.at[counted][first], keys // size, inside, reach, core)


def _water(
    values: NDArray[np.uint8],
    bits: NDArray[np.integer] | None,
    probability: NDArray[np.floating] | None,
    owned: _Owned,
    lake: NDArray[np.integer],
    window: Window,
) -> list[Float]:
    """Counts of what belongs to one lake at one date."""
    count = len(window.lakes)
    has, value = _has(bits, owned.at), values[owned.at]
    asked, water = ~has[Flag.not_requested], value == LAKE
    unknown = (value == UNOBSERVED) | _hidden(has, water, owned.inside)
    wet = water & ~unknown & asked
    likely = None if probability is None else probability[owned.at]
    weight = _likely(likely, value != UNOBSERVED, owned.share)
    known = asked & ~unknown & owned.inner
    size = len(values)
    keys, entry = np.unique(lake[wet] * size + owned.at[wet], return_inverse=True)
    share = np.bincount(entry, weights=owned.share[wet], minlength=len(keys)).astype(float)
    of, at = np.divmod(keys, size)
    inner, width = _inner(at, window), _width(window)
    area = _sums(of, np.where(inner, share, 0), count)
    sums = [area, _sums(lake[known], weight[known], count)]
    # a wet pixel has two edges to each axis; two that are neighbours share one, which is then nobody's
    for step, inside in ((1, at % width + 1 < width), (width, at + width < size)):
        place = np.where(inside & inner, _places_of(keys + step, keys), -1)
        shared = np.where(place >= 0, np.minimum(share, share[place]), 0)
        sums.append(2 * (area - _sums(of, shared, count)))
    return sums


def _places_of(wanted: NDArray[np.int64], keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each wanted key is among the sorted keys, -1 where it is not."""
    place = np.searchsorted(keys, wanted)
    found = np.append(keys, -1)[place] == wanted
    return np.where(found, place, -1)


def _extents(
    values: NDArray[np.uint8], bits: NDArray[np.integer] | None, reached: _Reached, count: int
) -> list[Float]:
    """Counts of what several lakes may share at one date."""
    has, value = _has(bits, reached.at), values[reached.at]
    asked, water = ~has[Flag.not_requested], value == LAKE
    unknown = ((value == UNOBSERVED) | _hidden(has, water, reached.inside)) & asked
    seen, frozen = asked & ~unknown, asked & (has[Flag.snow] | has[Flag.ice])
    extent = np.where(reached.inside, reached.reach, 0)
    layers = [(unknown, reached.reach), (asked, extent), (~asked, extent)]
    layers += [(where, reached.core) for where in (asked, unknown, frozen, ~asked)]
    layers += [(seen & has[sensor], reached.core) for sensor in (Flag.s1_used, Flag.s2_used)]
    return [_sums(reached.lake, np.where(where, share, 0), count) for where, share in layers]


def _sums(lake: NDArray[np.integer], weight: Float, count: int) -> Float:
    """Sum of weights by lake; of lakes of other windows nothing."""
    return np.bincount(lake, weights=weight, minlength=count + 1)[:count].astype(float)


def _has(bits: NDArray[np.integer] | None, at: NDArray[np.int64]) -> dict[Flag, NDArray[np.bool_]]:
    flags = np.zeros(len(at), np.uint16) if bits is None else bits[at].astype(np.uint16, copy=False)
    return {flag: (flags & flag) != 0 for flag in _FLAGS}


def _hidden(
    has: dict[Flag, NDArray[np.bool_]], water: NDArray[np.bool_], inside: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """What snow and ice hide: ice that the model calls lake is floating ice; under snow nobody sees."""
    return (has[Flag.snow] & (inside | water)) | (has[Flag.ice] & inside & ~water)


_FLAGS = (Flag.snow, Flag.ice, Flag.not_requested, Flag.s1_used, Flag.s2_used)


def _likely(probability: NDArray[np.floating] | None, observed: NDArray[np.bool_], share: Float) -> Float:
    """Probability times share in units of 2**-24, whole numbers: their sums are exact in any order."""
    if probability is None:
        return np.zeros(len(share))
    values = probability.astype(np.float64)
    wrong = (values < 0) | (values > 1) | (np.isnan(values) & observed)
    if wrong.any():
        raise CubeError(
            f"lake_probability holds {values[wrong][:5]} where lakes are; expected 0 to 1, and NaN only "
            "where 'lake' is 255: check the model's activation"
        )
    return np.rint(np.where(observed, values, 0) * share / UNIT)


def gathered(lakes: Sequence[NDArray[np.intp]], shape: tuple[int, int, int], parts: Sequence[Float]) -> Float:
    """Sum of the windows' counts, each at its lakes' places."""
    total = np.zeros(shape)
    for place, part in zip(lakes, parts, strict=True):
        total[place] += part
    return total
