"""Basins for simulated lakes: where they lie, how they are carved, and what floods."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from xglof.errors import CubeError
from xglof.simulate.terrain import Float, Lake, LakeKind, Terrain, fractal, slope_degrees, smoothstep


@dataclass(frozen=True, slots=True)
class _Site:
    centre: tuple[int, int]
    half_length_m: float
    half_width_m: float
    heading: float  # of the long axis, radians from the x axis towards the rows
    kind: LakeKind


@dataclass(frozen=True, slots=True, eq=False)
class Ground:
    """Ground before any basin, on the padded grid: ``(y, x)`` float32 metres, and its frame.

    ``along`` and ``across`` are those of :func:`xglof.simulate.terrain.mountains`, None for ground that
    came from a DEM. ``margin`` is the width in pixels of the frame in which no lake may lie.
    """

    elevation: Float
    along: Float | None
    across: Float | None
    resolution: float
    margin: int


#: Length over width of the lakes that are long.
_STRETCH: dict[LakeKind, tuple[float, float]] = {"growing": (1.5, 2.1), "splitting": (2.0, 2.6)}
#: How far the level of a splitting lake falls, and how deep its sill lies under the first level; shares of
#: its depth.
_SPLIT_FALL, _SILL_DEPTH = 0.22, 0.07


def carve(
    rng: np.random.Generator, ground: Ground, *, splitting: np.random.Generator | None = None
) -> Terrain:
    """Carve basins into ``ground`` and say which pixels each lake fills.

    ``splitting`` draws one lake more, the last, that a sill parts; the others are drawn as without it.

    Raises
    ------
    CubeError
        The ground has no room for a lake, or for one that splits.
    """
    from scipy.ndimage import gaussian_filter

    sites = _sites(rng, ground)
    if not sites:
        shape = ground.elevation.shape
        raise CubeError(
            f"no room for a lake in {shape} pixels of {ground.resolution} m; give a larger area (from 64 px)"
        )
    bed = ground.elevation.copy()
    hollow = np.zeros(bed.shape, dtype=np.uint16)
    lakes = tuple(_dig(rng, bed, hollow, site, number, ground) for number, site in enumerate(sites, start=1))
    basin = _flood(bed, hollow, lakes, sites, ground.resolution)
    if splitting is not None:
        bed, basin, last = _add_splitting(splitting, ground, (bed, hollow, basin), lakes, sites)
        lakes += (last,)
    filled = np.bincount(basin.ravel(), minlength=len(lakes) + 1)
    lakes = tuple(lake for lake in lakes if filled[lake.number] >= 4)
    basin[~np.isin(basin, [lake.number for lake in lakes])] = 0
    first = sites[0]
    along, across = _glacier_frame(ground, first)
    return Terrain(
        bed=bed,
        basin=basin,
        slope=slope_degrees(gaussian_filter(bed, 12 / ground.resolution), ground.resolution),
        along=along,
        across=across,
        reach_m=first.half_length_m,
        tongue_half_width_m=first.half_width_m * 1.25,
        lakes=lakes,
    )


def _sites(rng: np.random.Generator, ground: Ground) -> list[_Site]:
    """Places for the lakes: first the growing one, then the draining one, then the others."""
    rows, columns = (n - 2 * ground.margin for n in ground.elevation.shape)
    area_km2 = rows * columns * ground.resolution**2 / 1e6
    largest = min(0.6, 0.02 * area_km2)
    count = max(3, round(area_km2 / 26.2 * 7) + int(rng.integers(-2, 3)))
    smallest = max(0.005, 9 * ground.resolution**2 / 1e6)
    others = np.exp(rng.uniform(math.log(smallest), math.log(max(largest * 0.6, 2 * smallest)), count - 2))
    areas = [largest * rng.uniform(0.55, 1.0), largest * rng.uniform(0.2, 0.5), *sorted(others)[::-1]]
    kinds: list[LakeKind] = ["growing", "draining"]
    kinds += ["stable"] * (count - 2)
    sites: list[_Site] = []
    for area, kind in zip(areas, kinds, strict=True):
        site = _place(rng, ground, sites, area * 1e6, kind)
        if site is not None:
            sites.append(site)
        elif kind == "growing":
            return []
    return sites


def _add_splitting(
    rng: np.random.Generator,
    ground: Ground,
    carved: tuple[Float, NDArray[np.uint16], NDArray[np.uint16]],
    lakes: tuple[Lake, ...],
    sites: list[_Site],
) -> tuple[Float, NDArray[np.uint16], Lake]:
    """Bed and basins with one lake more that a sill parts, and that lake: as large as the room allows."""
    rows, columns = (n - 2 * ground.margin for n in ground.elevation.shape)
    largest = min(0.6e6, 0.02 * rows * columns * ground.resolution**2)
    number = len(sites) + 1
    for share in (0.7, 0.7, 0.5, 0.5, 0.35, 0.35, 0.25, 0.25):
        site = _place(rng, ground, sites, share * largest, "splitting")
        if site is None:
            continue
        bed, hollow = carved[0].copy(), carved[1].copy()
        lake = _dig(rng, bed, hollow, site, number, ground)
        basin = _flood(bed, hollow, (*lakes, lake), [*sites, site], ground.resolution)
        if _spares_others(basin, carved[2]) and _keep_two_parts(bed, basin, lake):
            return bed, basin, lake
    raise CubeError(
        f"no room for a lake that splits beside {len(sites)} others in {rows} x {columns} pixels; "
        "give a larger shape or another seed"
    )


def _spares_others(basin: NDArray[np.uint16], before: NDArray[np.uint16]) -> bool:
    """Whether the lakes of ``before`` kept nearly all pixels: a new moraine may fill or dam a neighbour."""
    count = int(before.max()) + 1
    kept = np.bincount(before[basin == before], minlength=count)[1:]
    sizes = [np.bincount(numbers.ravel(), minlength=count)[1:count] for numbers in (basin, before)]
    return bool((kept >= 0.95 * np.maximum(*sizes)).all())


def _place(
    rng: np.random.Generator, ground: Ground, taken: list[_Site], area_m2: float, kind: LakeKind
) -> _Site | None:
    """The gentlest of random places for a lake of this area, or None where none is free."""
    resolution, shape = ground.resolution, ground.elevation.shape
    stretch = rng.uniform(*_STRETCH.get(kind, (1.0, 1.9)))
    length, width = math.sqrt(area_m2 / math.pi * stretch), math.sqrt(area_m2 / math.pi / stretch)
    edge = ground.margin + math.ceil(1.65 * length / resolution) + 2
    if 2 * edge >= min(shape):
        return None
    row = rng.integers(edge, shape[0] - edge, 600)
    column = rng.integers(edge, shape[1] - edge, 600)
    free = np.ones(600, dtype=bool)
    for site in taken:
        gap = np.hypot(row - site.centre[0], column - site.centre[1]) * resolution
        free &= gap > 1.9 * (length + site.half_length_m)
    if kind != "growing" and taken:
        along, across = _glacier_frame(ground, taken[0])
        on_ice = (along > 0) & (np.abs(across) < 1.6 * taken[0].half_width_m + length)
        free &= ~on_ice[row, column]
    if not free.any():
        return None
    row, column = row[free], column[free]
    best = int(np.argmin(_unsuitability(rng, ground, row, column, length, kind)))
    centre = (int(row[best]), int(column[best]))
    return _Site(centre, length, width, _heading(rng, ground, centre, length, kind), kind)


def _unsuitability(
    rng: np.random.Generator,
    ground: Ground,
    row: NDArray[np.int64],
    column: NDArray[np.int64],
    length: float,
    kind: LakeKind,
) -> NDArray[np.float64]:
    """Mean fall across the lake in metres, with some chance; valley lakes want the valley's axis."""
    reach = max(1, round(length / ground.resolution))
    z = ground.elevation
    rows = [np.clip(row + step, 0, z.shape[0] - 1) for step in (-reach, reach)]
    columns = [np.clip(column + step, 0, z.shape[1] - 1) for step in (-reach, reach)]
    fall = np.abs(z[rows[1], column] - z[rows[0], column]) + np.abs(z[row, columns[1]] - z[row, columns[0]])
    cost = fall * rng.uniform(0.3, 1.5, row.size)
    high = float(np.percentile(z, 70))
    cost = cost + 0.3 * np.maximum(z[row, column] - high, 0)  # up there lakes hardly open
    if kind == "growing" and ground.along is not None and ground.across is not None:
        aim = rng.uniform(0, 900)
        cost = cost + 2 * np.abs(ground.across[row, column]) + 0.2 * np.abs(ground.along[row, column] - aim)
    return np.asarray(cost, dtype=np.float64)


