"""Whether a lake touches ice, from the ice seen on the same date."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xglof.cube.flags import Flag
from xglof.lakes.layer import LAKE, UNOBSERVED, lake_layer, north_up
from xglof.lakes.pixels import flag_layer
from xglof.lakes.reading import Window, date_places, read_windows, window_around

if TYPE_CHECKING:
    import geopandas

#: Ice this near to the outline touches the lake: its edge is a mixed pixel, and the map may miss one more.
REACH_PX = 2
_ICE_CLASSES = ("ice", "glacier", "glacier_ice")
#: Snow may lie on ice or on rock; under the others nothing was seen at all.
_HIDDEN = (
    Flag.cloud | Flag.cloud_shadow | Flag.terrain_shadow | Flag.snow | Flag.failed_read | Flag.not_requested
)


def ice_contact(lakes: geopandas.GeoDataFrame, seg: xr.Dataset) -> NDArray[np.object_]:
    """Whether each lake touched ice at its date: ``"ice contact"``, ``"no contact"`` or ``"unknown"``.

    Ice is what ``classes`` of the segmentation calls ice or glacier, where the model has such a class; else
    the flag ``ice`` where Sentinel-2 saw the pixel. A lake has contact if a pixel of ice lies within 2 pixels
    of its outline, and none if every pixel there was seen and none is ice. Snow hides what is below it. Ice
    that floats on the lake does not count.

    ``"no contact"`` means no bare ice. A glacier under debris looks like rock, in Sentinel-2's scene
    classification and so in the flag ``ice``: at such a tongue ``"no contact"`` can be wrong. Where that
    matters, as on most large glaciers of the Himalaya, take it for unknown where the lake lies at an outline
    of the glacier inventory, which holds the debris-covered part too (``glacier_distance_m`` of
    :func:`xglof.lakes.lake_attributes`), or map with a model that has a class for glaciers.

    This **computes**: windows around the lakes, one date after the other. Store a segmentation first: a lazy
    one whose chunks hold several dates is computed for each of them.

    Parameters
    ----------
    lakes
        A row a lake part and date, with ``time`` and a CRS.
    seg
        Segmentation with ``lake``, ``([time,] y, x)`` uint8, and ``classes`` or ``flags``.

    Returns
    -------
    numpy.ndarray
        Text a row; ``"unknown"`` for dates that ``seg`` does not have, to the millisecond.
    """
    layer = lake_layer(seg)
    contact = np.full(len(lakes), "unknown", object)
    seen = _ice_and_hidden(seg, layer)
    if seen is None or not len(lakes):
        return contact
    grid = layer.odc.geobox
    shapes = lakes.geometry.to_crs(grid.crs.wkt).to_numpy()
    if "time" not in layer.dims:
        steps = np.zeros(len(lakes), int)
        layer, seen = layer.expand_dims("time"), seen.expand_dims("time")
    else:
        steps = date_places(layer.indexes["time"], lakes["time"])
    for step in np.unique(steps[steps >= 0]):
        rows = np.flatnonzero(steps == step)
        contact[rows] = _of_date(shapes[rows], layer.isel(time=step).data, seen.isel(time=step).data, grid)
    return contact


def _ice_and_hidden(seg: xr.Dataset, layer: xr.DataArray) -> xr.DataArray | None:
    """0 no ice, 1 ice, 255 hidden, lazily, in the order of the layer; ``None`` where nothing tells."""
    if "classes" in seg:
        attrs = seg["classes"].attrs
        meanings = str(attrs.get("flag_meanings", "")).split()
        values = np.atleast_1d(attrs.get("flag_values", [])).tolist()
        ice = [value for value, name in zip(values, meanings, strict=False) if name in _ICE_CLASSES]
        if ice:
            classes = north_up(seg["classes"].transpose(*layer.dims))
            found: xr.DataArray = xr.where(classes == UNOBSERVED, UNOBSERVED, classes.isin(ice))
            return found.astype(np.uint8)
    flags = flag_layer(seg, layer)
    if flags is None:
        return None
    bits = flags.astype(np.uint16)
    seen = ((bits & Flag.s2_used.value) != 0) & ((bits & _HIDDEN.value) == 0)
    told: xr.DataArray = xr.where(seen, (bits & Flag.ice.value) != 0, UNOBSERVED)
    return told.astype(np.uint8)


def _of_date(shapes: NDArray[Any], layer: Any, seen: Any, grid: Any) -> list[str]:
    """Contact of the lakes of one date."""
    windows = [window_around(grid, shape.bounds, REACH_PX) for shape in shapes]
    parts = read_windows((layer, seen), windows)
    return [
        _contact(lake, ice, shape, window, grid)
        for (lake, ice), shape, window in zip(parts, shapes, windows, strict=True)
    ]


def _contact(lake: NDArray[np.uint8], seen: NDArray[np.uint8], shape: Any, window: Window, grid: Any) -> str:
    """Contact of one lake from its window."""
    from rasterio.features import geometry_mask
    from scipy.ndimage import binary_dilation

    if lake.size == 0:
        return "unknown"
    near = np.ones((3, 3), bool)
    own = geometry_mask([shape], lake.shape, grid[window].transform, invert=True)
    # dilated on a margin, so that a ring beyond the grid's edge is known to be unseen
    wide = binary_dilation(np.pad(own, REACH_PX), near, iterations=REACH_PX)
    inner = np.s_[REACH_PX:-REACH_PX, REACH_PX:-REACH_PX]
    cut = wide.sum() > wide[inner].sum()
    ring = wide[inner] & ~own & (lake != LAKE)
    if (ring & (seen == 1)).any():
        return "ice contact"
    hidden = cut or not own.any() or (ring & (seen == UNOBSERVED)).any()
    return "unknown" if hidden else "no contact"
