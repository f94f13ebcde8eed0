"""Parquet shards on disk: which there are, and their row groups, decoded one at a time."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xglof.errors import TrainError
from xglof.train.shard_rows import Array, arrays_of, check_lengths, check_schema

if TYPE_CHECKING:
    import pyarrow

_AGAIN = "download it again or leave it out; a file of a few hundred bytes may be a pointer of Git LFS"


@dataclass(frozen=True, slots=True)
class Shard:
    """One file of shards.

    Attributes
    ----------
    path
        ``<root>/<region>/<year>/shard_*.parquet``.
    groups
        First row of every row group, and the number of rows.
    columns
        Names of its columns.
    """

    path: Path
    groups: tuple[int, ...]
    columns: frozenset[str]

    @property
    def region(self) -> str:
        """The region, by its folder."""
        return self.path.parent.parent.name

    @property
    def year(self) -> int:
        """The year, by its folder."""
        return int(self.path.parent.name)


def find_shards(
    root: Path, regions: Sequence[str] | None = None, years: Sequence[int] | None = None
) -> list[Shard]:
    """The shards under a folder in the order of their paths, checked for their columns.

    Parameters
    ----------
    root
        Folder above the regions; hidden folders in it are passed over.
    regions, years
        Which to take; ``None`` for all.

    Raises
    ------
    TrainError
        There are none, a shard does not lie in a folder of a region and a year, or is no whole Parquet file,
        or lacks columns.
    """
    root = root.resolve()
    paths = sorted(
        path
        for path in root.rglob("shard_*.parquet")
        if not any(part.startswith(".") for part in path.relative_to(root).parts)
    )
    if stray := next((path for path in paths if not path.parent.name.isdecimal()), None):
        raise TrainError(f"{stray} lies in no folder of a year; expected <region>/<year>/shard_*.parquet")
    held = {(path.parent.parent.name, int(path.parent.name)) for path in paths}
    for name, asked, known in (
        ("region", regions, {region for region, _ in held}),
        ("year", years, {year for _, year in held}),
    ):
        if absent := [each for each in asked or () if each not in known]:
            there = ", ".join(map(str, sorted(known, key=str))) or "no shard_*.parquet"
            raise TrainError(f"no {name} {absent[0]!r} under {root}; there is {there}")
    chosen = [
        path
        for path in paths
        if (regions is None or path.parent.parent.name in regions)
        and (years is None or int(path.parent.name) in years)
    ]
    if not chosen:
        raise TrainError(f"no <region>/<year>/shard_*.parquet under {root}; give the folder of the data set")
    return [_open_shard(path) for path in chosen]


def _open_shard(path: Path) -> Shard:
    file = open_file(path)
    check_schema(file.schema_arrow, path)
    metadata = file.metadata
    sizes = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    starts = tuple(sum(sizes[:number]) for number in range(len(sizes) + 1))
    return Shard(path, starts, frozenset(file.schema_arrow.names))


def open_file(path: Path) -> Any:
    """A ``pyarrow.parquet.ParquetFile`` over the file mapped into memory.

    Raises
    ------
    TrainError
        It is no whole Parquet file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path, memory_map=True)
    except (pa.ArrowException, OSError) as error:
        raise TrainError(f"{path} is no whole Parquet file ({_line(error)}); {_AGAIN}") from error


def read_columns(shard: Shard, names: Sequence[str]) -> pyarrow.Table:
    """Columns of all rows of a shard, of those that it has.

    Raises
    ------
    TrainError
        They can't be decoded.
    """
    import pyarrow as pa

    wanted = [name for name in names if name in shard.columns]
    try:
        return open_file(shard.path).read(columns=wanted, use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise TrainError(f"{shard.path}: the rows can't be read ({_line(error)}); {_AGAIN}") from error


def read_group(shard: Shard, group: int, names: Sequence[str], side: int) -> dict[str, Array]:
    """Arrays of one row group (:func:`xglof.train.shard_rows.arrays_of`); no other part of the file is read.

    Parameters
    ----------
    shard
        The file.
    group
        Number of the row group.
    names
        Columns of bytes; those that the shard lacks are passed over.
    side
        Pixels of a chip.

    Raises
    ------
    TrainError
        They can't be decoded, or are of another length; the message names file and row.
    """
    import pyarrow as pa

    first, last = shard.groups[group], shard.groups[group + 1]
    columns = {}
    try:
        file = open_file(shard.path)
        for name in names:
            if name in shard.columns:  # one at a time: decoding takes room beside its result
                columns[name] = file.read_row_group(group, columns=[name], use_threads=False).column(name)
    except (pa.ArrowException, OSError) as error:
        raise TrainError(
            f"{shard.path}, rows {first} to {last - 1}: can't be read ({_line(error)}); {_AGAIN}"
        ) from error
    table = pa.table(columns)
    check_lengths(table, shard.path, first, side)
    return arrays_of(table, side)


def _line(error: BaseException) -> str:
    return str(error).partition("\n")[0].rstrip(".")


class RowGroups:
    """Arrays of row groups, decoded when they are asked for, the last used ones kept; safe for threads.

    Parameters
    ----------
    shards
        The files.
    columns, side
        As :func:`read_group` takes them.
    most_bytes
        What the kept ones may take together; the one used last is kept whatever it takes.
    """

    def __init__(self, shards: Sequence[Shard], columns: Sequence[str], side: int, most_bytes: int) -> None:
        self._shards, self._columns, self._side, self._most = shards, columns, side, most_bytes
        self._held: OrderedDict[tuple[int, int], Future[dict[str, Array]]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, source: int, group: int) -> dict[str, Array]:
        """The arrays of a row group of a shard, by their numbers."""
        key = source, group
        with self._lock:
            mine = key not in self._held
            future = self._held.setdefault(key, Future())
            self._held.move_to_end(key)
        if mine:  # whoever else asks meanwhile waits for this one
            try:
                future.set_result(read_group(self._shards[source], group, self._columns, self._side))
            except BaseException as error:
                with self._lock:
                    self._held.pop(key, None)
                future.set_exception(error)
                raise
            self._make_room()
        return future.result()

    def _make_room(self) -> None:
        with self._lock:
            sizes = {key: _nbytes(future.result()) for key, future in self._held.items() if future.done()}
            total = sum(sizes.values())
            for key in list(sizes)[:-1]:
                if total <= self._most:
                    return
                total -= sizes[key]
                del self._held[key]


def _nbytes(arrays: dict[str, Array]) -> int:
    return sum(array.nbytes for array in arrays.values())
