"""``chips``: an index of training chips over labelled cubes."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from xglof.errors import TrainError
from xglof.models.registry import get_spec
from xglof.models.spec import ModelInput, ModelSpec
from xglof.train.counting import Counts, count_windows
from xglof.train.index import index_of, lake_ids
from xglof.train.order import cache_for, layout_of, walks_in
from xglof.train.rasters import Raster, Where, raster_of
from xglof.train.reader import groups_of

if TYPE_CHECKING:
    from xglof.train.dataset import ChipDataset
    from xglof.train.splits import Split

Sampling = Literal["grid", "random"]

#: Lattice of random chips, pixels: a patch of TerraMind.
_RANDOM_STRIDE_PX = 16


def chips(
    cube: xr.Dataset | Sequence[xr.Dataset],
    *,
    label: Any,
    model: str | ModelSpec = "terramind-tiny-demo",
    size: int | None = None,
    stride: int | None = None,
    split: Split | None = None,
    where: Where | Sequence[Where] = None,
    min_valid: float = 0.5,
    scores: Any = None,
    sampling: Sampling = "grid",
    count: int | None = None,
    seed: int = 0,
    lakes: Any = None,
    cache_bytes: int | None = None,
) -> ChipDataset:
    """Chips of labelled cubes for training: an index, and a torch Dataset that reads what it is asked for.

    Labels and flags are read once, block by block in Dask, to find where chips are of use. Bands are read
    where flags cannot tell what is observed, and when chips are.

    Parameters
    ----------
    cube
        A cube as :func:`xglof.segment` takes it, or several, which may differ in CRS, dates and optional
        modalities. A cube in a file is best opened without Dask (``xglof.read_zarr(path, chunks=None)``).
    label
        Of each cube (a list for a list of cubes): a Dataset with ``lake`` or that variable, the path of a
        Zarr store with it, or polygons; see :func:`xglof.train.labels.labels_of`. uint8, 0 land, 1 lake, 255
        ignored.
    model
        A name of :func:`xglof.models.registry.names`, or a spec: which bands, and which flags hide a pixel.
    size
        Side of a chip, pixels; the model's window by default.
    stride
        Chips start at its multiples on the grid's own lattice, as the windows of inference do, and hang over
        the edges as they do. By default half of ``size``; 16 pixels for ``sampling="random"``.
    split
        Gives the chips their folds.
    where
        Where pixels count: a boolean mask on the grid of the cube, ``(y, x)`` or ``(time, y, x)``, lazy or
        not, or a function of the cube that returns one; one for all cubes or a list. The rest is 255.
    min_valid
        Least share of a chip's pixels that count: labelled, observed by the model's rule, within ``where``.
    scores
        A map of the lake probability on the grid of each cube, float, NaN unknown, such as
        :func:`xglof.segment` gives: for ``hardness``.
    sampling
        ``"grid"``: all places of the lattice; ``"random"``: ``count`` of them.
    count
        So many chips, drawn without repeats from all that are valid.
    seed
        Of that draw.
    lakes
        Polygons whose ids go to ``lake_ids``, so that no lake lies in two folds; one inventory for all cubes
        or a list. By default the label where it is polygons.
    cache_bytes
        Of stored blocks that the dataset holds; by default what a few walks through the cubes come back to,
        256 MB to 2 GB.

    Returns
    -------
    ChipDataset
        Its ``index`` has a row a chip, in reading order:

        - ``chip_id`` str: source.step.row.col;
        - ``source`` int32: number of the cube;
        - ``time`` datetime64[ns], NaT without, and ``step`` int64;
        - ``row``, ``col`` int64: first pixel in the north-up raster, negative where the chip hangs over;
        - ``longitude``, ``latitude`` float64: of the centre, degrees; ``side_m`` float64: the longer side;
        - ``valid_fraction`` float32: share of the pixels that count; ``lake_fraction`` float32: of lake in
          these;
        - ``lake_ids`` str: separated by a space;
        - ``modalities`` str: those that inference gives the network here, joined by "+";
        - ``walk``, ``block`` int64: in which order stored blocks are best read, those of a walk in one go;
        - ``hardness`` float32: mean score of the land pixels that count, NaN unknown;
        - ``fold`` str: "" before a split.

    Raises
    ------
    CubeError
        A cube that :func:`xglof.segment` refuses, or a mask that is none on its grid.
    TrainError
        Labels or scores that do not fit their cube, an argument out of its range, or no valid chip.

    Notes
    -----
    A task of the pass holds one block of labels and flags, some 12 bytes a pixel (2016 px: 50 MB), and where
    flags cannot tell of Sentinel-2 as float32 (some 300 MB).

    Examples
    --------
    >>> from odc.geo.geobox import GeoBox
    >>> from odc.geo.xr import wrap_xr
    >>> grid = GeoBox.from_bbox((500_000, 3_100_000, 500_640, 3_100_480), "EPSG:32645", resolution=10)
    >>> lake = np.zeros(grid.shape, "uint8")
    >>> lake[10:20, 30:40] = 1
    >>> cube = xr.Dataset({name: wrap_xr(lake + np.float32(900), grid) for name in ("B03", "B08", "B11")})
    >>> source = chips(cube, label=wrap_xr(lake, grid), model="water-index", size=32, stride=32)
    >>> source.index[["row", "col"]].values.tolist(), float(source.index["lake_fraction"].max())
    ([[0, -16], [0, 16], [0, 48], [32, 16]], 0.09765625)
    """
    cubes, labels, masks, maps = _per_cube(cube, label, where, scores)
    spec = get_spec(model) if isinstance(model, str) else model
    side = spec.window if size is None else size
    lattice = _RANDOM_STRIDE_PX if sampling == "random" else max(side // 2, 1)
    step = lattice if stride is None else stride
    _check(spec, side, step, min_valid, sampling, count)
    inventories = _inventories(lakes, labels)
    rasters, spec = _rasters(cubes, labels, masks, maps, spec)
    tables = itertools.chain.from_iterable(
        _windows(number, raster, spec, side, step, min_valid) for number, raster in enumerate(rasters)
    )
    found = pd.concat(tables, ignore_index=True) if count is None else _drawn(tables, int(count), seed)
    if found.empty:
        raise TrainError(_nothing(rasters, side, min_valid))
    layouts = [layout_of(groups_of(raster.arrays, {}), side) for raster in rasters]
    held = cache_for(layouts) if cache_bytes is None else cache_bytes
    walks = walks_in(layouts, held)
    index = index_of(found, rasters, layouts, walks.strips, side)
    index["lake_ids"] = lake_ids(index, rasters, inventories, side)
    from xglof.train.dataset import ChipDataset  # torch comes with the first use

    dataset = ChipDataset(spec, side, rasters, index, cache_bytes=held, walks=walks)
    return dataset if split is None else dataset.with_index(split.assign(index))


def _per_cube(cube: Any, label: Any, where: Any, scores: Any) -> tuple[list[Any], ...]:
    """Cubes with their labels, masks and score maps, as lists of one length."""
    if isinstance(cube, xr.Dataset):
        return [cube], [label], [where], [scores]
    cubes = list(cube)
    if not cubes:
        raise TrainError("there is no cube to cut chips from; give one, or a list of them")
    lists = [cubes]
    for name, given in (("label", label), ("where", where), ("scores", scores)):
        each = list(given) if isinstance(given, list | tuple) else [given] * len(cubes)
        if len(each) != len(cubes) or (name == "label" and not isinstance(given, list | tuple)):
            raise TrainError(f"{len(cubes)} cubes need a list of as many for {name}, one for each cube")
        lists.append(each)
    return tuple(lists)


def _check(spec: ModelSpec, size: int, stride: int, min_valid: float, sampling: str, count: Any) -> None:
    if not isinstance(size, Integral) or size < 1 or size % spec.multiple_of:
        raise TrainError(
            f"size is {size!r}; {spec.name!r} takes squares whose side is a multiple of {spec.multiple_of} px"
        )
    if not isinstance(stride, Integral) or stride < 1:
        raise TrainError(f"stride is {stride!r}; give whole pixels, at least 1")
    if not isinstance(min_valid, Real) or not 0 <= min_valid <= 1:
        raise TrainError(f"min_valid is {min_valid!r}; give a share from 0 to 1")
    if sampling not in ("grid", "random"):
        raise TrainError(f"sampling is {sampling!r}; expected 'grid' or 'random'")
    if count is not None and (not isinstance(count, Integral) or count < 1):
        raise TrainError(f"count is {count!r}; give a number of chips, at least 1")
    if sampling == "random" and count is None:
        raise TrainError("sampling='random' draws count= chips; say how many")


def _rasters(
    cubes: list[xr.Dataset], labels: list[Any], masks: list[Where], maps: list[Any], spec: ModelSpec
) -> tuple[list[Raster], ModelSpec]:
    rasters, specs = [], []
    for number, given in enumerate(zip(cubes, labels, masks, maps, strict=True)):
        try:
            raster, own = raster_of(*given, spec)
        except (TrainError, ValueError) as error:
            if len(cubes) > 1:
                raise type(error)(f"cube {number} of {len(cubes)}: {error}") from error
            raise
        rasters.append(raster)
        specs.append(own)
    if len(set(specs)) > 1:
        raise TrainError(
            f"some cubes hold S1RTC and some S1GRD, and {spec.name!r} learns one of them; train on cubes of "
            "one product, or leave the radar out of the others with cube.drop_vars(['vv', 'vh'])"
        )
    return rasters, specs[0]


def _windows(
    number: int, raster: Raster, spec: ModelSpec, size: int, stride: int, min_valid: float
) -> Iterator[pd.DataFrame]:
    """The windows of a raster that are valid enough and what is counted under them, some steps at a time."""
    y, x = raster.axes(size, stride)
    rows, cols = (np.array(axis.starts(0, axis.size), dtype=np.int64) for axis in (y, x))
    inputs = raster.inputs(spec)
    for begin, counts in count_windows(raster, spec, y, x):
        valid = counts["valid"]
        step, down, across = np.nonzero(valid >= max(min_valid * size**2, 1))
        held = {name: values[step, down, across] for name, values in counts.items()}
        with np.errstate(invalid="ignore"):
            hardness = held["score"] / held["land"] if "land" in held else np.full(len(step), np.nan)
        yield pd.DataFrame(
            {
                "source": np.full(len(step), number, dtype=np.int32),
                "step": (step + begin).astype(np.int64),
                "row": rows[down],
                "col": cols[across],
                "lake_fraction": (held["lake"] / held["valid"]).astype(np.float32),
                "valid_fraction": (held["valid"] / size**2).astype(np.float32),
                "modalities": _sets(spec, inputs, held, size),
                "hardness": hardness.astype(np.float32),
            }
        )


def _sets(
    spec: ModelSpec, inputs: Sequence[ModelInput], counts: Counts, size: int
) -> npt.NDArray[np.object_]:
    """Modalities that inference gives the network: the rule of :func:`xglof.engine.choose.choose_windows`."""
    seen = np.stack([counts[each.modality] for each in inputs])
    needed = max(spec.min_share * size**2, 1)
    kept = (seen >= needed) | ~np.array([[each.optional] for each in inputs])
    sensors = [number for number, each in enumerate(inputs) if each.has_time]
    blind = ~kept[sensors].any(axis=0)
    kept[sensors] |= blind & (seen[sensors] > 0)
    codes = (kept * (1 << np.arange(len(inputs)))[:, None]).sum(axis=0)
    names = [
        "+".join(each.modality for bit, each in enumerate(inputs) if code >> bit & 1)
        for code in range(1 << len(inputs))
    ]
    return np.asarray(np.array(names, dtype=object)[codes])


def _drawn(tables: Iterable[pd.DataFrame], count: int, seed: int) -> pd.DataFrame:
    """So many of the windows, each at most once, in their order; few more than those are held at a time."""
    rng = np.random.default_rng(seed)
    total, held = 0, list[pd.DataFrame]()
    for table in tables:
        numbered = table.set_index(pd.RangeIndex(total, total + len(table)))
        held.append(numbered.assign(lot=rng.random(len(table))))
        held = [pd.concat(held).nsmallest(count, "lot")]
        total += len(table)
    kept = pd.concat(held)
    if 0 < total < count:
        raise TrainError(
            f"count is {count} and {total} places are valid; take a smaller stride, more cubes, or a "
            "lower min_valid"
        )
    return kept.sort_index().reset_index(drop=True)


def _inventories(lakes: Any, labels: list[Any]) -> list[Any]:
    """The polygons that name the lakes of each cube, ``None`` where there are none."""
    if lakes is None:
        return [None if _is_raster(each) else each for each in labels]
    each = list(lakes) if isinstance(lakes, list | tuple) else [lakes] * len(labels)
    if len(each) != len(labels):
        raise TrainError(f"{len(labels)} cubes need as many inventories of lakes, or one for all")
    return each


def _is_raster(label: Any) -> bool:
    """Whether a label is no polygons: an array or the path of a Zarr store."""
    if not isinstance(label, str | os.PathLike):
        return isinstance(label, xr.Dataset | xr.DataArray)
    return any((Path(label) / name).exists() for name in ("zarr.json", ".zgroup", ".zmetadata"))


def _nothing(rasters: Sequence[Raster], size: int, min_valid: float) -> str:
    pixels = sum(raster.steps * int(np.prod(raster.geobox.shape)) for raster in rasters)
    return (
        f"no square of {size} px has a label and an observation on {min_valid:.0%} of its pixels, in "
        f"{len(rasters)} cubes of {pixels:,} pixels; check that the labels lie on the cubes and have their "
        "dates, or lower min_valid"
    )
