"""Scores lake by lake: how many were found and how many are false, by size class, and how large they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from xglof.errors import CubeError
from xglof.evaluate.matching import MIN_IOU, Partial, match_lakes
from xglof.evaluate.pairing import pair_lakes
from xglof.lakes.layer import UNOBSERVED
from xglof.lakes.polygons import effective_resolution, find_lakes

if TYPE_CHECKING:
    import pandas

#: Edges of the size classes, hectares: 0.01, 0.02, 0.1 and 1 km2. Inventories begin at 0.01 or 0.02 km2: the
#: lakes below are shown apart.
CLASSES_HA = (1.0, 2.0, 10.0, 100.0)

_M2_A_HECTARE = 10_000.0
_MOSTLY = 0.5  # of a lake's area, in lakes of the other map


def score_lakes(
    seg: xr.Dataset | xr.DataArray,
    truth: xr.Dataset | xr.DataArray,
    *,
    threshold: float | None = None,
    min_iou: float = MIN_IOU,
    min_area: float = 0.0,
    partial: Partial = "ignore",
    classes_ha: Sequence[float] = CLASSES_HA,
) -> pandas.DataFrame:
    """Lakes found, missed and false, by size class, over the ground that both maps observed.

    This **computes**: it is :func:`lake_scores` of :func:`lake_matches`, see there for rules and columns.

    Parameters
    ----------
    seg, truth, threshold
        As of :func:`xglof.evaluate.score`.
    min_iou, min_area, partial
        As of :func:`xglof.evaluate.match_lakes`.
    classes_ha
        Edges of the size classes in hectares, rising; a lake of the size of an edge is in the class above it.

    Returns
    -------
    pandas.DataFrame
        As :func:`lake_scores`.

    Raises
    ------
    CubeError
        As :func:`lake_matches` and :func:`lake_scores`.
    """
    matches = lake_matches(
        seg, truth, threshold=threshold, min_iou=min_iou, min_area=min_area, partial=partial
    )
    return lake_scores(matches, classes_ha=classes_ha)


def lake_matches(
    seg: xr.Dataset | xr.DataArray,
    truth: xr.Dataset | xr.DataArray,
    *,
    threshold: float | None = None,
    min_iou: float = MIN_IOU,
    min_area: float = 0.0,
    partial: Partial = "ignore",
) -> pandas.DataFrame:
    """The lakes of a map and of a truth, matched one to one date by date.

    Both are cut to the pixels that both observed before their lakes are outlined by
    :func:`xglof.find_lakes`, so that water under a cloud is neither missed nor false. This **computes**,
    block by block as it does; the table is the same however the maps are cut into chunks.

    Parameters
    ----------
    seg, truth, threshold
        As of :func:`xglof.evaluate.score`.
    min_iou, min_area, partial
        As of :func:`xglof.evaluate.match_lakes`.

    Returns
    -------
    pandas.DataFrame
        As :func:`xglof.evaluate.match_lakes`; rows of the tables that ``find_lakes`` gave.

    Raises
    ------
    CubeError
        As :func:`xglof.evaluate.score` and :func:`xglof.evaluate.match_lakes`.
    """
    pair = pair_lakes(seg, truth, threshold=threshold)
    seen = (pair.mapped != UNOBSERVED) & (pair.actual != UNOBSERVED)
    if pair.asked is not None:
        seen = seen & pair.asked
    seen = seen.transpose(*pair.mapped.dims)
    metres = effective_resolution(seg)
    tables = [
        find_lakes(layer.where(seen, np.uint8(UNOBSERVED)).transpose(*seen.dims), resolution_m=metres)
        for layer in (pair.mapped, pair.actual)
    ]
    return match_lakes(tables[0], tables[1], min_iou=min_iou, min_area=min_area, partial=partial)


def lake_scores(matches: pandas.DataFrame, *, classes_ha: Sequence[float] = CLASSES_HA) -> pandas.DataFrame:
    """Lakes found, missed and false, by size class.

    A true lake is in the class of its own size, a mapped lake in that of its own: a lake that was mapped too
    small can be found in one class and right in the one below.

    Parameters
    ----------
    matches
        As :func:`xglof.evaluate.match_lakes` returns it; tables of several maps are joined by
        ``pandas.concat``.
    classes_ha
        Edges of the size classes in hectares, rising; a lake of the size of an edge is in the class above it.

    Returns
    -------
    pandas.DataFrame
        A row a class and one for ``all``. ``lower_ha``, ``upper_ha``; ``true_lakes`` that count, how many of
        them were ``found`` and ``missed``, and of the missed ones ``merged``: more than half of their area is
        in a mapped lake that is another one or too unlike; ``mapped_lakes`` that count, ``right`` and
        ``false``, and of the false ones ``fragments``: more than half in a true lake. ``recall`` = found /
        true lakes, ``precision`` = right / mapped lakes, ``f1`` = (found + right) / (true + mapped lakes),
        which is their harmonic mean wherever as many are found as are right; float64, NaN where 0 is divided
        by 0: a map without lakes has no precision, a truth without has no recall, and F1 is 0 for either and
        NaN only where there are lakes in neither. ``area_bias``: median of (mapped - true) / true area over
        the found lakes; ``within_1_sigma`` and ``within_2_sigma``: share of them whose true area is so near,
        by the sigma of the mapped one.

    Raises
    ------
    CubeError
        Edges that do not rise or are not above 0.

    Examples
    --------
    >>> import geopandas, shapely
    >>> boxes = shapely.box([0, 500], 0, [200, 700], 100)
    >>> true = geopandas.GeoDataFrame(geometry=boxes, crs="EPSG:32645")
    >>> mapped = geopandas.GeoDataFrame(geometry=[shapely.box(0, 0, 150, 100)], crs="EPSG:32645")
    >>> lake_scores(match_lakes(mapped, true)).loc["all", ["found", "recall", "precision"]].tolist()
    [1.0, 0.5, 1.0]
    """
    import pandas

    edges = [float(edge) for edge in classes_ha]
    if any(edge <= 0 for edge in edges) or any(b <= a for a, b in pairwise(edges)):
        raise CubeError(f"classes_ha is {tuple(classes_ha)}; expected hectares above 0, rising")
    rows = {name: _scores(matches, lower, upper) for name, lower, upper in _classes(edges)}
    return pandas.DataFrame.from_dict(rows, orient="index").rename_axis("size")


def _classes(edges: list[float]) -> Iterator[tuple[str, float, float]]:
    """Names and bounds (ha) of the classes, and of all lakes."""
    if edges:
        yield f"below {edges[0]:g} ha", 0.0, edges[0]
        for lower, upper in pairwise(edges):
            yield f"{lower:g} to {upper:g} ha", lower, upper
        yield f"from {edges[-1]:g} ha", edges[-1], np.inf
    yield "all", 0.0, np.inf


def _scores(matches: pandas.DataFrame, lower_ha: float, upper_ha: float) -> dict[str, Any]:
    within = {
        name: matches[name].between(lower_ha * _M2_A_HECTARE, upper_ha * _M2_A_HECTARE, inclusive="left")
        for name in ("area_m2", "true_area_m2")
    }
    true = matches[matches["true_counts"] & within["true_area_m2"]]
    mapped = matches[matches["mapped_counts"] & within["area_m2"]]
    found, missed = true[true["outcome"] == "found"], true[true["outcome"] == "missed"]
    right, false = mapped[mapped["outcome"] == "found"], mapped[mapped["outcome"] == "false"]
    off = found["area_m2"] - found["true_area_m2"]
    known = found["area_sigma_m2"].notna()
    sigmas = (off.abs() / found["area_sigma_m2"])[known]
    return {
        "lower_ha": lower_ha,
        "upper_ha": upper_ha,
        "true_lakes": len(true),
        "found": len(found),
        "missed": len(missed),
        "merged": int((missed["covered"] > _MOSTLY).sum()),
        "mapped_lakes": len(mapped),
        "right": len(right),
        "false": len(false),
        "fragments": int((false["covered"] > _MOSTLY).sum()),
        "recall": _share(len(found), len(true)),
        "precision": _share(len(right), len(mapped)),
        "f1": _share(len(found) + len(right), len(true) + len(mapped)),
        "area_bias": float((off / found["true_area_m2"]).median()),
        "within_1_sigma": _share(int((sigmas <= 1).sum()), len(sigmas)),
        "within_2_sigma": _share(int((sigmas <= 2).sum()), len(sigmas)),
    }


def _share(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")
