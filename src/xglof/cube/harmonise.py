"""From the numbers in the files to those of a cube: Sentinel-2 offset, Sentinel-1 decibels.

The kernels take and return NumPy arrays; :mod:`xglof.cube.load` maps them over blocks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from xglof.errors import CatalogError

#: What ESA adds to the digital numbers of Sentinel-2 from processing baseline 04.00 on (BOA_ADD_OFFSET).
BOA_OFFSET = 1000
_BASELINE = "s2:processing_baseline"


@dataclass(frozen=True, slots=True)
class Offset:
    """How many digital numbers are subtracted from a Sentinel-2 item, and what says so.

    Attributes
    ----------
    value
        0 or 1000.
    source
        ``"flag"`` (the archive's own property) or ``"baseline"``.
    baseline
        Processing baseline as the item spells it; ``""`` where only the flag is known.
    """

    value: int
    source: Literal["flag", "baseline"]
    baseline: str


def decide_offset(item_id: str, properties: Mapping[str, Any], flag_name: str | None) -> Offset:
    """The radiometric offset of one Sentinel-2 L2A item.

    The archive's flag is trusted where it says that the offset is gone; otherwise the processing baseline
    decides, never the date, because reprocessed scenes of before 2022 carry the offset too.

    Parameters
    ----------
    item_id
        For the message.
    properties
        Of the STAC item.
    flag_name
        Property that says whether the offset was removed, or ``None``.

    Raises
    ------
    CatalogError
        Neither flag nor baseline tells, or one of them cannot be read.
    """
    flag = properties.get(flag_name) if flag_name else None
    text = str(properties.get(_BASELINE) or "")
    if flag is not None and not isinstance(flag, bool):
        raise CatalogError(f"item {item_id}: {flag_name} is {flag!r}; expected true or false")
    if flag:
        return Offset(0, "flag", text)
    if not text:
        raise CatalogError(
            f"item {item_id} has no {_BASELINE}, so its radiometric offset is unknown; "
            f"pass items with {_BASELINE} set as catalog="
        )
    return Offset(
        BOA_OFFSET if baseline_number(item_id, text) >= 4 else 0, "baseline" if flag is None else "flag", text
    )


def baseline_number(item_id: str, text: str) -> float:
    """A processing baseline as a number: ``"05.09"`` and ``"N0509"`` give 5.09; ``""`` gives 0.

    Raises
    ------
    CatalogError
        The text is no baseline.
    """
    if not text:
        return 0.0
    match = re.fullmatch(r"N?(\d{1,2})\.?(\d{2})", text.strip())
    if match is None:
        raise CatalogError(f"item {item_id}: {_BASELINE} is {text!r}; expected a number such as '05.09'")
    return int(match[1]) + int(match[2]) / 100


def remove_offset(raw: NDArray[np.uint16], offset: NDArray[np.integer[Any]] | int) -> NDArray[np.uint16]:
    """Reflectance x 10,000 without the radiometric offset.

    Validity is decided on the raw numbers: 0 stays 0 (nodata), and a valid pixel that the offset takes to 0
    or below becomes 1, so that dark water stays observed and nothing wraps.

    Parameters
    ----------
    raw
        Any shape, uint16 digital numbers, nodata 0.
    offset
        Digital numbers to subtract, 0 or more; broadcast against ``raw``.

    Examples
    --------
    >>> remove_offset(np.array([0, 1, 950, 1000, 1001, 1500], dtype="uint16"), 1000).tolist()
    [0, 1, 1, 1, 1, 500]
    """
    lowered = raw.astype(np.int32) - np.asarray(offset, dtype=np.int32)
    return np.where(raw == 0, 0, np.maximum(lowered, 1)).astype(np.uint16)


def clamped_count(raw: Any, offset: Any) -> Any:
    """How many valid pixels the offset takes to 0 or below; lazy for a lazy ``raw``.

    Parameters
    ----------
    raw
        Array (NumPy, Dask or xarray), uint16 digital numbers **before** :func:`remove_offset`, nodata 0.
    offset
        Digital numbers; broadcast against ``raw``.

    Examples
    --------
    >>> int(clamped_count(np.array([0, 1, 950, 1000, 1001], dtype="uint16"), 1000))
    3
    """
    return ((raw > 0) & (raw <= offset)).sum()


def to_db(power: NDArray[np.float32]) -> NDArray[np.float32]:
    """Backscatter in decibels.

    Parameters
    ----------
    power
        Any shape, float32 linear power; NaN, 0 and below are nodata (archives fill borders with 0).

    Returns
    -------
    numpy.ndarray
        Same shape, float32 dB, nodata NaN.

    Examples
    --------
    >>> to_db(np.array([1.0, 0.1, 0.0], dtype="float32"))
    array([  0., -10.,  nan], dtype=float32)
    """
    # through float64, whose logarithm gives the same bits wherever a pixel lies in its block
    valid = np.where(power > 0, power, np.nan).astype(np.float64)
    decibels: NDArray[np.float32] = (10.0 * np.log10(valid)).astype(np.float32)
    return decibels
