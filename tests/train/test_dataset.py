from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from chip_cubes import SPEC, in_file, labelled
from toys import WINDOW, spec
from xglof.errors import TrainError
from xglof.train.batch import ChipBatch, prepare
from xglof.train.dataset import ChipDataset
from xglof.train.loader import ChipLoader
from xglof.train.sampling import chips


@pytest.fixture(scope="module")
def source() -> ChipDataset:
    cube, label = labelled(70, 60, left=500_070, top=3_100_110)
    return chips(in_file(cube, (1, 30, 30)), label=label, model=SPEC, min_valid=0.2)


def of_one_set(source: ChipDataset, count: int = 4) -> list[int]:
    sets = source.index["modalities"]
    return np.flatnonzero(sets == sets.mode()[0])[:count].tolist()


def same(first: ChipBatch, second: ChipBatch) -> bool:
    return (
        first.modalities == second.modalities
        and torch.equal(first.label, second.label)
        and first.planes.keys() == second.planes.keys()
        and all(
            np.array_equal(plane.numpy(), second.planes[name].numpy(), equal_nan=plane.is_floating_point())
            for name, plane in first.planes.items()
        )
    )


def test_labels_are_those_of_the_cube_and_ignored_beyond_its_edges_and_the_mask() -> None:
    cube, label = labelled(40, 37, flags=False)
    mask = cube["dem"].fillna(0) > 0
    source = chips(cube, label=label, model=SPEC, min_valid=0, where=mask)
    padded = np.pad(
        np.where(mask, label, 255), ((0, 0), (WINDOW, WINDOW), (WINDOW, WINDOW)), constant_values=255
    )
    for row, chip in enumerate(source.index.itertuples()):
        top, left = chip.row + WINDOW, chip.col + WINDOW
        expected = padded[chip.step, top : top + WINDOW, left : left + WINDOW]
        np.testing.assert_array_equal(source.read([row]).label[0].numpy(), expected)


def test_an_item_is_what_the_network_takes(source: ChipDataset) -> None:
    rows = of_one_set(source)
    sample = prepare(SPEC, source.read(rows))
    items = [source[row] for row in rows]
    for number, item in enumerate(items):
        assert item["row"] == rows[number]
        assert torch.equal(item["label"], sample.label[number])
        assert item.keys() == {*sample.inputs, "label", "row"}
        for name, values in sample.inputs.items():
            assert torch.equal(item[name], values[number])


def test_a_selection_keeps_names_and_reads_its_own_rows(source: ChipDataset) -> None:
    mask = (source.index["lake_fraction"] > 0.3).to_numpy()
    some = source.select(mask)
    assert some.index["chip_id"].tolist() == source.index["chip_id"][mask].tolist()
    assert len(some) == mask.sum()
    rows = np.flatnonzero(mask)
    assert same(some.read([2]), source.read([rows[2]]))
    picked = source.select([5, 3])
    assert picked.index["chip_id"].tolist() == source.index["chip_id"][[5, 3]].tolist()
    folded = source.with_index(source.index.assign(fold=np.where(mask, "train", "val")))
    assert len(folded.select(fold="train")) == mask.sum()
    assert repr(folded) == f"<ChipDataset: {len(mask)} chips of 16 px from 1 cubes: " + (
        ", ".join(f"{count} {fold}" for fold, count in folded.index["fold"].value_counts().items()) + ">"
    )


def test_rows_that_cannot_be_are_refused(source: ChipDataset) -> None:
    with pytest.raises(TrainError, match="rows are -1 to 2"):
        source.read([-1, 2])
    with pytest.raises(TrainError, match=f"expected 0 to {len(source) - 1}"):
        source.select([len(source)])
    with pytest.raises(TrainError, match="mask has the shape"):
        source.select(np.ones(3, bool))
    with pytest.raises(TrainError, match="no chip is in the fold 'val'"):
        source.select(fold="val")
    first_of_each = source.index.drop_duplicates("modalities").index[:2]
    with pytest.raises(TrainError, match="can't share a batch"):
        source.read(first_of_each)


def test_pickled_it_reads_the_same_and_carries_no_blocks(source: ChipDataset) -> None:
    rows = of_one_set(source)
    before = source.read(rows)
    sent = pickle.dumps(source)
    again = pickle.loads(sent)  # noqa: S301  (made here)
    assert again._cache.nbytes == 0
    assert same(again.read(rows), before)


