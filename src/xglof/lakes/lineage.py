"""What happened to lakes: which one holds the place of which at a date, and their events as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xglof.errors import CubeError

if TYPE_CHECKING:
    import geopandas
    import pandas

_COLUMNS = ["time", "lake_id", "event", "parents"]
_PARTIAL = ("touches_unobserved", "touches_edge")
_DOUBTFUL = ("outlier", "provisional")  # meanings of quality that leave no point value to judge by


def holders(
    tracked: geopandas.GeoDataFrame | pandas.DataFrame, ids: Sequence[str] | NDArray[Any], times: Any
) -> NDArray[np.int32]:
    """The lake that holds each lake's place at each time.

    That is the lake itself; before it split off the lake it was part of; from a merge on the lake it merged
    into, until it is seen alone again. A holder that is held itself is followed to the end.

    Parameters
    ----------
    tracked
        Rows with ``lake_id``, and ``time``, ``event`` and ``parents`` where there are such columns, as
        :func:`xglof.lakes.track` returns them. Without events every lake holds itself.
    ids
        Lakes, each once and all of them in ``tracked``. Ids are compared as text.
    times
        Dates (datetime64) in any order. What counts is the last row at or before each.

    Returns
    -------
    numpy.ndarray
        ``(lake, time)`` int32, index into ``ids``; -1 where the holder is none of them.

    Raises
    ------
    CubeError
        No ``lake_id``, ids that are not in ``tracked`` or occur twice, parents that lead in a circle.

    Examples
    --------
    >>> import numpy as np, pandas
    >>> from xglof.lakes.lineage import holders
    >>> years = np.array(["2021-09-01", "2022-09-01"], "datetime64[ns]")
    >>> rows = pandas.DataFrame({"time": years[[0, 0, 1]], "lake_id": ["A", "B", "A"],
    ...                          "event": ["new", "new", "merge"], "parents": ["", "", "A B"]})
    >>> holders(rows, ["A", "B"], years).tolist()
    [[0, 0], [1, 0]]
    """
    import pandas as pd

    rows = _rows(tracked)
    lakes = pd.Index(pd.unique(rows["lake_id"]))
    names = np.array([str(name) for name in ids], object)
    wanted = lakes.get_indexer(names)
    _check_ids(names, wanted)
    dates, column = np.unique(np.asarray(times, "datetime64[ns]").astype(np.int64), return_inverse=True)
    direct = held = _direct(rows, lakes, dates)
    for _ in range(len(lakes).bit_length()):  # each turn is twice as far along the chains
        further = np.take_along_axis(held, held, axis=0)
        if (further == held).all():
            break
        held = further
    if (np.take_along_axis(direct, held, axis=0) != held).any():
        raise CubeError("the parents of lakes lead in a circle; pass rows that track() returned, unchanged")
    place = np.full(len(lakes), -1, np.int32)
    place[wanted] = np.arange(len(wanted))
    return np.asarray(place[held[wanted]][:, column])


def _rows(tracked: Any) -> pandas.DataFrame:
    """Columns of the table and whether the view was partial, by time; the rows of a lake in parts are one."""
    import pandas as pd

    if "lake_id" not in tracked:
        raise CubeError("the polygons have no column 'lake_id'; give them ids with track()")
    count = len(tracked)
    time: Any = np.full(count, np.datetime64("NaT", "ns"))
    if "time" in tracked:
        time = pd.DatetimeIndex(tracked["time"])
        time = time if time.tz is None else time.tz_convert("UTC").tz_localize(None)
    columns = {
        "time": np.asarray(time, "datetime64[ns]"),
        "lake_id": tracked["lake_id"].astype(str).to_numpy(object),
    }
    for name in ("event", "parents"):
        blank = np.full(count, "", object)
        columns[name] = tracked[name].fillna("").astype(str).to_numpy(object) if name in tracked else blank
    partial = [tracked[name].isin([True]).to_numpy() for name in _PARTIAL if name in tracked]
    rows = pd.DataFrame(columns).assign(partial=np.logical_or.reduce(partial) if partial else False)
    rows = rows.drop_duplicates()
    return rows.sort_values("time", kind="stable", na_position="first", ignore_index=True)


def _check_ids(ids: NDArray[Any], wanted: NDArray[np.intp]) -> None:
    if (wanted < 0).any():
        raise CubeError(
            f"{(wanted < 0).sum()} of {len(ids)} lakes are not among the polygons, as {ids[wanted < 0][0]}; "
            "pass the polygons that the ids are of"
        )
    if len(np.unique(wanted)) < len(wanted):
        raise CubeError("some ids occur twice; pass each lake once")


def _direct(rows: pandas.DataFrame, lakes: pandas.Index, dates: NDArray[np.int64]) -> NDArray[np.int32]:
    """Lake that each lake is part of or merged into at each of sorted dates, one step of the chain."""
    seen = lakes.get_indexer(rows["lake_id"])
    time = rows["time"].to_numpy().astype(np.int64)  # a missing date is the least number
    merge, merged = _parents(rows, lakes, "merge")
    lake = np.append(merged, seen)
    holder = np.append(seen[merge], seen).astype(np.int32)
    when = np.append(time[merge], time)
    # a lake that is seen at the date of a merge is by itself: the order is stable, its own rows come last
    order = np.argsort(when, kind="stable")
    start = np.searchsorted(dates, when[order])  # in force from the first date that is no earlier
    held = np.full((len(lakes), len(dates) + 1), -1, np.int32)
    cell = lake[order] * held.shape[1] + start
    latest = len(cell) - 1 - np.unique(cell[::-1], return_index=True)[1]
    held.flat[cell[latest]] = holder[order][latest]
    first = rows.drop_duplicates("lake_id")
    split, parent = _parents(first, lakes, "split")
    before = np.arange(len(lakes), dtype=np.int32)
    before[lakes.get_indexer(first["lake_id"].iloc[split])] = parent
    known = held[:, :-1] >= 0
    change = np.maximum.accumulate(np.where(known, np.arange(len(dates), dtype=np.int32), -1), axis=1)
    last = np.take_along_axis(held, np.maximum(change, 0), axis=1)
    return np.where(change >= 0, last, before[:, None])


def _parents(
    rows: pandas.DataFrame, lakes: pandas.Index, event: str
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Places of the rows of an event, and the number of another lake that went into each."""
    pairs = [
        (place, name)
        for place in np.flatnonzero(rows["event"] == event)
        for name in rows["parents"].iloc[place].split()
        if name != rows["lake_id"].iloc[place]
    ]
    number = lakes.get_indexer([name for _, name in pairs])
    there = number >= 0  # rows of lakes that were left out say nothing of them
    return np.array([place for place, _ in pairs], np.intp)[there], number[there]


