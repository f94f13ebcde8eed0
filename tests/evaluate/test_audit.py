"""The label audit over cubes: what it finds, what it does not, and that it is the same for any chunks."""

from __future__ import annotations

import functools

import dask
import numpy as np
import pytest
import xarray as xr
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from odc.geo.xr import wrap_xr

from audited_valley import SIZE, Scene, box, cloud, mislabelled, scene
from xglof.errors import CubeError
from xglof.evaluate.audit import audit_counts, audit_labels
from xglof.evaluate.audit_rule import COUNTS, OUTCOMES, AuditRule, ChipView, count_chips, marked
from xglof.evaluate.audited import Audit
from xglof.evaluate.scores import score


def audit(given_scene: Scene, **options):
    return audit_labels(given_scene.cube, given_scene.seg, given_scene.label, **{"size": SIZE} | options)


def test_planted_mislabels_are_found_and_nothing_else():
    found = audit(mislabelled())
    assert len(found.chips) == 4
    table = found.candidates
    assert table[["chip", "direction", "px", "area_m2"]].to_numpy().tolist() == [
        ["2023-07-01 r-9700 c1601", "commission", 192, pytest.approx(19_200, rel=2e-3)],
        ["2023-07-01 r-9700 c1600", "omission", 180, pytest.approx(18_000, rel=2e-3)],
    ]
    assert table["label_px"].tolist() == [192, 0]
    assert table["model_px"].tolist() == [0, 180]
    assert table[["iou_raw", "iou_corrected"]].fillna(-1).to_numpy().tolist() == [[0, -1], [0, 1]]
    assert set(table["verdict"]) == {""}


def test_corrected_scores_stand_beside_raw_ones_with_both_counts():
    given_scene = mislabelled()
    table = audit(given_scene).scores()
    assert table.index.tolist() == ["raw", "corrected", "left out"]
    raw = score(given_scene.seg, given_scene.label, threshold=0.5)
    for name in (*OUTCOMES, "iou", "f1", "precision", "recall"):
        assert table.loc["raw", name] == pytest.approx(float(raw[name]))
    shift = {"tp": 180, "fp": -180, "fn": -192, "tn": 192}
    assert all(table.loc["corrected", name] - table.loc["raw", name] == by for name, by in shift.items())
    changed = table[["omission_chips", "omission_px", "commission_chips", "commission_px"]]
    assert changed.to_numpy().tolist() == [[0, 0, 0, 0], [1, 180, 1, 192], [1, 180, 1, 192]]
    two = given_scene.isel(y=slice(SIZE, None))  # the squares without candidates
    rest = score(two.seg, two.label, threshold=0.5)
    assert table.loc["left out", list(OUTCOMES)].tolist() == [int(rest[name]) for name in OUTCOMES]


def test_no_text_shows_a_corrected_score_without_the_raw_one():
    found = audit(mislabelled())
    lines = str(found).splitlines()
    scores = found.scores()
    at = [number for number, line in enumerate(lines) if line.startswith(("raw", "corrected", "left out"))]
    assert at == [at[0], at[0] + 1, at[0] + 2]
    assert f"{scores.loc['raw', 'iou']:.4f}" in lines[at[0]]
    assert f"{scores.loc['corrected', 'iou']:.4f}" in lines[at[1]]
    assert found.rule.digest[:12] in lines[0]
    assert "all 4 chips" in lines[0]
    assert "omission (a lake that the label has not): 1 chips; commission" in lines[1]
    assert {"iou_raw", "iou_corrected"} <= set(found.candidates)


