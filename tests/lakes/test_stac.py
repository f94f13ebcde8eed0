"""A static STAC collection of lakes: valid, relative, whole, read back with pystac."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pystac
import pytest
import shapely
from pystac.validation.stac_validator import JsonSchemaSTACValidator

from lake_maps import empty, lake_map, raising_scheduler
from xglof.errors import CubeError, OutputError
from xglof.lakes.stac import LABEL_SCHEMA, MLM_SCHEMA, write_stac
from xglof.models.registry import get_spec
from xglof.models.spec import ModelInput, ModelSpec
from xglof.models.weights import Weights

#: A folder with the schemas of the extensions and of what they refer to, as on stac-extensions.github.io:
#: label/v1.0.1/schema.json and so on. Without it the items are validated against the core schemas only.
SCHEMAS = os.environ.get("XGLOF_STAC_SCHEMAS", "")
DATES = ["2023-07-01", "2023-07-21"]


class Offline(JsonSchemaSTACValidator):
    """Validates against schemas on this machine; an extension whose schema is not there is passed over."""

    def __init__(self):
        super().__init__()
        for path in Path(SCHEMAS).glob("*/*/schema.json") if SCHEMAS else ():
            name = path.relative_to(SCHEMAS).as_posix()
            self.schema_cache[f"https://stac-extensions.github.io/{name}"] = json.loads(path.read_text())

    def _get_schema(self, schema_uri):
        assert schema_uri in self.schema_cache, f"{schema_uri} would come from the network"
        return super()._get_schema(schema_uri)

    def validate_extension(self, stac_dict, stac_object_type, stac_version, extension_id, href=None):
        if extension_id not in self.schema_cache:
            return None
        return super().validate_extension(stac_dict, stac_object_type, stac_version, extension_id, href)


def lakes(dates=("2023-07-01", "2023-07-01", "2023-07-21"), **columns):
    shapes = [
        shapely.box(497_100 + 50 * i, 3_079_500, 497_140 + 50 * i, 3_079_600) for i in range(len(dates))
    ]
    table = {"lake_id": [f"lake-{i}" for i in range(len(dates))], "time": pd.to_datetime(list(dates))}
    return geopandas.GeoDataFrame({**table, **columns}, geometry=shapes, crs="EPSG:32645")


def seg():
    """Three dates: 1, 11 and 21 July."""
    found = lake_map(empty(3), chunks={"time": 1})
    found.attrs = {"model": "toy", "model_sha256": "ab", "threshold": 0.5}
    return found


def validate(collection):
    """Core schemas of everything; returns the ids of all the schemas that were used."""
    used = set()
    for thing in (collection, *collection.get_items()):
        used.update(thing.validate(validator=Offline()))
    return used


def read(path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing deprecated is read either
        return pystac.Collection.from_file(str(path))


@pytest.fixture
def written(tmp_path):
    with raising_scheduler():  # nothing of seg is computed
        return write_stac(lakes(), tmp_path / "valley", seg=seg(), model=get_spec("terramind-tiny-demo"))


def test_collection_items_and_model_are_valid(written):
    used = validate(read(written))
    assert any("item" in schema for schema in used)
    if SCHEMAS:
        assert {LABEL_SCHEMA, MLM_SCHEMA} <= used


def extension(name):
    """A class of pystac that reads the fields of an extension; deprecated or not, it is a second opinion."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(f"pystac.extensions.{name}")


def test_pystac_reads_the_label_that_was_written(written):
    label = extension("label")
    item = next(iter(read(written).get_items("lakes-20230701T000000Z")))
    assert label.SCHEMA_URI == LABEL_SCHEMA
    assert label.LabelExtension.has_extension(item)
    found = label.LabelExtension.ext(item)
    assert found.label_type == label.LabelType.VECTOR
    assert found.label_properties == ["class"]
    assert [(each.name, each.classes) for each in found.label_classes] == [("class", ["lake"])]
    assert found.label_description.startswith("Outlines of 2 lake parts")
    assert found.label_tasks == ["segmentation"]
    assert found.label_methods == [label.LabelMethod.AUTOMATED]
    overview = found.label_overviews[0]
    assert overview.property_key == "class"
    assert [(each.name, each.count) for each in overview.counts] == [("lake", 2)]


