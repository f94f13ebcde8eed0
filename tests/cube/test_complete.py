from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords

from tiny_catalog import GRID, S2_NAMES, Written
from xglof.cube import open_cube
from xglof.cube.complete import complete
from xglof.cube.flags import Flag
from xglof.errors import CatalogError, CubeError


@pytest.fixture
def own(written: Written) -> xr.Dataset:
    """What a user brings: bands under an archive's names, no flags, nothing of the sun."""
    cube = open_cube(catalog=written.root, geobox=GRID, max_cloud_cover=50, modalities=["S2L2A"])
    bare = cube[[*S2_NAMES, "SCL"]].rename({"B02": "blue", "B08": "nir"}).assign_attrs(mine="yes")
    return bare.drop_vars([name for name in bare.coords if name not in ("time", "y", "x", "spatial_ref")])


def test_what_is_missing_is_added_on_the_own_grid(
    written: Written, own: xr.Dataset, no_compute: None
) -> None:
    full = complete(own, catalog=written.root)
    assert set(full.data_vars) == {*S2_NAMES, "SCL", "vv", "vh", "dem", "flags"}
    assert full.odc.geobox == GRID
    assert full.attrs["mine"] == "yes"
    np.testing.assert_array_equal(full.time, own.time)
    assert full.s1_items.values.tolist() == ["", "R-asc", "R-late"]
    assert full.vv.chunks == full.B02.chunks


def test_values_are_those_of_open_cube(written: Written, own: xr.Dataset) -> None:
    full = complete(own, catalog=written.root).compute()
    whole = open_cube(catalog=written.root, geobox=GRID, max_cloud_cover=50).compute()
    for name in ("vv", "vh", "dem", "B02", "B08", "SCL"):
        np.testing.assert_array_equal(full[name], whole[name], err_msg=name)
    # the sun is unknown here, so that its shadow and its height cannot be told
    unknown = Flag.terrain_shadow | Flag.low_sun
    np.testing.assert_array_equal(full.flags & ~unknown, whole.flags & ~unknown)


def test_own_flags_are_kept(written: Written, own: xr.Dataset) -> None:
    mark = xr.full_like(own.blue, 0, dtype=np.uint16).rename("flags")
    mark = xr.where(own.time == own.time[0], np.uint16(Flag.cloud), mark).transpose("time", "y", "x")
    full = complete(own.assign(flags=mark), catalog=written.root, modalities=["DEM"]).compute()
    assert ((full.flags[0] & Flag.cloud) > 0).all()
    assert not ((full.flags[1] & Flag.cloud) > 0).all()


def test_a_geographic_grid_with_names_of_its_own(written: Written) -> None:
    grid = GeoBox.from_bbox((86.415, 28.245, 86.425, 28.252), "EPSG:4326", resolution=0.0001)
    coords = {
        {"latitude": "lat", "longitude": "lon"}.get(str(name), name): coord.rename(
            {d: {"latitude": "lat", "longitude": "lon"}[d] for d in coord.dims}
        )
        for name, coord in xr_coords(grid).items()
    }
    times = np.array(["2022-07-10T04:50:12.345678"], "datetime64[ns]")
    mine = xr.Dataset(
        {"mask": (("time", "lat", "lon"), np.ones((1, *grid.shape), np.uint8))}, coords | {"time": times}
    )
    full = complete(mine, catalog=written.root, modalities=["S2L2A", "DEM"])
    assert full.B02.dims == ("time", "lat", "lon")
    np.testing.assert_array_equal(full.time, mine.time)
    reference = open_cube(catalog=written.root, geobox=grid, time="2022-07-10", modalities=["S2L2A", "DEM"])
    np.testing.assert_array_equal(full.B02, reference.B02)
    np.testing.assert_array_equal(full.dem, reference.dem)


def test_a_cube_without_time_takes_the_archives(written: Written) -> None:
    dem = open_cube(catalog=written.root, geobox=GRID, modalities=["DEM"])
    with pytest.raises(CubeError, match="no time to add S2L2A, S1RTC at; say when"):
        complete(dem, catalog=written.root)
    full = complete(dem, catalog=written.root, time="2022", modalities=["S1RTC"])
    assert full.s1_items.values.tolist() == ["R-desc", "R-asc", "R-late"]
    assert full.dem.dims == ("y", "x")


@pytest.mark.parametrize(
    ("change", "arguments", "error", "message"),
    [
        (lambda c: c.drop_vars("spatial_ref"), {}, CubeError, "no CRS"),
        (lambda c: c, {"modalities": ["S2L2A"]}, CubeError, "the cube has B01, B02, .* of S2L2A already"),
        (lambda c: c[["blue"]], {"modalities": ["S2L2A"]}, CubeError, "the cube has B02 of S2L2A already"),
        (lambda c: c.assign_coords(time=[1, 2, 3]), {}, CubeError, "expected datetime64"),
        (lambda c: c, {"max_gap_days": -1}, CubeError, "max_gap_days is -1"),
        (lambda c: c, {"time": "1999"}, CatalogError, "no usable S1RTC item"),
    ],
)
def test_what_cannot_be_completed(
    written: Written, own: xr.Dataset, change: Any, arguments: dict[str, Any], error: type, message: str
) -> None:
    with pytest.raises(error, match=message):
        complete(change(own), catalog=written.root, **arguments)


def test_nothing_missing_is_said(written: Written) -> None:
    whole = open_cube(catalog=written.root, geobox=GRID, max_cloud_cover=50)
    with pytest.raises(CubeError, match="nothing is missing"):
        complete(whole, catalog=written.root)


def test_clouds_of_a_cube_with_few_bands_stay_clouds(written: Written, own: xr.Dataset) -> None:
    """Two bands and the classification are enough to tell cloud and missing data."""
    few = own[["B03", "nir", "SCL"]]
    full = complete(few, catalog=written.root).compute()
    whole = open_cube(catalog=written.root, geobox=GRID, max_cloud_cover=50).compute()
    assert set(full.data_vars) == {"B03", "B08", "SCL", "vv", "vh", "dem", "flags"}
    for flag in (Flag.cloud, Flag.cloud_shadow):
        np.testing.assert_array_equal(full.flags & flag, whole.flags & flag, err_msg=str(flag.name))
    missing = (few.B03 == 0) | (few.nir == 0) | few.SCL.isin([0, 1])
    np.testing.assert_array_equal((full.flags & Flag.s2_nodata) > 0, missing)
    assert full.flags.dims == ("time", "y", "x")
    only_dem = complete(few, catalog=written.root, modalities=["DEM"]).compute()
    np.testing.assert_array_equal(only_dem.flags & Flag.cloud, whole.flags & Flag.cloud)


def test_missing_data_of_floats_is_seen(written: Written, own: xr.Dataset) -> None:
    """odc.stac.load gives floats where the items state no type."""
    floats = own.drop_vars("SCL").astype("float32").where(own.blue > 0)
    full = complete(floats, catalog=written.root, modalities=["DEM"]).compute()
    missing = (np.isnan(floats) | (floats == 0)).to_dataarray().any("variable")
    np.testing.assert_array_equal((full.flags & Flag.s2_nodata) > 0, missing)
    assert not ((full.flags & (Flag.snow | Flag.ice)) > 0).any()  # of unknown units nothing is told


def test_moments_with_nanoseconds_are_kept(written: Written, own: xr.Dataset) -> None:
    exact = own.assign_coords(time=own.time + np.timedelta64(123, "ns"))
    full = complete(exact, catalog=written.root)
    np.testing.assert_array_equal(full.time, exact.time)
