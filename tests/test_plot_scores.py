from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from xglof.errors import CubeError
from xglof.evaluate import histogram_counts, reliability, sweep_counts
from xglof.plot.scores import reliability_diagram, sweep_curves


def sample(size: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that say too little, and the truth."""
    rng = np.random.default_rng(0)
    probability = rng.random(size, dtype="float32")
    return probability, (rng.random(size) < probability**0.5).astype("uint8")


def calibration(groups: int = 10) -> xr.Dataset:
    probability, label = sample()
    counts = histogram_counts(probability, label)
    sums = np.zeros_like(counts)
    place = np.minimum((probability * 1000).astype(int), 1000)
    np.add.at(sums, (label, place), np.rint(probability * 2.0**24).astype(int))
    table = {"pixels": counts, "probability_sum": sums}
    return reliability(xr.Dataset({n: (("truth", "bin"), v) for n, v in table.items()}), groups=groups)


def test_curves_are_the_scores_and_the_best_one_is_marked() -> None:
    table = sweep_counts(histogram_counts(*sample()))
    ax = sweep_curves(table, used=0.5, title="valley").axes[0]
    drawn = {line.get_label(): line.get_ydata() for line in ax.lines}
    for name, label in {"iou": "IoU", "f1": "F1", "precision": "precision", "recall": "recall"}.items():
        np.testing.assert_array_equal(drawn[label], table[name])
    marks = [(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in ax.lines[-2:]]
    best = int(table["iou"].argmax("threshold"))
    assert marks[0] == (float(table["threshold"][best]), float(table["iou"][best]))
    assert marks[1] == (0.5, float(table["iou"].sel(threshold=0.5)))
    words = ax.texts[0].get_text()
    assert f"best IoU {marks[0][1]:.3f}" in words
    assert f"map: IoU {marks[1][1]:.3f} at 0.5" in words
    shaded = ax.patches[0].get_extents().transformed(ax.transData.inverted())
    near = table["threshold"][(table["iou"] >= table["iou"].max() - 0.005).values]
    assert (shaded.x0, shaded.x1) == pytest.approx((float(near.min()), float(near.max())))


def test_points_are_the_shares_and_bars_the_pixels() -> None:
    table = calibration()
    upper, lower = reliability_diagram(table).axes
    points = upper.lines[-1]
    np.testing.assert_array_equal(points.get_xdata(), table["mean_probability"])
    np.testing.assert_array_equal(points.get_ydata(), table["lake_share"])
    for bars, name in zip(lower.containers, ("pixels", "lake_pixels"), strict=True):
        assert [bar.get_height() for bar in bars] == table[name].values.tolist()
    assert f"{float(table['ece']):.4f}" in upper.texts[0].get_text()


def test_maps_without_a_lake_are_drawn_too(tmp_path: Path) -> None:
    blind = histogram_counts(np.zeros(0, "float32"), np.zeros(0, "uint8"))
    figure = sweep_curves(sweep_counts(blind), tmp_path / "sweep.png")
    assert "no lake" in figure.axes[0].texts[0].get_text()
    table = calibration()
    nothing = table.assign({name: 0 * table[name] for name in ("pixels", "lake_pixels")})
    reliability_diagram(nothing, tmp_path / "reliability.png")
    assert all((tmp_path / name).stat().st_size > 5000 for name in ("sweep.png", "reliability.png"))


def test_pictures_of_scores_are_public() -> None:
    import xglof.plot

    for name in ("audit_sheet", "reliability_diagram", "sweep_curves"):
        assert name in xglof.plot.__all__
        assert callable(getattr(xglof.plot, name))


def test_tables_of_several_maps_are_refused() -> None:
    several = sweep_counts(np.stack([histogram_counts(*sample())] * 2))
    with pytest.raises(CubeError, match="pool the rest"):
        sweep_curves(several)
    with pytest.raises(CubeError, match="pool the rest"):
        reliability_diagram(calibration().expand_dims(time=2))
