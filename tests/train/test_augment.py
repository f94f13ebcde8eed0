"""Augmented chips: what moves together, what stays, and what the label is worth afterwards."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from chip_samples import ALL, BANDS, OFF, SPEC, changed, planes, same, sample
from toys import spec as toy_spec
from xglof.errors import TrainError
from xglof.models.registry import TERRAMIND_INPUTS, TINY_DEMO
from xglof.train.augment import CRYOSENTINEL, DEMO, Augmentation, BandNoise
from xglof.train.batch import ChipBatch, Sample, prepare


def test_jitter_scales_bands_of_some_chips_where_they_have_data() -> None:
    before = sample(chips=60)
    how = replace(OFF, jitter={"S2L2A": 0.03, "S1RTC": 0.07, "S1GRD": 0.5}, jitter_chance=0.4)
    after = changed(before, how)
    assert torch.equal(after.inputs["DEM"], before.inputs["DEM"])
    jittered = {}
    for name, most in (("S2L2A", 0.03), ("S1RTC", 0.07)):
        ratio = (after.inputs[name].double() / before.inputs[name].double()).movedim(1, -1)
        assert (ratio[~before.seen[name]] == 1).all()
        factors = torch.stack([ratio[i][before.seen[name][i]].median(dim=0).values for i in range(60)])
        spread = (ratio - factors[:, None, None]).movedim(-1, 0)[:, before.seen[name]]
        assert spread.abs().max() < 1e-5  # one factor a band of a chip
        assert (factors - 1).abs().max() <= most + 1e-6
        assert (factors - 1).abs().max() > 0.9 * most
        jittered[name] = (factors != 1).any(dim=1)
        assert len(set(factors[jittered[name]][0].tolist())) == BANDS[name]
    assert torch.equal(jittered["S2L2A"], jittered["S1RTC"])  # a chip is jittered whole
    assert 12 < jittered["S2L2A"].sum() < 36


def test_noise_is_a_gain_and_an_offset_in_the_units_of_the_cube() -> None:
    rng = np.random.default_rng(1)
    chips, source = 3000, TERRAMIND_INPUTS["S2L2A"]
    spec = replace(TINY_DEMO, weights=None)
    inputs = {"S2L2A": torch.from_numpy(rng.normal(size=(chips, 12, 1, 3)).astype(np.float32))}
    seen = {"S2L2A": torch.tensor([True, True, False]).expand(chips, 1, 3)}
    before = Sample(inputs, torch.zeros(chips, 1, 3, dtype=torch.uint8), torch.arange(chips), seen)
    noise = BandNoise(gain=0.05, band_gain=0.02, offset=40, band_offset=15)
    after = changed(before, replace(OFF, noise={"S2L2A": noise}), spec=spec)
    mean, std = (torch.tensor(values, dtype=torch.float64)[:, None] for values in (source.mean, source.std))
    old, new = (s.inputs["S2L2A"][:, :, 0].double() * std + mean for s in (before, after))
    assert torch.equal(old[..., 2], new[..., 2])  # nodata stays nodata's fill
    apart = (old[..., 0] - old[..., 1]).abs() > 300
    gain = torch.where(apart, (new[..., 0] - new[..., 1]) / (old[..., 0] - old[..., 1]), torch.nan)
    offset = torch.where(apart, new[..., 0] - gain * old[..., 0], torch.nan)
    shared = {"gain": gain.nanmean(dim=1), "offset": offset.nanmean(dim=1)}
    assert gain.nanmean() == pytest.approx(1, abs=0.004)
    assert offset.nanmean() == pytest.approx(0, abs=3)
    assert shared["gain"].std() == pytest.approx(np.hypot(0.05, 0.02 / np.sqrt(12)), rel=0.06)
    assert shared["offset"].std() == pytest.approx(np.hypot(40, 15 / np.sqrt(12)), rel=0.06)
    own = gain - shared["gain"][:, None]
    assert np.nanstd(own) == pytest.approx(0.02 * np.sqrt(11 / 12), rel=0.06)


def test_heights_shift_by_metres_and_nothing_else_does() -> None:
    spec = replace(TINY_DEMO, weights=None)
    before = sample(chips=200, side=4)
    after = changed(before, replace(OFF, height_shift_m=(-2854, 951)), spec=spec)
    metres = (after.inputs["DEM"] - before.inputs["DEM"])[:, 0].double() * TERRAMIND_INPUTS["DEM"].std[0]
    seen = before.seen["DEM"]
    assert (metres[~seen] == 0).all()
    assert (metres[seen] > -2855).all()
    assert (metres[seen] < 952).all()
    assert metres.min() < -2700
    assert metres.max() > 800
    assert same(replace(after, inputs=after.inputs | {"DEM": before.inputs["DEM"]}), before)


def test_the_demo_recipe_moves_radar_by_what_it_always_did() -> None:
    offsets = DEMO.noise["S1RTC"].band_offset
    assert isinstance(offsets, tuple)
    ratio = [offset / std for offset, std in zip(offsets, TERRAMIND_INPUTS["S1RTC"].std, strict=True)]
    assert ratio == pytest.approx([0.15, 0.15], abs=2e-4)  # of a standard deviation


def lakes_of(label: torch.Tensor) -> list[frozenset[int]]:
    """Lakes of a chip as sets of pixel numbers, by scipy."""
    numbers, count = ndimage.label(label.numpy() == 1, structure=np.ones((3, 3)))
    return [frozenset(np.flatnonzero(numbers.ravel() == number + 1).tolist()) for number in range(count)]


def lake_chips() -> Sample:
    """A chip with lakes of 11 and 3 pixels, one with a lake of 6 that hangs by a corner, two with none."""
    given = sample(chips=4, side=9, seed=5)
    label = torch.zeros(4, 9, 9, dtype=torch.uint8)
    label[0, 1:4, 1:5], label[0, 7, 5:8], label[1, 4, 3:6], label[1, 5, 6:9] = 1, 1, 1, 1
    label[0, 2, 2], label[2, 0], label[3, 8] = 255, 255, 255
    return replace(given, label=label)


def test_a_pasted_lake_is_one_whole_lake_of_another_chip_in_every_modality() -> None:
    before = lake_chips()
    given_away = {number: lakes_of(before.label[number]) for number in (0, 1)}
    received: list[tuple[int, frozenset[int]]] = []
    for seed in range(12):
        after = changed(before, replace(OFF, copy_paste=1, least_donor_px=6), seed)
        for chip in range(4):
            old, new = (torch.cat([p[chip].float() for p in planes(s).values()]) for s in (before, after))
            moved = frozenset(torch.flatten((old != new).any(dim=0)).nonzero()[:, 0].tolist())
            (donor,) = [
                number
                for number, lakes in given_away.items()
                if number != chip and any(moved == lake for lake in lakes if len(lake) >= 6)
            ]
            source = torch.cat([p[donor].float() for p in planes(before).values()])
            pixels = sorted(moved)
            assert torch.equal(new.flatten(1)[:, pixels], source.flatten(1)[:, pixels])
            assert (after.label[chip].flatten()[pixels] == 1).all()
            received.append((chip, moved))
    assert {chip for chip, _ in received} == {0, 1, 2, 3}
    lakes = {len(lake) for chip, lake in received if chip == 2}
    assert lakes == {11, 6}  # without its ignored pixel, and never the lake of 3


def test_lakes_are_pasted_as_often_as_asked_and_only_from_other_chips() -> None:
    before = lake_chips()
    lone = Sample(
        {name: values[:1] for name, values in before.inputs.items()},
        before.label[:1],
        before.rows[:1],
        {name: mask[:1] for name, mask in before.seen.items()},
    )
    always = replace(OFF, copy_paste=1, least_donor_px=6)
    assert same(changed(lone, always), lone)
    assert same(changed(before, replace(always, least_donor_px=13)), before)
    rare = replace(always, copy_paste=0.2)
    given = sum(int((changed(before, rare, seed).label[3] == 1).any()) for seed in range(200))
    assert 20 < given < 65


@pytest.mark.parametrize("gone", [("S2L2A",), ("S1RTC",), ("DEM",), ("S2L2A", "DEM"), ("S1RTC", "DEM")])
def test_a_batch_without_a_modality_equals_one_that_was_prepared_without(gone: tuple[str, ...]) -> None:
    rng = np.random.default_rng(2)
    cube = {name: torch.from_numpy(rng.integers(0, 3, (2, 9, 9)).astype(np.uint16)) for name in S2}
    cube |= {name: torch.from_numpy(holed(rng, 0.4)) for name in ("vv", "vh", "dem")}
    cube["flags"] = torch.from_numpy((2 * (rng.random((2, 9, 9)) < 0.1)).astype(np.uint16))
    label = torch.from_numpy(rng.integers(0, 2, (2, 9, 9)).astype(np.uint8))
    whole = ChipBatch(cube, label, torch.arange(2), ALL)
    left = tuple(name for name in ALL if name not in gone)
    dropped = changed(prepare(SPEC, whole), replace(OFF, drop=dict.fromkeys(gone, 1.0)))
    assert tuple(dropped.inputs) == left
    assert same(dropped, prepare(SPEC, replace(whole, modalities=left)))


S2 = SPEC.inputs[0].bands


def holed(rng: np.random.Generator, share: float) -> np.ndarray:
    values = rng.normal(size=(2, 9, 9)).astype(np.float32)
    return np.asarray(np.where(rng.random((2, 9, 9)) < share, np.float32(np.nan), values))


def test_a_sensor_is_always_left_and_modalities_go_as_often_as_asked() -> None:
    everything = dict.fromkeys(ALL, 1.0)
    assert list(changed(sample(), replace(OFF, drop=everything)).inputs) == ["S2L2A"]
    radar = sample(modalities=("S1RTC", "DEM"))
    assert list(changed(radar, replace(OFF, drop=everything)).inputs) == ["S1RTC"]
    often = replace(OFF, drop={"S1RTC": 0.3, "DEM": 0.1})
    sets = [set(changed(sample(1, 2), often, seed).inputs) for seed in range(300)]
    assert 65 < sum("S1RTC" not in names for names in sets) < 115
    assert 15 < sum("DEM" not in names for names in sets) < 50
    assert all("S2L2A" in names for names in sets)


EVERYTHING = replace(
    CRYOSENTINEL, copy_paste=0.5, least_donor_px=2, noise=DEMO.noise, rot90=True, drop=DEMO.drop
)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), chips=st.integers(1, 4), side=st.integers(2, 9))
def test_whatever_is_done_labels_stay_labels_of_what_is_seen(seed: int, chips: int, side: int) -> None:
    before = sample(chips, side, seed)
    kept = {name: plane.clone() for name, plane in planes(before).items()}
    after = changed(before, EVERYTHING, seed)
    assert same(changed(before, EVERYTHING, seed), after)
    assert all(torch.equal(plane, kept[name]) for name, plane in planes(before).items())  # left as it was
    assert set(after.label.unique().tolist()) <= {0, 1, 255}
    assert after.inputs.keys() == after.seen.keys() <= before.inputs.keys()
    sensors = [mask for name, mask in after.seen.items() if name != "DEM"]
    assert torch.stack(sensors).any(dim=0)[after.valid].all()
    assert all(torch.isfinite(values).all() for values in after.inputs.values())
    assert all(values.shape == before.inputs[name].shape for name, values in after.inputs.items())
    assert torch.equal(after.rows, before.rows)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_is_given_the_same_chips() -> None:
    here = sample(6, 16)
    there = Sample(
        {name: values.cuda() for name, values in here.inputs.items()},
        here.label.cuda(),
        here.rows,
        {name: mask.cuda() for name, mask in here.seen.items()},
    )
    for seed in range(5):
        one, other = planes(changed(here, EVERYTHING, seed)), planes(changed(there, EVERYTHING, seed))
        assert one.keys() == other.keys()
        for name, plane in one.items():
            np.testing.assert_allclose(other[name].cpu().numpy(), plane.numpy(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"flip": 1.5}, "flip is 1.5; a chance"),
        ({"drop": {"DEM": -0.1}}, "drop of DEM is -0.1; a chance"),
        ({"jitter": {"S2": 0.1}}, "jitter names S2; modalities are S2L2A"),
        ({"jitter": {"S2L2A": 1.0}}, "jitter of S2L2A is 1.0"),
        ({"scale": (1.2, 0.8)}, "scale is \\(1.2, 0.8\\); give the lowest and the highest"),
        ({"scale": (0.0, 1.0)}, "factors are above 0"),
        ({"height_shift_m": (5,)}, "height_shift_m is \\(5,\\)"),
        ({"least_donor_px": 0}, "least_donor_px is 0"),
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(TrainError, match=said):
        Augmentation(**wrong)  # type: ignore[arg-type]


def test_noise_that_is_no_spread_or_for_other_bands_is_refused() -> None:
    with pytest.raises(TrainError, match=r"band_gain of the band noise is \(0.1, -1\)"):
        BandNoise(band_gain=(0.1, -1))
    with pytest.raises(TrainError, match="noise of DEM has 2 numbers; 'context' takes 1 bands"):
        changed(sample(), replace(OFF, noise={"DEM": BandNoise(band_offset=(1, 2))}))


def test_what_can_not_be_is_refused_before_anything_is_drawn() -> None:
    required = toy_spec("context", ALL, optional=("DEM",))
    with pytest.raises(TrainError, match="S1RTC can't be dropped: 'context' requires it"):
        replace(OFF, drop={"S1RTC": 0.1}).check(required)
    blind = replace(sample(), seen={})
    with pytest.raises(TrainError, match="does not say where S2L2A, S1RTC, DEM has data"):
        changed(blind, OFF)


def test_settings_survive_a_pickle_and_their_makers_later_changes() -> None:
    amounts = {"S2L2A": 0.1}
    made = Augmentation(jitter=amounts)
    amounts["S2L2A"] = 0.9
    assert made.jitter == {"S2L2A": 0.1}
    assert pickle.loads(pickle.dumps(EVERYTHING)) == EVERYTHING  # noqa: S301
