"""Cells: the pixels of a window that lakes' footprints and their buffers reach."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xglof.lakes.layer import Float

_FAR = np.iinfo(np.int32).max
_CORNER_PX = 1e-3  # coordinates' last bits are no distance


def layers(geometry: NDArray[Any], buffer_px: int) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Images to draw polygons in so that no two of an image are in reach of one pixel.

    Parameters
    ----------
    geometry
        Polygons in pixels.
    buffer_px
        Their reach.

    Returns
    -------
    tuple
        Number of each one's image, int32 from 0, and bool: whether others are in reach of its pixels.
    """
    import shapely

    near, other = shapely.STRtree(geometry).query(geometry, "dwithin", 2 * buffer_px + _CORNER_PX)
    near, other = near[near != other], other[near != other]
    order = np.argsort(near, kind="stable")
    several, start = np.unique(near[order], return_index=True)
    image = np.zeros(len(geometry), np.int32)
    contested = np.zeros(len(geometry), bool)
    contested[several] = True
    for number, others in zip(several, np.split(other[order], start[1:]), strict=False):
        taken = image[others[others < number]]
        image[number] = np.setdiff1d(np.arange(len(taken) + 1), taken)[0]
    return image, contested


@dataclass(frozen=True, slots=True)
class Cells:
    """Pixels of homes in a window; a pixel in reach of several homes occurs several times.

    Attributes
    ----------
    at
        int64 place in the window's pixels, row by row.
    home
        int32 place in the window's homes.
    inside
        bool: in the footprint itself, not only in its buffer.
    reach, core, own
        float64 shares of the pixel, whole numbers of 2**-24, so that sums are exact: that the buffered
        footprint and the core cover, and that is at home here and nowhere else.
    """

    at: NDArray[np.int64]
    home: NDArray[np.int32]
    inside: NDArray[np.bool_]
    reach: Float
    core: Float
    own: Float


def label_cells(
    geometry: NDArray[Any],
    core: NDArray[Any],
    image: NDArray[np.int32],
    transform: Any,
    shape: tuple[int, int],
    buffer_px: int,
) -> Cells:
    """Pixels in reach of homes; each is at home at the nearest one.

    Parameters
    ----------
    geometry, core
        Polygons from the smallest to the largest footprint: of those as near, the first has the pixel.
    image
        Their numbers of :func:`layers`.
    transform, shape
        Affine transform and ``(rows, columns)`` of the window.
    buffer_px
        Reach in pixels, Euclidean.

    Returns
    -------
    Cells
        Shares are 0 and 1. The pixel's centre decides.
    """
    padded = (shape[0] + 2 * buffer_px, shape[1] + 2 * buffer_px)
    moved = transform * type(transform).translation(-buffer_px, -buffer_px)
    inner = slice(buffer_px, padded[0] - buffer_px), slice(buffer_px, padded[1] - buffer_px)
    parts = []
    for number in np.unique(image):
        homes = np.flatnonzero(image == number).astype(np.int32)
        labels, far = _grown(drawn(geometry[homes], homes, moved, padded), buffer_px)
        at = np.flatnonzero(labels[inner])
        home = labels[inner].ravel()[at] - 1
        kept = drawn(core[homes], homes, transform, shape).ravel()[at] > 0
        parts.append((at, home, far[inner].ravel()[at], kept))
    at, home, far, kept = (np.concatenate(each) for each in zip(*parts, strict=True))
    order = np.lexsort((home, far, at))
    at, home, far, kept = at[order], home[order], far[order], kept[order]
    nearest = np.diff(at, prepend=-1) > 0
    return Cells(at, home, far == 0, np.ones(len(at)), kept.astype(float), nearest.astype(float))


def drawn(
    geometry: NDArray[Any], number: NDArray[np.integer], transform: Any, shape: tuple[int, int]
) -> NDArray[np.int32]:
    """Image of the numbers of polygons plus one, the first above the others, 0 where there is none."""
    from rasterio.features import rasterize

    labels = np.zeros(shape, np.int32)
    if len(geometry):
        pairs = zip(geometry[::-1], (number[::-1] + 1).tolist(), strict=True)
        rasterize(pairs, out=labels, transform=transform)
    return labels


def _grown(core: NDArray[np.int32], reach: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Labels of the pixels in reach of some, and the square of their distance."""
    # not skimage's expand_labels: its choice between two as near depends on what else is in the image, and a
    # pixel must get the same lake whatever the block it is looked at in
    grown, far_from = core.copy(), np.zeros(core.shape, np.int32)
    labels, nearest = grown.ravel(), np.full(core.size, _FAR, np.int32)
    y, x = np.nonzero(core)
    label = core[y, x]
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    far = rows**2 + columns**2
    for distance in np.unique(far[(far > 0) & (far <= reach**2)]):
        steps = zip(rows[far == distance], columns[far == distance], strict=True)
        reached = [_free_cells(labels, core.shape, y + down, x + right, label) for down, right in steps]
        at, by = (np.concatenate(each) for each in zip(*reached, strict=True))
        np.minimum.at(nearest, at, by)  # the first of those as near
        labels[at] = nearest[at]
        far_from.ravel()[at] = distance
    return grown, far_from


def _free_cells(
    labels: NDArray[np.int32],
    shape: tuple[int, ...],
    y: NDArray[np.intp],
    x: NDArray[np.intp],
    label: NDArray[np.int32],
) -> tuple[NDArray[np.intp], NDArray[np.int32]]:
    """Those of some pixels that lie in the image and have no label yet, and the label that reaches each."""
    inside = (y >= 0) & (y < shape[0]) & (x >= 0) & (x < shape[1])
    at, by = y[inside] * shape[1] + x[inside], label[inside]
    free = labels[at] == 0
    return at[free], by[free]
