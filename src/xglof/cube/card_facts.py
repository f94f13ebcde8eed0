"""What is known of a Dataset without reading it: grid, dates, sensors, items, what was observed.

Nothing lazy is computed and nothing raises: it is asked for while people try things.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from xglof.bands import LAYERS, MODALITIES, resolve
from xglof.cube.coverage import HIDES_S2, optical_sight, sensors_of
from xglof.cube.flags import Flag

if TYPE_CHECKING:
    import xarray as xr

#: More pixels are not counted while somebody waits for a picture.
_MOST_PIXELS = 30_000_000
_UNOBSERVED = 255  # of ``lake``
_CLOUD_COVERS = ("cloud_cover", "eo:cloud_cover")
_PRODUCTS = {"S2L2A": "Sentinel-2 L2A", "S1RTC": "Sentinel-1", "DEM": "Copernicus DEM"}
_MAPS = ("lake", "lake_probability")


@dataclass(frozen=True, slots=True)
class Dates:
    """What is known of every date.

    Attributes
    ----------
    names
        Dates as text.
    share
        Per date 0 to 1, NaN where unknown; ``None`` where nothing is known without reading.
    means
        What ``share`` is.
    caption
        The same in words.
    columns
        Further columns of a table, by their heads.
    """

    names: tuple[str, ...]
    share: tuple[float, ...] | None
    means: Literal["observed", "cloud"]
    caption: str
    columns: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Card:
    """Everything that a card shows."""

    title: str
    facts: tuple[tuple[str, str], ...]
    dates: Dates | None
    lists: Mapping[str, tuple[str, ...]]


def card_of(data: xr.Dataset) -> Card:
    """What is known of a Dataset without computing or reading anything."""
    facts = {
        "grid": _told(_grid, data),
        "bounds": _told(_bounds, data),
        "dates": _told(_period, data),
        "sensors": _told(_sensors, data),
        "model": _told(_model, data),
        "items": _told(_items, data),
        "pixels": _told(_pixels, data),
    }
    lists = {what: _lines(data.attrs.get(f"items_{what}")) for what in ("rejected", "repaired")}
    try:
        dates = _dates(data)
    except Exception:  # a strange time axis costs the table of dates, not the whole card
        dates = None
    return Card(
        f"xglof {_kind(data)}",
        tuple((name, fact) for name, fact in facts.items() if fact),
        dates,
        {what: lines for what, lines in lists.items() if lines},
    )


def bytes_text(number: float) -> str:
    """A size as ``12.3 MB``, in powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


def day(date: Any) -> str:
    """A date as ``2023-07-01``."""
    return str(np.datetime_as_string(np.datetime64(date), unit="D"))


def counted(number: int, what: str) -> str:
    """A number and its noun, in the plural where it takes one."""
    return f"{number} {what}" + "s" * (number != 1)


def _told(tell: Callable[[xr.Dataset], str], data: xr.Dataset) -> str:
    try:
        return one_line(tell(data))
    except Exception as error:  # a card is no place to fail, and says that it does not know
        return f"not readable ({type(error).__name__})"


def one_line(value: object) -> str:
    """One line without control characters, which terminals obey."""
    return "".join(sign if sign.isprintable() else " " for sign in str(value)).strip()


def _is_map(data: xr.Dataset) -> bool:
    return any(name in data.data_vars for name in _MAPS)


def _kind(data: xr.Dataset) -> str:
    if _is_map(data):
        return "segmentation"
    return "cube" if _held(data) else "dataset"


def _model(data: xr.Dataset) -> str:
    told = [str(data.attrs[name]) for name in ("model", "caveat") if data.attrs.get(name)]
    return ": ".join(told) if _is_map(data) else ""


def _held(data: xr.Dataset) -> dict[str, list[str]]:
    """Modality -> its variables, bands first."""
    names = [name for name in data.data_vars if isinstance(name, str)]
    renames = resolve(names)
    present = {renames.get(name, name) for name in names}
    held = {}
    for modality in _PRODUCTS:
        bands = [name for name in MODALITIES[modality].names if name in present]
        if bands:
            held[modality] = bands + [layer.name for layer in LAYERS[modality] if layer.name in present]
    return held


