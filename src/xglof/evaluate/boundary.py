"""How well the shores of a lake map follow those of a truth, within a tolerance on the ground."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xglof.errors import CubeError
from xglof.evaluate.counts import outcome_codes
from xglof.evaluate.pairing import Pair, pair_lakes
from xglof.evaluate.reduction import Reduction, count_pixels, pooled_dims
from xglof.lakes.layer import pixel_metres

#: Two Sentinel-2 pixels.
TOLERANCE_M = 20.0

_SLACK_PX = 0.01  # pixels of a UTM grid are up to 0.1% off their nominal size on the ground
_TP, _FP, _FN, _TN, _UNSEEN = range(5)  # of outcome_codes; from the last on, not seen by both or not asked
_NO_SHORE, _HIT, _MISS = range(3)
_SIDES = (1, 0)  # reach of a pixel's four sides: a column in its own row, none in the next ones

#: Columns within the tolerance, by how many rows away they are.
Reaches = tuple[int, ...]

_COUNTS = {
    "mapped_hit": "shore pixels of the prediction with a true one within the tolerance",
    "mapped_miss": "shore pixels of the prediction without",
    "true_hit": "shore pixels of the truth with a mapped one within the tolerance",
    "true_miss": "shore pixels of the truth without",
}


def score_boundary(
    seg: xr.Dataset | xr.DataArray,
    truth: xr.Dataset | xr.DataArray,
    *,
    tolerance_m: float = TOLERANCE_M,
    threshold: float | None = None,
    dim: Hashable | Iterable[Hashable] | None = None,
) -> xr.Dataset:
    """Boundary F1: shares of the mapped and of the true shore that lie near each other.

    A shore pixel is a lake pixel with land at one of its four sides. It hits where the other map has a shore
    pixel whose centre lies within the tolerance. What prediction or truth did not observe has no shore: it is
    no land. A shore pixel counts nowhere if what would match it may be hidden: where something within the
    tolerance, or beside a pixel within it, is unobserved, not asked for or beyond the raster's edge. A pixel
    beside what was not seen may be a shore and not look like one.

    Lazy where its inputs are; a task reads one block of each map and a margin of the tolerance and one pixel
    from its neighbours, so that the counts are the same for any chunks.

    Parameters
    ----------
    seg, truth, threshold, dim
        As of :func:`xglof.evaluate.score`.
    tolerance_m
        Metres on the ground between centres of pixels, at the middle of the grid; a hundredth of a pixel more
        is granted. 0 asks for the same pixels.

    Returns
    -------
    xarray.Dataset
        ``boundary_f1``, ``boundary_precision``, ``boundary_recall``: float64 between 0 and 1, as of
        :func:`xglof.evaluate.add_boundary_shares`; ``mapped_hit``, ``mapped_miss``, ``true_hit``,
        ``true_miss``: int64 pixels, which add over dates and tiles. Dims: those of ``seg`` not in ``dim``.

    Raises
    ------
    CubeError
        As :func:`xglof.evaluate.score`; a negative tolerance.

    References
    ----------
    Csurka, Larlus & Perronnin (2013), What is a good evaluation measure for semantic segmentation?, BMVC,
    https://doi.org/10.5244/C.27.32
    """
    if not (np.isfinite(tolerance_m) and tolerance_m >= 0):
        raise CubeError(f"tolerance_m is {tolerance_m}; expected metres, 0 or more")
    pair = pair_lakes(seg, truth, threshold=threshold)
    dims = pooled_dims(pair.mapped, dim)
    codes = _shores(pair, _reaches(pair.mapped, tolerance_m))
    counts = count_pixels(_SHORES, [codes], pool=dims)
    return add_boundary_shares(_named(counts)).assign_attrs(tolerance_m=tolerance_m)


def _reaches(layer: xr.DataArray, tolerance_m: float) -> Reaches:
    """How many columns the tolerance reaches, in a pixel's own row and in each further one."""
    grid = layer.odc.geobox
    middle = grid.pix2wld(grid.shape[1] / 2, grid.shape[0] / 2)
    width, height, _ = (float(each[0]) for each in pixel_metres(grid, *np.atleast_1d(*middle)))
    limit = tolerance_m + _SLACK_PX * min(width, height)
    rows = range(int(limit / height) + 1)
    return tuple(int(np.sqrt(limit**2 - (row * height) ** 2) / width) for row in rows)


def _shores(pair: Pair, reaches: Reaches) -> xr.DataArray:
    """Codes of shore pixels, ``3 * that of the truth + that of the prediction``, lazily."""
    given = [layer for layer in pair.layers if layer is not None]
    states: xr.DataArray = xr.apply_ufunc(
        outcome_codes, *given, dask="parallelized", output_dtypes=[np.uint8]
    ).transpose(*pair.mapped.dims)
    if states.chunks is None:
        return states.copy(data=_edge_codes(states.to_numpy(), reaches=reaches))
    return states.copy(data=_overlapped(states.data, reaches))


