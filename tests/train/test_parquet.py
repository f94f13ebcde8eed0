"""Parquet shards in CryoSentinel's schema: read, written, and refused."""

from __future__ import annotations

import pickle
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from published_shards import BANDS, arrays, model, row, same, same_chips, toy_chips, write
from toys import WINDOW, raster
from xglof.errors import TrainError
from xglof.train import shard_files
from xglof.train.batch import prepare
from xglof.train.loader import ChipLoader
from xglof.train.parquet import read_shards, write_shards
from xglof.train.shard_rows import published_gaps


def test_what_is_written_is_read_to_the_bit(tmp_path):
    source = toy_chips()
    paths = write_shards(source, tmp_path, region="tien_shan", rows_per_shard=2)
    assert [str(path.relative_to(tmp_path)) for path in paths] == [
        "tien_shan/2020/shard_000.parquet",
        "tien_shan/2020/shard_001.parquet",
        "tien_shan/2021/shard_000.parquet",
    ]
    again = read_shards(tmp_path, model=source.spec)
    order = [0, 2, 4, 1, 3]  # by year
    same_chips(source, again, zip(order, range(5), strict=True))
    kept = source.index.iloc[order].reset_index(drop=True)
    for name in ("time", "longitude", "latitude", "side_m", "lake_ids", "modalities"):
        assert again.index[name].tolist() == kept[name].tolist(), name
    assert again.index["chip_id"].tolist() == [
        f"tien_shan/{year}/{name}" for year, name in zip(again.index["year"], kept["chip_id"], strict=True)
    ]
    assert again.index["published_split"].tolist() == ["train", "test", "UNKNOWN", "val", "dropped"]
    assert set(again.index["fold"]) == {""}


def test_written_once_more_it_is_the_same_file(tmp_path):
    write_shards(toy_chips(), tmp_path / "a", region="tien_shan")
    first = read_shards(tmp_path / "a", model=toy_chips().spec)
    write_shards(first, tmp_path / "b", region="tien_shan")
    second = read_shards(tmp_path / "b", model=first.spec)
    changed = ["published_split"]  # that of the index, in which no split has assigned folds
    assert first.index.drop(columns=changed).equals(second.index.drop(columns=changed))
    same_chips(first, second, [(0, 0), (3, 3)])


@pytest.mark.parametrize("kind", ["string ids", "large types"])
def test_the_published_form_is_read(tmp_path, kind):
    held = [arrays(seed) for seed in range(3)]
    held[1]["s2"][:, :4, :4] = 0
    held[1]["s1"][0, 5, 5], held[1]["s1"][1, 6, 6] = np.nan, np.inf
    held[1]["dem"][0, 7, 7], held[1]["dem"][0, 8, 8] = -32_768, 32_767
    path = write(tmp_path, [row(each, number) for number, each in enumerate(held)])
    if kind == "large types":
        table = pq.read_table(path)
        types = {
            "s2_bytes": pa.large_binary(),
            "dem_shape": pa.list_(pa.int32(), 3),
            "chip_id": pa.large_string(),
        }
        for name, of in types.items():
            table = table.set_column(table.column_names.index(name), name, table.column(name).cast(of))
        pq.write_table(table, path)
    chips = read_shards(tmp_path, model=model())
    batch = chips.read([2, 0, 1])
    for number, each in enumerate((held[2], held[0], held[1])):
        for band, plane in zip(BANDS, each["s2"], strict=True):
            assert same(batch.planes[band][number], plane)
        expected = np.where(np.isinf(each["s1"]), np.float32(np.nan), each["s1"])
        assert same(torch.stack([batch.planes[name][number] for name in ("vv", "vh")]), expected)
        metres = each["dem"][0].astype("f4")
        metres[np.abs(metres) >= 32_000] = np.nan
        assert same(batch.planes["dem"][number], metres)
        assert same(batch.label[number], each["mask"])
    first = chips.index.iloc[0]
    assert (first["chip_id"], first["published_split"], first["year"]) == (
        "tien_shan/2021/chip000",
        "train",
        2021,
    )
    assert (first["side_m"], first["row"], str(first["time"])) == (160.0, -1, "NaT")
    assert first["modalities"] == "S2L2A+S1GRD+DEM"
    assert chips.index["lake_fraction"].tolist() == [np.float32(each["mask"].mean()) for each in held]


