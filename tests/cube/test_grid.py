from __future__ import annotations

import json
from pathlib import Path

import geopandas as gpd
import pytest
import shapely
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from xglof.cube.grid import READ_CELL_PX, area_of, grid_of, utm_of
from xglof.cube.pixel_grid import PixelGrid
from xglof.cube.planes import tiling
from xglof.errors import CubeError

BOX = shapely.box(86.4, 28.2, 86.5, 28.3)


def test_every_form_of_an_area_is_the_same_area(tmp_path: Path) -> None:
    feature = {"type": "Feature", "properties": {}, "geometry": shapely.geometry.mapping(BOX)}
    path = tmp_path / "aoi.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    frame = gpd.GeoSeries([BOX], crs="EPSG:4326")
    forms = [BOX, (86.4, 28.2, 86.5, 28.3), [86.4, 28.2, 86.5, 28.3], feature, path, str(path), frame]
    for form in [*forms, frame.to_frame("geometry")]:
        assert area_of(form).equals(BOX)
    projected = area_of(frame.to_crs("EPSG:32645"))
    assert projected.symmetric_difference(BOX).area < 1e-12


@pytest.mark.parametrize(
    ("aoi", "message"),
    [
        ((179.9, -17, -179.9, -16), "split|open one cube on each side"),
        ((0, 5, 1, 4), "south above its north"),
        ((0, 0, float("nan"), 1), "not finite"),
        (shapely.Polygon(), "empty"),
        (shapely.Point(1, 2), "empty"),
        (shapely.box(450000, 3e6, 460000, 3.1e6), "expected degrees"),
        (shapely.box(-179.5, 0, 179.5, 1), "antimeridian"),
        (gpd.GeoSeries([BOX]), "has no CRS"),
        ({"type": "Nonsense"}, "holds no geometry"),
        ({"type": "Feature", "geometry": None}, "has no geometry"),
        ("/nowhere/aoi.geojson", "cannot read"),
        (5, "int is not understood"),
        ((1, 2, 3), "tuple is not understood"),
    ],
)
def test_areas_that_cannot_be_used(aoi: object, message: str) -> None:
    with pytest.raises(CubeError, match=message):
        area_of(aoi)


def test_broken_geojson(tmp_path: Path) -> None:
    path = tmp_path / "aoi.geojson"
    for text in ("{", "[1]"):
        path.write_text(text)
        with pytest.raises(CubeError, match="is not GeoJSON"):
            area_of(path)


@pytest.mark.parametrize(
    ("lon", "lat", "code"), [(86.5, 28, 32645), (-70, -33, 32719), (0, 0, 32631), (179.99, 1, 32660)]
)
def test_utm_zone(lon: float, lat: float, code: int) -> None:
    assert utm_of(shapely.box(lon - 0.01, lat - 0.01, lon + 0.01, lat + 0.01)).to_epsg() == code


def test_utm_ends_at_the_poles() -> None:
    with pytest.raises(CubeError, match="pass crs="):
        utm_of(shapely.box(0, 85, 1, 86))


def test_grid_covers_a_bbox_along_its_parallels() -> None:
    grid = grid_of(shapely.box(84.1, 40, 89.9, 41), 1000, None)
    edges = shapely.segmentize(shapely.box(84.1, 40, 89.9, 41), 0.05)
    assert grid.footprint("EPSG:4326", npoints=400).geom.buffer(1e-3).contains(edges)


SIDES = st.integers(1, 3000)
ORIGINS = st.integers(-10_000, 10_000)


@given(ORIGINS, ORIGINS, SIDES, SIDES, st.sampled_from([1, -1]), st.sampled_from([10.0, 20.0, 0.0001]))
def test_cells_hold_the_grid_and_start_on_the_lattice(
    column: int, row: int, height: int, width: int, sense: int, size: float
) -> None:
    step = size * sense
    grid = GeoBox((height, width), Affine(size, 0, column * size, 0, step, row * step), "EPSG:32645")
    _, window = PixelGrid.of(grid)
    assert (window.top, window.left, window.shape) == (row, column, grid.shape)
    cells = window.cells(READ_CELL_PX)
    first, last = cells[0][0], cells[-1][-1]
    assert all(edge % READ_CELL_PX == 0 for edge in (first.top, first.left, last.bottom, last.right))
    assert first.top <= row < first.bottom
    assert last.left < column + width <= last.right
    whole = last.bottom - first.top, last.right - first.left
    assert max(whole) < max(height, width) + 2 * READ_CELL_PX
    blocks = tiling(window)
    assert sum(line[0].shape[0] for line in blocks) == height
    assert sum(block.shape[1] for block in blocks[0]) == width


@given(ORIGINS, st.floats(0, 0.998))
def test_two_cuts_of_one_grid_share_their_cells(first: int, phase: float) -> None:
    grid = GeoBox((700, 900), Affine(10, 0, (first + phase) * 10, 0, -10, 3e6 + phase * 10), "EPSG:32645")
    (whole_grid, whole), (part_grid, part) = PixelGrid.of(grid), PixelGrid.of(grid[40:660, 333:777])
    assert whole_grid == part_grid
    cells = {cell for row in whole.cells(READ_CELL_PX) for cell in row}
    assert {cell for row in part.cells(READ_CELL_PX) for cell in row} <= cells


def test_one_place_has_one_set_of_bits() -> None:
    grid = GeoBox.from_bbox((86.0, 28.0, 86.6, 28.4), crs="EPSG:4326", resolution=0.0001)

    def placed(part: GeoBox) -> GeoBox:
        lines, window = PixelGrid.of(part)
        return lines.geobox(window)

    assert placed(grid[2016:4000, 17:300]) == placed(grid[1000:, 10:][1016:3000, 7:290])
    assert placed(grid).transform.almost_equals(grid.transform, precision=1e-12)
