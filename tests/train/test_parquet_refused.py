"""Parquet shards that are refused, and what is refused to be written to some."""

from __future__ import annotations

import shutil

import pytest

from published_shards import arrays, model, row, same_chips, toy_chips, write
from toys import spec
from xglof.errors import OutputError, TrainError
from xglof.models.registry import TERRAMIND_INPUTS
from xglof.models.spec import ModelSpec
from xglof.train.parquet import read_shards, write_shards

WRONG = {
    "bytes that are cut short": ({"s2_bytes": b"\0" * 9}, "row 1: s2_bytes holds 9 bytes, expected 6,144"),
    "no bytes": ({"mask_bytes": None}, "row 1: mask_bytes holds nothing, expected 256"),
    "another number of bands": ({"s1_shape": [3, 16, 16]}, r"row 1: s1_shape is \[3, 16, 16\]"),
    "another side": ({"mask_shape": [8, 32]}, r"row 1: mask_shape is \[8, 32\], expected \[16, 16\]"),
    "no shape": ({"dem_shape": None}, "row 1: dem_shape is None"),
    "no latitude": ({"lat": None}, "row 1: the chip has no lat and lon"),
    "no place on the Earth": ({"lon": 500.0}, "row 1: the chip has no lat and lon in degrees"),
    "no id": ({"chip_id": None}, "row 1: the chip has no chip_id"),
    "a mask of classes": ({"mask_bytes": b"\2" * 256}, "row 1: the mask holds 2; expected 0 land, 1 lake"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_odd_rows_are_refused_by_file_and_row(tmp_path, what):
    changes, message = WRONG[what]
    write(tmp_path, [row(arrays()), row(arrays(1), 1) | changes, row(arrays(2), 2)], row_group_size=1)
    with pytest.raises(TrainError, match=rf"tien_shan/2021/shard_000.parquet, {message}"):
        read_shards(tmp_path, model=model())


def test_odd_files_are_refused_by_name(tmp_path):
    rows = [row(arrays(number), number) for number in range(4)]
    path = write(tmp_path, rows)
    whole = path.read_bytes()
    for held in (whole[: len(whole) // 2], b"", b"version https://git-lfs.github.com/spec/v1\n"):
        path.write_bytes(held)
        with pytest.raises(
            TrainError, match=r"shard_000.parquet is no whole Parquet file .*download it again"
        ):
            read_shards(tmp_path, model=model())
    path.write_bytes(whole[:500] + bytes(len(whole) // 2) + whole[500 + len(whole) // 2 :])
    with pytest.raises(TrainError, match=r"shard_000.parquet.*can't be read"):
        read_shards(tmp_path, model=model())
    for name in ("s1_bytes", "lat"):
        write(tmp_path, [{key: value for key, value in each.items() if key != name} for each in rows])
        with pytest.raises(TrainError, match=rf"shard_000.parquet lacks the columns {name}"):
            read_shards(tmp_path, model=model())
    write(tmp_path, [each | {"s2_bytes": "text"} for each in rows])
    with pytest.raises(TrainError, match="column s2_bytes is string; expected binary"):
        read_shards(tmp_path, model=model())
    write(tmp_path, [each | {"s2_shape": "12x16x16"} for each in rows])
    with pytest.raises(TrainError, match="column s2_shape is string; expected a list"):
        read_shards(tmp_path, model=model())


def test_an_id_that_is_there_twice_is_refused_with_both_places(tmp_path):
    write(tmp_path, [row(arrays(0), 0), row(arrays(1), 1)])
    write(tmp_path, [row(arrays(2), 2), row(arrays(3), 1)], number=1)
    message = r"chip001' is there twice: .*shard_000.parquet, row 1 and .*shard_001.parquet, row 1"
    with pytest.raises(TrainError, match=message):
        read_shards(tmp_path, model=model())
    (tmp_path / "tien_shan/2021/shard_001.parquet").unlink()
    write(tmp_path, [row(arrays(3), 1)], "tien_shan/2022")  # the same place in another year
    assert len(read_shards(tmp_path, model=model())) == 3


def test_the_radar_product_must_be_the_models(tmp_path):
    write(tmp_path / "published", [row(arrays())])
    with pytest.raises(TrainError, match="takes S1RTC, and the shards hold S1GRD"):
        read_shards(tmp_path / "published", model=model("S2L2A", "S1RTC"))
    embedded = ModelSpec(
        "m",
        "xglof.models.terramind:segmenter",
        tuple(TERRAMIND_INPUTS[name] for name in ("S2L2A", "S1RTC")),
        kwargs={"modalities": ("S2L2A", "S1RTC", "S1GRD")},
    )
    swapped = read_shards(tmp_path / "published", model=embedded, size=16)
    assert swapped.spec.inputs[1] == TERRAMIND_INPUTS["S1GRD"]
    write_shards(toy_chips(), tmp_path / "own", region="tien_shan")
    with pytest.raises(TrainError, match="takes S1GRD, and the shards hold S1RTC"):
        read_shards(tmp_path / "own", model=model())
    shutil.copytree(tmp_path / "published/tien_shan/2021", tmp_path / "own/ile/2021")
    with pytest.raises(TrainError, match="Sentinel-1 as 'S1GRD' and 'S1RTC'"):
        read_shards(tmp_path / "own", model=model())


def test_wrong_wishes_are_refused(tmp_path):
    write(tmp_path, [row(arrays())])
    with pytest.raises(TrainError, match="size is 20 px"):
        read_shards(tmp_path, model=model(), size=20)
    with pytest.raises(TrainError, match="size= for chips of another side"):
        read_shards(tmp_path, model=model(), size=32)
    with pytest.raises(TrainError, match="ignored='none'"):
        read_shards(tmp_path, model=model(), ignored="none")


@pytest.mark.parametrize("region", ["../away", "/tmp", "a/b", "", ".hidden", "a\n", "a\\b"])  # noqa: S108
def test_a_region_is_the_name_of_a_folder(tmp_path, region):
    with pytest.raises(TrainError, match="give the name of a folder"):
        write_shards(toy_chips(), tmp_path / "root", region=region)
    assert not list(tmp_path.iterdir())


def test_nothing_is_written_over_and_nothing_half(tmp_path):
    source = toy_chips()
    kept = write(tmp_path, [row(arrays())], "tien_shan/2021")
    before = kept.read_bytes()
    with pytest.raises(OutputError, match="is there already"):
        write_shards(source, tmp_path, region="tien_shan")
    assert kept.read_bytes() == before
    assert [path.name for path in (tmp_path / "tien_shan").iterdir()] == ["2021"]
    source.planes["dem"][3] = 40_000
    with pytest.raises(TrainError, match=r"elevation of chip 'c3' reaches 40000 m"):
        write_shards(source, tmp_path, region="pamir")
    assert not (tmp_path / "pamir").exists()


def test_what_shards_cannot_hold_is_refused(tmp_path):
    source = toy_chips()
    source.index["time"] = source.index["time"].where(source.index.index != 2)
    with pytest.raises(TrainError, match="chip 'c2' has no date"):
        write_shards(source, tmp_path, region="r")
    write_shards(source, tmp_path, region="r", rows=[3, 1])
    assert read_shards(tmp_path, model=source.spec).index["chip_id"].tolist() == ["r/2021/c3", "r/2021/c1"]
    with pytest.raises(TrainError, match="no chips"):
        write_shards(source, tmp_path, region="q", rows=[])
    with pytest.raises(TrainError, match="at least 1"):
        write_shards(source, tmp_path, region="q", rows_per_shard=0)
    source.planes["B04"] = source.planes["B04"].astype("f4") + 0.25
    with pytest.raises(TrainError, match=r"B04 of chip 'c3' holds .* \(float32\), which uint16 can't"):
        write_shards(source, tmp_path, region="q", rows=[3])
    source.spec = spec("context", ("S1RTC",))
    source.index["modalities"] = "S1RTC"
    write_shards(source, tmp_path, region="q", rows=[3])  # radar alone is a case of its own
    again = read_shards(tmp_path, model=source.spec, regions=["q"])
    same_chips(source, again, [(3, 0)])
