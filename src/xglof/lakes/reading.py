"""Small windows of large layers at the dates of lakes, read together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xglof.errors import CubeError

if TYPE_CHECKING:
    import pandas as pd

Window = tuple[slice, slice]

#: Windows that begin in the same square of this side are read as one: a slice of a Dask array costs 5 to 10
#: ms however small it is (5041 lakes on 3000 x 3000 pixels: 51 s one by one, 15 s so).
_SIDE_PX = 1024
_SAME_DATE = "1ms"  # what a GeoPackage rounds to; passes of satellites are seconds apart


def window_around(grid: Any, bounds: tuple[float, float, float, float], margin_px: int = 0) -> Window:
    """Rows and columns of a north-up grid that a box touches, with a margin, cut at the grid's edge."""
    west, south, east, north = bounds
    matrix = ~grid.transform
    left, top = matrix @ (west, north)
    right, bottom = matrix @ (east, south)
    rows, columns = (
        slice(
            int(np.clip(np.floor(first) - margin_px, 0, size)),
            int(np.clip(np.ceil(last) + margin_px, 0, size)),
        )
        for first, last, size in zip((top, left), (bottom, right), grid.shape, strict=True)
    )
    return rows, columns


def date_places(times: pd.Index, dates: Any) -> NDArray[np.intp]:
    """Place along ``times`` of each date, -1 where no time is within a millisecond of it.

    A GeoPackage keeps milliseconds, and other software writes dates with a time zone: these are the same
    dates. Dates without a zone are in UTC.

    Raises
    ------
    CubeError
        A time that occurs twice.
    """
    import pandas as pd

    known, order = naive_utc(times).sort_values(return_indexer=True)
    if known.has_duplicates:
        raise CubeError(f"{known[known.duplicated()][0]} occurs twice along 'time'; merge or drop it")
    wanted = naive_utc(dates)
    places = known.get_indexer(wanted, method="nearest", tolerance=pd.Timedelta(_SAME_DATE))
    found: NDArray[np.intp] = np.where((places < 0) | wanted.isna(), -1, np.append(order, -1)[places])
    return found


def naive_utc(dates: Any) -> pd.DatetimeIndex:
    """Dates in UTC without a time zone, in nanoseconds.

    Examples
    --------
    >>> naive_utc(["2023-07-01T05:45+05:45"])[0]
    Timestamp('2023-07-01 00:00:00')
    """
    import pandas as pd

    index = pd.DatetimeIndex(dates)
    return (index if index.tz is None else index.tz_convert("UTC").tz_localize(None)).as_unit("ns")


def read_windows(layers: Sequence[Any], windows: Sequence[Window]) -> list[tuple[NDArray[Any], ...]]:
    """The windows of every layer, NumPy or Dask ``(y, x)``; the chunks of a Dask array are computed once.

    What is held at once is the part of the layers that windows lie in.
    """
    if all(isinstance(layer, np.ndarray) for layer in layers):
        return [tuple(layer[window] for layer in layers) for window in windows]
    from dask.base import compute

    squares: dict[tuple[int, int], list[int]] = {}
    for number, (rows, columns) in enumerate(windows):
        squares.setdefault((rows.start // _SIDE_PX, columns.start // _SIDE_PX), []).append(number)
    frames = [_around([windows[number] for number in numbers]) for numbers in squares.values()]
    blocks = compute([tuple(layer[frame] for layer in layers) for frame in frames])[0]
    found: list[tuple[NDArray[Any], ...]] = [()] * len(windows)
    for numbers, frame, block in zip(squares.values(), frames, blocks, strict=True):
        for number in numbers:
            inner = tuple(
                slice(part.start - whole.start, part.stop - whole.start)
                for part, whole in zip(windows[number], frame, strict=True)
            )
            found[number] = tuple(layer[inner] for layer in block)
    return found


def _around(windows: Sequence[Window]) -> Window:
    """The smallest window that holds all of them."""
    rows, columns = (
        slice(min(each[axis].start for each in windows), max(each[axis].stop for each in windows))
        for axis in (0, 1)
    )
    return rows, columns