def test_pystac_reads_the_model_that_was_written(written):
    mlm = extension("mlm")
    spec = get_spec("terramind-tiny-demo")
    item = next(iter(read(written).get_items("model-terramind-tiny-demo")))
    assert mlm.MLMExtension.get_schema_uri() == MLM_SCHEMA
    assert mlm.MLMExtension.has_extension(item)
    found = mlm.MLMExtension.ext(item)
    assert (found.mlm_name, found.architecture) == (spec.name, spec.factory)
    assert (found.tasks, found.framework, found.pretrained) == (
        [mlm.TaskType.SEMANTIC_SEGMENTATION],
        "PyTorch",
        True,
    )
    for one, source in zip(found.input, spec.inputs, strict=True):
        assert (one.name, one.bands) == (source.modality, list(source.bands))
        assert one.input.shape == [-1, len(source.bands), spec.window, spec.window]
        assert one.input.dim_order == ["batch", "bands", "height", "width"]
        assert one.input.data_type == mlm.DataType.FLOAT32
        # the schema has a list, of which pystac 1.15 makes one object
        scales = [mlm.ValueScaling(each) for each in one.properties["value_scaling"]]
        scales = [(each.type, each.mean, each.stddev) for each in scales]
        assert scales == [("z-score", *pair) for pair in zip(source.mean, source.std, strict=True)]
    (output,) = found.output
    assert output.result.shape == [-1, len(spec.classes), spec.window, spec.window]
    assert [each.value for each in output.classes] == list(range(len(spec.classes)))
    asset = mlm.AssetGeneralMLMExtension.ext(item.assets["model"])
    assert asset.artifact_type == "xglof.ModelSpec"


def test_a_fault_is_found(written):
    item = next(iter(read(written).get_items("lakes-20230701T000000Z")))
    item.bbox = [87.0]
    with pytest.raises(pystac.STACValidationError):
        item.validate(validator=Offline())


@pytest.mark.skipif(not SCHEMAS, reason="XGLOF_STAC_SCHEMAS names no folder of schemas")
@pytest.mark.parametrize(
    ("name", "field", "schema"),
    [
        ("lakes-20230701T000000Z", "label:description", LABEL_SCHEMA),
        ("model-terramind-tiny-demo", "mlm:output", MLM_SCHEMA),
    ],
)
def test_a_fault_of_an_extension_is_found(written, name, field, schema):
    item = next(iter(read(written).get_items(name)))
    item.validate(validator=Offline())
    del item.properties[field]
    with pytest.raises(pystac.STACValidationError, match=schema):
        item.validate(validator=Offline())


def test_every_date_has_an_item_and_a_file_of_its_lakes(written):
    collection = read(written)
    items = {item.id: item for item in collection.get_items() if item.datetime is not None}
    assert sorted(items) == [f"lakes-202307{day}T000000Z" for day in ("01", "11", "21")]
    counts = {}
    for name, item in items.items():
        table = geopandas.read_parquet(item.assets["lakes"].get_absolute_href())
        counts[name[-10:-8]] = len(table)
        assert item.properties["xglof:lake_count"] == len(table)
        assert (table["class"] == "lake").all()
        assert table.crs == "EPSG:32645"
        assert (table["time"].dt.strftime("%Y%m%d") == item.datetime.strftime("%Y%m%d")).all()
    assert [item.properties["xglof:lake_count"] for item in items.values()].count(0) == 1
    none = items["lakes-20230711T000000Z"].properties["label:description"]
    assert "no proof" in none