def _sensors(data: xr.Dataset) -> str:
    told = []
    for modality, names in _held(data).items():
        product = next((data[name].attrs["product"] for name in names if _has_product(data, name)), "")
        bands = len(set(names) & {*MODALITIES[modality].names})
        listed = f"{bands} bands" + "".join(f", {name}" for name in names[bands:])
        if bands < 3:
            listed = ", ".join(names)
        told.append(f"{_PRODUCTS[modality]}{f' {product}' if product else ''} ({listed})")
    if told:
        return "; ".join(told)
    seen = [_PRODUCTS[name] for name in sensors_of(data)]
    if seen:
        return f"made from {', '.join(seen)}"
    return "no band of Sentinel-1, Sentinel-2 or a DEM that xglof knows"


def _has_product(data: xr.Dataset, name: str) -> bool:
    return name in data and bool(data[name].attrs.get("product"))


def _grid(data: xr.Dataset) -> str:
    box = _geobox(data)
    if box is None:
        return "none: no rows and columns with coordinates"
    rows, columns = box.shape
    size = f"{rows} x {columns} pixels"
    if box.crs is None:
        return f"{size}, without a CRS: write one with .odc.assign_crs('EPSG:...')"
    step = abs(box.resolution.x), abs(box.resolution.y)
    unit = "°" if box.crs.geographic else {"metre": "m"}.get(box.crs.units[0], box.crs.units[0])
    side = f"{step[0]:.6g}" if step[0] == step[1] else f"{step[0]:.6g} x {step[1]:.6g}"
    code = f"EPSG:{box.crs.epsg}" if box.crs.epsg else "a CRS without a code"
    return f"{code}, {size} of {side} {unit}"


def _geobox(data: xr.Dataset) -> Any:
    """The GeoBox, or ``None``; coordinates that are not in memory are not asked."""
    import odc.geo.xr  # noqa: F401  registers .odc

    if not all(_in_memory(coord.variable) for coord in data.coords.values() if coord.ndim):
        data = data.drop_vars([name for name, coord in data.coords.items() if not _in_memory(coord.variable)])
    return data.odc.geobox


def _bounds(data: xr.Dataset) -> str:
    from pyproj import Transformer

    box = _geobox(data)
    if box is None or box.crs is None:
        return ""
    degrees = Transformer.from_crs(box.crs.wkt, "EPSG:4326", always_xy=True)
    west, south, east, north = degrees.transform_bounds(*box.boundingbox.bbox)
    corner = "{:.4f}°{}"
    x = [corner.format(abs(value), "W" if value < 0 else "E") for value in (west, east)]
    y = [corner.format(abs(value), "S" if value < 0 else "N") for value in (south, north)]
    return f"{x[0]} to {x[1]}, {y[0]} to {y[1]}"


def _period(data: xr.Dataset) -> str:
    if "time" not in data.dims:
        return _names(data)[0] if _names(data) else "no time"
    count, names = data.sizes["time"], _names(data)
    if not names:
        return f"{count} steps without dates"
    return f"{count}, {names[0]} to {names[-1]}" if count > 1 else f"1, {names[0]}"


def _names(data: xr.Dataset) -> tuple[str, ...]:
    """Dates as text; of a scalar time one."""
    if "time" not in data.coords or not _in_memory(data["time"].variable):
        return ()
    times = np.atleast_1d(data["time"].to_numpy())
    if times.dtype.kind == "M":
        return tuple(str(text) for text in np.datetime_as_string(times, unit="D"))
    return tuple(one_line(time) for time in times)


def _items(data: xr.Dataset) -> str:
    attrs = data.attrs
    told = [
        f"{_count(attrs[f'items_{what}'])} {what}"
        for what in ("found", "used", "rejected", "repaired")
        if f"items_{what}" in attrs
    ]
    where = f" in {one_line(attrs['catalog'])}" if told and attrs.get("catalog") else ""
    return ", ".join([f"{told[0]}{where}", *told[1:]]) if told else ""


def _count(value: Any) -> int:
    if isinstance(value, Mapping):
        return sum(_count(number) for number in value.values())
    return int(value) if isinstance(value, (int, np.integer)) else len(_lines(value))


