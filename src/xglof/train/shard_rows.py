"""Rows of Parquet shards in CryoSentinel's schema: columns, their check, and the arrays of a chip.

The schema is that of the data set ``abzal-glw/cryosentinel-glof-v3``: a row a chip, arrays as raw bytes in C
order with their shapes beside them. Columns of our own (:data:`OWN`) hold what it has no place for; readers
of the published form pass them over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xglof.bands import MODALITIES
from xglof.errors import TrainError

if TYPE_CHECKING:
    import pyarrow

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Stack:
    """One array of a row: ``<name>_bytes`` and ``<name>_shape``.

    Attributes
    ----------
    name
        Of its columns.
    dtype
        Of its numbers, little-endian.
    depth
        Bands; 0 for an array ``(rows, columns)`` without an axis of bands.
    """

    name: str
    dtype: np.dtype[Any]
    depth: int

    @property
    def column(self) -> str:
        """Name of the column of bytes."""
        return f"{self.name}_bytes"

    def shape(self, side: int) -> tuple[int, ...]:
        """Shape of the array of a chip of ``side`` pixels."""
        return (self.depth, side, side) if self.depth else (side, side)

    def nbytes(self, side: int) -> int:
        """Bytes of the array of a chip of ``side`` pixels."""
        return max(self.depth, 1) * side * side * self.dtype.itemsize


S2 = Stack("s2", np.dtype("<u2"), len(MODALITIES["S2L2A"].bands))
S1 = Stack("s1", np.dtype("<f4"), len(MODALITIES["S1GRD"].bands))
DEM = Stack("dem", np.dtype("<i2"), 1)
MASK = Stack("mask", np.dtype("u1"), 0)
STACKS = (S2, S1, DEM, MASK)
#: Elevation that int16 can't hold, float32 m, NaN nodata; null where ``dem_bytes`` says the same.
EXACT_DEM = Stack("dem_exact", np.dtype("<f4"), 0)
#: Bits of :class:`xglof.cube.flags.Flag`; null where the source has none.
FLAGS = Stack("flags", np.dtype("<u2"), 0)

#: Columns that tell about a row, and those among them without which a chip has no place.
ABOUT = ("chip_id", "region", "snapshot_year", "split", "lake_id", "lat", "lon", "water_frac")
REQUIRED = (
    "chip_id",
    "lat",
    "lon",
    *(f"{stack.name}_{kind}" for stack in STACKS for kind in ("bytes", "shape")),
)
#: Columns of our own: date, side of the square (m), Sentinel-1 modality, ids of all lakes that the chip
#: touches (``lake_id`` of the published form is that of the closest one, in the chip or not), and arrays.
OWN = ("time", "side_m", "s1_modality", "lake_ids", EXACT_DEM.column, FLAGS.column)

#: From this elevation on, up or down, a number is nodata (Copernicus files have -32,768 and 32,767).
DEM_NODATA_M = 32_000
DEM_FILL = -32_768
#: Reflectance x 10,000 that older shards have in every band where there was no data.
_OLD_S2_FILL = 16_000


def check_schema(schema: pyarrow.Schema, file: Path) -> None:
    """Refuse a file without the columns of the published form, or with others under their names.

    Raises
    ------
    TrainError
        Columns are missing, or bytes are no bytes and shapes no lists.
    """
    import pyarrow as pa

    missing = [name for name in REQUIRED if name not in schema.names]
    if missing:
        raise TrainError(
            f"{file} lacks the columns {', '.join(missing)}; expected the schema of CryoSentinel's shards: "
            f"{', '.join(REQUIRED)}"
        )
    for stack in (*STACKS, EXACT_DEM, FLAGS):
        if stack.column not in schema.names:
            continue
        held = schema.field(stack.column).type
        if not (pa.types.is_binary(held) or pa.types.is_large_binary(held)):
            raise TrainError(f"{file}: column {stack.column} is {held}; expected binary")
    for stack in STACKS:
        held = schema.field(f"{stack.name}_shape").type
        listed = pa.types.is_list(held) or pa.types.is_large_list(held) or pa.types.is_fixed_size_list(held)
        if not listed or not pa.types.is_integer(held.value_type):
            raise TrainError(f"{file}: column {stack.name}_shape is {held}; expected a list of whole numbers")


def check_shapes(shapes: Mapping[str, Sequence[Any]], file: Path, side: int) -> None:
    """Refuse a row whose arrays are not ``side`` pixels square, with the bands of their sensor.

    Parameters
    ----------
    shapes
        Column of shapes by stack, all rows of a file.
    file
        For messages.
    side
        Pixels.

    Raises
    ------
    TrainError
        A shape is another one; the message names file and row.
    """
    for stack in STACKS:
        expected = list(stack.shape(side))
        for row, found in enumerate(shapes[stack.name]):
            if found is None or [*found] != expected:
                raise TrainError(
                    f"{file}, row {row}: {stack.name}_shape is {found if found is None else [*found]}, "
                    f"expected {expected}; pass size= for chips of another side, or leave the shard out"
                )


def check_lengths(table: pyarrow.Table, file: Path, first: int, side: int) -> None:
    """Refuse rows whose bytes are not those of their shapes.

    Parameters
    ----------
    table
        Columns of bytes of one row group.
    file, first
        File, and number of the group's first row in it: for messages.
    side
        Pixels of a chip.

    Raises
    ------
    TrainError
        Bytes are missing or of another length; the message names file and row.
    """
    import pyarrow.compute as pc

    for stack in (*STACKS, EXACT_DEM, FLAGS):
        if stack.column not in table.column_names:
            continue
        lengths = pc.binary_length(table.column(stack.column)).fill_null(-1).to_numpy()
        wrong = lengths != stack.nbytes(side)
        if stack in (EXACT_DEM, FLAGS):
            wrong &= lengths >= 0
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            held = f"{lengths[row]:,} bytes" if lengths[row] >= 0 else "nothing"
            raise TrainError(
                f"{file}, row {first + row}: {stack.column} holds {held}, expected {stack.nbytes(side):,} "
                f"for {stack.dtype.name} {stack.shape(side)}; download the shard again or leave it out"
            )


def arrays_of(table: pyarrow.Table, side: int) -> dict[str, Array]:
    """The arrays of the rows of a table, in the units and nodata of a cube.

    Parameters
    ----------
    table
        Columns of bytes, checked by :func:`check_lengths`; what is not among them has no array.
    side
        Pixels of a chip.

    Returns
    -------
    dict
        ``mask`` uint8 ``(rows, y, x)``; ``s2`` uint16 ``(rows, band, y, x)``, nodata 0; ``s1`` float32 dB
        ``(rows, band, y, x)``, nodata NaN; ``dem`` float32 m ``(rows, y, x)``, nodata NaN; ``flags`` uint16
        ``(rows, y, x)`` where any row has some.
    """
    held = [stack for stack in (*STACKS, FLAGS) if stack.column in table.column_names]
    arrays = {stack.name: _stacked(table.column(stack.column), stack, side) for stack in held}
    if S1.name in arrays and np.isinf(arrays[S1.name]).any():
        arrays[S1.name] = np.where(np.isinf(arrays[S1.name]), np.float32(np.nan), arrays[S1.name])
    if DEM.name in arrays:
        arrays[DEM.name] = elevation(arrays[DEM.name][:, 0])
        if EXACT_DEM.column in table.column_names:
            column = table.column(EXACT_DEM.column)
            arrays[DEM.name][_valid(column)] = _stacked(column.drop_null(), EXACT_DEM, side)
    if FLAGS.name in arrays:
        bits, said = arrays.pop(FLAGS.name), _valid(table.column(FLAGS.column))
        if said.any():
            arrays[FLAGS.name] = np.zeros((len(said), side, side), np.uint16)  # no flags: no bit is set
            arrays[FLAGS.name][said] = bits
    return arrays


def _stacked(column: pyarrow.ChunkedArray, stack: Stack, side: int) -> Array:
    """Bytes of the rows that are not null as one array, a view where Arrow has them in one stretch."""
    import pyarrow as pa

    size = stack.nbytes(side)
    parts = []
    for chunk in column.drop_null().chunks:
        if len(chunk):
            _, offsets, data = chunk.buffers()
            wide = np.int64 if pa.types.is_large_binary(chunk.type) else np.int32
            start = int(np.frombuffer(offsets, wide)[chunk.offset])
            stretch = data.slice(start, len(chunk) * size)
            parts.append(np.frombuffer(stretch, stack.dtype).reshape(len(chunk), *stack.shape(side)))
    return (
        parts[0]
        if len(parts) == 1
        else np.concatenate([np.empty((0, *stack.shape(side)), stack.dtype), *parts])
    )


def _valid(column: pyarrow.ChunkedArray) -> NDArray[np.bool_]:
    return np.asarray(column.is_valid().to_numpy(), dtype=bool)


def elevation(dem: Array) -> NDArray[np.float32]:
    """Elevation as a cube has it, float32 m with nodata NaN, from int16 m with nodata from +-32,000 on."""
    metres = dem.astype(np.float32)
    metres[np.abs(metres) >= DEM_NODATA_M] = np.nan
    return metres


def published_gaps(s2: Array, s1: Array, dem: Array) -> NDArray[np.bool_]:
    """Pixels that the published training leaves out of loss and scores, ``(rows, y, x)`` bool.

    Sentinel-2 is 0 in all bands, or 16,000 and more in all (an older fill), a value of Sentinel-1 is not
    finite, or the elevation is nodata.

    Parameters
    ----------
    s2, s1, dem
        As :func:`arrays_of` gives them.
    """
    blank = (s2 == 0).all(axis=1) | (s2 >= _OLD_S2_FILL).all(axis=1)
    return np.asarray(blank | ~np.isfinite(s1).all(axis=1) | np.isnan(dem))
