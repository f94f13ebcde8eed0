"""``segment``: from a cube to a lazy segmentation, checked before a graph is built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
import xarray as xr

from xglof._version import __version__
from xglof.bands import MODALITIES, SAR_BANDS, resolve
from xglof.cube.flags import flag_attrs
from xglof.engine.graph import segment_graph
from xglof.engine.job import Augmentation, Job
from xglof.engine.lattice import Axis, pixel_index, stride_of
from xglof.errors import CubeError, ModelError
from xglof.models.registry import get_spec
from xglof.models.spec import ModelSpec

#: Side of a block, pixels: a multiple of 224 and of its usual strides 168, 112 and 56.
BLOCK = 2016
#: Windows a forward pass by kind of device: part of the numerics key, so never a matter of free memory.
_BATCH = {"cpu": 4, "cuda": 32}
_MOST_OVERLAP = 0.9
_UNOBSERVED = 255
#: How far, up or down, a cube's pixel may be from the size that a model was made for.
_RESOLUTION_FACTOR = 1.25
_METRES_A_DEGREE = 111_320.0


def segment(
    cube: xr.Dataset,
    *,
    model: str | ModelSpec = "terramind-tiny-demo",
    overlap: float = 0.5,
    tta: Augmentation = None,
    batch_size: int | None = None,
    device: str = "auto",
    threshold: float = 0.5,
    chunks: int | tuple[int, int] | None = None,
) -> xr.Dataset:
    """Lazy map of lakes from a cube, by a model over overlapping windows.

    Parameters
    ----------
    cube
        Dims ``(time, y, x)`` or ``(y, x)``, with the bands of the model's modalities (optional modalities
        may be absent) in the units of :mod:`xglof.bands`, a CRS, and ``flags`` where there are any. Names
        such as ``blue`` or ``B02_10m`` are understood.
    model
        A name of :func:`xglof.models.registry.names`, or a spec.
    overlap
        Share of its width that a window has in common with the next, 0 to 0.9.
    tta
        ``"flip"``: the logits are averaged over the four flips, at four times the work.
    batch_size
        Windows a forward pass, at least 2; by default a constant of the kind of device. Another batch gives
        results that differ in the last bits.
    device
        ``"cpu"``, ``"cuda"``, ``"cuda:1"``, or ``"auto"`` for the first GPU if there is one.
    threshold
        ``lake`` is 1 where the probability is at least this.
    chunks
        Side of an output block, pixels, or (rows, columns); 2016 by default, on the grid's own lattice.

    Returns
    -------
    xarray.Dataset
        On the cube's grid and times, lazily:

        - ``lake_probability``: float32, 0 to 1, NaN where unobserved;
        - ``lake``: uint8, 0 land, 1 lake, 255 unobserved;
        - ``flags``: uint16, the cube's with ``s2_used`` and ``s1_used`` added.

    Raises
    ------
    CubeError
        If the cube has no CRS, no band of a required modality or part of one, a rotated grid, another axis
        order than y, x, pixels of another size than the model was made for, or ``flags`` that are no bits.
    ModelError
        If the model is unknown, its weights are absent or damaged, or an argument is out of its range.

    Notes
    -----
    The same bits come out for any chunking, worker count and sub-area (one window away from the edge) under
    one numerics key, which is written to ``attrs["numerics"]``. A task holds one block of one time step with
    a margin of a window: at 2016 px, 15 bands and half overlap 0.7 GB for ``water-index``, 1.8 GB for
    ``terramind-tiny-demo``, beside the network and its libraries.
    Blocks smaller than the window cost more tasks, for each reads all blocks that its windows touch.

    Examples
    --------
    A lake of four pixels a side, dark in the infrared, in dry ground:

    >>> from odc.geo.geobox import GeoBox
    >>> from odc.geo.xr import wrap_xr
    >>> grid = GeoBox.from_bbox((500_000, 3_100_000, 500_120, 3_100_080), "EPSG:32645", resolution=10)
    >>> lake = np.zeros(grid.shape, bool)
    >>> lake[2:6, 3:7] = True
    >>> bands = {"B03": (900, 1200), "B08": (300, 2000), "B11": (80, 2500)}
    >>> planes = {name: np.where(lake, *pair).astype("uint16") for name, pair in bands.items()}
    >>> cube = xr.Dataset({name: wrap_xr(plane, grid) for name, plane in planes.items()})
    >>> seg = segment(cube, model="water-index", device="cpu")
    >>> seg["lake"].chunks, int(seg["lake"].sum())
    (((8,), (12,)), 16)
    """
    spec = get_spec(model) if isinstance(model, str) else model
    _check_arguments(overlap, batch_size, threshold, tta)
    names = resolve(cube.data_vars)
    cube = cube.rename({met: name for met, name in names.items() if name not in cube.coords})
    dims = _spatial_dims(cube)
    turned = _turned(cube, dims)
    cube = cube.isel(turned)
    _check_resolution(cube, spec)
    inputs = _inputs(cube, spec, dims)
    job = _job(cube, spec, overlap, tta, batch_size, device)
    blocks = _block_chunks(job, chunks)
    if spec.weights is not None:
        spec.weights.check()
    variables = {name: _aligned(array, dims, blocks) for name, array in inputs.items()}
    stacked = segment_graph(job, variables)
    return _dataset(cube, stacked, variables.get("flags"), dims, job, threshold).isel(turned)


def _check_arguments(overlap: float, batch_size: int | None, threshold: float, tta: object) -> None:
    if not 0 <= overlap <= _MOST_OVERLAP:
        raise ModelError(f"overlap is {overlap}; give a share from 0 to {_MOST_OVERLAP}")
    if batch_size is not None and batch_size < 2:  # one window alone takes other kernels, with other bits
        raise ModelError(f"batch_size is {batch_size}; it must be at least 2")
    if not 0 < threshold <= 1:
        raise ModelError(f"threshold is {threshold}; give a probability above 0 and up to 1")
    if tta not in (None, "flip"):
        raise ModelError(f"tta is {tta!r}; it is None or 'flip'")


def _geobox(cube: xr.Dataset) -> Any:
    import odc.geo.xr  # noqa: F401  (registers .odc)

    geobox = cube.odc.geobox
    if geobox is None or geobox.crs is None:
        raise CubeError(
            "the cube has no CRS or no regular grid; write one with cube.odc.assign_crs('EPSG:...') "
            "or load it through xglof.open_cube"
        )
    if not geobox.axis_aligned:
        raise CubeError("the cube's grid is rotated; reproject it to a north-up grid first")
    return geobox


def _spatial_dims(cube: xr.Dataset) -> tuple[str, str]:
    _geobox(cube)
    y, x = cube.odc.spatial_dims
    return str(y), str(x)


def _turned(cube: xr.Dataset, dims: tuple[str, str]) -> dict[str, slice]:
    """The dims to reverse, now and in the result, for rows that run south and columns that run east."""
    affine = _geobox(cube).affine
    wrong = (affine.e > 0, affine.a < 0)
    return {dim: slice(None, None, -1) for dim, turn in zip(dims, wrong, strict=True) if turn}


def _check_resolution(cube: xr.Dataset, spec: ModelSpec) -> None:
    geobox = _geobox(cube)
    metres = abs(geobox.affine.e) * (_METRES_A_DEGREE if geobox.crs.geographic else 1)
    wanted = spec.resolution
    if wanted is not None and not wanted / _RESOLUTION_FACTOR <= metres <= wanted * _RESOLUTION_FACTOR:
        raise CubeError(
            f"the cube has pixels of {metres:.3g} m and model {spec.name!r} was made for {wanted:g} m; open "
            "the cube at that resolution, or pass dataclasses.replace(spec, resolution=None) to try it"
        )


def _inputs(cube: xr.Dataset, spec: ModelSpec, dims: tuple[str, str]) -> dict[str, xr.DataArray]:
    """The variables that the blocks need: the bands of the modalities at hand, and flags."""
    found: dict[str, xr.DataArray] = {}
    sensors = 0
    for source in spec.inputs:
        missing = [name for name in source.bands if name not in cube]
        if len(missing) == len(source.bands) and source.optional:
            continue
        if missing:
            raise CubeError(
                f"model {spec.name!r} needs {', '.join(missing)} of {source.modality}, and the cube has only "
                f"{', '.join(map(str, cube.data_vars))}; load the modality with open_cube(..., "
                f"modalities=({source.modality!r}, ...))"
            )
        nodata = {band.name: band.nodata for band in MODALITIES[source.modality].bands}
        _check_decibels(cube, source.bands)
        found |= {name: _with_own_nodata(cube[name], nodata[name]) for name in source.bands}
        sensors += source.has_time
        if source.has_time and "time" in cube.dims and "time" not in cube[source.bands[0]].dims:
            raise CubeError(f"{source.modality} has no time in a cube that has one; give it the dim 'time'")
    if not sensors:
        wanted = " or ".join(source.modality for source in spec.inputs if source.has_time)
        raise CubeError(
            f"model {spec.name!r} needs {wanted}, and the cube has neither; a DEM observes nothing"
        )
    if "flags" in cube:
        found["flags"] = _flags(cube["flags"])
    for name, array in found.items():
        if array.dims not in (dims, ("time", *dims)):
            raise CubeError(
                f"variable {name!r} has dims {array.dims}, expected {('time', *dims)} or {dims}; "
                f"transpose the cube with cube.transpose('time', {dims[0]!r}, {dims[1]!r})"
            )
    return found


def _check_decibels(cube: xr.Dataset, names: tuple[str, ...]) -> None:
    """Refuse backscatter that says it is something else than decibels: linear power would pass for land."""
    for name in names:
        stated = cube[name].attrs.get("units", "dB")
        if name in SAR_BANDS and stated != "dB":
            raise CubeError(
                f"{name} has units {stated!r}, expected 'dB'; take 10 * log10 of linear power and set "
                f"cube[{name!r}].attrs['units'] = 'dB', or load it with xglof.open_cube"
            )


def _flags(flags: xr.DataArray) -> xr.DataArray:
    """The cube's flags as uint16, where they are whole numbers with this package's meanings."""
    ours = flag_attrs()["flag_meanings"]
    if flags.dtype.kind not in "ui" or flags.attrs.get("flag_meanings", ours) != ours:
        raise CubeError(
            f"flags is {flags.dtype} with the meanings {flags.attrs.get('flag_meanings', '(none)')!r}; "
            "expected uint16 bits of xglof.cube.flags.Flag: drop the variable or rename it"
        )
    return flags.astype("uint16")


def _with_own_nodata(array: xr.DataArray, nodata: float) -> xr.DataArray:
    """A band whose fill, where its attributes state another one, is the nodata of :mod:`xglof.bands`."""
    stated = array.attrs.get("nodata", array.attrs.get("_FillValue"))
    if stated is None or stated == nodata or np.isnan(stated):  # NaN is never data
        return array
    return array.where(array != stated, nodata)


def _job(
    cube: xr.Dataset,
    spec: ModelSpec,
    overlap: float,
    tta: Augmentation,
    batch_size: int | None,
    device: str,
) -> Job:
    geobox = _geobox(cube)
    affine, (height, width) = geobox.affine, geobox.shape
    stride = stride_of(spec.window, overlap)
    device = _resolve_device(device)
    return Job(
        spec=spec,
        y=Axis(height, pixel_index(-affine.f, affine.e), spec.window, stride),
        x=Axis(width, pixel_index(affine.c, affine.a), spec.window, stride),
        batch=batch_size or _BATCH[device.partition(":")[0]],
        device=device,
        platform=_platform(device),
        tta=tta,
    )


def _platform(device: str) -> str:
    import torch

    cpu = f"cpu {torch.backends.cpu.get_cpu_capability()}"
    model = cpu if device == "cpu" else torch.cuda.get_device_name(device)
    return f"{model}; torch {torch.__version__}"


def _resolve_device(device: str) -> str:
    import torch

    available = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "auto":
        device = "cuda" if available else "cpu"
    if device == "cpu":
        return device
    kind, _, number = device.partition(":")
    if kind != "cuda" or not (number or "0").isdecimal():
        raise ModelError(f"device is {device!r}; give 'auto', 'cpu', 'cuda' or 'cuda:N'")
    if int(number or 0) >= available:
        raise ModelError(f"device {device!r} is not there: {available} CUDA devices are; use device='cpu'")
    return f"cuda:{int(number or 0)}"


def _block_chunks(job: Job, chunks: int | tuple[int, int] | None) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Sizes of the blocks along y and x, cut at multiples of the block on the absolute lattice."""
    sides = (BLOCK, BLOCK) if chunks is None else (chunks, chunks) if isinstance(chunks, int) else chunks
    if not (
        isinstance(sides, tuple) and len(sides) == 2 and all(isinstance(s, int) and s > 0 for s in sides)
    ):
        raise ModelError(f"chunks is {chunks!r}; give a number of pixels above 0, or (rows, columns)")
    cut = []
    for axis, side in zip((job.y, job.x), sides, strict=True):
        edges = [edge - axis.first for edge in range(axis.first // side * side, axis.first + axis.size, side)]
        edges = [0, *(edge for edge in edges if edge > 0), axis.size]
        cut.append(tuple(int(size) for size in np.diff(edges)))
    return cut[0], cut[1]


def _aligned(
    array: xr.DataArray, dims: tuple[str, str], blocks: tuple[tuple[int, ...], tuple[int, ...]]
) -> da.Array:
    chunks: dict[str, Any] = dict(zip(dims, blocks, strict=True)) | {"time": 1}
    sizes = {dim: chunks[str(dim)] for dim in array.dims}
    # .chunk() and not .data: a variable of a file opened without Dask stays on disk
    data: da.Array = (array if array.chunks else array.chunk(sizes)).data
    aligned: da.Array = data.rechunk(tuple(sizes.values()))
    return aligned


def _dataset(
    cube: xr.Dataset,
    stacked: da.Array,
    flags: da.Array | None,
    dims: tuple[str, str],
    job: Job,
    threshold: float,
) -> xr.Dataset:
    """Name the layers of the stacked result; all of it is blockwise on the one array."""
    probability, used = stacked
    used = used.astype("uint16")
    out_dims: tuple[str, ...] = ("time", *dims)
    if "time" not in cube.dims:
        probability, used, out_dims = probability[0], used[0], dims
    merged = used if flags is None else flags | used
    lake = da.map_blocks(
        _classify, probability, threshold, dtype="uint8", meta=np.empty((0,) * used.ndim, "uint8")
    )
    seg = xr.Dataset(
        {
            "lake_probability": (out_dims, probability, {"long_name": "probability of lake", "units": "1"}),
            "lake": (
                out_dims,
                lake,
                {
                    "long_name": "lake map",
                    "flag_values": np.array([0, 1, _UNOBSERVED], "uint8"),
                    "flag_meanings": "land lake unobserved",
                    "nodata": _UNOBSERVED,
                },
            ),
            "flags": (out_dims, merged, flag_attrs()),
        },
        coords={name: coord for name, coord in cube.coords.items() if set(coord.dims) <= set(out_dims)},
        attrs=_attrs(cube, job, threshold),
    )
    for variable in seg.data_vars.values():
        variable.encoding["grid_mapping"] = _grid_mapping(cube)
    return seg


def _grid_mapping(cube: xr.Dataset) -> str:
    names = {v.encoding.get("grid_mapping") or v.attrs.get("grid_mapping") for v in cube.data_vars.values()}
    return next((str(name) for name in names if name), "spatial_ref")


def _classify(probability: npt.NDArray[np.float32], threshold: float) -> npt.NDArray[np.uint8]:
    lake = (probability >= np.float32(threshold)).astype(np.uint8)  # a NaN is at least nothing
    lake[np.isnan(probability)] = _UNOBSERVED
    return lake


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
    kept = {name: cube.attrs[name] for name in ("catalog", "dem_epoch") if name in cube.attrs}
    return {**attrs, **kept}