def test_the_closest_lake_is_not_what_a_chip_touches(tmp_path):
    for number, names in enumerate((("Imja Tsho", None), (7, 8), (7.0, None))):
        rows = [row(arrays(2 * number + i), 2 * number + i, lake_id=name) for i, name in enumerate(names)]
        write(tmp_path / "a", rows, number=number)
    chips = read_shards(tmp_path / "a", model=model())
    assert chips.index["nearest_lake"].tolist() == ["Imja Tsho", "", "7", "8", "7", ""]
    assert set(chips.index["lake_ids"]) == {""}
    chips.index["lake_ids"] = ["", "a b", "a", "", "c", ""]  # of an inventory
    (path,) = write_shards(chips, tmp_path / "b", region="tien_shan")
    again = read_shards(tmp_path / "b", model=model())
    for name in ("nearest_lake", "lake_ids"):
        assert again.index[name].tolist() == chips.index[name].tolist()
    assert pq.read_table(path)["lake_id"].to_pylist() == ["Imja Tsho", None, "7", "8", "7", None]


def test_shares_and_modalities_are_those_of_the_model(tmp_path):
    few, blind = arrays(0), arrays(1)
    few["s1"][:, 1:] = np.nan
    few["s1"][:, 0, 8:] = np.nan  # 8 of 256 pixels
    few["s2"][3, 8:] = 0  # one band is missing on half of the chip
    few["mask"][:4] = 255
    blind["s2"][:], blind["s1"][:] = 0, np.nan
    write(tmp_path, [row(few), row(blind, 1)])
    chips = read_shards(tmp_path, model=model())
    assert chips.left_out == 1
    only = chips.index.iloc[0]
    assert only["modalities"] == "S2L2A+DEM"
    assert only["valid_fraction"] == np.float32(4 * 16 / 256)
    assert only["lake_fraction"] == np.float32((few["mask"][4:] == 1).mean())
    counted = prepare(chips.spec, chips.read([0])).valid.float().mean()
    assert float(counted) == only["valid_fraction"]
    generous = read_shards(tmp_path, model=model(min_share=0.03))
    assert generous.index["modalities"].tolist() == ["S2L2A+S1GRD+DEM"]
    assert len(read_shards(tmp_path, model=model(), min_valid=0.3)) == 0


def test_the_published_gaps_can_be_ignored_too(tmp_path):
    held = arrays()
    held["s2"][:, 0, 0], held["s2"][:, 0, 1], held["s2"][1:, 0, 2] = 0, 16_000, 0
    held["s1"][1, 0, 3] = np.inf
    held["dem"][0, 0, 4] = 32_767
    write(tmp_path, [row(held)])
    stored = read_shards(tmp_path, model=model()).read([0]).label[0]
    published = read_shards(tmp_path, model=model("S2L2A"), ignored="published")
    label = published.read([0]).label[0]
    gaps = np.zeros((WINDOW, WINDOW), bool)
    gaps[0, [0, 1, 3, 4]] = True
    assert same(label, np.where(gaps, np.uint8(255), held["mask"]))
    assert same(stored, held["mask"])
    # the model itself has no answer where a band of the one sensor that it takes is missing
    assert published.index["valid_fraction"][0] == np.float32((256 - 5) / 256)


def test_gaps_are_found_band_by_band():
    held = {name: array[np.newaxis] for name, array in arrays().items()}
    assert not published_gaps(held["s2"], held["s1"], held["dem"][:, 0].astype("f4")).any()


def test_only_the_row_groups_asked_for_are_read(tmp_path):
    path = write(tmp_path, [row(arrays(number), number) for number in range(12)], row_group_size=4)
    chips = read_shards(tmp_path, model=model())
    assert chips.index["block"].tolist() == [0] * 4 + [1] * 4 + [2] * 4
    metadata = pq.ParquetFile(path).metadata
    held = bytearray(path.read_bytes())
    for group in (0, 2):
        for column in range(metadata.num_columns):
            part = metadata.row_group(group).column(column)
            begin = part.dictionary_page_offset or part.data_page_offset
            held[begin : begin + part.total_compressed_size] = b"\xff" * part.total_compressed_size
    path.write_bytes(held)
    batch = chips.read([5, 4])
    assert same(batch.label[0], arrays(5)["mask"])
    with pytest.raises(TrainError, match=r"shard_000.parquet, rows 8 to 11: can't be read"):
        chips.read([8])