def test_items_say_where_what_and_by_which_model(written):
    item = next(iter(read(written).get_items("lakes-20230701T000000Z")))
    west, south, east, north = item.bbox
    corner = geopandas.GeoSeries([shapely.Point(497_000, 3_080_000)], crs="EPSG:32645").to_crs(4326)[0]
    assert (west, north) == pytest.approx((corner.x, corner.y), abs=1e-5)
    assert south < north
    assert west < east
    assert shapely.geometry.shape(item.geometry).bounds == pytest.approx(item.bbox, abs=1e-6)
    assert item.properties["label:type"] == "vector"
    assert item.properties["label:methods"] == ["automated"]
    assert item.properties["label:classes"] == [{"name": "class", "classes": ["lake"]}]
    assert item.properties["xglof:model"] == "toy"
    assert item.properties["xglof:threshold"] == 0.5
    assert item.get_single_link("derived_from").get_absolute_href().endswith("model-terramind-tiny-demo.json")


def test_limits_of_a_models_values_are_told_with_their_scaling(tmp_path):
    spec = get_spec("cryosentinel").with_weights(Weights("/made-up", "0" * 64))
    collection = read(write_stac(lakes(), tmp_path / "stac", model=spec))
    validate(collection)
    item = next(iter(collection.get_items("model-cryosentinel")))
    for one, source in zip(item.properties["mlm:input"], spec.inputs, strict=True):
        for scaling, mean, std in zip(one["value_scaling"], source.mean, source.std, strict=True):
            if source.clip is None:
                assert scaling == {"type": "z-score", "mean": mean, "stddev": std}
                continue
            wanted = f"(clip(A, {source.clip[0]}, {source.clip[1]}) - ({mean})) / {std}"
            assert scaling == {"type": "processing", "format": "gdal-calc", "expression": wanted}
    assert {source.clip is None for source in spec.inputs} == {True, False}


def test_the_model_item_says_what_the_network_takes_and_gives(written):
    spec = get_spec("terramind-tiny-demo")
    item = next(iter(read(written).get_items("model-terramind-tiny-demo")))
    assert MLM_SCHEMA in item.stac_extensions
    assert item.geometry is None
    assert [each["name"] for each in item.properties["mlm:input"]] == [each.modality for each in spec.inputs]
    first = item.properties["mlm:input"][0]
    assert first["bands"] == list(spec.inputs[0].bands)
    assert first["input"]["shape"] == [-1, len(spec.inputs[0].bands), spec.window, spec.window]
    assert first["value_scaling"][0]["mean"] == spec.inputs[0].mean[0]
    assert item.properties["mlm:output"][0]["result"]["shape"][1] == len(spec.classes)
    assert item.properties["xglof:model_sha256"] == spec.weights.sha256
    stored = json.loads(Path(item.assets["model"].get_absolute_href()).read_text())
    assert stored["factory"] == spec.factory
    assert stored["weights"]["sha256"] == spec.weights.sha256


def test_a_folder_of_weights_on_this_machine_is_not_told(tmp_path):
    inputs = (ModelInput("S1RTC", (0.0, 0.0), (1.0, 1.0)),)
    weights = Weights("/home/somebody/w.safetensors", "cd")
    spec = ModelSpec("my model 1", "a.b:c", inputs, classes=("glacier ice", "lake"), weights=weights)
    path = write_stac(lakes(), tmp_path / "valley", model=spec)
    validate(read(path))
    texts = "".join(each.read_text() for each in path.parent.rglob("*.json"))
    assert "somebody" not in texts
    assert "w.safetensors" in texts


def test_the_folder_can_be_moved(written, tmp_path):
    moved = written.parent.rename(tmp_path / "elsewhere")
    for each in moved.rglob("*.json"):
        assert str(tmp_path) not in each.read_text()
    collection = read(moved / "collection.json")
    assert len(list(collection.get_items())) == 4
    for item in collection.get_items():
        for asset in item.assets.values():
            assert Path(asset.get_absolute_href()).is_file()


