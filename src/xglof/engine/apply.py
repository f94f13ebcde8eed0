"""``segment``: from a cube to a lazy segmentation, checked before a graph is built."""

from __future__ import annotations

import os
from collections.abc import Sequence
from numbers import Integral, Real
from typing import get_args

import dask.array as da
import numpy as np
import xarray as xr

from xglof.bands import resolve
from xglof.engine.blocks import Blocks, PixelBytes, Sides, cut_raster
from xglof.engine.device import where_it_runs
from xglof.engine.graph import segment_graph
from xglof.engine.inputs import (
    check_mask,
    check_resolution,
    find_inputs,
    for_radar,
    geobox_of,
    reversed_dims,
    spatial_dims,
)
from xglof.engine.job import Augmentation, Job, Layer
from xglof.engine.lattice import Axis, pixel_index, stride_of
from xglof.engine.nodata import Fill, fill_own, other_fills
from xglof.engine.result import name_layers
from xglof.errors import ModelError
from xglof.models.registry import get_spec
from xglof.models.spec import ModelSpec

#: Windows a forward pass by kind of device: part of the numerics key, so never a matter of free memory.
_BATCH = {"cpu": 4, "cuda": 32}
_MOST_OVERLAP = 0.9


def segment(
    cube: xr.Dataset,
    *,
    model: str | os.PathLike[str] | ModelSpec = "terramind-tiny-demo",
    overlap: float = 0.5,
    tta: Augmentation = None,
    batch_size: int | None = None,
    device: str = "auto",
    threshold: float = 0.5,
    chunks: Sides = None,
    where: xr.DataArray | None = None,
    output: Layer | Sequence[Layer] = "probability",
    memory_budget: int | str | None = None,
) -> xr.Dataset:
    """Lazy map of lakes from a cube, by a model over overlapping windows.

    Parameters
    ----------
    cube
        Dims ``(time, y, x)`` or ``(y, x)``, with the bands of the model's modalities (optional modalities
        may be absent) in the units of :mod:`xglof.bands`, a CRS, and ``flags`` where there are any. Names
        such as ``blue`` or ``B02_10m`` are understood.
    model
        A name of :func:`xglof.models.registry.names`, the folder of a trained or converted model, or a spec.
    overlap
        Share of its width that a window has in common with the next, 0 to 0.9.
    tta
        ``"flip"``: the logits are averaged over the four flips, at four times the work.
    batch_size
        Windows a forward pass, at least 2; by default a constant of the kind of device. Another batch gives
        results that differ in the last bits.
    device
        ``"cpu"``, ``"cuda"``, ``"cuda:1"``, or ``"auto"`` for the first GPU if there is one. With a Dask
        client active its workers are asked, and refused if they differ.
    threshold
        ``lake`` is 1 where the probability is at least this.
    chunks
        Side of an output block, pixels, (rows, columns), or a mapping of dims to sizes; cut at multiples on
        the grid's own lattice. By default 2016 pixels, or less where ``memory_budget`` asks for it, and
        as many dates as fill a few batches.
    where
        Boolean mask on the cube's grid, ``(y, x)`` or ``(time, y, x)``, lazy or not: the rest is not
        mapped (255, ``not_requested`` in ``flags``), and windows that touch none of it are not run.
    output
        One or more of ``"probability"``, ``"logit"``, ``"classes"``, ``"entropy"``, ``"tile_mismatch"``.
    memory_budget
        What a task may take on the device above the network and the libraries, bytes or such as ``"2 GB"``.
        A process runs as many tasks at once as it has worker threads.

    Returns
    -------
    xarray.Dataset
        On the cube's grid and times, lazily:

        - ``lake``: uint8, 0 land, 1 lake, 255 unobserved;
        - ``flags``: uint16, the cube's with ``s2_used``, ``s1_used`` and ``not_requested`` added;
        - for ``"probability"``: ``lake_probability``, float32, 0 to 1;
        - for ``"logit"``: ``logit``, ``(class, time, y, x)`` float32, blended and averaged over flips;
        - for ``"classes"``: ``classes``, uint8, the likeliest class, 255 unobserved;
        - for ``"entropy"``: ``entropy``, float32, 0 certain to 1 undecided;
        - for ``"tile_mismatch"``: ``tile_mismatch``, float32, 0 to 1: the share, by blending weight, of the
          windows over a pixel whose own answer contradicts the map. Its mean tells how far a map hangs on
          where windows lie.

        Floats are NaN where unobserved.

    Raises
    ------
    CubeError
        If the cube has no CRS, no band of a required modality or part of one, a rotated grid, another axis
        order than y, x, pixels of another size than the model was made for, or ``flags`` that are no bits;
        if ``where`` is no mask on its grid.
    ModelError
        If the model is unknown, its weights are absent or damaged, an argument is out of its range, the
        workers of the active client differ, or a task cannot be kept to ``memory_budget``. While computing:
        if the network breaks its contract or a process has other numerics than ``attrs["numerics"]``.

    Notes
    -----
    The same bits come out for any chunking, worker count and sub-area (one window away from the edge) under
    one numerics key, which is written to ``attrs["numerics"]``. A task holds one block with a margin of a
    window: at 2016 px, one date and half overlap 0.7 GB for ``water-index`` and 1.5 GB for
    ``terramind-tiny-demo`` on two cores, beside the network and its libraries.

    Where the cube lies in a file and not in Dask (:func:`xglof.read_zarr` with ``chunks=None``), a block
    reads its own pixels and waits for no other: memory is that of the blocks in work. Chunks of a Dask cube
    are read once and wait until the blocks beside them are done, about two rows of blocks: memory then grows
    with the width of the raster. Reading overlaps computing where tasks run side by side: give a worker with
    a GPU at least two threads.

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
    spec = model if isinstance(model, ModelSpec) else get_spec(model)
    wanted = _check_arguments(spec, overlap, batch_size, threshold, tta, output)
    names = resolve(cube.data_vars)
    cube = cube.rename({met: name for met, name in names.items() if name not in cube.coords})
    dims = spatial_dims(cube)
    if where is not None:
        where = check_mask(where, cube, dims)
    turned = reversed_dims(cube, dims)
    cube = cube.isel(turned)
    spec = for_radar(spec, cube)
    check_resolution(cube, spec)
    inputs = find_inputs(cube, spec, dims)
    if where is not None:
        inputs["where"] = where.isel(turned)
    if spec.weights is not None:
        spec.weights.check()
    place, batches = where_it_runs(device)
    job = _job(cube, spec, overlap, tta, batch_size, place, wanted)
    steps = cube.sizes.get("time", 1)
    blocks = cut_raster(job, _pixel_bytes(inputs), steps, chunks, dims, _bytes(memory_budget), batches)
    fills = other_fills(inputs)
    lazy = _lazy(inputs, blocks, dims, fills)
    opened = {name: array for name, array in inputs.items() if name not in lazy}
    read = {name: fill for name, fill in fills.items() if name in opened}
    stacked = segment_graph(job, blocks, lazy, opened, read)
    return name_layers(cube, stacked, dims, job, wanted, threshold).isel(turned)


def _check_arguments(
    spec: ModelSpec,
    overlap: float,
    batch_size: int | None,
    threshold: float,
    tta: object,
    output: Layer | Sequence[Layer],
) -> tuple[Layer, ...]:
    """The layers asked for, in the order of :data:`Layer`."""
    if not isinstance(overlap, Real) or not 0 <= overlap <= _MOST_OVERLAP:
        raise ModelError(f"overlap is {overlap!r}; give a share from 0 to {_MOST_OVERLAP}")
    # one window alone takes other kernels, with other bits
    if batch_size is not None and (not isinstance(batch_size, Integral) or batch_size < 2):
        raise ModelError(f"batch_size is {batch_size!r}; it must be a whole number, at least 2")
    if not isinstance(threshold, Real) or not 0 < threshold <= 1:
        raise ModelError(f"threshold is {threshold!r}; give a probability above 0 and up to 1")
    if tta not in (None, "flip"):
        raise ModelError(f"tta is {tta!r}; it is None or 'flip'")
    known = get_args(Layer)
    asked = tuple(output) if isinstance(output, Sequence) and not isinstance(output, str) else (output,)
    if not asked or (unknown := [name for name in asked if name not in known]):
        strange = ", ".join(map(repr, unknown)) if asked else "empty"
        raise ModelError(f"output is {strange}; give one or more of {', '.join(known)}")
    if "entropy" in asked and spec.activation == "identity":
        raise ModelError(
            f"model {spec.name!r} gives numbers as they are (activation 'identity'), which have no entropy"
        )
    return tuple(name for name in known if name in asked)


def _job(
    cube: xr.Dataset,
    spec: ModelSpec,
    overlap: float,
    tta: Augmentation,
    batch_size: int | None,
    place: tuple[str, str],
    wanted: tuple[Layer, ...],
) -> Job:
    geobox = geobox_of(cube)
    affine, (height, width) = geobox.affine, geobox.shape
    stride = stride_of(spec.window, overlap)
    device, platform = place
    return Job(
        spec=spec,
        y=Axis(height, pixel_index(-affine.f, affine.e), spec.window, stride),
        x=Axis(width, pixel_index(affine.c, affine.a), spec.window, stride),
        batch=int(batch_size or 0) or _BATCH[device.partition(":")[0]],
        device=device,
        platform=platform,
        tta=tta,
        layers=wanted,
    )


def _bytes(memory_budget: int | str | None) -> int | None:
    if memory_budget is None:
        return None
    from dask.utils import parse_bytes

    try:
        size = int(parse_bytes(memory_budget))
    except (ValueError, TypeError) as error:
        raise ModelError(f"memory_budget is {memory_budget!r}; give bytes or such as '2 GB'") from error
    if size <= 0:
        raise ModelError(f"memory_budget is {memory_budget!r}; it must be above 0")
    return size


def _pixel_bytes(inputs: dict[str, xr.DataArray]) -> PixelBytes:
    timed = {name: array for name, array in inputs.items() if array.ndim == 3}
    once = {name: array for name, array in inputs.items() if array.ndim == 2}
    bands = [sum(name not in ("flags", "where") for name in group) for group in (timed, once)]
    sizes = [sum(array.dtype.itemsize for array in group.values()) for group in (timed, once)]
    return PixelBytes(sizes[0], bands[0], sizes[1], bands[1])


def _lazy(
    inputs: dict[str, xr.DataArray],
    blocks: Blocks,
    dims: tuple[str, str],
    fills: dict[str, Fill],
) -> dict[str, da.Array]:
    """The variables that are Dask arrays or in memory, with chunks in common whose times lie in one block.

    What is in memory is cut at the blocks, so that a worker is sent no more than it needs.
    """
    found = {}
    for name, array in inputs.items():
        if array.chunks is None and array.variable._in_memory:  # a file's variable is left where it is
            sizes = dict(zip(("time", *dims), (blocks.times, blocks.rows, blocks.cols), strict=True))
            found[name] = array.chunk({dim: sizes[str(dim)] for dim in array.dims})
        elif array.chunks is not None:
            found[name] = array
        if name in found and name in fills:
            found[name] = found[name].copy(data=fill_own(found[name].data, fills[name]))
    if not found:
        return {}
    edges = set(np.cumsum(blocks.times).tolist())
    lazy = {}
    for name, alike in zip(found, xr.unify_chunks(*found.values()), strict=True):
        if "time" in alike.dims and not edges <= set(np.cumsum(alike.chunksizes["time"]).tolist()):
            alike = alike.chunk({"time": blocks.times})
        lazy[name] = alike.data
    return lazy
