"""Sentinel-1 monthly mosaics of the Copernicus Data Space: periods of linear power, and no acquisitions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox

import archives
import stac_server
from archives import Document, Layer, Place, Shelf
from cog_server import serve_cogs
from xglof.cube import open_cube
from xglof.cube.flags import Flag
from xglof.cube.providers import CDSE, Provider
from xglof.errors import CatalogError

#: The valley's scenes are of 10 July and 20 August 2021, 5 August 2022 and 12 August 2023.
MONTHS = {
    "2021_M07": ("2021-07-01T00:00:00Z", "2021-07-31T23:59:59Z"),
    "2021_M08": ("2021-08-01T00:00:00Z", "2021-08-31T23:59:59Z"),
    "2022_M07": ("2022-07-01T00:00:00Z", "2022-07-31T23:59:59Z"),
}
SPLIT = 40  # the row at which a month is cut into two mosaics


@pytest.fixture(scope="module")
def place(simulated: Path) -> Place:
    return archives.read_place(simulated)


@pytest.fixture(scope="module")
def power(place: Place) -> dict[str, dict[str, Layer]]:
    """Month -> polarisation -> linear power at 20 m, rough, with a gap and fill at the edge."""
    own = place.grid.affine
    grid = GeoBox((80, 84), Affine(20, 0, own.c - 200, 0, -20, own.f + 160), "EPSG:32645")
    rng = np.random.default_rng(5)
    months = {}
    for month in MONTHS:
        layers = {}
        for band in ("VH", "VV"):
            values = rng.gamma(4, 0.02, grid.shape).astype(np.float32)
            values[30:34, 50:57] = values[:, :20] = np.nan
            layers[band] = Layer(values, grid)
        months[month] = layers
    return months


def _documents(place: Place, power: dict[str, dict[str, Layer]], shelf: Shelf) -> list[Document]:
    """Two mosaics a month and a polar one; those of August 2021 state their grid, in GDAL's order."""
    documents = []
    for month, layers in power.items():
        for number, rows in enumerate((slice(0, SPLIT), slice(SPLIT, 80))):
            parts = {band: layer.cut(rows) for band, layer in layers.items()}
            grid = parts["VV"].grid
            stated: dict[str, Any] = {}
            if month == "2021_M08":
                stated = {
                    "proj:shape": list(grid.shape),
                    "proj:transform": archives.gdal_ordered(list(grid.affine)[:6]),
                }
            name = f"Sentinel-1_IW_mosaic_{month}_{archives.TILE}_{number}_0"
            documents.append(
                archives.monthly_mosaic(place.optical[0], shelf, name, parts, MONTHS[month], **stated)
            )
    polar = {name: power["2021_M07"][own] for name, own in (("HH", "VV"), ("HV", "VH"))}
    name = "Sentinel-1_DH_mosaic_2021_M07_0_0"
    return [
        *documents,
        archives.monthly_mosaic(place.optical[0], shelf, name, polar, MONTHS["2021_M07"]),
    ]