def lineage(
    tracked: geopandas.GeoDataFrame | pandas.DataFrame, series: xr.Dataset | None = None
) -> pandas.DataFrame:
    """Table of what happened to lakes, by time and id.

    With a series, which is **computed**, also when lakes vanished and returned. Only a date at which the
    lake's place was observed can tell: a lake vanishes at the first area of 0 after one above 0, and returns
    at the first above 0 from there on. A lake held by another is neither gone nor back.

    Parameters
    ----------
    tracked
        As :func:`xglof.lakes.track` returns it.
    series
        Dataset with ``area``, ``(lake, time)`` m2, NaN where there is no point value, as
        :func:`xglof.lakes.lake_area` gives it. Where there is ``quality``, of a flagged series, dates
        flagged as outlier or provisional are passed over; where there is ``part_of``, a lake counts only
        while it holds its own place.

    Returns
    -------
    pandas.DataFrame
        ``time``, ``lake_id``, ``event`` (``"new"``, ``"split"``, ``"merge"``, ``"vanish"`` or ``"return"``)
        and ``parents`` (ids with a space between); one row an event. ``certain`` (bool) is
        False where lakes may be parts of one that was never seen whole: a new one that is seen in part, a
        merge of which two lakes were seen in part only before, a split with two parts seen in part. Without
        columns of partial views all is certain.

    Raises
    ------
    CubeError
        No ``lake_id``, a series without ``area``.

    Examples
    --------
    >>> import numpy as np, pandas, xarray
    >>> from xglof.lakes.lineage import lineage
    >>> years = np.array(["2021-09-01", "2022-09-01", "2023-09-01"], "datetime64[ns]")
    >>> rows = pandas.DataFrame({"time": years[[0, 2]], "lake_id": "A", "event": ["new", ""], "parents": ""})
    >>> area = xarray.DataArray([[9e4, 0, 7e4]], {"lake": ["A"], "time": years})
    >>> lineage(rows, xarray.Dataset({"area": area}))["event"].tolist()
    ['new', 'vanish', 'return']
    """
    import pandas as pd

    rows = _rows(tracked)
    told = rows["event"] != ""
    table = rows.loc[told, _COLUMNS].assign(certain=_certain(rows)[told])
    table = table.drop_duplicates(ignore_index=True)
    if series is not None and "area" not in series:
        raise CubeError(
            f"the series holds {sorted(map(str, series))}; expected 'area', as lake_area() gives it"
        )
    if series is not None and "time" in series["area"].dims:
        table = pd.concat([table, _absences(series)])
    return table.sort_values(["time", "lake_id"], kind="stable", na_position="first", ignore_index=True)


