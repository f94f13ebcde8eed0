"""Chips of any source as Parquet shards in CryoSentinel's schema."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xglof.bands import MODALITIES
from xglof.errors import TrainError
from xglof.outputs import FolderKind, new_folder
from xglof.train.labels import IGNORE
from xglof.train.shard_rows import DEM, DEM_FILL, DEM_NODATA_M, EXACT_DEM, FLAGS, MASK, S1, S2, STACKS, Array

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow

    from xglof.train.batch import ChipSource

#: Chips of a row group: what a reader decodes at once, some 35 MB at 224 pixels.
GROUP_ROWS = 16
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_SHARDS = FolderKind(
    "folder of shards", "holds no shard_*.parquet", "another region name", lambda folder: False
)
_RADARS = ("S1GRD", "S1RTC")


def write_shards(
    source: ChipSource,
    root: str | os.PathLike[str],
    *,
    region: str,
    rows: Sequence[int] | None = None,
    rows_per_shard: int = 512,
) -> tuple[Path, ...]:
    """Paths of the Parquet shards that chips were written to, in CryoSentinel's schema.

    Every column of the published form is there, so that its readers take the files; those of our own that
    make a chip the same to the bit when :func:`xglof.train.parquet.read_shards` reads it are passed over by
    them: the date, the side of the square, the lakes that it touches, which Sentinel-1 product it is, flags,
    and elevation that whole metres can't hold (``dem_bytes`` is rounded to them). ``lake_id``, the closest
    lake, is null unless the chips come from shards that name it (``nearest_lake``). A mask has 255 where a
    label is ignored, which the published form, with 0 and 1 alone, does not know. A modality that a chip is
    not given is all nodata.

    The chips of a year take their place at once when they are all written. Memory is that of a row group, 16
    chips, beside what the source takes.

    Parameters
    ----------
    source
        Chips, such as :func:`xglof.train.sampling.chips` gives.
    root
        Folder of the data set; the files become ``<root>/<region>/<year>/shard_000.parquet`` and so on.
    region
        Name of a folder: letters, digits, ``_``, ``-`` and ``.``.
    rows
        Rows of the source's index, in the order wanted; ``None`` for all.
    rows_per_shard
        Most chips of a file.

    Raises
    ------
    TrainError
        No chips; a region that is no such name; a chip without date or ``year``; a model that takes part of
        the bands of Sentinel-2; numbers that the schema can't hold.
    OutputError
        A folder of a year is there already, can't be written, or the disk is full.

    Examples
    --------
    >>> import tempfile, xarray as xr
    >>> from odc.geo.geobox import GeoBox
    >>> from odc.geo.xr import wrap_xr
    >>> from xglof.models.registry import TERRAMIND_INPUTS
    >>> from xglof.models.spec import ModelSpec
    >>> from xglof.train.parquet import read_shards
    >>> from xglof.train.sampling import chips
    >>> radar = ModelSpec("radar", "mine:build", inputs=(TERRAMIND_INPUTS["S1RTC"],), window=32)
    >>> grid = GeoBox.from_bbox((500_000, 3_100_160, 500_640, 3_100_480), "EPSG:32645", resolution=10)
    >>> date = np.array(["2023-07-01"], "datetime64[ns]")
    >>> noise = np.random.default_rng(0).normal(-12, 3, (1, *grid.shape)).astype("float32")
    >>> cube = xr.Dataset({name: wrap_xr(noise, grid, time=date) for name in ("vv", "vh")})
    >>> source = chips(cube, label=(cube["vv"] < -15).astype("uint8"), model=radar, stride=32)
    >>> with tempfile.TemporaryDirectory() as root:
    ...     paths = write_shards(source, root, region="valley")
    ...     again = read_shards(root, model=radar)
    ...     paths[0].name, len(source) == len(again), tuple(again[0]["S1RTC"].shape)
    ('shard_000.parquet', True, (2, 32, 32))
    """
    if not _NAME.fullmatch(region):
        raise TrainError(
            f"region is {region!r}; give the name of a folder: letters, digits, '_', '-' and '.'"
        )
    if rows_per_shard < 1:
        raise TrainError(f"rows_per_shard is {rows_per_shard}; give at least 1")
    index = source.index if rows is None else source.index.iloc[np.asarray(rows, dtype=np.int64)]
    if not len(index):
        raise TrainError("there are no chips to write; choose other rows")
    _check_inputs(source)
    years = _years(index)
    written: list[Path] = []
    with ExitStack() as folders:
        places = {}
        for year in np.unique(years).tolist():
            path = Path(root) / region / f"{year:04d}"
            places[year] = path, folders.enter_context(new_folder(path, kind=_SHARDS))
        for year, (path, folder) in places.items():
            chosen = index.index.to_numpy()[years == year].tolist()
            for number, part in enumerate(_parts(chosen, rows_per_shard)):
                name = f"shard_{number:03d}.parquet"
                _write_shard(source, folder / name, part, region, year)
                written.append(path / name)
    return tuple(written)


def _parts(rows: Sequence[int], most: int) -> list[Sequence[int]]:
    return [rows[start : start + most] for start in range(0, len(rows), most)]


def _check_inputs(source: ChipSource) -> None:
    for each in source.spec.inputs:
        known = MODALITIES[each.modality].names
        if absent := [name for name in known if name not in each.bands]:
            raise TrainError(
                f"model {source.spec.name!r} takes no {', '.join(absent)}; shards hold all bands of "
                f"{each.modality}: make the chips for a model that takes them"
            )


def _years(index: pd.DataFrame) -> NDArray[np.int64]:
    """Year of every chip: of its date, or what the index says."""
    import pandas as pd

    dated = index["time"].dt.year
    if "year" in index:
        dated = dated.fillna(index["year"])
    if dated.isna().any():
        chip = index["chip_id"][dated.isna()].iloc[0]
        raise TrainError(f"chip {chip!r} has no date; give the index a column 'year', or the cube dates")
    return np.asarray(pd.to_numeric(dated).to_numpy(), dtype=np.int64)


def _write_shard(source: ChipSource, path: Path, rows: Sequence[int], region: str, year: int) -> None:
    import pyarrow.parquet as pq

    schema = _schema()
    small = [name for name in schema.names if not name.endswith("_bytes")]
    # neither a dictionary nor least and greatest values of images are of use
    options: dict[str, Any] = {
        "use_dictionary": ["region", "split", "s1_modality"],
        "write_statistics": small,
    }
    with pq.ParquetWriter(path, schema, **options) as file:
        for group in _parts(rows, GROUP_ROWS):
            file.write_table(_table(source, group, region, year, schema), row_group_size=GROUP_ROWS)


def _schema() -> pyarrow.Schema:
    import pyarrow as pa

    text, real, shape = pa.string(), pa.float64(), pa.list_(pa.int64())
    told = {"chip_id": text, "region": text, "snapshot_year": pa.int64(), "split": text, "lake_id": text}
    told |= {"lat": real, "lon": real, "water_frac": real}
    told |= {stack.column: pa.binary() for stack in STACKS}
    told |= {f"{stack.name}_shape": shape for stack in STACKS}
    own = {"time": pa.timestamp("ns"), "side_m": real, "s1_modality": text, "lake_ids": text}
    own |= {EXACT_DEM.column: pa.binary(), FLAGS.column: pa.binary()}
    return pa.schema(list((told | own).items()))


def _table(
    source: ChipSource, rows: Sequence[int], region: str, year: int, schema: pyarrow.Schema
) -> pyarrow.Table:
    """One row group."""
    import pyarrow as pa

    index = source.index.loc[list(rows)]
    radar = next((each.modality for each in source.spec.inputs if each.modality in _RADARS), "S1GRD")
    lines = []
    for (_, chip), arrays in zip(index.iterrows(), _chips(source, rows), strict=True):
        name = chip["chip_id"]
        label = arrays[MASK.name]
        counted = label[label != IGNORE]
        line: dict[str, Any] = {
            "chip_id": str(name).removeprefix(f"{region}/{year}/"),
            "region": region,
            "snapshot_year": year,
            "split": chip["fold"] or "UNKNOWN",
            "lake_id": chip.get("nearest_lake") or None,
            "lat": chip["latitude"],
            "lon": chip["longitude"],
            "water_frac": float((counted == 1).mean()) if counted.size else 0.0,
            "time": chip["time"],
            "side_m": chip["side_m"],
            "s1_modality": radar,
            "lake_ids": chip["lake_ids"],
        }
        for stack in (*STACKS, EXACT_DEM, FLAGS):
            line[stack.column] = arrays[stack.name].tobytes() if stack.name in arrays else None
        line |= {f"{stack.name}_shape": list(arrays[stack.name].shape) for stack in STACKS}
        lines.append(line)
    columns = {name: [line[name] for line in lines] for name in schema.names}
    columns["time"] = pa.array(index["time"], pa.timestamp("ns"), from_pandas=True)
    return pa.table(columns, schema=schema)


def _chips(source: ChipSource, rows: Sequence[int]) -> Iterator[dict[str, Array]]:
    """The arrays of every chip by stack, neighbours of one set of modalities read together."""
    sets = source.index["modalities"]
    for _, run in groupby(rows, key=lambda row: sets.loc[row]):
        chosen = list(run)
        batch = source.read(chosen)
        planes = {name: plane.numpy() for name, plane in batch.planes.items()}
        for number, row in enumerate(chosen):
            chip = {name: plane[number] for name, plane in planes.items()}
            yield _encoded(chip, batch.label[number].numpy(), str(source.index["chip_id"].loc[row]))


def _encoded(planes: Mapping[str, Array], label: NDArray[np.uint8], chip: str) -> dict[str, Array]:
    """The arrays of one chip by stack, in the dtypes and nodata of the schema."""
    arrays: dict[str, Array] = {MASK.name: label.astype(MASK.dtype, copy=False)}
    for stack, modality, nodata in ((S2, "S2L2A", 0), (S1, "S1GRD", np.nan)):
        stacked = np.full((stack.depth, *label.shape), nodata, stack.dtype)
        for number, name in enumerate(MODALITIES[modality].names):
            if name in planes:
                stacked[number] = _exactly(planes[name], stack.dtype, f"{name} of chip {chip!r}")
        arrays[stack.name] = stacked
    dem = planes.get("dem", np.full(label.shape, np.nan)).astype(np.float32)
    if (np.abs(dem) >= DEM_NODATA_M).any():
        raise TrainError(
            f"the elevation of chip {chip!r} reaches {np.nanmax(np.abs(dem)):g} m; the schema takes numbers "
            f"from {DEM_NODATA_M:,} on for nodata, so mark it as NaN"
        )
    whole = np.where(np.isnan(dem), DEM_FILL, np.rint(dem)).astype(DEM.dtype)
    arrays[DEM.name] = whole[np.newaxis]
    if ((whole != dem) & ~np.isnan(dem)).any():
        arrays[EXACT_DEM.name] = dem
    if "flags" in planes:
        arrays[FLAGS.name] = _exactly(planes["flags"], FLAGS.dtype, f"flags of chip {chip!r}")
    return arrays


def _exactly(values: Array, dtype: np.dtype[Any], what: str) -> Array:
    """The numbers in another dtype, if it can hold them all."""
    with np.errstate(invalid="ignore", over="ignore"):
        cast = values.astype(dtype, copy=False)
    if not np.array_equal(cast, values, equal_nan=values.dtype.kind == "f"):
        raise TrainError(
            f"{what} holds {values[cast != values][0]} ({values.dtype}), which {dtype.name} can't; give the "
            "cube the dtypes of xglof.bands"
        )
    return cast
