"""The segmentation as a Dataset: its layers named, described and cut from the blocks' results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
import xarray as xr

from xglof._version import __version__
from xglof.bands import WATER_RESOLUTION_M
from xglof.cube.flags import flag_attrs
from xglof.engine.job import Job

_UNOBSERVED = 255
_FLOATS = {
    "probability": ("lake_probability", "probability of lake"),
    "entropy": ("entropy", "Shannon entropy of the classes' probabilities, as a share of the most"),
    "tile_mismatch": (
        "tile_mismatch",
        "share, by weight, of the windows over a pixel that contradict the map",
    ),
}


def name_layers(
    cube: xr.Dataset,
    stacked: da.Array,
    dims: tuple[str, str],
    job: Job,
    wanted: tuple[str, ...],
    threshold: float,
) -> xr.Dataset:
    """The wanted layers of the stacked result, with ``lake`` and ``flags``; all of it is blockwise.

    Parameters
    ----------
    cube
        North-up; gives coordinates and provenance.
    stacked
        ``(planes, time, y, x)`` float32 (:func:`xglof.engine.graph.segment_graph`).
    dims
        Names of the rows' and columns' dims.
    job
        Which says where each layer lies.
    wanted
        Names of :data:`xglof.engine.job.Layer`.
    threshold
        ``lake`` is 1 where the probability is at least this.
    """
    timed = "time" in cube.dims
    out_dims = ("time", *dims) if timed else dims
    planes = job.planes
    variables: dict[str, Any] = {}
    for layer in (name for name in _FLOATS if name in wanted):
        name, described = _FLOATS[layer]
        values = _plane(stacked, _pick, "float32", timed, planes[layer].start)
        variables[name] = (out_dims, values, {"long_name": described, "units": "1"})
    if "logit" in wanted:
        part = da.map_blocks(
            np.copy, stacked[planes["logit"]], dtype="float32", meta=np.empty((0,) * 4, "float32")
        )  # not a view: that would keep the whole stack
        attrs = {"long_name": "blended logit", "units": "1"}
        variables["logit"] = (("class", *out_dims), part if timed else part[:, 0], attrs)
    if "classes" in wanted:
        values = _plane(stacked, _whole, "uint8", timed, planes["classes"].start, kind="uint8")
        variables["classes"] = (out_dims, values, _map_attrs("likeliest class", job.class_names))
    lake = _plane(stacked, _classify, "uint8", timed, planes["probability"].start, threshold)
    variables["lake"] = (out_dims, lake, _map_attrs("lake map", ("land", "lake")))
    flags = _plane(stacked, _whole, "uint16", timed, planes["flags"].start, kind="uint16")
    variables["flags"] = (out_dims, flags, flag_attrs())
    coords = {name: coord for name, coord in cube.coords.items() if set(coord.dims) <= {*out_dims, "bnds"}}
    if "logit" in wanted:
        coords["class"] = xr.DataArray(list(job.spec.classes), dims="class")
    seg = xr.Dataset(variables, coords=coords, attrs=_attrs(cube, job, threshold))
    for variable in seg.data_vars.values():
        variable.encoding["grid_mapping"] = _grid_mapping(cube)
    return seg


def _plane(
    stacked: da.Array, function: Any, dtype: str, timed: bool, *arguments: object, **options: object
) -> da.Array:
    """A function of every block's stack: without the axis of planes and, where there is none, of time."""
    plane: da.Array = da.map_blocks(
        function,
        stacked,
        *arguments,
        timed=timed,
        **options,
        dtype=dtype,
        drop_axis=[0] if timed else [0, 1],
        meta=np.empty((0,) * (3 if timed else 2), dtype),
    )
    return plane


def _pick(stack: npt.NDArray[np.float32], plane: int, *, timed: bool) -> npt.NDArray[np.float32]:
    part = stack[plane] if timed else stack[plane, 0]
    return np.ascontiguousarray(part)  # not a view: that would keep the whole stack


def _whole(
    stack: npt.NDArray[np.float32], plane: int, *, timed: bool, kind: str
) -> npt.NDArray[np.unsignedinteger[Any]]:
    return np.nan_to_num(_pick(stack, plane, timed=timed), nan=_UNOBSERVED).astype(kind)


def _classify(
    stack: npt.NDArray[np.float32], plane: int, threshold: float, *, timed: bool
) -> npt.NDArray[np.uint8]:
    probability = _pick(stack, plane, timed=timed)
    lake = (probability >= np.float32(threshold)).astype(np.uint8)  # a NaN is at least nothing
    lake[np.isnan(probability)] = _UNOBSERVED
    return lake


def _map_attrs(described: str, names: tuple[str, ...]) -> dict[str, object]:
    return {
        "long_name": described,
        "flag_values": np.array([*range(len(names)), _UNOBSERVED], "uint8"),
        "flag_meanings": " ".join([*(name.replace(" ", "_") for name in names), "unobserved"]),
        "nodata": _UNOBSERVED,
    }


def _grid_mapping(cube: xr.Dataset) -> str:
    names = {v.encoding.get("grid_mapping") or v.attrs.get("grid_mapping") for v in cube.data_vars.values()}
    return next((str(name) for name in names if name), "spatial_ref")


def _attrs(cube: xr.Dataset, job: Job, threshold: float) -> dict[str, Any]:
    spec = job.spec
    attrs: Mapping[str, Any] = {
        "Conventions": "CF-1.11",
        "title": "glacial lakes",
        "source": f"xglof {__version__}",
        "model": spec.name,
        "model_sha256": spec.weights.sha256 if spec.weights else "",
        "model_licence": spec.licence,
        "caveat": spec.caveat,
        "window_px": spec.window,
        "stride_px": job.y.stride,
        "threshold": threshold,
        "numerics": job.numerics,
    }
    provenance = ("catalog", "dem_epoch", "composite", "composite_window")
    kept = {name: cube.attrs[name] for name in provenance if name in cube.attrs}
    return {**attrs, **kept, **_effective_resolution(cube, job)}


def _effective_resolution(cube: xr.Dataset, job: Job) -> dict[str, float]:
    """Ground resolution of the coarsest band that decides on water; nothing where all have 10 m."""
    read = [band for source in job.spec.inputs for band in source.bands if band in cube]
    coarse = [WATER_RESOLUTION_M[band] for band in read if band in WATER_RESOLUTION_M]
    return {"effective_resolution_m": max(coarse)} if coarse else {}
