from __future__ import annotations

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling
from rasterio.warp import reproject

from xglof.cube.pixel_grid import PixelGrid, Window, clean_step
from xglof.cube.resample import halo_px, resample

TEN = PixelGrid.of(GeoBox((10, 10), Affine(10, 0, 600000, 0, -10, 3100000), "EPSG:32645"))[0]


def _coarser(factor: int) -> PixelGrid:
    return PixelGrid.of(
        GeoBox((4, 4), Affine(10 * factor, 0, 600000, 0, -10 * factor, 3100020), "EPSG:32645")
    )[0]


def _field(window: Window, seed: int = 1) -> np.ndarray:
    """Digital numbers that depend on the place alone, with holes."""
    rows, columns = np.mgrid[window.top : window.bottom, window.left : window.right]
    mixed = (rows * 7919 + columns * 104729 + seed * 13) % 10007
    return np.where(mixed % 11 == 0, 0, mixed).astype(np.uint16)


def _naive(
    field: np.ndarray, held: Window, wanted: Window, shift: tuple[int, int], factor: int
) -> np.ndarray:
    """Bilinear with exact fractions, pixel by pixel: missing neighbours out, missing own pixel nodata."""
    from fractions import Fraction

    out = np.zeros(wanted.shape, np.uint16)
    for i in range(wanted.shape[0]):
        for j in range(wanted.shape[1]):
            y, x = wanted.top + i - shift[0], wanted.left + j - shift[1]
            if field[y // factor - held.top, x // factor - held.left] == 0:
                continue
            total, share = Fraction(0), Fraction(0)
            py, px = (
                Fraction(2 * y + 1, 2 * factor) - Fraction(1, 2),
                Fraction(2 * x + 1, 2 * factor) - Fraction(1, 2),
            )
            for r in (py.__floor__(), py.__floor__() + 1):
                for c in (px.__floor__(), px.__floor__() + 1):
                    value = int(field[r - held.top, c - held.left])
                    weight = (1 - abs(py - r)) * (1 - abs(px - c))
                    if value and weight:
                        total += weight * value
                        share += weight
            out[i, j] = round(total / share)  # Python rounds halves to even
    return out


@pytest.mark.parametrize("factor", [2, 3, 6])
def test_finer_grids_are_interpolated_exactly(factor: int) -> None:
    source = _coarser(factor)
    assert source.refinement(TEN) == factor
    shift = source.shift(TEN, factor)
    wanted = Window(-310000 - 7, -310000 + 12, 60000 - 5, 60000 + 14)
    held = source.covering(TEN, wanted, halo_px(source, TEN))
    field = _field(held)
    got = resample(field, source, held, TEN, wanted, nodata=0, how="bilinear")
    np.testing.assert_array_equal(got, _naive(field, held, wanted, shift, factor))


@settings(max_examples=40, deadline=None)
@given(
    factor=st.sampled_from([1, 2, 6]),
    top=st.integers(-310020, -310000),
    left=st.integers(59990, 60010),
    height=st.integers(1, 30),
    width=st.integers(1, 30),
    how=st.sampled_from(["nearest", "bilinear"]),
)
def test_no_cut_changes_a_bit(factor: int, top: int, left: int, height: int, width: int, how: str) -> None:
    source = _coarser(factor)
    big = Window(-310030, -309950, 59980, 60060)
    whole_held = source.covering(TEN, big, halo_px(source, TEN))
    whole = resample(_field(whole_held), source, whole_held, TEN, big, nodata=0, how=how)
    part = Window(top, top + height, left, left + width)
    held = source.covering(TEN, part, halo_px(source, TEN))
    got = resample(_field(held), source, held, TEN, part, nodata=0, how=how)
    np.testing.assert_array_equal(got, whole[part.within(big)])


@pytest.mark.parametrize("how", ["nearest", "bilinear", "cubic"])
@pytest.mark.parametrize("geographic", [False, True])
def test_warped_pieces_equal_the_whole(how: str, geographic: bool) -> None:
    if geographic:
        box = GeoBox.from_bbox((86.9, 27.8, 87.1, 28.0), "EPSG:4326", resolution=1 / 3600)
    else:
        box = GeoBox((900, 900), Affine(10, 0, 490003.3, 0, -10, 3099996.1), "EPSG:32645")
    source, held = PixelGrid.of(box)
    target, _ = PixelGrid.of(GeoBox((1, 1), Affine(10, 0, 0, 0, -10, 0), "EPSG:32645"))
    rows, columns = np.mgrid[: held.shape[0], : held.shape[1]]
    field = (np.sin(rows / 9) * 400 + np.cos(columns / 5) * 300 + 4000).astype(np.float32)
    field[100:110, 200:205] = np.nan
    middle = target.covering(source, held, -40 if geographic else 0)
    whole = Window(middle.top + 150, middle.bottom - 150, middle.left + 150, middle.right - 150)
    expected = resample(field, source, held, target, whole, nodata=np.nan, how=how)
    assert np.isfinite(expected).mean() > 0.95
    part = Window(whole.top + 37, whole.top + 251, whole.left + 91, whole.left + 340)
    needed = source.covering(target, part, halo_px(source, target))
    cut = (needed & held).within(held)
    got = resample(field[cut], source, needed & held, target, part, nodata=np.nan, how=how)
    np.testing.assert_array_equal(got, expected[part.within(whole)])


def test_warping_follows_gdal() -> None:
    """Away from the cells' edges the values are those of one call of the warper."""
    source, held = PixelGrid.of(GeoBox.from_bbox((86.9, 27.8, 87.0, 27.9), "EPSG:4326", resolution=1 / 3600))
    target, _ = PixelGrid.of(GeoBox((1, 1), Affine(10, 0, 0, 0, -10, 0), "EPSG:32645"))
    rows, columns = np.mgrid[: held.shape[0], : held.shape[1]]
    field = (3 * rows + 2 * columns).astype(np.float32)
    whole = target.covering(source, held, 0)
    whole = Window(whole.top + 40, whole.bottom - 40, whole.left + 40, whole.right - 40)
    got = resample(field, source, held, target, whole, nodata=np.nan, how="bilinear")
    reference = np.full(whole.shape, np.nan, np.float32)
    reproject(
        field, reference, src_transform=source.affine(held), src_crs="EPSG:4326", src_nodata=np.nan,
        dst_transform=target.affine(whole), dst_crs="EPSG:32645", dst_nodata=np.nan,
        resampling=Resampling.bilinear, tolerance=0,
    )  # fmt: skip
    assert np.nanmax(np.abs(got - reference)) < 0.5  # metres on a slope of 3 m a pixel, GDAL's tolerance
    np.testing.assert_array_equal(np.isnan(got), np.isnan(reference))


def test_steps_written_as_text_are_one_grid() -> None:
    exact = GeoBox((3, 3), Affine(1 / 3600, 0, 86 - 0.5 / 3600, 0, -1 / 3600, 28 + 0.5 / 3600), "EPSG:4326")
    rounded = GeoBox(
        (3, 3), Affine(0.000277777777778, 0, 85.9998611111, 0, -0.000277777777778, 28.0001388889), "EPSG:4326"
    )
    assert PixelGrid.of(exact) == PixelGrid.of(rounded)
    assert clean_step(60.0) == 60.0


def test_grids_that_do_not_fit() -> None:
    shifted = PixelGrid.of(GeoBox((4, 4), Affine(20, 0, 600004, 0, -20, 3100020), "EPSG:32645"))[0]
    other_zone = PixelGrid.of(GeoBox((4, 4), Affine(20, 0, 600000, 0, -20, 3100020), "EPSG:32644"))[0]
    south_up = PixelGrid.of(GeoBox((4, 4), Affine(20, 0, 600000, 0, 20, 3100020), "EPSG:32645"))[0]
    for grid in (shifted, other_zone, south_up):
        assert grid.refinement(TEN) is None
    assert TEN.refinement(_coarser(2)) is None  # from fine to coarse there is no exact way


def test_a_south_up_file_is_turned() -> None:
    box = GeoBox((60, 60), Affine(10, 0, 600000, 0, 10, 3099400), "EPSG:32645")
    source, held = PixelGrid.of(box)
    rows, columns = np.mgrid[:60, :60]
    field = (100 + rows + 200 * columns).astype(np.float32)
    wanted = Window(-310000 + 5, -310000 + 50, 60005, 60050)
    got = resample(field, source, held, TEN, wanted, nodata=np.nan, how="nearest")
    np.testing.assert_array_equal(got, field[::-1][5:50, 5:50])
