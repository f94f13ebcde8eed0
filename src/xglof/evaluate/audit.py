"""``audit_labels``: the labels of a cube that the model and MNDWI both contradict, found block by block."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xglof.bands import resolve
from xglof.errors import CubeError
from xglof.evaluate.audit_rule import (
    COUNTS,
    OUTCOMES,
    VOTES,
    AuditRule,
    ChipView,
    Counts,
    count_chips,
)
from xglof.evaluate.audited import Audit
from xglof.evaluate.pairing import Pair, pair_probability
from xglof.evaluate.reduction import Squares, squares_of
from xglof.lakes.layer import UNOBSERVED, grid_dims, north_up, pixel_metres, to_degrees
from xglof.lakes.pixels import flag_layer

if TYPE_CHECKING:
    import pandas as pd

#: Bands that pictures are made of besides those of the rule, where there are any.
PICTURE_BANDS = ("B04", "B03", "B02", "B08", "B11")
_BLOCK_SQUARES = 9  # a side, of layers that are no Dask arrays


def audit_labels(
    cube: xr.Dataset,
    seg: xr.Dataset | xr.DataArray,
    label: xr.Dataset | xr.DataArray,
    *,
    rule: AuditRule | None = None,
    size: int = 224,
) -> Audit:
    """Audit of the labels of a cube by a rule fixed in advance, over all its squares. Computes, by block.

    Parameters
    ----------
    cube
        ``B03``, ``B11`` and, by the default rule, ``B08``: reflectance x 10,000, nodata 0; ``flags`` where it
        has any. Names such as ``green`` are understood.
    seg
        Its segmentation with ``lake_probability``.
    label
        ``lake``: ``([time,] y, x)`` uint8, 0 land, 1 lake, 255 not labelled, or bool; on the same grid and
        dates. Without time it holds for every date.
    rule
        The rule; ``AuditRule()`` by default.
    size
        Side of the squares, pixels: chips side by side on the absolute lattice of the grid, those at the
        edges cut. Each is looked at for itself, so the same comes out for any chunks, and a lake that the
        border of two squares cuts is in each of them what lies there. The width of the rule is in pixels one
        for all of them, by the metres on the ground at the middle of the grid.

    Returns
    -------
    Audit
        With all squares in which label and model both say something.

    Raises
    ------
    CubeError
        What :func:`audit_counts` raises.

    Notes
    -----
    A task holds one block of what it reads, 13 bytes a pixel (53 MB and half a second at 2016 px), and looks
    at one square after the other. Pictures of candidates are read when they are drawn, with
    :func:`xglof.plot.audit_sheet`.

    Examples
    --------
    A lake of twelve pixels a side that the label has not:

    >>> from odc.geo.geobox import GeoBox
    >>> from odc.geo.xr import wrap_xr
    >>> grid = GeoBox.from_bbox((500_000, 3_100_160, 500_320, 3_100_480), "EPSG:32645", resolution=10)
    >>> water = np.zeros(grid.shape, bool)
    >>> water[8:20, 6:18] = True
    >>> bands = {"B03": (900, 1200), "B08": (300, 2000), "B11": (80, 2500)}
    >>> planes = {name: np.where(water, *pair).astype("uint16") for name, pair in bands.items()}
    >>> cube = xr.Dataset({name: wrap_xr(plane, grid) for name, plane in planes.items()})
    >>> seg = xr.Dataset({"lake_probability": wrap_xr(np.where(water, 0.9, 0.1), grid)})
    >>> found = audit_labels(cube, seg, wrap_xr(np.zeros(grid.shape, "uint8"), grid))
    >>> found.candidates[["direction", "px"]].to_numpy().tolist()
    [['omission', 144]]
    >>> found.scores()["iou"].tolist()[:2]
    [0.0, 1.0]
    """
    layers = _layers(cube, seg, label, rule or AuditRule(), size)
    counts = _counts(layers).compute()
    chips = _chips(counts, layers)
    return Audit(layers.rule, chips.drop(columns=["i", "j", "step"]), partial(_view, layers, chips))


def audit_counts(
    cube: xr.Dataset,
    seg: xr.Dataset | xr.DataArray,
    label: xr.Dataset | xr.DataArray,
    *,
    rule: AuditRule | None = None,
    size: int = 224,
) -> xr.Dataset:
    """What :func:`audit_labels` counts, lazily: the counts add over dates, squares and cubes.

    Parameters
    ----------
    cube, seg, label, rule, size
        As :func:`audit_labels` takes them.

    Returns
    -------
    xarray.Dataset
        :data:`xglof.evaluate.audit_rule.COUNTS`: int64 pixels, ``([time,] y, x)`` of the squares' centres.

    Raises
    ------
    CubeError
        A band, the probability or the label is missing, grids or dates differ, or a size below 1; while
        computing, a label with other values than 0, 1 and 255.
    """
    return _counts(_layers(cube, seg, label, rule or AuditRule(), size))


@dataclass(frozen=True, slots=True, eq=False)
class _Layers:
    """All that an audit reads, on one grid, lazily, and the squares."""

    rule: AuditRule
    pair: Pair
    bands: Mapping[str, xr.DataArray]
    flags: xr.DataArray | None
    squares: Squares

    @property
    def pixel_m(self) -> float:
        """Side on the ground of a square of the area of a pixel, at the middle of the grid."""
        grid = self.pair.mapped.odc.geobox
        middle = grid.pix2wld(grid.shape[1] / 2, grid.shape[0] / 2)
        return float(np.sqrt(pixel_metres(grid, *np.atleast_1d(*middle))[2][0]))


def _layers(cube: xr.Dataset, seg: Any, label: Any, rule: AuditRule, size: int) -> _Layers:
    if size < 1:
        raise CubeError(f"size is {size} px; give at least 1")
    pair = pair_probability(seg, label)
    cube = cube.rename(resolve(cube.variables))
    if missing := [name for name in rule.bands if name not in cube]:
        without = "; AuditRule(nir_most=None) asks no B08" if missing == ["B08"] else ""
        raise CubeError(
            f"the audit needs {', '.join(missing)}, and the cube has only "
            f"{', '.join(map(str, cube.data_vars))}; load Sentinel-2{without}"
        )
    names = dict.fromkeys((*rule.bands, *(name for name in PICTURE_BANDS if name in cube)))
    bands = {name: _on_grid(cube[name], pair.mapped) for name in names}
    flags = flag_layer(cube, cube[rule.bands[0]])
    flags = None if flags is None else _on_grid(flags, pair.mapped)
    return _Layers(rule, pair, bands, flags, squares_of(pair.mapped, size, size))


def _on_grid(layer: xr.DataArray, mapped: xr.DataArray) -> xr.DataArray:
    """A layer of the cube in the order and with the coordinates of the segmentation."""
    grid_dims(layer)
    layer = north_up(layer)
    if layer.odc.geobox != mapped.odc.geobox:
        raise CubeError(
            f"{layer.name!r} of the cube lies on another grid than the segmentation; segment this cube, or "
            "bring it to that grid"
        )
    rows, columns = grid_dims(layer)
    layer = layer.rename(dict(zip((rows, columns), grid_dims(mapped), strict=True)))
    if "time" in layer.dims:
        try:
            layer = layer.sel(time=mapped["time"])
        except KeyError as error:
            raise CubeError(
                f"the cube lacks dates of the segmentation: {error}; select the same ones"
            ) from error
    return layer.transpose(*(dim for dim in mapped.dims if dim in layer.dims))


def _counts(layers: _Layers) -> xr.Dataset:
    """One task a block of whole squares."""
    import dask.array as da

    mapped, squares = layers.pair.mapped, layers.squares
    rows, columns = grid_dims(mapped)
    chunks: dict[Any, tuple[int, ...]] = {
        dim: _whole(squares.ids[dim], _chunks(layers, dim)) for dim in (rows, columns)
    }
    if "time" in mapped.dims:
        chunks["time"] = mapped.chunksizes.get("time", (1,) * mapped.sizes["time"])
    given: list[Any] = []
    held = [mapped, layers.pair.actual, layers.pair.asked, layers.flags]
    held += [layers.bands[name] for name in layers.rule.bands]
    for layer in held:
        axes = None if layer is None else tuple(mapped.dims.index(dim) for dim in layer.dims)
        given += [None if layer is None else layer.chunk({d: chunks[d] for d in layer.dims}).data, axes]
    lengths = {}
    for dim in (rows, columns):
        axis = mapped.dims.index(dim)
        given += [da.from_array(squares.ids[dim], chunks=(chunks[dim],)), (axis,)]
        parts = np.split(squares.ids[dim], np.cumsum(chunks[dim])[:-1])
        lengths[axis] = tuple(len(np.unique(part)) for part in parts)
    last = mapped.ndim
    counts = da.blockwise(
        partial(_count_block, rule=layers.rule, pixel_m=layers.pixel_m),
        (*range(last), last),
        *given,
        new_axes={last: len(COUNTS)},
        adjust_chunks=lengths,
        dtype=np.int64,
        meta=np.empty((0,) * (last + 1), np.int64),
    )
    coords: dict[Any, Any] = {dim: (dim, squares.centres[dim], mapped[dim].attrs) for dim in (rows, columns)}
    coords |= {"time": mapped["time"].variable} if "time" in mapped.coords else {}
    attrs = {"units": "1", "rule": layers.rule.digest}
    named = {name: (mapped.dims, counts[..., code], attrs) for code, name in enumerate(COUNTS)}
    return xr.Dataset(named, coords=coords)


def _chunks(layers: _Layers, dim: Any) -> tuple[int, ...]:
    mapped = layers.pair.mapped
    for layer in (mapped, layers.pair.actual, *layers.bands.values()):
        if dim in layer.chunksizes:
            return tuple(layer.chunksizes[dim])
    ids = layers.squares.ids[dim]
    return tuple(np.unique((ids - ids[0]) // _BLOCK_SQUARES, return_counts=True)[1].tolist())


def _whole(ids: NDArray[np.int64], sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Chunks that end where squares end, each at the first such place after one of given chunks."""
    ends = np.flatnonzero(np.diff(ids, append=ids[-1] + 1)) + 1
    cuts = np.unique(ends[np.searchsorted(ends, np.cumsum([size for size in sizes if size]))])
    return tuple(np.diff(cuts, prepend=0).tolist())