@pytest.fixture(scope="module")
def archive(
    place: Place, power: dict[str, dict[str, Layer]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Provider]:
    """The profile over a loopback: Sentinel-2 as JPEG 2000, and mosaics."""
    root = tmp_path_factory.mktemp("mosaics")
    with (
        serve_cogs(root) as server,
        stac_server.serve(root) as (url, handler),
        pytest.MonkeyPatch.context() as p,
    ):
        p.setenv("AWS_ACCESS_KEY_ID", "loopback")
        p.setenv("AWS_SECRET_ACCESS_KEY", "loopback")
        shelf = Shelf(root / "eodata", "s3://eodata")
        handler.items = [*archives.cdse(place, shelf), *_documents(place, power, shelf)]
        handler.page = 3
        here = {"AWS_S3_ENDPOINT": server.url.removeprefix("http://"), "AWS_HTTPS": "NO"}
        yield replace(CDSE, url=url, environment={**CDSE.environment, **here})


@pytest.fixture(scope="module")
def cube(archive: Provider, place: Place) -> xr.Dataset:
    return open_cube(catalog=archive, geobox=place.grid).compute(scheduler="threads")


def _doubled(layer: Layer, grid: GeoBox) -> np.ndarray:
    """Decibels at 10 m: power between the known ones of the four nearest 20 m pixels, in plain loops."""
    values, out = layer.values.astype(float), np.full(grid.shape, np.nan)
    for row in range(grid.shape[0]):
        for column in range(grid.shape[1]):
            x, y = grid.affine * (column + 0.5, row + 0.5)
            at_column, at_row = ~layer.grid.affine * (x, y)
            if np.isnan(values[int(at_row), int(at_column)]):
                continue
            total = weight = 0.0
            top, left = int(np.floor(at_row - 0.5)), int(np.floor(at_column - 0.5))
            for i in (top, top + 1):
                for j in (left, left + 1):
                    share = (1 - abs(at_row - 0.5 - i)) * (1 - abs(at_column - 0.5 - j))
                    if share > 0 and not np.isnan(values[i, j]):
                        total, weight = total + share * values[i, j], weight + share
            out[row, column] = 10 * np.log10(total / weight)
    return out


def test_values_are_those_of_the_month_across_its_tiles(
    cube: xr.Dataset, power: dict[str, dict[str, Layer]], place: Place
) -> None:
    assert cube.vv.attrs["product"] == "RTC gamma0"
    for step, month in ((0, "2021_M07"), (1, "2021_M08"), (2, "2022_M07")):
        for band in ("vv", "vh"):
            expected = _doubled(power[month][band.upper()], place.grid)
            np.testing.assert_allclose(cube[band][step], expected, rtol=0, atol=1e-5)
            assert 0.02 < np.isnan(expected).mean() < 0.5
    assert np.isnan(cube.vv[3]).all()
    np.testing.assert_array_equal(cube.flags.values & Flag.s1_nodata > 0, np.isnan(cube.vv))


def test_a_scene_within_the_month_has_no_gap(cube: xr.Dataset) -> None:
    """5 August 2022 has the mosaic of July, whose end is 4 days before; 12 August 2023 has none."""
    last = (4 * 86400 + 4 * 3600 + 45 * 60 + 25) / 86400
    np.testing.assert_allclose(cube.s1_gap_days, [0, 0, last, np.nan], rtol=1e-12)
    months = np.array(["2021-07-01", "2021-08-01", "2022-07-01", "NaT"], dtype="datetime64[ns]")
    np.testing.assert_array_equal(cube.s1_time, months)
    assert cube.s1_items.values.tolist()[0] == ",".join(
        f"Sentinel-1_IW_mosaic_2021_M07_{archives.TILE}_{number}_0" for number in (0, 1)
    )


def test_they_have_no_orbit(archive: Provider, cube: xr.Dataset, place: Place) -> None:
    assert cube.orbit_state.values.tolist() == [""] * 4
    assert cube.relative_orbit.values.tolist() == [""] * 4
    assert cube.flags.attrs["radar_geometry"] == "unknown"
    seen = ~np.isnan(cube.vv.values)
    assert (cube.flags.values[seen] & Flag.s1_unknown > 0).all()
    for orbit, said in (("ascending", "orbit"), (85, "relative orbit")):
        with pytest.raises(CatalogError, match=f"6 {said} not stated by a mosaic"):
            open_cube(catalog=archive, geobox=place.grid, modalities="S1RTC", orbit=orbit)


def test_what_is_refused_and_repaired_is_said(cube: xr.Dataset) -> None:
    polar = "Sentinel-1_DH_mosaic_2021_M07_0_0: polarisation HH HV without VV and VH"
    assert cube.attrs["items_rejected"] == [polar]
    ordered = [text for text in cube.attrs["items_repaired"] if "GDAL's order" in text]
    assert len(ordered) == 4  # a scene, the DEM and the two mosaics of August 2021
    assert cube.attrs["items_used"] == 4 + 1 + 6


def test_without_other_sensors_a_month_is_a_step(archive: Provider, place: Place) -> None:
    cube = open_cube(time="2021-07-15/2021-08-02", catalog=archive, geobox=place.grid, modalities="S1RTC")
    np.testing.assert_array_equal(cube.time, np.array(["2021-07-01", "2021-08-01"], dtype="datetime64[ns]"))
    assert "s1_gap_days" not in cube.coords
    rejected = [text for text in cube.attrs["items_rejected"] if "outside the time" in text]
    assert [text[21:29] for text in rejected] == ["2022_M07"] * 2


def test_a_period_after_every_month_finds_none(archive: Provider, place: Place) -> None:
    with pytest.raises(CatalogError, match=r"no usable S1RTC item in 2021-09-01.*7 outside the time"):
        open_cube(time="2021-09", catalog=archive, geobox=place.grid, modalities="S1RTC")