def test_row_groups_are_kept_up_to_a_number_of_bytes(tmp_path):
    path = write(tmp_path, [row(arrays(number), number) for number in range(6)], row_group_size=2)
    chips = read_shards(tmp_path, model=model(), cache_bytes=40_000)  # a chip takes 9,472
    chips.read([0, 2, 3])
    shutil.move(path, tmp_path / "gone")
    assert chips.read([1, 2]).rows.tolist() == [1, 2]  # two groups fit
    with pytest.raises(TrainError):
        chips.read([4])
    shutil.move(tmp_path / "gone", path)
    chips.read([4])
    shutil.move(path, tmp_path / "gone")
    with pytest.raises(TrainError):  # the one used longest ago made room
        chips.read([0])


def test_threads_decode_a_row_group_once(tmp_path, monkeypatch):
    write(tmp_path, [row(arrays(number), number) for number in range(8)], row_group_size=4)
    chips = read_shards(tmp_path, model=model())
    decoded = []
    plain = shard_files.read_group

    def counting(shard, group, *rest):
        decoded.append(group)
        time.sleep(0.05)  # the others come while the first one is at it
        return plain(shard, group, *rest)

    monkeypatch.setattr(shard_files, "read_group", counting)
    with ThreadPoolExecutor(4) as threads:
        batches = list(threads.map(lambda number: chips.read([number]), range(8)))
    assert sorted(decoded) == [0, 1]
    assert all(same(batch.label[0], arrays(number)["mask"]) for number, batch in enumerate(batches))


def test_a_selection_reads_the_same_chips(tmp_path):
    write(tmp_path, [row(arrays(number), number) for number in range(6)], row_group_size=4)
    chips = read_shards(tmp_path, model=model())
    chips.index.loc[[1, 4], "fold"] = "val"
    for some in (
        chips.select(fold="val"),
        chips.select([1, 4]),
        chips.select(chips.index["fold"] == "val"),
        pickle.loads(pickle.dumps(chips.select([1, 4]))),  # noqa: S301  (ours)
    ):
        assert some.index["chip_id"].tolist() == ["tien_shan/2021/chip001", "tien_shan/2021/chip004"]
        assert some.read([1]).rows.tolist() == [1]
        assert same(some.read([1]).label[0], arrays(4)["mask"])
    with pytest.raises(TrainError, match="the mask has the shape"):
        chips.select([True, False])
    with pytest.raises(TrainError, match="rows are -1 to 2; expected 0 to 5"):
        chips.read([2, -1])
    with pytest.raises(TrainError, match=r"no chip is in the fold 'test'; there are {'': 4, 'val': 2}"):
        chips.select(fold="test")