def test_what_speaks_against_label_and_model_together_is_shown():
    shape = (SIZE, 2 * SIZE)
    dry, missed = box(shape, (4, 10), (4, 10)), box(shape, (20, 30), (SIZE + 4, SIZE + 14))
    omitted = box(shape, (4, 16), (SIZE + 4, SIZE + 16))
    found = audit(scene(missed | omitted, dry, np.where(dry | omitted, 0.9, 0.1)))
    table = found.scores()
    told = ["tp_land_chips", "tp_land_px", "tn_water_chips", "tn_water_px"]
    assert table[told].to_numpy().tolist() == [[1, 36, 1, 100]] * 2 + [[1, 36, 0, 0]]
    assert table.loc["corrected", "iou"] > table.loc["raw", "iou"]
    said = str(found)
    assert "lake that it calls land, 36 px in 1 chips (tp_land)" in said
    assert "land that it calls water, 100 px in 1 chips (tn_water)" in said
    assert "the most that this rule can add" in said


def test_a_model_that_is_wrong_gets_no_help():
    """MNDWI sides with the label: the disagreement is the model's."""
    shape = (SIZE, SIZE)
    lake, other = box(shape, (4, 16), (4, 16)), box(shape, (18, 30), (18, 30))
    table = audit(scene(lake, lake, np.where(other, 0.9, 0.1)))
    assert table.candidates.empty
    assert table.scores().loc["corrected"].equals(table.scores().loc["raw"])
    assert table.chips[["fn_water", "fp_land"]].to_numpy().tolist() == [[144, 144]]


@pytest.mark.parametrize("side", [4, 5])
def test_strips_narrower_than_the_rule_are_outlines(side):
    shape = (SIZE, SIZE)
    strip = box(shape, (2, 2 + side), (1, 31))
    found = audit(scene(strip, np.zeros(shape), np.where(strip, 1.0, 0.0)))
    assert len(found.candidates) == (side == 5)
    assert found.chips["fp_water"].tolist() == [30 * side]


@pytest.mark.parametrize("width", [7, 8])
def test_less_than_the_least_area_is_no_candidate(width):
    shape = (SIZE, SIZE)
    pond = box(shape, (2, 9), (1, 1 + width))
    found = audit(scene(pond, np.zeros(shape), np.where(pond, 1.0, 0.0)))
    assert found.chips["omission"].tolist() == [7 * width]  # 0.49 and 0.56 ha
    assert len(found.candidates) == (width == 8)