def _count_block(
    probability: NDArray[Any],
    label: NDArray[np.uint8],
    asked: NDArray[np.bool_] | None,
    flags: NDArray[Any] | None,
    *rest: NDArray[Any],
    rule: AuditRule,
    pixel_m: float,
) -> Counts:
    """Counts of the squares of a block, ``([time,] rows, columns, counts)``."""
    *bands, down, across = rest
    whole = _stacked(probability, label, asked, flags, dict(zip(rule.bands, bands, strict=True)))
    counts = []
    for first, last in _runs(down):
        line = []
        for begin, end in _runs(across):
            part = (slice(None), slice(first, last), slice(begin, end))
            line.append(count_chips(_part(whole, part), rule, pixel_m))
        counts.append(np.stack(line, axis=1))
    found = np.stack(counts, axis=1)
    return found if probability.ndim == 3 else found[0]


def _stacked(
    probability: NDArray[Any],
    label: NDArray[np.uint8],
    asked: NDArray[np.bool_] | None,
    flags: NDArray[Any] | None,
    bands: Mapping[str, NDArray[Any]],
) -> ChipView:
    """A view ``(time, y, x)``: what has no time holds for every date."""
    shape = probability.shape if probability.ndim == 3 else (1, *probability.shape)
    label = label if asked is None else np.where(asked, label, np.uint8(UNOBSERVED))
    return ChipView(
        label=np.broadcast_to(label, shape),
        probability=np.broadcast_to(probability, shape),
        bands={name: np.broadcast_to(band, shape) for name, band in bands.items()},
        flags=None if flags is None else np.broadcast_to(flags, shape),
    )