def _overlapped(states: Any, reaches: Reaches) -> Any:
    """The codes block by block, each with a margin of its neighbours."""
    import dask.array as da

    depth = dict(zip((states.ndim - 2, states.ndim - 1), _margins(reaches), strict=True))
    made = {"dtype": np.uint8, "meta": np.empty((0,) * states.ndim, np.uint8)}
    if any(states.shape[axis] <= margin for axis, margin in depth.items()):  # no neighbours to ask
        return da.map_blocks(_edge_codes, states.rechunk(dict.fromkeys(depth, -1)), reaches=reaches, **made)
    edge = dict.fromkeys(depth, _UNSEEN)
    wide = da.overlap.overlap(states, depth=depth, boundary=edge)
    return wide.map_blocks(_shore_codes, reaches=reaches, chunks=_trimmed(wide.chunks, depth), **made)


def _trimmed(chunks: tuple[tuple[int, ...], ...], depth: Mapping[int, int]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(size - 2 * depth.get(axis, 0) for size in sizes) for axis, sizes in enumerate(chunks))


def _margins(reaches: Reaches) -> tuple[int, int]:
    """Rows and columns around a block that its answers depend on: the reach, and one more for the shore."""
    return len(reaches), reaches[0] + 1


def _edge_codes(states: NDArray[np.uint8], *, reaches: Reaches) -> NDArray[np.uint8]:
    """Codes of a whole raster: what lies beyond its edge was not seen."""
    frame = [(0, 0)] * (states.ndim - 2) + [(margin, margin) for margin in _margins(reaches)]
    return _shore_codes(np.pad(states, frame, constant_values=_UNSEEN), reaches=reaches)


def _shore_codes(states: NDArray[np.uint8], *, reaches: Reaches) -> NDArray[np.uint8]:
    """Codes of the inner pixels of maps with a margin."""
    rows, columns = _margins(reaches)
    inner = (..., slice(rows, -rows), slice(columns, -columns))
    codes = np.empty_like(states[inner])
    for step in np.ndindex(states.shape[:-2]):
        codes[step] = _codes_of_date(states[step], reaches)[inner]
    return codes


def _codes_of_date(states: NDArray[np.uint8], reaches: Reaches) -> NDArray[np.uint8]:
    unseen, codes = states >= _UNSEEN, np.zeros_like(states)
    mapped = _shore((states == _TP) | (states == _FP), unseen)
    actual = _shore((states == _TP) | (states == _FN), unseen)
    if not (mapped.any() or actual.any()):
        return codes
    decided = ~_near(_near(unseen, _SIDES), reaches)  # no partner may lie hidden, nor look like no shore
    for own, other, weight in ((mapped, actual, 1), (actual, mapped, 3)):
        answer = np.where(_near(other, reaches), np.uint8(_HIT), np.uint8(_MISS))
        codes += np.where(own & decided, answer, np.uint8(_NO_SHORE)) * np.uint8(weight)
    return codes


def _shore(lake: NDArray[np.bool_], unseen: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Lake pixels with land at one of four sides."""
    return lake & _near(~lake & ~unseen, _SIDES)


def _near(places: NDArray[np.bool_], reaches: Reaches) -> NDArray[np.bool_]:
    """Pixels within reach of a marked one, itself among them."""
    found, spread, width = np.zeros_like(places), places.copy(), 0
    for row in reversed(range(len(reaches))):  # further rows are reached over fewer columns
        while width < reaches[row]:
            width += 1
            spread[:, width:] |= places[:, :-width]
            spread[:, :-width] |= places[:, width:]
        found[row:] |= spread[: len(spread) - row]
        found[: len(found) - row] |= spread[row:]
    return found


def _shore_kind(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return codes


_SHORES = Reduction(_shore_kind, 9)


def _named(counts: xr.DataArray) -> xr.Dataset:
    """The counts by code as those of hits and misses."""

    def total(codes: list[int]) -> xr.DataArray:
        return counts.isel(code=codes).sum("code")

    found = {
        f"{name}_{word}": total([code for code in range(9) if code // weight % 3 == kind])
        for name, weight in (("mapped", 1), ("true", 3))
        for word, kind in (("hit", _HIT), ("miss", _MISS))
    }
    for name, each in found.items():
        each.attrs = {"long_name": _COUNTS[name], "units": "1"}
    return xr.Dataset(found)


def add_boundary_shares(counts: xr.Dataset) -> xr.Dataset:
    """The counts of shore pixels, and boundary F1, precision and recall that follow from them.

    Parameters
    ----------
    counts
        ``mapped_hit``, ``mapped_miss``, ``true_hit``, ``true_miss``, whole numbers of any dims, summed over
        all that shall be pooled.

    Returns
    -------
    xarray.Dataset
        With ``boundary_precision``, the share of the mapped shore that hits, ``boundary_recall``, that of the
        true shore, and ``boundary_f1``, their harmonic mean, besides: float64. A map without shore has no
        precision (NaN), a truth without has no recall. F1 is 0 where nothing hits, and NaN where neither has
        a shore or where the shore of one hits that of the other, none of which could be decided.
    """
    near, own = counts["mapped_hit"], counts["mapped_hit"] + counts["mapped_miss"]
    met, true = counts["true_hit"], counts["true_hit"] + counts["true_miss"]
    precision, recall = near / own.where(own > 0), met / true.where(true > 0)
    whole = near * true + met * own  # of 2 P R / (P + R), the denominators multiplied out
    f1 = (2 * near * met / whole.where(whole > 0)).where((near + met > 0) | (own + true == 0), 0.0)
    named = {"boundary_f1": f1, "boundary_precision": precision, "boundary_recall": recall}
    for name, share in named.items():
        share.attrs = {"long_name": name.replace("_", " "), "units": "1"}
    return counts.assign(named)