def test_where_the_index_can_tell_nothing_it_tells_nothing():
    shape = (SIZE, SIZE)
    lake = box(shape, (4, 16), (4, 16))
    planted = scene(lake, np.zeros(shape), np.where(lake, 1.0, 0.0))
    unclear = {
        "cloud": Scene(cloud(planted.cube, lake), planted.seg, planted.label),
        "no data": Scene(planted.cube.assign(B11=planted.cube["B11"] * 0), planted.seg, planted.label),
        "shadow": Scene(planted.cube // 10, planted.seg, planted.label),
        "snow": scene(lake, np.zeros(shape), np.where(lake, 1.0, 0.0), snow=lake),
    }
    assert len(audit(planted).candidates) == 1
    for name, each in unclear.items():
        each = Scene(each.cube.assign(flags=each.cube["flags"] * (name == "cloud")), each.seg, each.label)
        found = audit(each)
        assert found.candidates.empty, name
        assert found.chips["fp_unclear"].tolist() == [144], name
    snow = unclear["snow"]
    assert len(audit(snow, rule=AuditRule(nir_most=None)).candidates) == 1  # the published index alone


def test_what_is_not_labelled_or_not_observed_counts_nowhere():
    shape = (SIZE, 2 * SIZE)
    lake = box(shape, (4, 16), (4, 16))
    label = np.where(box(shape, (0, 32), (0, 32)), 255, 0)
    found = audit(scene(lake, label, np.where(lake, 1.0, 0.1)))
    assert found.chips["chip"].tolist() == ["2023-07-01 r-9700 c1601"]
    model = np.where(lake, np.nan, 0.1)
    assert audit(scene(lake, np.zeros(shape), model)).chips[[*COUNTS[:12]]].sum().sum() == 32 * 64 - 144


def brute(view: ChipView, rule: AuditRule, width: int) -> dict[str, int]:
    """The rule, a pixel at a time."""
    counts = dict.fromkeys(COUNTS, 0)
    height, columns = view.label.shape
    marks = {name: np.zeros(view.label.shape, bool) for name in ("omission", "commission")}
    for y in range(height):
        for x in range(columns):
            green, short, near = (float(view.bands[name][y, x]) for name in ("B03", "B11", "B08"))
            vote = "unclear"
            forbidden = sum(1 << bit for bit in (0, 1, 2, 3, 4, 5, 6, 11))
            if green and short and green >= 150 and not int(view.flags[y, x]) & forbidden:
                index = (green - short) / (green + short)
                if index > 0 and 0 < near <= 1100:
                    vote = "water"
                elif index <= 0:
                    vote = "land"
            label, probability = int(view.label[y, x]), float(view.probability[y, x])
            if label == 255 or np.isnan(probability):
                continue
            wet = probability >= 0.5
            counts[f"{'tp' if label and wet else 'fp' if wet else 'fn' if label else 'tn'}_{vote}"] += 1
            marks["omission"][y, x] = wet and not label and vote == "water"
            marks["commission"][y, x] = label and not wet and vote == "land"
    for name, mark in marks.items():
        filled = np.zeros_like(mark)
        for y in range(height - width + 1):
            for x in range(columns - width + 1):
                if mark[y : y + width, x : x + width].all():
                    filled[y : y + width, x : x + width] = True
        counts[name] = int(filled.sum())
    return counts


@given(seed=st.integers(0, 10_000), width=st.integers(1, 3), side=st.integers(1, 9))
@settings(max_examples=25, deadline=None)
def test_counts_equal_those_of_a_pixel_at_a_time(seed, width, side):
    rng = np.random.default_rng(seed)
    shape = (2, side, side + 2)
    view = ChipView(
        label=rng.choice([0, 0, 0, 1, 255], shape).astype("uint8"),
        probability=rng.choice([0.0, 0.5, 0.8, 0.8, np.nan], shape).astype("float32"),
        bands={name: rng.choice([0, 100, 149, 150, 900, 900, 1100, 1101], shape).astype("uint16") for name in
               ("B03", "B11", "B08")},
        flags=rng.choice([0, 0, 0, 0, 2, 1 << 7, 1 << 11], shape).astype("uint16"),
    )  # fmt: skip
    rule = AuditRule(width_m=10 * width)
    found = count_chips(view, rule, 10.0)
    for number in range(2):
        bands = {name: band[number] for name, band in view.bands.items()}
        one = ChipView(view.label[number], view.probability[number], bands, view.flags[number])
        assert dict(zip(COUNTS, found[number].tolist(), strict=True)) == brute(one, rule, width)
        alone = marked(one, rule, 10.0)
        assert [alone[name].sum() for name in alone] == found[number, -2:].tolist()


def noisy() -> Scene:
    """Two dates of chance, over squares that the raster's edges cut."""
    rng = np.random.default_rng(0)
    shape = (45, 70)
    made = scene(rng.random(shape) < 0.5, np.zeros(shape), np.zeros(shape), times=2)
    coarse = np.kron(rng.random((2, 9, 14)), np.ones((1, 5, 5)))
    probability = made.seg["lake_probability"].copy(data=coarse.astype("float32"))
    water = rng.random((2, *shape)) < 0.9
    bands = {name: made.cube[name].where(water, 1234).astype("uint16") for name in ("B03", "B11", "B08")}
    cube = made.cube.assign({"B11": bands["B11"] // 12, "B08": bands["B08"] // 9})
    label = made.label["lake"].copy(data=rng.choice([0, 0, 0, 1, 255], (2, 45, 70)).astype("uint8"))
    return Scene(cube, xr.Dataset({"lake_probability": probability}), label.to_dataset(name="lake"))


NOISY = noisy()
RULE = AuditRule(width_m=20, area_m2=2000)


@functools.cache
def whole() -> Audit:
    return audit(NOISY, size=16, rule=RULE)


@given(
    rows=st.sampled_from([7, 16, 21, 45]),
    cols=st.sampled_from([9, 32, 70]),
    times=st.integers(1, 2),
    others=st.sampled_from([15, 16, 60]),
)
@settings(max_examples=8, deadline=None)
def test_the_same_comes_out_for_any_chunks(rows, cols, times, others):
    cube = NOISY.cube.chunk({"time": 1, "y": others, "x": others})
    seg = NOISY.seg.chunk({"time": times, "y": rows, "x": cols})
    with dask.config.set(scheduler="sync"):
        again = audit_labels(cube, seg, NOISY.label, rule=RULE, size=16)
    assert again.chips.equals(whole().chips)
    assert again.candidates.equals(whole().candidates)


def test_the_noise_has_something_to_find():
    assert len(whole().candidates) > 5
    assert whole().chips["omission"].sum() > 100
    assert len(whole().chips) == 2 * 3 * 5


def test_squares_lie_on_the_absolute_lattice():
    part = NOISY.isel(y=slice(16, 45), x=slice(32, 70))
    again = audit(part, size=16, rule=RULE)
    names = set(again.chips["chip"])
    ours = whole().chips[whole().chips["chip"].isin(names)].reset_index(drop=True)
    assert len(ours) == len(again.chips)
    told = again.chips.drop(columns="pixel_m")
    assert told.equals(ours.drop(columns="pixel_m"))  # which is that of the middle of each grid
    assert again.chips["pixel_m"].tolist() == pytest.approx(ours["pixel_m"], rel=1e-6)


@pytest.mark.parametrize(
    ("crs", "corner", "step", "ground"),
    [
        ("EPSG:3857", (8_571_600, 5_621_500), 10, 7.1),  # at 45 N, where it stretches lengths by 1.41
        ("EPSG:2263", (985_000, 208_000), 32.8084, 10.0),  # feet
        ("EPSG:4326", (77.0, 60.0), 1e-4, np.sqrt(5.58 * 11.14)),
    ],
)
def test_a_pixel_is_as_wide_as_it_is_on_the_ground(crs, corner, step, ground):
    grid = GeoBox((SIZE, SIZE), Affine(step, 0, corner[0], 0, -step, corner[1]), crs)
    made = mislabelled().isel(y=slice(0, SIZE), x=slice(0, SIZE), time=0)

    def on_grid(layers) -> xr.Dataset:
        return xr.Dataset({name: wrap_xr(layer.values, grid) for name, layer in layers.items()})

    cube, seg, label = map(on_grid, (made.cube.drop_vars("flags"), made.seg, made.label))
    rule = AuditRule(width_m=4.6 * ground)
    (chip,) = audit_labels(cube, seg, label, size=10_000, rule=rule).chips.to_dict("records")
    assert chip["pixel_m"] == pytest.approx(ground, rel=5e-3)
    assert rule.width_px(chip["pixel_m"]) == 5
    assert chip["omission"] == 180


def test_a_view_is_what_was_counted():
    lazy = NOISY.chunk({"time": 1, "y": 20, "x": 33})
    found = audit_labels(lazy.cube, lazy.seg, lazy.label, rule=RULE, size=16)
    for row in (0, 7, 29):
        view = found.view(row)
        bands = {name: band[np.newaxis] for name, band in view.bands.items()}
        stacked = ChipView(
            view.label[np.newaxis], view.probability[np.newaxis], bands, view.flags[np.newaxis]
        )
        assert count_chips(stacked, RULE, 10.0)[0].tolist() == whole().chips.loc[row, list(COUNTS)].tolist()
        assert {"B02", "B04"} <= set(view.bands)


def test_turned_axes_and_aliases_and_a_label_without_dates():
    given_scene = mislabelled()
    turned = (
        given_scene.cube.isel(y=slice(None, None, -1))
        .transpose("x", "time", "y")
        .rename(B03="green", B11="swir16")
    )
    label = given_scene.label.isel(time=0, drop=True).astype(bool)
    again = audit_labels(turned, given_scene.seg, label, size=SIZE)
    assert again.chips.equals(audit(given_scene).chips)


def test_maps_without_time_are_audited():
    given_scene = mislabelled()
    one = [each.isel(time=0, drop=True) for each in (given_scene.cube, given_scene.seg, given_scene.label)]
    found = audit_labels(*one, size=SIZE)
    assert found.chips["chip"].tolist()[0] == "r-9700 c1600"
    assert found.chips["time"].isna().all()
    assert found.candidates["px"].tolist() == [192, 180]


@pytest.mark.usefixtures("no_compute")
def test_counts_are_lazy():
    given_scene = NOISY.chunk({"time": 1, "y": 20, "x": 33})
    counts = audit_counts(given_scene.cube, given_scene.seg, given_scene.label, size=16)
    assert list(counts) == list(COUNTS)
    assert all(each.chunks is not None for each in counts.values())
    assert counts["omission"].sizes == {"time": 2, "y": 3, "x": 5}


def test_a_review_corrects_what_a_person_found_wrong():
    found = audit(mislabelled())
    review = found.candidates
    review.loc[review["direction"] == "omission", "verdict"] = "label wrong"
    review.loc[review["direction"] == "commission", "verdict"] = "model wrong"
    table = found.scores(review)
    assert table.index.tolist() == ["raw", "corrected", "left out", "reviewed"]
    changed = table.loc["reviewed", ["omission_chips", "omission_px", "commission_chips", "commission_px"]]
    assert changed.tolist() == [1, 180, 0, 0]
    assert table.loc["reviewed", "tp"] == table.loc["raw", "tp"] + 180
    assert table.loc["reviewed", "fn"] == table.loc["raw", "fn"]
    with pytest.raises(CubeError, match="not the 2 candidates"):
        found.scores(review.iloc[:1])
    with pytest.raises(CubeError, match="no verdict"):
        found.scores(review.drop(columns="verdict"))
    with pytest.raises(CubeError, match="a verdict is 'yes'"):
        found.scores(review.assign(verdict="yes"))


def test_the_rule_is_fixed_by_its_digest():
    assert AuditRule().digest == AuditRule(unclear_when=list(AuditRule().unclear_when)).digest
    other = [AuditRule(width_m=60), AuditRule(nir_most=None), AuditRule(unclear_when=("cloud",))]
    assert len({rule.digest for rule in (AuditRule(), *other)}) == 4
    counts = audit_counts(NOISY.cube, NOISY.seg, NOISY.label, size=16)
    assert counts["omission"].attrs["rule"] == AuditRule().digest


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"threshold": 0}, "threshold is 0"),
        ({"land_up_to": 0.2, "water_above": 0.1}, "land no higher than water"),
        ({"width_m": -1}, "width_m is -1"),
        ({"nir_most": float("nan")}, "nir_most is nan"),
        ({"unclear_when": ("fog",)}, "no such flag: fog"),
    ],
)
def test_rules_that_mean_nothing_are_refused(changes, message):
    with pytest.raises(CubeError, match=message):
        AuditRule(**changes)


def test_what_cannot_be_audited_is_refused_before_anything_is_read():
    cube, seg, label = NOISY.cube, NOISY.seg, NOISY.label
    with pytest.raises(CubeError, match=r"needs B11, and the cube has only .*load Sentinel-2$"):
        audit_counts(cube.drop_vars("B11"), seg, label)
    with pytest.raises(CubeError, match="nir_most=None"):
        audit_counts(cube.drop_vars("B08"), seg, label)
    with pytest.raises(CubeError, match="another grid than the segmentation"):
        audit_counts(cube.isel(x=slice(1, None)), seg, label)
    with pytest.raises(CubeError, match="different grids"):
        audit_counts(cube, seg, label.isel(x=slice(1, None)))
    with pytest.raises(CubeError, match="lacks dates"):
        audit_counts(cube.isel(time=[0]), seg, label)
    with pytest.raises(CubeError, match="lake_probability"):
        audit_counts(cube, label, label)
    with pytest.raises(CubeError, match="size is 0"):
        audit_counts(cube, seg, label, size=0)
    with pytest.raises(CubeError, match="0, 1 and 255"):
        audit(Scene(cube, seg, label + 2))