def _heading(
    rng: np.random.Generator, ground: Ground, centre: tuple[int, int], length: float, kind: LakeKind
) -> float:
    """Direction of the long axis: upstream for the growing lake, across the fall line for others."""
    field = ground.elevation if ground.along is None or kind != "growing" else ground.along
    reach = max(2, round(length / ground.resolution))
    rows = slice(max(centre[0] - reach, 0), centre[0] + reach + 1)
    columns = slice(max(centre[1] - reach, 0), centre[1] + reach + 1)
    south, east = (float(part.mean()) for part in np.gradient(field[rows, columns]))
    uphill = math.atan2(south, east)
    return uphill if kind == "growing" else uphill + math.pi / 2 + rng.normal(0, 0.5)


def _frame(
    shape: tuple[int, int], site: _Site, resolution: float, origin: tuple[int, int]
) -> tuple[Float, Float]:
    """Distances along and across the long axis of ``site``, metres, for a window at ``origin``."""
    y = (np.arange(shape[0], dtype=np.float32)[:, None] + (origin[0] - site.centre[0])) * resolution
    x = (np.arange(shape[1], dtype=np.float32)[None, :] + (origin[1] - site.centre[1])) * resolution
    cos, sin = np.float32(math.cos(site.heading)), np.float32(math.sin(site.heading))
    return (x * cos + y * sin).astype(np.float32), (-x * sin + y * cos).astype(np.float32)