def test_the_loader_draws_from_as_many_row_groups_as_are_kept(tmp_path, monkeypatch):
    write(tmp_path, [row(arrays(number), number) for number in range(24)], row_group_size=4)
    group = 4 * 9472
    walks = [read_shards(tmp_path, model=model(), cache_bytes=n * group).walks.most for n in (0, 1, 3, 99)]
    assert walks == [1, 1, 3, 64]
    chips = read_shards(tmp_path, model=model(), cache_bytes=3 * group)
    decoded = []
    plain = shard_files.read_group
    monkeypatch.setattr(shard_files, "read_group", lambda *given: decoded.append(given[1]) or plain(*given))
    rows = [batch.rows for batch in ChipLoader(chips, batch_size=4, balance=None, threads=0).batches(0)]
    assert sorted(torch.cat(rows).tolist()) == list(range(24))
    assert sorted(decoded) == list(range(6))  # each of them once
    assert any(len(set((batch // 4).tolist())) == 3 for batch in rows)


def test_a_dataset_of_torch_gives_what_the_network_takes(tmp_path):
    write(tmp_path, [row(arrays(number), number) for number in range(3)])
    chips = read_shards(tmp_path, model=model())
    sample = prepare(chips.spec, chips.read([0, 1, 2]))
    loader = torch.utils.data.DataLoader(chips, batch_size=3)
    (batch,) = loader
    assert batch["row"].tolist() == [0, 1, 2]
    assert same(batch["label"], sample.label)
    assert all(same(batch[name], values) for name, values in sample.inputs.items())
    assert len(list(chips)) == 3  # iteration ends at an IndexError


def test_chips_of_several_sets_of_modalities_are_no_batch(tmp_path):
    dark = arrays(1)
    dark["s1"][:] = np.nan
    write(tmp_path, [row(arrays()), row(dark, 1)])
    with pytest.raises(TrainError, match=r"'S2L2A\+S1GRD\+DEM' and 'S2L2A\+DEM' can't share a batch"):
        read_shards(tmp_path, model=model()).read([0, 1])


def test_folders_are_chosen_by_name(tmp_path):
    for number, folder in enumerate(("ile/2021", "ile/2022", "pamir/2021")):
        write(tmp_path, [row(arrays(number))], folder)
    (tmp_path / ".cache").mkdir()
    write(tmp_path / ".cache", [row(arrays())])
    assert read_shards(tmp_path, model=model()).index["region"].tolist() == ["ile", "ile", "pamir"]
    some = read_shards(tmp_path, model=model(), regions=["ile"], years=[2022])
    assert some.index["chip_id"].tolist() == ["ile/2022/chip000"]
    with pytest.raises(TrainError, match=r"no region 'alay' under .*; there is ile, pamir"):
        read_shards(tmp_path, model=model(), regions=["alay"])
    with pytest.raises(TrainError, match="no year 2017"):
        read_shards(tmp_path, model=model(), years=[2017])
    write(tmp_path, [row(arrays())], "pamir/best")
    with pytest.raises(TrainError, match=r"lies in no folder of a year"):
        read_shards(tmp_path, model=model())
    with pytest.raises(TrainError, match=r"no <region>/<year>/shard_\*.parquet under"):
        read_shards(tmp_path / "elsewhere", model=model())


def test_the_rows_can_be_taken_at_their_word(tmp_path):
    held = arrays()
    held["s1"][:] = np.nan
    path = write(tmp_path, [row(held, water_frac=0.5), row(arrays(1), 1)])
    chips = read_shards(tmp_path, model=model(), check="metadata")
    assert chips.index["lake_fraction"][0] == np.float32(0.5)
    assert np.isnan(chips.index["valid_fraction"]).all()
    assert set(chips.index["modalities"]) == {"S2L2A+S1GRD+DEM"}
    assert same(chips.read([0]).label[0], held["mask"])
    table = pq.read_table(path).drop_columns("water_frac")
    pq.write_table(table, path)
    assert read_shards(tmp_path, model=model()).index["water_frac"].isna().all()
    with pytest.raises(TrainError, match=r"shard_000.parquet states no water_frac"):
        read_shards(tmp_path, model=model(), check="metadata")


def test_a_published_reader_finds_its_columns(tmp_path):
    """What a reader of the published form does with a row of ours."""
    source = toy_chips()
    (path, *_) = write_shards(source, tmp_path, region="tien_shan")
    first = pq.read_table(path).to_pylist()[0]
    assert set(first) >= set(row(arrays()))
    for name, dtype in (("s2", np.uint16), ("s1", np.float32), ("dem", np.int16), ("mask", np.uint8)):
        array = np.frombuffer(first[f"{name}_bytes"], dtype).reshape(first[f"{name}_shape"])
        assert array.shape == arrays()[name].shape
    dem = np.frombuffer(first["dem_bytes"], np.int16).reshape(first["dem_shape"])[0]
    exact = source.planes["dem"][0]
    assert same(dem, np.where(np.isnan(exact), -32_768, np.rint(exact)).astype(np.int16))
    assert pq.ParquetFile(path).metadata.num_row_groups == 1


def test_chips_of_a_cube_come_back_to_the_bit(tmp_path):
    sampling = pytest.importorskip("xglof.train.sampling")
    cube = raster(40, 56, modalities=("S2L2A", "S1RTC", "DEM"), times=2)
    lake = (cube["B03"] > 4).astype("uint8")
    source = sampling.chips(cube, label=lake, model=model("S2L2A", "S1RTC", "DEM"))
    assert len(source) > 40  # several row groups, windows over the edges among them
    write_shards(source, tmp_path, region="cube", rows_per_shard=30)
    again = read_shards(tmp_path, model=source.spec)
    numbers = range(len(source))
    same_chips(source, again, zip(numbers, numbers, strict=True))
    assert again.index["valid_fraction"].tolist() == source.index["valid_fraction"].tolist()
    assert again.index["time"].tolist() == source.index["time"].tolist()
