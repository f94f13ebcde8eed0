from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from xglof.cube.coverage import coverage
from xglof.cube.flags import Flag, flag_attrs
from xglof.errors import CubeError
from xglof.plot import coverage as draw


def flagged(steps: int, sensors: str = "s2 s1") -> xr.Dataset:
    """Dates that see less and less, half of them without radar."""
    flags = np.zeros((steps, 10, 10), "uint16")
    for step in range(steps):
        flags[step, : step % 10] = Flag.cloud
        flags[step, 9, :3] = Flag.snow
        flags[step] |= np.uint16(Flag.s1_nodata if step % 2 else Flag.s1_unknown)
    coords = {
        "time": np.datetime64("2022-11-01", "ns") + np.arange(steps) * np.timedelta64(5, "D"),
        "orbit_state": ("time", ["ascending" if step % 4 else "descending" for step in range(steps)]),
        **{f"{name}_items": ("time", ["id"] * steps) for name in sensors.split()},
    }
    return xr.Dataset({"flags": (("time", "y", "x"), flags, flag_attrs())}, coords=coords)


def bars(ax) -> dict[str, list[tuple[float, float, float]]]:
    """Label of a stack's part -> middle, foot and height of its bars."""
    return {
        container.get_label(): [
            (bar.get_x() + bar.get_width() / 2, bar.get_y(), bar.get_height()) for bar in container
        ]
        for container in ax.containers
    }


def legend_texts(figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_bars_are_the_shares_stacked_up_to_one() -> None:
    cube = flagged(4)
    table = coverage(cube).compute()
    optical = bars(draw(table).axes[0])
    assert set(optical) == {"observed", "observed, snow", "cloud"}
    for place in range(4):
        parts = sorted((foot, high) for found in optical.values() for x, foot, high in found if x == place)
        feet, heights = zip(*parts, strict=True)
        np.testing.assert_allclose(feet, np.cumsum([0, *heights[:-1]]), atol=1e-12)
        assert sum(heights) == pytest.approx(1)
    np.testing.assert_allclose([high for *_, high in optical["cloud"]], table["sight_cloud"][1:])


def test_radar_has_a_row_coloured_by_orbit() -> None:
    figure = draw(flagged(4))
    radar = bars(figure.axes[1])
    assert radar == {
        "Sentinel-1, ascending": [(pytest.approx(2), 0, 1)],
        "Sentinel-1, descending": [(pytest.approx(0), 0, 1)],
    }
    (none,) = figure.axes[1].lines[:1]
    assert none.get_xdata().tolist() == [1, 3]
    assert "no Sentinel-1" in legend_texts(figure)


@pytest.mark.parametrize("sensors", ["s2", "s1"])
def test_one_sensor_is_one_row(sensors: str) -> None:
    assert len(draw(flagged(3, sensors)).axes) == 1


def drawn_texts(figure, texts):
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return [text.get_window_extent(canvas.get_renderer()) for text in texts if text.get_text()]


@pytest.mark.parametrize("steps", [1, 2, 7, 12, 70, 400])
def test_dates_are_readable_however_many(steps: int) -> None:
    figure = draw(flagged(steps))
    ax = figure.axes[-1]
    boxes = drawn_texts(figure, ax.get_xticklabels())
    assert len(boxes) >= min(steps, 30)
    assert all(one.x1 <= other.x0 for one, other in pairwise(boxes))
    assert ax.get_xticklabels()[0].get_text() == "2022-11-01"
    widths = [bar.get_window_extent().width for bar in figure.axes[0].patches]
    assert max(widths) < figure.bbox.width / 6  # one date is no slab
    inside = figure.bbox.padded(1)
    assert all(inside.x0 <= box.x0 and box.x1 <= inside.x1 and box.y0 >= inside.y0 for box in boxes)


def test_few_bars_have_their_share_written_on_them() -> None:
    texts = [text.get_text() for text in draw(flagged(3)).axes[0].texts]
    assert texts == ["100%", "90%", "80%"]
    assert not draw(flagged(13)).axes[0].texts


def test_a_line_stands_where_a_year_begins() -> None:
    figure = draw(flagged(20, "s2"))
    assert [line.get_xdata()[0] for line in figure.axes[0].lines] == [12.5]  # 2022-12-31 | 2023-01-05


def test_a_file_is_written(tmp_path: Path) -> None:
    path = tmp_path / "coverage.png"
    draw(flagged(5), path)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_a_table_of_no_sensor_is_refused() -> None:
    cube = flagged(2, "").assign(dem=(("y", "x"), np.zeros((10, 10))))
    with pytest.raises(CubeError, match="neither Sentinel-2 nor Sentinel-1"):
        draw(cube)