def _glacier_frame(ground: Ground, site: _Site) -> tuple[Float, Float]:
    """Distance upstream of the growing lake and distance from the glacier's axis, over the whole grid."""
    shape = ground.elevation.shape
    if ground.along is None or ground.across is None:
        return _frame((shape[0], shape[1]), site, ground.resolution, (0, 0))
    along = ground.along - ground.along[site.centre]
    straight = _frame((shape[0], shape[1]), site, ground.resolution, (0, 0))[1]
    across = ground.across - ground.across[site.centre]
    # the valley's axis repeats in wide scenes: ice flows in the one that holds the lake
    return along, np.where(np.abs(straight) < 2600, across, np.float32(1e5)).astype(np.float32)


def _window(shape: tuple[int, ...], site: _Site, resolution: float) -> tuple[slice, slice]:
    reach = math.ceil(2.7 * site.half_length_m / resolution) + 6
    return (
        slice(max(site.centre[0] - reach, 0), min(site.centre[0] + reach + 1, shape[0])),
        slice(max(site.centre[1] - reach, 0), min(site.centre[1] + reach + 1, shape[1])),
    )


def _dig(
    rng: np.random.Generator,
    bed: Float,
    hollow: NDArray[np.uint16],
    site: _Site,
    number: int,
    ground: Ground,
) -> Lake:
    """Carve one basin with its moraine into ``bed``, note it in ``hollow``, and describe its lake."""
    from scipy.ndimage import gaussian_filter

    resolution = ground.resolution
    window = _window(bed.shape, site, resolution)
    z = bed[window]
    along, across = _frame((z.shape[0], z.shape[1]), site, resolution, (window[0].start, window[1].start))
    size_px = site.half_width_m / resolution
    wander = fractal(rng, (z.shape[0], z.shape[1]), 3.7, coarsest=max(4 * size_px, 6))
    radius = np.hypot(along / site.half_length_m, across / site.half_width_m) * np.exp(0.28 * wander)
    depth = float(np.clip(site.half_width_m * rng.uniform(0.08, 0.25), 2.5, 60))
    near = radius < 1.2
    level = round(float(np.percentile(z[near], rng.uniform(30, 50))) if near.any() else float(z.mean()), 1)
    relief = np.clip(z - gaussian_filter(z, max(size_px * 0.6, 1.5)), -0.3 * depth, 0.3 * depth)
    rim = rng.uniform(0.25, 0.6) * min(depth, 18)
    inside = -depth * (1 - np.minimum(radius, 1) ** 2)
    outside = rim * (1 - np.exp(-3 * np.maximum(radius - 1, 0)))
    bowl = level + inside + outside + 0.5 * relief * smoothstep((1.25 - radius).astype(np.float32) * 2)
    if site.kind == "splitting":
        aside = along - 0.08 * site.half_length_m * wander  # a sill is no straight wall
        middle = float(np.quantile(aside[radius < 0.8], rng.choice([0.38, 0.62])))  # parts of unequal size
        bowl = np.maximum(bowl, level - depth * _sill((aside - middle).astype(np.float32), site, resolution))
    weight = smoothstep(((radius - 1.05) / rng.uniform(0.7, 1.0)).astype(np.float32))
    # a moraine all round, 31 degrees steep outside: without it water would stand on the slope below
    moraine = level + 0.3 + rim * np.clip(6 * (radius - 1), 0, 1)
    crest = 1 + max(0.25, 3 / size_px)  # three pixels thick at least, or it would leak
    moraine -= 0.6 * site.half_width_m * np.maximum(radius - crest, 0)
    bed[window] = np.maximum((1 - weight) * bowl + weight * z, np.where(radius > 1, moraine, -np.inf))
    hollow[window][radius <= 1] = number
    return _describe(rng, site, number, level, depth)


