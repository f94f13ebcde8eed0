"""The label audit over chips of cubes and of Parquet shards."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from audited_valley import SIZE, mislabelled
from published_shards import BANDS, Chips, model, toy_chips
from toys import spec
from xglof.errors import TrainError
from xglof.evaluate.audit import audit_labels
from xglof.evaluate.audit_rule import COUNTS, AuditRule
from xglof.train.batch import prepare
from xglof.train.chip_audit import audit_chips, predictor
from xglof.train.parquet import read_shards, write_shards


def chips_of_the_scene() -> tuple[Chips, np.ndarray]:
    """The four squares of a scene as chips without radar, and the model's probabilities."""
    made = mislabelled()
    shape = (2, SIZE, 2, SIZE)

    def squares(layer) -> np.ndarray:
        return layer.values[0].reshape(shape).swapaxes(1, 2).reshape(4, SIZE, SIZE)

    planes = {name: squares(made.cube[name] if name in made.cube else made.cube["B04"]) for name in BANDS}
    planes["flags"] = squares(made.cube["flags"])
    index = toy_chips(4, SIZE).index.assign(modalities="S2L2A", time=pd.Timestamp("2023-07-01"), side_m=320.0)
    chips = Chips(model("S2L2A", window=SIZE), index, planes, squares(made.label["lake"]))
    return chips, squares(made.seg["lake_probability"])


def test_chips_are_audited_as_the_squares_of_a_cube():
    made = mislabelled()
    chips, probability = chips_of_the_scene()
    found = audit_chips(chips, probability)
    whole = audit_labels(made.cube, made.seg, made.label, size=SIZE)
    assert found.chips[list(COUNTS)].equals(whole.chips[list(COUNTS)])
    assert found.candidates[["chip", "direction", "px"]].to_numpy().tolist() == [
        ["c1", "commission", 192],
        ["c0", "omission", 180],
    ]
    assert found.scores().equals(whole.scores())
    assert found.rule.digest == whole.rule.digest
    view = found.view(0)
    assert np.array_equal(view.label, chips.label[0])
    assert np.array_equal(view.bands["B04"], chips.planes["B04"][0])


def test_shards_give_the_same_audit(tmp_path):
    chips, probability = chips_of_the_scene()
    write_shards(chips, tmp_path, region="r")
    shards = read_shards(tmp_path, model=chips.spec)
    found = audit_chips(shards, probability)
    assert found.scores().equals(audit_chips(chips, probability).scores())
    assert found.candidates["chip"].tolist() == ["r/2023/c1", "r/2023/c0"]


def test_the_note_says_that_published_chips_were_selected_by_the_index(tmp_path):
    chips, probability = chips_of_the_scene()
    write_shards(chips, tmp_path, region="r")
    found = audit_chips(read_shards(tmp_path, model=chips.spec), probability)
    assert "Those that CryoSentinel publishes were selected by MNDWI itself" in str(found)
    assert "CryoSentinel" not in str(audit_chips(chips, probability))


def test_neighbours_are_read_together_whatever_their_lengths():
    chips = toy_chips(5)
    count = 40
    many = np.arange(count) % 5
    index = chips.index.iloc[many].reset_index(drop=True)
    blocks = np.random.default_rng(0).permutation(count)
    index = index.assign(modalities="S2L2A+S1RTC+DEM", side_m=160 + np.arange(count) / 100, block=blocks)
    planes = {name: plane[many] for name, plane in chips.planes.items()}
    source, read = Chips(chips.spec, index, planes, chips.label[many]), []

    def predict(batch):
        read.append(batch.rows.tolist())
        return np.zeros(batch.label.shape)

    audit_chips(source, predict)
    assert [len(rows) for rows in read] == [16, 16, 8]
    assert blocks[np.concatenate(read)].tolist() == list(range(count))
    read.clear()
    source.index["side_m"] = np.where(many == 0, 320.0, 160.0)  # squares of the rule of 2 pixels and of 5
    audit_chips(source, predict)
    assert [{int(many[row]) == 0 for row in rows} for rows in read] == [{True}, {False}, {False}]


def test_probabilities_may_be_made_batch_by_batch():
    source = toy_chips(5)
    network = spec("context", ("S1RTC",))
    predict = predictor(network)
    found = audit_chips(source, predict, rule=AuditRule(unclear_when=()))
    raw = {name: int(found.scores().loc["raw", name]) for name in ("tp", "fp", "fn", "tn")}
    expected = dict.fromkeys(raw, 0)
    for row in (0, 2, 3, 4):  # chip 1 is given no radar: nothing to count
        sample = prepare(network, source.read([row]))
        wet = network.load()(sample.inputs)[0, 0].numpy() >= 0
        label = sample.label[0].numpy()
        for name, where, value in (("tp", wet, 1), ("fp", wet, 0), ("fn", ~wet, 1), ("tn", ~wet, 0)):
            expected[name] += int((where & (label == value)).sum())
    assert raw == expected
    assert found.chips["chip"].tolist() == ["c0", "c2", "c3", "c4"]
    assert np.isnan(predict(source.read([1]))).all()


def test_a_chip_without_sentinel_2_is_counted_and_unclear():
    chips, probability = chips_of_the_scene()
    chips.spec = model("S2L2A", "S1RTC", window=SIZE)
    chips.planes |= {name: np.zeros((4, SIZE, SIZE), "f4") for name in ("vv", "vh")}
    chips.index.loc[1, "modalities"] = "S1RTC"
    found = audit_chips(chips, probability)
    assert found.candidates["chip"].tolist() == ["c0"]
    assert found.chips.loc[1, ["fn_unclear", "tn_unclear"]].sum() == SIZE**2


def test_what_cannot_be_audited_is_refused():
    chips, probability = chips_of_the_scene()
    with pytest.raises(TrainError, match="3 maps of probability for 4 chips"):
        audit_chips(chips, probability[:3])
    with pytest.raises(TrainError, match=r"shape \(4, 16, 32\); expected \(4, 32, 32\)"):
        audit_chips(chips, probability[:, ::2])
    radar = toy_chips(5)
    radar.spec = spec("context", ("S1RTC",))
    with pytest.raises(TrainError, match="needs B03, B11, B08, which 'context' does not take"):
        audit_chips(radar, np.zeros((5, 16, 16)))