def _part(view: ChipView, part: Any) -> ChipView:
    return ChipView(
        view.label[part],
        view.probability[part],
        {name: band[part] for name, band in view.bands.items()},
        None if view.flags is None else view.flags[part],
    )


def _runs(ids: NDArray[np.int64]) -> list[tuple[int, int]]:
    """First place, and the one after the last, of each number in a sorted array."""
    starts = np.flatnonzero(np.diff(ids, prepend=ids[0] - 1))
    return list(zip(starts.tolist(), [*starts[1:].tolist(), len(ids)], strict=True))


def _chips(counts: xr.Dataset, layers: _Layers) -> pd.DataFrame:
    """The squares that have something to count, a row each."""
    import pandas as pd

    mapped, squares = layers.pair.mapped, layers.squares
    rows, columns = grid_dims(mapped)
    stacked = np.stack([counts[name].to_numpy() for name in COUNTS], axis=-1)
    stacked = stacked if "time" in mapped.dims else stacked[np.newaxis]
    counted = stacked[..., : len(OUTCOMES) * len(VOTES)].sum(axis=-1) > 0
    step, i, j = np.nonzero(counted)
    x, y = squares.centres[columns][j], squares.centres[rows][i]
    longitude, latitude = to_degrees(mapped.odc.geobox.crs).transform(x, y)
    times = np.atleast_1d(mapped["time"].to_numpy()) if "time" in mapped.coords else np.array(["NaT"])
    time = times.astype("datetime64[ns]")[step]
    down, across = np.unique(squares.ids[rows])[i], np.unique(squares.ids[columns])[j]
    days = np.where(np.isnat(time), "", np.datetime_as_string(time, unit="D"))
    names = [f"{d} r{r} c{c}".strip() for d, r, c in zip(days.tolist(), down, across, strict=True)]
    area = pixel_metres(mapped.odc.geobox, x, y)[2]
    told = {
        "chip": names,
        "time": time,
        "longitude": longitude,
        "latitude": latitude,
        "step": step,
        "i": i,
        "j": j,
    }
    told |= {"pixel_m": layers.pixel_m, "pixel_m2": area}
    return pd.DataFrame(told | dict(zip(COUNTS, stacked[counted].T, strict=True)))


