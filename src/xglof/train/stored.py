"""In which blocks a file holds a variable."""

from __future__ import annotations

from typing import Any

import xarray as xr

#: Side of the blocks that a file without chunks is read in, pixels.
_UNCHUNKED_PX = 512
#: Neighbouring stored chunks are read together up to this side, pixels: each read costs about 1 ms.
_LEAST_PX = 256


def stored_edges(variable: xr.Variable) -> tuple[tuple[int, ...], ...]:
    """First pixels of the blocks in which a file holds a variable, and its size, by dim.

    Blocks of a variable that was cropped or turned after it was opened are those of the file all the same.
    """
    stored = variable.encoding.get("preferred_chunks", {})
    edges = []
    for dim, size, key in zip(variable.dims, variable.shape, _key_of(variable), strict=True):
        side = stored.get(dim)
        if side is None:
            side = 1 if dim == "time" else _UNCHUNKED_PX
        if dim != "time":
            side *= -(-_LEAST_PX // side)
        edges.append(_edges(size, side, key))
    return tuple(edges)


def _edges(size: int, side: int, key: object) -> tuple[int, ...]:
    step = key.step or 1 if isinstance(key, slice) else 1
    if not isinstance(key, slice) or abs(step) != 1:
        return (*range(0, size, side), size)
    if step == 1:
        begin = key.start or 0
        inner = range(begin // side * side + side - begin, size, side)
    else:
        # counted from the last: a block ends where the file's begins
        inner = range(key.start % side + 1, size, side)
    return (0, *inner, size)


def _key_of(variable: xr.Variable) -> tuple[Any, ...]:
    """What of the file's variable this one is, by dim; of xarray's own making, so nothing hangs on it."""
    found = getattr(variable, "_data", None)
    while found is not None and not hasattr(found, "key"):
        found = getattr(found, "array", None)
    key = tuple(
        each for each in getattr(getattr(found, "key", None), "tuple", ()) if not isinstance(each, int)
    )
    return key if len(key) == variable.ndim else (None,) * variable.ndim
