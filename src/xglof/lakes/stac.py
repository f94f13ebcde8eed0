"""Lakes as a static STAC collection: an item a date with the label extension, and the model with mlm."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xglof.errors import CubeError, OutputError
from xglof.lakes.export import write_lakes
from xglof.lakes.layer import lake_layer
from xglof.lakes.reading import date_places, naive_utc

if TYPE_CHECKING:
    import geopandas
    import pystac
    import xarray as xr

    from xglof.models.spec import ModelSpec

# The fields are written by hand: pystac deprecates its class for labels, and that for mlm comes late (1.13).
LABEL_SCHEMA = "https://stac-extensions.github.io/label/v1.0.1/schema.json"
MLM_SCHEMA = "https://stac-extensions.github.io/mlm/v1.4.0/schema.json"
_PARQUET = "application/vnd.apache.parquet"
_TASKS = ["semantic-segmentation"]
_FROM_ATTRS = ("model", "model_sha256", "threshold", "composite", "source")


def write_stac(
    lakes: geopandas.GeoDataFrame,
    folder: str | os.PathLike[str],
    *,
    seg: xr.Dataset | None = None,
    model: ModelSpec | None = None,
    licence: str = "other",
    overwrite: bool = False,
) -> Path:
    """The ``collection.json`` of a static, self-contained STAC collection of lakes.

    Every date has an item, its folder and a GeoParquet of that date's lakes beside it; a date without lakes
    has an empty one, and says so. All links are relative: the folder can be moved, or served as it is.

    Parameters
    ----------
    lakes
        A row a lake part and date, with ``time`` (in UTC, or with a time zone) and a CRS.
    folder
        Where to write; its name becomes the collection's id. It is written aside and renamed.
    seg
        Segmentation that the lakes come from. Its dates have items whether they have lakes or not, its grid
        is the items' geometry, and ``time_bnds`` of composites their interval. Nothing of it is computed.
        ``None``: the dates and the bounds of ``lakes``.
    model
        Model that mapped the lakes: it becomes an item of the mlm extension that the others link to.
    licence
        SPDX identifier of the data's licence, or ``"other"``.
    overwrite
        Replace a folder that holds a STAC collection.

    Returns
    -------
    pathlib.Path
        Items have EPSG:4326 geometry and bbox, ``label:*``, ``xglof:lake_count`` and, from the attributes of
        ``seg``, ``xglof:model``, ``xglof:model_sha256``, ``xglof:threshold``. The label is the column
        ``class`` of the GeoParquet, ``"lake"`` in all rows.

    Raises
    ------
    CubeError
        Lakes without CRS or dates, dates of lakes that ``seg`` does not have, or neither lakes nor ``seg``.
    OutputError
        The folder is there already, or is no STAC collection.

    References
    ----------
    STAC 1.1.0; label extension 1.0.1; mlm extension 1.4.0.
    """
    import pystac

    target = Path(folder).resolve()
    _check(lakes, target, overwrite)
    lakes = _at_dates(lakes, seg)
    dates = _dates(lakes, seg)
    outline = _outline(lakes, seg)
    attrs = {} if seg is None else seg.attrs
    bounds = [round(float(edge), 7) for edge in outline.bounds]
    extent = pystac.Extent(
        pystac.SpatialExtent([bounds]), pystac.TemporalExtent([[min(dates)[0], max(dates)[-1]]])
    )
    mapper = attrs.get("model") or getattr(model, "name", "xglof")
    collection = pystac.Collection(
        id=target.name,
        description=f"Glacial lakes mapped by {mapper}, by date.",
        extent=extent,
        license=licence,
    )
    made_by = None if model is None else _model_item(model, extent)
    if made_by is not None:
        collection.add_item(made_by)
    for interval in dates:
        item = _item(_of_date(lakes, interval[0]), interval, outline, attrs)
        if made_by is not None:
            item.add_link(pystac.Link("derived_from", made_by, pystac.MediaType.GEOJSON))
        collection.add_item(item)
    _save(collection, lakes, model, target)
    return target / "collection.json"


def _check(lakes: geopandas.GeoDataFrame, target: Path, overwrite: bool) -> None:
    if "time" not in getattr(lakes, "columns", ()) or not hasattr(lakes, "to_crs"):
        raise CubeError("the table of lakes has no time or no geometry; pass rows of find_lakes() or track()")
    if lakes.crs is None:
        raise CubeError("the GeoDataFrame of lakes has no CRS; set the one its numbers are in with set_crs()")
    if lakes["time"].isna().any():
        raise CubeError("lakes have no date (NaT), and a STAC item needs one; map a cube with time")
    if not target.exists():
        return
    if not overwrite:
        raise OutputError(f"{target} is there already; pass overwrite=True or give another folder")
    try:
        kind = json.loads((target / "collection.json").read_text(encoding="utf-8"))["type"]
    except (OSError, ValueError, KeyError, TypeError):
        kind = None
    if kind != "Collection":
        raise OutputError(f"{target} holds no STAC collection and is not replaced; give another folder")


def _at_dates(lakes: geopandas.GeoDataFrame, seg: xr.Dataset | None) -> geopandas.GeoDataFrame:
    """The table with times in UTC, those of ``seg`` where they are the same to the millisecond."""
    dates = naive_utc(lakes["time"])
    if seg is not None and "time" in seg.dims:
        places = date_places(seg.indexes["time"], dates)
        if (places < 0).any():
            raise CubeError(
                f"lakes are of {dates[places < 0][0]}, a date that seg does not have; pass the seg they come "
                "from"
            )
        dates = naive_utc(seg.indexes["time"])[places]
    dated: geopandas.GeoDataFrame = lakes.assign(time=dates)
    return dated


def _dates(lakes: geopandas.GeoDataFrame, seg: xr.Dataset | None) -> list[tuple[Any, ...]]:
    """Date (or start and end, of composites) of each item, as datetimes in UTC."""
    import pandas as pd

    own = pd.DatetimeIndex(lakes["time"].unique()).sort_values()
    if seg is None or "time" not in seg.dims:
        if not len(own):
            raise CubeError("there are no lakes and no dates; pass seg, the segmentation they come from")
        return [(date.to_pydatetime(warn=False),) for date in own.tz_localize("UTC")]
    times = pd.DatetimeIndex(seg["time"].to_numpy())
    if not len(times):
        raise CubeError("seg has no dates; a STAC collection needs one at least")
    stamps = [times]
    if "time_bnds" in seg.coords:
        stamps = [times, pd.DatetimeIndex(np.asarray(seg["time_bnds"])[:, 1])]
    return sorted(
        tuple(stamp.to_pydatetime(warn=False) for stamp in both)
        for both in zip(*(each.tz_localize("UTC") for each in stamps), strict=True)
    )


def _of_date(lakes: geopandas.GeoDataFrame, date: Any) -> geopandas.GeoDataFrame:
    """Rows of a date; Python's dates end at microseconds, the table's at nanoseconds."""
    import pandas as pd

    return lakes[lakes["time"].dt.floor("us") == pd.Timestamp(date).tz_localize(None)]


def _outline(lakes: geopandas.GeoDataFrame, seg: xr.Dataset | None) -> Any:
    """Polygon in EPSG:4326 of the grid, or the box around the lakes."""
    import shapely

    if seg is not None:
        return lake_layer(seg).odc.geobox.extent.to_crs("EPSG:4326", resolution="auto").geom
    return shapely.box(*lakes.to_crs("EPSG:4326").total_bounds)


def _item(
    lakes: geopandas.GeoDataFrame, interval: tuple[Any, ...], outline: Any, attrs: dict[str, Any]
) -> pystac.Item:
    """The item of one date."""
    import pystac
    import shapely

    described = f"Outlines of {len(lakes)} lake parts, along the edges of pixels."
    if not len(lakes):
        described = "No outlines: no lake was seen at this date, which is no proof that there was none."
    fraction = f".{interval[0]:%f}" if interval[0].microsecond else ""
    by_hand = "verified" in lakes and lakes["verified"].eq(True).any()
    properties: dict[str, Any] = {
        "label:type": "vector",
        "label:properties": ["class"],
        "label:classes": [{"name": "class", "classes": ["lake"]}],
        "label:description": described,
        "label:tasks": ["segmentation"],
        "label:methods": ["automated", "manual"] if by_hand else ["automated"],
        "label:overviews": [{"property_key": "class", "counts": [{"name": "lake", "count": len(lakes)}]}],
        "xglof:lake_count": len(lakes),
        **{f"xglof:{name}": _plain(attrs[name]) for name in _FROM_ATTRS if name in attrs},
    }
    item = pystac.Item(
        id=f"lakes-{interval[0]:%Y%m%dT%H%M%S}{fraction}Z",
        geometry=json.loads(shapely.to_geojson(shapely.set_precision(outline, 1e-7))),
        bbox=[round(float(edge), 7) for edge in outline.bounds],
        datetime=interval[0],
        start_datetime=interval[0] if len(interval) > 1 else None,
        end_datetime=interval[1] if len(interval) > 1 else None,
        properties=properties,
        stac_extensions=[LABEL_SCHEMA],
    )
    item.add_asset("lakes", pystac.Asset("./lakes.parquet", "lake outlines", None, _PARQUET, ["data"]))
    return item


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _model_item(model: ModelSpec, extent: pystac.Extent) -> pystac.Item:
    """The item of the model: it has no place, and the dates are those that it was used on."""
    import pystac

    start, end = extent.temporal.intervals[0]
    bands = [{"name": name} for name in sorted({name for source in model.inputs for name in source.bands})]
    properties: dict[str, Any] = {
        "mlm:name": model.name,
        "mlm:architecture": model.factory,
        "mlm:tasks": _TASKS,
        "mlm:framework": "PyTorch",
        "mlm:pretrained": model.weights is not None,
        "mlm:input": _model_input(model),
        "mlm:output": [_model_output(model)],
        "bands": bands,
        "xglof:model_sha256": model.weights.sha256 if model.weights else "",
        "xglof:model_licence": model.licence,
        **({"description": model.summary} if model.summary else {}),
    }
    item = pystac.Item(
        id=f"model-{re.sub(r'[^A-Za-z0-9_.-]', '-', model.name)}",
        geometry=None,
        bbox=None,
        datetime=None,
        start_datetime=start,
        end_datetime=end,
        properties=properties,
        stac_extensions=[MLM_SCHEMA],
    )
    spec = pystac.Asset(
        "./model.json", "the model as xglof takes it", None, "application/json", ["mlm:model"]
    )
    # mlm asks for the bands in the item's properties, STAC allows them there only if an asset has them too
    spec.extra_fields = {"mlm:artifact_type": "xglof.ModelSpec", "bands": bands}
    item.add_asset("model", spec)
    return item


def _model_input(model: ModelSpec) -> list[dict[str, Any]]:
    """What the network takes: an input a modality, standardised band by band."""
    return [
        {
            "name": source.modality,
            "bands": list(source.bands),
            "input": {
                "shape": [-1, len(source.bands), model.window, model.window],
                "dim_order": ["batch", "bands", "height", "width"],
                "data_type": "float32",
            },
            "value_scaling": [
                _scaling(source.clip, mean, std) for mean, std in zip(source.mean, source.std, strict=True)
            ],
        }
        for source in model.inputs
    ]


def _scaling(clip: tuple[float, float] | None, mean: float, std: float) -> dict[str, Any]:
    """How a band is standardised; mlm has one object for it, so two steps are an expression."""
    if clip is None:
        return {"type": "z-score", "mean": mean, "stddev": std}
    lowest, highest = clip
    expression = f"(clip(A, {lowest!r}, {highest!r}) - ({mean!r})) / {std!r}"
    return {"type": "processing", "format": "gdal-calc", "expression": expression}


def _model_output(model: ModelSpec) -> dict[str, Any]:
    """What the network gives."""
    return {
        "name": "logits",
        "tasks": _TASKS,
        "result": {
            "shape": [-1, len(model.classes), model.window, model.window],
            "dim_order": ["batch", "class", "height", "width"],
            "data_type": "float32",
        },
        "description": f"a channel a class, to become probabilities by {model.activation}",
        "classification:classes": [
            {"value": number, "name": re.sub(r"\W", "_", name), "description": name}
            for number, name in enumerate(model.classes)
        ],
    }


def _model_text(model: ModelSpec) -> str:
    """The spec as JSON, without the folder that its weights lie in on this machine."""
    spec = asdict(model)
    if spec["weights"] and Path(spec["weights"]["uri"]).is_absolute():
        spec["weights"]["uri"] = Path(spec["weights"]["uri"]).name
    return json.dumps(spec, indent=2) + "\n"


def _save(
    collection: pystac.Collection, lakes: geopandas.GeoDataFrame, model: ModelSpec | None, target: Path
) -> None:
    """Write everything aside and put it in its place when it is complete."""
    import pystac

    if not target.parent.is_dir():
        raise OutputError(f"the folder {target.parent} is not there; make it first")
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as aside:
        made, old = Path(aside) / "new", Path(aside) / "old"
        collection.normalize_hrefs(str(made))
        for item in collection.get_items():
            place = made / item.id
            place.mkdir(parents=True)
            if item.datetime is not None:
                here = _of_date(lakes, item.datetime)
                write_lakes(here.assign(**{"class": "lake"}), place / "lakes.parquet")
            elif model is not None:
                (place / "model.json").write_text(_model_text(model), encoding="utf-8")
        collection.save(pystac.CatalogType.SELF_CONTAINED)
        if target.exists():
            os.replace(target, old)
        try:
            os.replace(made, target)
        except OSError:
            if old.exists():
                os.replace(old, target)
            raise
        shutil.rmtree(old, ignore_errors=True)