def _lines(value: Any) -> tuple[str, ...]:
    """Texts of an attribute that a file may have turned from a list to an array or one text."""
    if value is None or isinstance(value, (int, float, np.number)):
        return ()
    if isinstance(value, Mapping):
        return tuple(one_line(f"{name}: {number}") for name, number in value.items())
    return tuple(one_line(line) for line in np.atleast_1d(np.asarray(value, dtype=object)))


def _pixels(data: xr.Dataset) -> str:
    arrays = [variable.variable for variable in data.data_vars.values()]
    if not arrays:
        return "no variables"
    read = sum(_in_memory(array) for array in arrays)
    state = {0: "not read yet", len(arrays): "in memory"}.get(read, f"{read} of {len(arrays)} in memory")
    return (
        f"{bytes_text(sum(array.nbytes for array in arrays))} in {counted(len(arrays), 'variable')}, {state}"
    )


def _in_memory(variable: xr.Variable) -> bool:
    """Whether the values are there: xarray asks the same before it prints some."""
    return bool(getattr(variable, "_in_memory", False))


def _dates(data: xr.Dataset) -> Dates | None:
    names = _names(data)
    if "time" not in data.dims or not names:
        return None
    columns = {
        head: tuple(_texts_along(data, name))
        for head, name in (
            ("orbit", "orbit_state"),
            ("S1 gap, days", "s1_gap_days"),
            ("S2 items", "s2_items"),
            ("S1 items", "s1_items"),
        )
        if _along_time(data, name) is not None
    }
    observed = _observed(data)
    if observed is not None:
        return Dates(names, tuple(map(float, observed)), "observed", _mean_text(observed), columns)
    for name in _CLOUD_COVERS:
        cover = _along_time(data, name)
        if cover is not None and cover.dtype.kind in "fiu":
            caption = "observed: not read yet; grey: cloud cover as the items state it"
            return Dates(names, tuple((cover / 100.0).tolist()), "cloud", caption, columns)
    if not {"flags", "lake"} & {*data.data_vars}:
        return Dates(names, None, "observed", "no flags tell what was observed", columns)
    layer = data["lake" if "lake" in data.data_vars else "flags"]
    state = "counted here" if _in_memory(layer.variable) else "read yet"
    return Dates(names, None, "observed", f"observed: not {state}; .glof.coverage() counts it", columns)


def _mean_text(observed: NDArray[Any]) -> str:
    known = observed[np.isfinite(observed)]
    return f"observed: {known.mean():.0%} on average" if known.size else "observed: nothing"


def _observed(data: xr.Dataset) -> NDArray[Any] | None:
    """Share of every date that was observed, if known, or if its layer is in memory and not too large."""
    known = _along_time(data, "s2_observed")
    if known is not None:
        return known.astype(float)
    layer = "lake" if "lake" in data.data_vars else "flags"
    if layer not in data or data[layer].dims[:1] != ("time",) or data[layer].size > _MOST_PIXELS:
        return None
    array = data[layer]
    if not _in_memory(array.variable) or array.dtype.kind not in "ui" or array.ndim != 3 or not array.size:
        return None
    values, sensors = array.to_numpy(), sensors_of(data)
    if layer == "lake":
        seen = values != _UNOBSERVED
    elif "S2L2A" in sensors:
        seen = (optical_sight(values) & int(HIDES_S2)) == 0
    elif "S1RTC" in sensors:
        seen = (values & int(Flag.s1_nodata)) == 0
    else:
        return None
    share: NDArray[Any] = seen.mean(axis=(1, 2))
    return share


def _along_time(data: xr.Dataset, name: str) -> NDArray[Any] | None:
    if name not in data.variables or data[name].dims != ("time",) or not _in_memory(data[name].variable):
        return None
    return data[name].to_numpy()


def _texts_along(data: xr.Dataset, name: str) -> Iterator[str]:
    for value in data[name].to_numpy():
        number = isinstance(value, (float, np.floating))
        yield ("" if np.isnan(value) else f"{value:.1f}") if number else one_line(value)