@pytest.mark.parametrize("workers", [0, 2])
def test_torch_loads_whole_batches_in_processes(workers: int) -> None:
    cube, label = labelled(60, 60, flags=False)
    source = chips(in_file(cube, (1, 30, 30)), label=label, model=SPEC, min_valid=0.2)
    source.read(of_one_set(source))  # its cache and locks are there when the process is forked
    plan = ChipLoader(source, batch_size=3, balance=None).plan(0)[:6]
    loaded = list(DataLoader(source, batch_sampler=plan, num_workers=workers))
    assert [batch["row"].tolist() for batch in loaded] == [rows.tolist() for rows in plan]
    for batch, rows in zip(loaded, plan, strict=True):
        sample = prepare(SPEC, source.read(rows))
        assert torch.equal(batch["label"], sample.label)
        assert all(torch.equal(batch[name], values) for name, values in sample.inputs.items())


def test_a_stored_cube_goes_to_processes_too(tmp_path: Any) -> None:
    import xglof

    cube, label = labelled(60, 60, flags=False)
    xglof.write_zarr(cube, tmp_path / "cube.zarr")
    xglof.write_zarr(label.to_dataset(name="lake"), tmp_path / "lake.zarr")
    stored = xglof.read_zarr(tmp_path / "cube.zarr", chunks=None)
    source = chips(stored, label=tmp_path / "lake.zarr", model=SPEC, min_valid=0.2)
    rows = of_one_set(source)
    batch = next(iter(DataLoader(source, batch_sampler=[rows], num_workers=1)))
    expected = prepare(SPEC, chips(cube, label=label, model=SPEC, min_valid=0.2).read(rows))
    assert all(torch.equal(batch[name], values) for name, values in expected.inputs.items())


def test_cubes_of_several_kinds_share_batches() -> None:
    first, lake = labelled(40, 37, flags=False)
    second, other = labelled(40, 37, seed=1, crs="EPSG:32644", times=3)
    for name in ("B02", "vv"):  # floats where the other has integers, single where it has double precision
        second[name] = second[name].astype("float64")
    source = chips([first, second], label=[lake, other], model=SPEC, min_valid=0.2)
    by_set = source.index.groupby("modalities")["source"].nunique()
    name = by_set[by_set == 2].index[0]
    group = source.index[source.index["modalities"] == name]
    rows = [int(group.index[group["source"] == number][0]) for number in (0, 1)]
    batch = source.read(rows)
    assert batch.planes["B02"].dtype == torch.float64
    alone = [
        chips(cube, label=label, model=SPEC, min_valid=0.2)
        for cube, label in ((first, lake), (second, other))
    ]
    for number, (row, one) in enumerate(zip(rows, alone, strict=True)):
        chip = source.index.iloc[row]
        place = ["step", "row", "col"]
        (match,) = np.flatnonzero((one.index[place] == chip[place]).all(axis=1))
        expected = prepare(SPEC, one.read([match]))
        got = prepare(SPEC, batch)
        assert torch.equal(got.label[number], expected.label[0])
        for modality, values in expected.inputs.items():
            assert torch.equal(got.inputs[modality][number], values[0])
    assert (batch.planes["flags"][0] == 0).all()


def test_a_modality_that_is_left_out_is_not_read() -> None:
    cube, label = labelled(40, 37, flags=False)
    cube["vv"].values[:] = np.nan
    log: list[tuple[Any, ...]] = []
    source = chips(in_file(cube, (1, 40, 37), log=log), label=label, model=SPEC, min_valid=0.2)
    assert not any("S1RTC" in name for name in source.index["modalities"].unique())
    log.clear()
    batch = source.read(of_one_set(source))
    assert {entry[0] for entry in log} == {"dem", *(name for name in batch.planes if name.startswith("B"))}
    assert "vv" not in batch.planes


def test_a_cube_without_an_optional_modality_is_a_set_of_its_own() -> None:
    cube, label = labelled(40, 37)
    source = chips(
        [cube, cube.drop_vars(["vv", "vh", "flags"])], label=[label, label], model=SPEC, min_valid=0.2
    )
    poor = source.index[source.index["source"] == 1]
    assert set(poor["modalities"]) <= {"S2L2A+DEM", "S2L2A"}
    batch = source.read(poor.index[poor["modalities"] == "S2L2A+DEM"][:2])
    assert (batch.planes["flags"] == 0).all()
    assert prepare(SPEC, batch).inputs.keys() == {"S2L2A", "DEM"}


def test_another_size_than_the_window_is_cut_as_asked() -> None:
    cube, label = labelled(70, 70)
    source = chips(cube, label=label, model=spec("bits", ("S2L2A",)), size=48, min_valid=0.2)
    item = source[0]
    assert item["S2L2A"].shape == (12, 48, 48)
    assert item["label"].shape == (48, 48)


def test_bool_labels_are_lakes() -> None:
    cube, label = labelled(40, 37)
    batch = chips(cube, label=label == 1, model=SPEC, min_valid=0.2).read([0])
    assert set(batch.label.unique().tolist()) <= {0, 1, 255}
    assert batch.label.dtype == torch.uint8
