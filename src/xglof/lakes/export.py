"""Files of lake tables: GeoPackage, GeoParquet and CSV, written aside and then renamed."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from xglof.errors import CubeError, OutputError

if TYPE_CHECKING:
    import geopandas
    import pandas as pd

#: A spreadsheet runs a cell that begins with one of these as a formula.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def write_lakes(
    lakes: geopandas.GeoDataFrame,
    path: str | os.PathLike[str],
    *,
    layer: str = "lakes",
    overwrite: bool = False,
) -> Path:
    """The file that a table of lakes was written to, in the format that its name ends in.

    The file is written aside and renamed when it is complete: a reader sees the old one or the new one.

    Parameters
    ----------
    lakes
        A row a lake part and date, with a CRS.
    path
        ``.gpkg``, a GeoPackage. One that is there already keeps its other layers: a new ``layer`` is added,
        and one of the same name is replaced with ``overwrite=True``. Small whole numbers come back wider and
        times in milliseconds.
        ``.parquet``, GeoParquet 1.1: all dtypes and ``lakes.attrs`` come back as they were.
        ``.csv``, UTF-8, for spreadsheets: without outlines, which such a cell can't hold. In their place come
        ``longitude`` and ``latitude``, degrees on WGS 84, of a point inside. A text that a spreadsheet would
        run as a formula (it begins with ``=``, ``+``, ``-``, ``@``, a tab or a carriage return) is written
        with an apostrophe before it.
    layer
        Name of the GeoPackage's layer.
    overwrite
        Replace what is there.

    Raises
    ------
    CubeError
        ``lakes`` is no GeoDataFrame or has no CRS.
    OutputError
        Another ending, a folder that is not there, a file that is there already, a full disk.

    References
    ----------
    OGC GeoPackage 1.3 (12-128r17); GeoParquet 1.1.0; CSV injection as OWASP describes it.
    """
    _check_frame(lakes)
    target = Path(path)
    write = _WRITERS.get(target.suffix.lower())
    if write is None:
        raise OutputError(f"{target.name} ends in {target.suffix!r}; known are {', '.join(_WRITERS)}")
    adds = target.suffix.lower() == ".gpkg" and target.is_file()
    if adds and layer in _layers(target) and not overwrite:
        raise OutputError(
            f"layer {layer!r} of {target} is there already; pass overwrite=True or give another name"
        )

    def fill(made: Path) -> None:
        if adds:
            shutil.copyfile(target, made)
        write(lakes, made, layer)

    return write_aside(path, fill, overwrite=overwrite or adds)


def write_aside(
    path: str | os.PathLike[str], write: Callable[[Path], object], *, overwrite: bool = False
) -> Path:
    """The file at ``path``, renamed to it once ``write`` has written it aside.

    A reader sees the old file or the whole new one, and a write that fails leaves the old one and nothing
    else.

    Parameters
    ----------
    path
        Of the file, in a folder that is there.
    write
        Writes the file at the path it is given: one of the same name, in a folder beside.
    overwrite
        Replace a file that is there.

    Raises
    ------
    OutputError
        As :func:`check_place`, before ``write`` is called; a full disk, a folder that is not writable.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     made = write_aside(Path(folder) / "a.txt", lambda aside: aside.write_text("lakes"))
    ...     made.read_text()
    'lakes'
    """
    target = check_place(path, overwrite=overwrite)
    try:
        with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as aside:
            made = Path(aside) / target.name
            write(made)
            check_place(path, overwrite=overwrite)  # it took its time, and another may have been quicker
            os.replace(made, target)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
            raise
        raise OutputError(f"can't write {target}: {error.strerror}; give another folder") from error
    return target


def check_place(path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """The path, if a file can be written there: to be asked before long work.

    Raises
    ------
    OutputError
        An address, a folder, a file in a folder that is not there, or one that is there already.
    """
    if "://" in str(path):
        raise OutputError(f"{path} is an address; give a file on this machine and copy it from there")
    target = Path(path)
    if not target.parent.is_dir():
        raise OutputError(f"the folder {target.parent} is not there; make it first")
    if target.is_dir():
        raise OutputError(f"{target} is a folder; give the name of a file")
    if target.exists() and not overwrite:
        raise OutputError(f"{target} is there already; pass overwrite=True or give another name")
    return target


def _check_frame(lakes: geopandas.GeoDataFrame) -> None:
    if not hasattr(lakes, "to_crs"):
        raise CubeError(
            f"lakes is a {type(lakes).__name__}; expected a GeoDataFrame, as find_lakes() gives it"
        )
    if lakes.crs is None:
        raise CubeError("the GeoDataFrame of lakes has no CRS; set the one its numbers are in with set_crs()")


def _layers(path: Path) -> list[str]:
    """Names of the layers of a GeoPackage."""
    import geopandas

    try:
        return [str(name) for name in geopandas.list_layers(path)["name"]]
    except Exception as error:  # pyogrio has its own, of several kinds
        raise OutputError(f"{path} can't be read as a GeoPackage: {error}; give another name") from error


def _write_geopackage(lakes: geopandas.GeoDataFrame, path: Path, layer: str) -> None:
    lakes.to_file(path, layer=layer, driver="GPKG", index=False)


def _write_parquet(lakes: geopandas.GeoDataFrame, path: Path, layer: str) -> None:
    lakes.to_parquet(path, index=False, schema_version="1.1.0")


def _write_csv(lakes: geopandas.GeoDataFrame, path: Path, layer: str) -> None:
    points = lakes.geometry.representative_point().to_crs("EPSG:4326")
    table = lakes.drop(columns=lakes.geometry.name).assign(
        longitude=points.x.round(6), latitude=points.y.round(6)
    )
    plain_text(table).to_csv(
        path, index=False, float_format="%.10g", date_format="%Y-%m-%dT%H:%M:%S", encoding="utf-8"
    )


def plain_text(table: pd.DataFrame) -> pd.DataFrame:
    """The table with an apostrophe before every text that a spreadsheet would run as a formula.

    Examples
    --------
    >>> import pandas as pd
    >>> plain_text(pd.DataFrame({"comment": ["=1+1", "ice contact"], "area_m2": [-1, 2]})).comment.tolist()
    ["'=1+1", 'ice contact']
    """
    texts = table.select_dtypes(["object", "string", "category"])
    return table.assign(**{str(name): texts[name].astype(object).map(_quoted) for name in texts})


def _quoted(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA_STARTS) else value


_WRITERS: dict[str, Callable[[geopandas.GeoDataFrame, Path, str], None]] = {
    ".gpkg": _write_geopackage,
    ".parquet": _write_parquet,
    ".csv": _write_csv,
}
