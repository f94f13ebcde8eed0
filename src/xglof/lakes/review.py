"""What people wrote about lakes, kept when the lakes are mapped again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from xglof.errors import CubeError
from xglof.lakes.export import FORMULA_STARTS

if TYPE_CHECKING:
    import geopandas
    import pandas as pd

#: What a person writes into an inventory, and the value of a lake that nobody has looked at.
REVIEW_FIELDS: dict[str, Any] = {
    "name": "",
    "certainty": "",
    "verified": False,
    "verified_by": "",
    "comment": "",
}
#: Area that the outlines of a lake share before and after, over the smaller one: what the tracker asks for.
MIN_OVERLAP = 0.25
_ROUNDING = 1e-4  # as the tracker's: one pixel of four is a quarter in every CRS
_BETWEEN = " | "
_TRUE, _FALSE = {"true", "1", "1.0", "yes"}, {"false", "0", "0.0", "no", ""}


class Reviewed(NamedTuple):
    """What :func:`keep_review` returns.

    Attributes
    ----------
    lakes
        The new table with the review of the previous one.
    orphans
        Reviewed rows of the previous table whose lake is not in the new one, or lies elsewhere there. Empty
        where nothing was lost.
    """

    lakes: geopandas.GeoDataFrame
    orphans: pd.DataFrame


def keep_review(new: geopandas.GeoDataFrame, previous: pd.DataFrame) -> Reviewed:
    """The new table with the review of the previous one, and the reviewed rows that found no lake.

    A review belongs to a lake, by ``lake_id``: it need be written at one date only and holds at all. It is
    the lake that was verified, not its new outline.

    Ids stay when the new run is tracked with the previous lakes as an inventory **without dates**,
    ``track(polygons, known=previous[["lake_id", "geometry"]])``, as in the example. With their dates they
    would be refused: a re-run has these dates too.

    An id alone is no proof. It names a thousandth of a degree, about 110 m, and a run that did not know the
    previous lakes may give it to the pond next to the reviewed one. So where both tables have outlines, a
    review is kept only if the lake's outlines before and after, each united over all dates, share a quarter
    of the smaller one. Keep tables as GeoPackage or GeoParquet: a CSV has no outlines, and its ids are
    taken at their word.

    Parameters
    ----------
    new
        Table of :func:`xglof.lakes.lake_attributes`; missing review fields are added.
    previous
        An earlier table as it comes back from a file: ``lake_id`` and any of the review fields, with outlines
        in any CRS or without, ``verified`` as bool, 0 and 1 or text.

    Returns
    -------
    Reviewed
        ``lakes``: the rows of ``new``, and ``name``, ``certainty``, ``verified_by``, ``comment`` (text) and
        ``verified`` (bool) of their lakes. Comments that differ from date to date are joined with ``" | "``.
        ``orphans``: rows of ``previous`` with a review whose lake is gone or lies elsewhere, with all their
        columns. Look at them before ``previous`` is overwritten.

    Raises
    ------
    CubeError
        No ``lake_id``, outlines without CRS, a ``verified`` that is neither true nor false, or two different
        names, certainties or reviewers of one lake, in ``previous`` or between the two tables: nobody but the
        reviewer can choose.

    Examples
    --------
    A first run, reviewed:

    >>> import geopandas, pandas, shapely
    >>> from xglof.lakes.tracking import track
    >>> dates = {"time": pandas.to_datetime(["2023-07-01", "2023-07-01", "2023-07-11"])}
    >>> outlines = [shapely.box(86.92, 27.89, 86.93, 27.9), shapely.box(86.95, 27.89, 86.953, 27.892)]
    >>> first = geopandas.GeoDataFrame(dates, geometry=[*outlines, outlines[0]], crs="EPSG:4326")
    >>> previous = track(first).assign(name=["Imja", "small one", ""], verified=[True, True, False])

    The same dates mapped by another model, that finds other outlines and misses the small lake:

    >>> outlines = [shapely.box(86.918, 27.89, 86.93, 27.9), shapely.box(86.917, 27.89, 86.93, 27.9)]
    >>> polygons = geopandas.GeoDataFrame(
    ...     {"time": pandas.to_datetime(["2023-07-01", "2023-07-11"])}, geometry=outlines, crs="EPSG:4326")
    >>> new = track(polygons, known=previous[["lake_id", "geometry"]])
    >>> lakes, orphans = keep_review(new, previous)
    >>> for row in lakes[["lake_id", "name", "verified"]].to_numpy():
    ...     print(row.tolist())
    ['GL086925E27895N', 'Imja', True]
    ['GL086925E27895N', 'Imja', True]
    >>> orphans["name"].tolist()
    ['small one']
    """
    import pandas as pd

    for frame, which in ((new, "new"), (previous, "previous")):
        if "lake_id" not in frame:
            raise CubeError(f"the {which} table has no lake_id; run track() first")
    lakes = new.copy()
    reviewed = _clean(previous)
    written = reviewed[list(REVIEW_FIELDS)].ne(REVIEW_FIELDS).any(axis=1)
    there = set(reviewed["lake_id"][written]) & set(lakes["lake_id"])
    there -= _elsewhere(lakes, previous, there)
    lost = written & ~reviewed["lake_id"].isin(there)
    own = _clean(lakes)
    # the new table's own words count too: both must agree
    both = {name: _by_lake([reviewed[~lost], own], name) for name in REVIEW_FIELDS}
    for name, empty in REVIEW_FIELDS.items():
        values = [both[name].get(lake, empty) for lake in lakes["lake_id"]]
        lakes[name] = pd.Series(values, lakes.index, dtype=bool if isinstance(empty, bool) else object)
    return Reviewed(lakes, previous[lost.to_numpy()].copy())


def _elsewhere(new: geopandas.GeoDataFrame, previous: pd.DataFrame, ids: set[Any]) -> set[Any]:
    """Ids whose outlines in the two tables share too little to be one lake; none without outlines."""
    import shapely

    if not ids or not (_has_outlines(new, "new") and _has_outlines(previous, "previous")):
        return set()
    before = _united(previous, ids, new.crs)
    after = _united(new, ids, new.crs)
    both = before.index.intersection(after.index)
    old, now = (np.asarray(each[both].to_numpy(), object) for each in (before, after))
    shared = shapely.area(shapely.intersection(old, now))
    least = np.minimum(shapely.area(old), shapely.area(now))
    return set(both[shared < (MIN_OVERLAP - _ROUNDING) * least])


def _has_outlines(table: pd.DataFrame, which: str) -> bool:
    if getattr(table, "active_geometry_name", None) is None:
        return False
    if table.crs is None:
        raise CubeError(f"the {which} table has no CRS; set the one its numbers are in with set_crs()")
    return True


def _united(table: Any, ids: set[Any], crs: Any) -> pd.Series:
    """The outline of each lake over all dates, of those that have one."""
    import pandas as pd
    import shapely

    rows = table[table["lake_id"].isin(ids).to_numpy() & ~(table.geometry.isna() | table.geometry.is_empty)]
    # people redraw outlines by hand, and may cross their own lines
    shapes = pd.Series(shapely.make_valid(rows.geometry.to_crs(crs).to_numpy()), dtype=object)
    united: pd.Series = shapes.groupby(rows["lake_id"].to_numpy()).agg(
        lambda parts: shapely.union_all(parts.to_numpy())
    )
    return united


def _clean(table: pd.DataFrame) -> pd.DataFrame:
    """Ids and review fields in their types, whatever a file made of them; by time where there is one."""
    import pandas as pd

    clean = pd.DataFrame({"lake_id": table["lake_id"].to_numpy()})
    for name, empty in REVIEW_FIELDS.items():
        values = table[name].astype(object).to_numpy() if name in table else [empty] * len(table)
        as_read = pd.Series(values, dtype=object)
        as_read = as_read.where(as_read.notna(), empty)
        clean[name] = as_read.map(_truth) if isinstance(empty, bool) else as_read.astype(str).map(_words)
    times = pd.to_datetime(table["time"].to_numpy()) if "time" in table else pd.NaT
    return clean.assign(time=times)


def _words(text: str) -> str:
    """The text as it was typed, without the apostrophe that a CSV keeps formulas from running with."""
    return text[1:].strip() if text.startswith("'") and text[1:].startswith(FORMULA_STARTS) else text.strip()


def _truth(value: object) -> bool:
    text = str(value).strip().lower()
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    raise CubeError(f"verified is {value!r} in a table; expected true or false")


def _by_lake(tables: list[pd.DataFrame], name: str) -> dict[Any, Any]:
    """The value of a field for each lake that has one."""
    import pandas as pd

    table = pd.concat(tables).sort_values("time", kind="stable", na_position="first")
    words = table.loc[table[name] != REVIEW_FIELDS[name], ["lake_id", name]].drop_duplicates()
    if name == "comment":
        pieces = words.assign(comment=words[name].str.split(_BETWEEN, regex=False)).explode(name)
        pieces = pieces.drop_duplicates()  # a comment that was joined before and written on holds itself
        return dict(pieces.groupby("lake_id", sort=False)[name].agg(_BETWEEN.join))
    if (twice := words[words["lake_id"].duplicated(keep=False)]).size:
        first = twice["lake_id"].iloc[0]
        found = twice.loc[twice["lake_id"] == first, name].tolist()
        others = twice["lake_id"].nunique() - 1
        more = f" (and {others} more lakes)" if others else ""
        raise CubeError(
            f"lake {first} has the {name} {' and '.join(map(repr, found))}{more}; write one of them"
        )
    return dict(words.itertuples(index=False, name=None))