def _view(layers: _Layers, chips: pd.DataFrame, row: int) -> ChipView:
    """What there is to see of one square, read now."""
    from dask.base import compute

    chip, mapped = chips.iloc[row], layers.pair.mapped
    rows, columns = grid_dims(mapped)
    place: dict[Any, Any] = {
        dim: slice(*_runs(layers.squares.ids[dim])[chip[axis]]) for dim, axis in ((rows, "i"), (columns, "j"))
    }
    place["time"] = chip["step"]
    cut = partial(_cut, place=place)
    label, asked = cut(layers.pair.actual), None if layers.pair.asked is None else cut(layers.pair.asked)
    lazy = cut(mapped), label, asked, None if layers.flags is None else cut(layers.flags)
    bands = {name: cut(band) for name, band in layers.bands.items()}
    (probability, label, asked, flags), bands = compute(lazy, bands)
    planes = _stacked(
        probability.to_numpy(),
        label.to_numpy(),
        None if asked is None else asked.to_numpy(),
        None if flags is None else flags.to_numpy(),
        {name: band.to_numpy() for name, band in bands.items()},
    )
    return _part(planes, 0)


def _cut(layer: xr.DataArray, *, place: Mapping[Any, Any]) -> xr.DataArray:
    return layer.isel({dim: part for dim, part in place.items() if dim in layer.dims})