def _certain(rows: pandas.DataFrame) -> NDArray[np.bool_]:
    """Whether what the rows tell of cannot come from a view in part: a whole lake has land all around it."""
    partial = rows["partial"].groupby([rows["time"], rows["lake_id"]], dropna=False).transform("any")
    views = rows[["time", "lake_id", "event"]].assign(partial=partial)
    views["family"] = rows["lake_id"].where(rows["parents"] == "", rows["parents"])
    parts = views[(rows["event"] == "split") & partial]
    parts = parts.groupby(["time", "family"], dropna=False)["lake_id"].transform("nunique")
    certain: NDArray[np.bool_] = ~((rows["event"] == "new") & partial).to_numpy(bool)
    certain[parts.index[parts > 1]] = False
    date = rows["time"].to_numpy().astype(np.int64)
    whole = dict(zip(rows["lake_id"][~partial][::-1], date[~partial][::-1], strict=True))
    seen = dict(zip(rows["lake_id"][::-1], date[::-1], strict=True))
    for place in np.flatnonzero(rows["event"] == "merge"):
        before = [
            name for name in rows["parents"].iloc[place].split() if seen.get(name, date[place]) < date[place]
        ]
        certain[place] = sum(whole.get(name, date[place]) >= date[place] for name in before) < 2
    return certain


def _absences(series: xr.Dataset) -> pandas.DataFrame:
    """When lakes vanished and returned."""
    import pandas as pd

    names = [name for name in ("area", "quality", "part_of") if name in series]
    seen = series[names].transpose("lake", "time").sortby("time").compute()
    area = seen["area"].to_numpy()
    usable = np.isfinite(area)
    if "quality" in seen:
        flags = seen["quality"].attrs
        masks = dict(zip(flags["flag_meanings"].split(), np.atleast_1d(flags["flag_masks"]), strict=True))
        doubtful = np.bitwise_or.reduce([int(masks[name]) for name in _DOUBTFUL])
        usable &= (seen["quality"].to_numpy() & doubtful) == 0
    if "part_of" in seen:
        usable &= seen["part_of"].to_numpy() == np.arange(len(area))[:, None]
    water = usable & (area > 0)
    ever = np.maximum.accumulate(water, axis=1)
    told = usable & ever  # from the first water on
    place = np.where(told, np.arange(area.shape[1]), -1)
    last = np.maximum.accumulate(place, axis=1)[:, :-1]
    before = np.take_along_axis(water, np.maximum(last, 0), axis=1)
    changed = told[:, 1:] & (last >= 0) & (before != water[:, 1:])
    lake, column = np.nonzero(changed)
    return pd.DataFrame(
        {
            "time": np.asarray(seen["time"].to_numpy(), "datetime64[ns]")[1:][column],
            "lake_id": seen["lake"].to_numpy().astype(str).astype(object)[lake],
            "event": np.where(water[:, 1:][lake, column], "return", "vanish").astype(object),
            "parents": np.full(len(lake), "", object),
            "certain": np.full(len(lake), True),
        }
    )