def test_composites_have_their_interval(tmp_path):
    ends = pd.to_datetime(["2023-07-11", "2023-07-21", "2023-07-31"])
    found = seg()
    bounds = [list(pair) for pair in zip(found["time"].to_numpy(), ends.to_numpy(), strict=True)]
    found = found.assign_coords(time_bnds=(("time", "bnds"), bounds))
    collection = read(write_stac(lakes(), tmp_path / "valley", seg=found))
    validate(collection)
    item = next(iter(collection.get_items("lakes-20230711T000000Z")))
    assert item.properties["start_datetime"].startswith("2023-07-11")
    assert item.properties["end_datetime"].startswith("2023-07-21")
    assert collection.extent.temporal.intervals[0][1].day == 31


def test_lakes_alone_bring_their_own_dates_and_bounds(tmp_path):
    collection = read(write_stac(lakes(verified=[True, False, False]), tmp_path / "valley"))
    validate(collection)
    items = sorted(collection.get_items(), key=lambda item: item.id)
    assert [item.datetime.date().isoformat() for item in items] == DATES
    assert [item.properties["label:methods"] for item in items] == [["automated", "manual"], ["automated"]]
    assert items[0].bbox == pytest.approx(lakes().to_crs(4326).total_bounds, abs=1e-6)


def test_dates_of_any_fineness_keep_their_lakes(tmp_path):
    fine = [f"2023-07-01T04:52:0{second}" for second in ("0.000000001", "0.250000000", "1.000000000")]
    collection = read(write_stac(lakes(fine), tmp_path / "valley"))
    validate(collection)
    counts = {item.id: item.properties["xglof:lake_count"] for item in collection.get_items()}
    assert counts == {
        "lakes-20230701T045200Z": 1,
        "lakes-20230701T045200.250000Z": 1,
        "lakes-20230701T045201Z": 1,
    }


def test_a_table_from_a_geopackage_or_with_a_time_zone_keeps_its_dates(tmp_path):
    found = seg()
    fine = found["time"].to_numpy() + 987_654_321 * np.timedelta64(1, "ns")
    table = lakes()
    table["time"] = (
        (table["time"] + pd.Timedelta("987ms")).dt.tz_localize("UTC").dt.tz_convert("Asia/Kathmandu")
    )
    collection = read(write_stac(table, tmp_path / "valley", seg=found.assign_coords(time=fine)))
    counts = [item.properties["xglof:lake_count"] for item in collection.get_items()]
    assert counts == [2, 0, 1]


def test_a_segmentation_without_any_lake_has_items(tmp_path):
    collection = read(write_stac(lakes().iloc[:0], tmp_path / "valley", seg=seg()))
    validate(collection)
    assert len(list(collection.get_items())) == 3


def test_only_a_collection_is_replaced_and_only_when_asked(tmp_path, written):
    with pytest.raises(OutputError, match="is there already; pass overwrite=True"):
        write_stac(lakes(), written.parent)
    write_stac(lakes(), written.parent, overwrite=True)
    assert len(list(read(written).get_items())) == 2
    assert os.listdir(tmp_path) == ["valley"]
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_text("a")
    with pytest.raises(OutputError, match="holds no STAC collection"):
        write_stac(lakes(), tmp_path / "photos", overwrite=True)
    assert (tmp_path / "photos" / "a.jpg").read_text() == "a"


@pytest.mark.parametrize(
    ("table", "kwargs", "message"),
    [
        (lakes().drop(columns="time"), {}, "no time or no geometry"),
        (lakes().set_crs(None, allow_override=True), {}, "no CRS"),
        (lakes().assign(time=pd.NaT), {}, "no date"),
        (lakes().iloc[:0], {}, "no lakes and no dates"),
        (lakes(["2020-01-01"]), {"seg": seg()}, "a date that seg does not have"),
    ],
)
def test_tables_that_are_none_are_refused(tmp_path, table, kwargs, message):
    with pytest.raises(CubeError, match=message):
        write_stac(table, tmp_path / "valley", **kwargs)
    assert not list(tmp_path.iterdir())