def _sill(along: Float, site: _Site, resolution: float) -> Float:
    """Depth under the first level of a rise of the bed across the lake, as a share of the lake's depth."""
    half_width = max(0.16 * site.half_length_m, 2.5 * resolution)  # of what falls dry: sensors must see it
    fall = (_SPLIT_FALL - _SILL_DEPTH) * (along / half_width) ** 2
    return np.asarray(_SILL_DEPTH + fall, dtype=np.float32)


def _describe(rng: np.random.Generator, site: _Site, number: int, level: float, depth: float) -> Lake:
    """The lake of a carved basin: its level and depth are in metres, the water's look is drawn."""
    fraction = rng.uniform(0.55, 0.8) if rng.random() < 0.5 else 2.0  # 2: nothing remains
    lake = Lake(
        number=number,
        kind=site.kind,
        level_m=level,
        drained_level_m=level,
        turbidity=float(rng.beta(0.8, 0.9)),
        milkiness=float(rng.random()),
        roughness=float(rng.random()),
        centre=site.centre,
    )
    if site.kind == "draining":
        return replace(lake, drained_level_m=round(level - fraction * depth, 1))
    if site.kind == "splitting":
        return replace(lake, drained_level_m=round(level - _SPLIT_FALL * depth, 1))
    if site.kind == "growing":  # in touch with the ice: never clear
        return replace(lake, turbidity=float(rng.uniform(0.45, 1.0)))
    return lake


def _flood(
    bed: Float,
    hollow: NDArray[np.uint16],
    lakes: tuple[Lake, ...],
    sites: list[_Site],
    resolution: float,
) -> NDArray[np.uint16]:
    """Lake numbers where water at each lake's level stands in one piece; drowns islets in ``bed``."""
    from scipy.ndimage import binary_fill_holes, label

    basin = np.zeros(bed.shape, dtype=np.uint16)
    for lake, site in zip(lakes, sites, strict=True):
        window = _window(bed.shape, site, resolution)
        z = bed[window]
        parts, _ = label((z < lake.level_m) & (basin[window] == 0))
        # low ground down the valley is a larger piece than the lake: the one in the hollow counts
        sizes = np.bincount(parts[hollow[window] == lake.number], minlength=1)
        sizes[0] = 0
        if sizes.max() > 0:
            water = binary_fill_holes(parts == int(np.argmax(sizes)))
            basin[window][water] = lake.number
            z[water] = np.minimum(z[water], lake.level_m - 0.3)  # islets become shoals
    return basin


def _keep_two_parts(bed: Float, basin: NDArray[np.uint16], lake: Lake) -> bool:
    """Whether the fallen water of ``lake`` stands in two parts; dries puddles, drowns islets in ``bed``."""
    from scipy.ndimage import binary_fill_holes, label

    wet = (basin == lake.number) & (bed < lake.drained_level_m)
    parts, count = label(wet, structure=np.ones((3, 3)))  # as lakes are told apart: corners join
    if count < 2:
        return False
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    second, first = (int(part) for part in np.argsort(sizes)[-2:])
    if sizes[second] < max(12, 0.1 * sizes.sum()):
        return False
    bed[wet & (parts != first) & (parts != second)] = lake.drained_level_m
    for part in (first, second):
        water = binary_fill_holes(parts == part)
        bed[water] = np.minimum(bed[water], lake.drained_level_m - 0.3)
    return True
