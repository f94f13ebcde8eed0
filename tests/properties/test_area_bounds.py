"""Bounds of lake areas: the truth lies between them wherever the visible part was mapped right."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, gaussian_filter

from lake_maps import UTM, lake_map
from xglof.lakes.area import lake_area
from xglof.lakes.layer import pixel_metres
from xglof.lakes.polygons import find_lakes
from xglof.lakes.tracking import track

DATES = 25
SHAPE = (60, 80)
_REACH = np.hypot(*np.mgrid[-2:3, -2:3]) <= 2


def blob(rng, share, smooth):
    """Share of the image with the highest values of a random field: clumps, stripes or single pixels."""
    field = gaussian_filter(rng.random(SHAPE), smooth, mode="wrap")
    return field >= np.quantile(field, 1 - share)


def drawn_lake(rng):
    """One lake in the middle of the image, of any shape."""
    near = np.hypot(*(np.mgrid[: SHAPE[0], : SHAPE[1]] - np.array([[[30]], [[40]]]))) < rng.uniform(3, 18)
    lake = near & blob(rng, rng.uniform(0.3, 1), 3)
    lake[30, 40] = True
    return lake


def mask_over(rng, place, share=0.3):
    """Exactly this share of the lake's reach is hidden, in one of several shapes."""
    smooth = [(0, 0), (1, 1), (4, 4), (0, 30), (30, 0)][rng.integers(5)]
    field = np.where(place, gaussian_filter(rng.random(SHAPE), smooth, mode="wrap"), -1)
    hidden = field >= np.sort(field[place])[-max(1, round(share * place.sum()))]
    return hidden | blob(rng, 0.2, 2) & ~place


def changed(rng, lake, reach):
    """The lake after growth within its reach, or after a loss, at random places of its shore."""
    field = gaussian_filter(rng.random(SHAPE), 2, mode="wrap")
    edge = np.quantile(field, rng.uniform(0, 1))
    return lake & (field > edge) if rng.random() < 0.5 else lake | (reach & (field > edge))


@pytest.mark.parametrize("seed", range(20))
def test_the_truth_is_within_the_bounds_of_a_lake_under_a_mask(seed):
    """20 lakes of 25 dates, 500 cases."""
    rng = np.random.default_rng(seed)
    lake = drawn_lake(rng)
    lakes = track(find_lakes(lake_map(lake[None]))).assign(lake_id="the lake")  # one, in however many parts
    reach = binary_dilation(lake, _REACH)
    truth = np.array([changed(rng, lake, reach) for _ in range(DATES)])
    hidden = np.array([mask_over(rng, reach) for _ in range(DATES)])
    values = np.where(hidden, 255, truth)
    series = lake_area(lake_map(values, chunks={"time": 5, "y": 30, "x": 30}), lakes).compute()
    pixel = pixel_metres(UTM, series["x"].values, series["y"].values)[2][0]
    area = truth.sum(axis=(1, 2))
    lower, upper = (np.round(series[name][0] / pixel, 6).values for name in ("area_lower", "area_upper"))
    assert ((lower <= area) & (area <= upper)).all()
    assert (upper - lower == (hidden & reach).sum(axis=(1, 2))).all()  # and no wider than they must be
    given = series["area"][0].notnull().values
    assert (given == (series["observed_fraction"][0] >= 0.7).values).all()
    assert (np.round(series["area"][0].values / pixel, 6)[given] == lower[given]).all()
    assert (lower < upper).any()


def discs(rng, dates, basins):
    """Clear maps of discs that move, grow and touch each other from date to date."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    centre = rng.uniform([16, 16], [SHAPE[0] - 16, SHAPE[1] - 16], (basins, 2))  # not at the grid's edge
    size = rng.uniform(2, 7, basins)
    values = np.zeros((dates, *SHAPE), "uint8")
    for step in values:
        for (row, column), radius in zip(centre + rng.normal(0, 1, (basins, 2)), size, strict=True):
            near = (y - row) ** 2 + (x - column) ** 2 < (radius * rng.uniform(0.5, 1.4)) ** 2
            step[near & (rng.random() < 0.9)] = 1
    return values


def true_areas(lakes, series):
    """Area of the polygons of each lake and date, NaN without one."""
    area = lakes.groupby(["lake_id", "time"])["area_m2"].sum().unstack()
    return area.reindex(index=series["lake"].values, columns=series["time"].values).to_numpy()


@pytest.mark.parametrize("seed", range(12))
def test_the_area_of_a_lake_is_that_of_its_polygons_of_the_date(seed):
    values = discs(np.random.default_rng(seed), dates=7, basins=7)
    lakes = track(find_lakes(lake_map(values)))
    chunks = {"time": 3, "y": 30, "x": 40}
    series = lake_area(lake_map(values, chunks=chunks), lakes).compute(scheduler="sync")
    area = true_areas(lakes, series)
    held = series["part_of"].values != np.arange(series.sizes["lake"])[:, None]
    for name in ("area", "area_lower", "area_upper"):
        found = series[name].values
        np.testing.assert_allclose(found[~np.isnan(area)], area[~np.isnan(area)], rtol=1e-4)
        np.testing.assert_array_equal(found[np.isnan(area)], np.where(held, np.nan, 0)[np.isnan(area)])
    earlier = lake_map(values[:5])
    before = lake_area(earlier, track(find_lakes(earlier))).compute(scheduler="sync")
    later = series.sel(lake=before["lake"], time=before["time"])
    for name in ("area", "area_lower"):
        # a pixel's size is taken at a point of the footprint, which moves as that grows
        np.testing.assert_allclose(later[name], before[name], rtol=1e-5)


@pytest.mark.parametrize("seed", range(12))
def test_the_truth_of_every_lake_is_within_its_bounds_whatever_the_others_do(seed):
    rng = np.random.default_rng(100 + seed)
    values = discs(rng, dates=7, basins=7)
    lakes = track(find_lakes(lake_map(values)))
    hidden = np.array([blob(rng, rng.uniform(0.05, 0.6), (3, 3)) for _ in values])
    masked = lake_map(np.where(hidden, 255, values), chunks={"time": 3, "y": 30, "x": 40})
    series = lake_area(masked, lakes).compute(scheduler="sync")
    area = true_areas(lakes, series)
    there = ~np.isnan(area)
    lower, upper = (series[name].values for name in ("area_lower", "area_upper"))
    assert (lower[there] <= area[there] * (1 + 1e-4)).all()
    assert (upper[there] >= area[there] * (1 - 1e-4)).all()
    assert (lower[there] < upper[there]).any()
    seen = (values & ~hidden).sum(axis=(1, 2)) * 100.08
    np.testing.assert_allclose(series["area_lower"].sum("lake"), seen, rtol=1e-4)
