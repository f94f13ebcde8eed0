"""Volumes of lakes as a band over published area-volume relations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, Literal, cast

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xglof.errors import CubeError
from xglof.lakes.layer import Float

_AREA_M2 = {"m2": 1.0, "km2": 1e6}
_VOLUME_M3 = {"m3": 1.0, "1e6m3": 1e6}
#: A whole table of areas below one pixel of 10 m can only be in other units than m2.
_PIXEL_M2 = 100.0
_OUTSIDE, _INSIDE, _UNKNOWN = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Relation:
    """A published relation between the area of a lake and its volume: a sum of ``coefficient x A^power``.

    Attributes
    ----------
    name
        Ends in the units of area and volume that the coefficients belong to, such as ``_m2_m3``.
    terms
        Coefficient and power of each term.
    area_unit, volume_unit
        The paper's own.
    source
        Paper and DOI.
    note
        On which lakes the relation rests, and how far the numbers here were checked.
    range_km2
        Smallest and largest area of the lakes it was fitted to, km2; ``None`` where that is not known.
    interval
        Factors on the volume that bound the published 95% prediction interval; ``None`` where the paper has
        none.

    Raises
    ------
    CubeError
        A name without its units, no terms, or a range or interval that is none.

    Examples
    --------
    >>> Relation("mine_km2_1e6m3", ((40.0, 1.4),), "km2", "1e6m3", "own survey", range_km2=(0.1, 2)).formula
    'V = 40 A^1.4, A in km2, V in 1e6m3'
    """

    name: str
    terms: tuple[tuple[float, float], ...]
    area_unit: Literal["m2", "km2"]
    volume_unit: Literal["m3", "1e6m3"]
    source: str
    note: str = ""
    range_km2: tuple[float, float] | None = None
    interval: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.area_unit not in _AREA_M2 or self.volume_unit not in _VOLUME_M3:
            raise CubeError(
                f"relation {self.name!r} is from {self.area_unit!r} to {self.volume_unit!r}; areas can be in "
                f"{', '.join(_AREA_M2)}, volumes in {', '.join(_VOLUME_M3)}"
            )
        if not self.name.endswith(f"_{self.area_unit}_{self.volume_unit}"):
            raise CubeError(
                f"relation {self.name!r} does not name its units; end it in "
                f"'_{self.area_unit}_{self.volume_unit}'"
            )
        if not self.terms:
            raise CubeError(f"relation {self.name!r} has no terms; give pairs of a coefficient and a power")
        for pair, meaning in ((self.range_km2, "range_km2"), (self.interval, "interval")):
            if pair is not None and not 0 <= pair[0] < pair[1] < np.inf:
                raise CubeError(
                    f"{meaning} of relation {self.name!r} is {pair}; expected a lower and an upper"
                )

    @property
    def formula(self) -> str:
        """The relation as a line of text."""
        terms = " + ".join(f"{factor:g} A^{power:g}" for factor, power in self.terms)
        return f"V = {terms}, A in {self.area_unit}, V in {self.volume_unit}"

    def volume_m3(self, area_m2: Any) -> Any:
        """Volume (m3) at an area (m2) of any array type, whatever the range of the relation."""
        area = area_m2 / _AREA_M2[self.area_unit]
        return sum(factor * area**power for factor, power in self.terms) * _VOLUME_M3[self.volume_unit]


_UNREAD = "coefficients from secondary sources: the paper itself was not read"
HUGGEL_2002 = Relation(
    "huggel_2002_m2_m3",
    ((0.104, 1.42),),
    "m2",
    "m3",
    "Huggel et al. (2002), Can. Geotech. J. 39, 316-330, doi:10.1139/t01-099",
    _UNREAD,
)
COOK_QUINCEY_2015 = Relation(
    "cook_quincey_2015_m2_m3",
    ((0.1697, 1.3778),),
    "m2",
    "m3",
    "Cook & Quincey (2015), Earth Surf. Dynam. 3, 559-575, doi:10.5194/esurf-3-559-2015",
    "a larger sample than Huggel's, without its duplicates, in which volume and area correlate with "
    "r2 = 0.91 and depth and area with 0.38 (the paper's abstract); relation as given by Wangchuk & Tsubaki "
    "(2024), doi:10.5194/nhess-24-2523-2024, while some software has 0.1217 A^1.4129 for it, 17% more at "
    f"1 km2; {_UNREAD}",
)
SAKAI_2012 = Relation(
    "sakai_2012_km2_1e6m3",
    ((43.24, 1.5307),),
    "km2",
    "1e6m3",
    "Sakai (2012), Global Environ. Res. 16, 23-30",
    "15 moraine-dammed and 2 thermokarst lakes of Bhutan, Nepal and Tibet; as given by Wangchuk & Tsubaki "
    f"(2024), doi:10.5194/nhess-24-2523-2024; {_UNREAD}",
)
EVANS_1986 = Relation(
    "evans_1986_m2_m3",
    ((0.035, 1.5),),
    "m2",
    "m3",
    "Evans (1986), in: Landslide Dams, ASCE Geotech. Spec. Publ. 3, 111-130",
    _UNREAD,
)
FUJITA_2013 = Relation(
    "fujita_2013_km2_1e6m3",
    ((55.0, 1.25),),
    "km2",
    "1e6m3",
    "Fujita et al. (2013), Nat. Hazards Earth Syst. Sci. 13, 1827-1839, doi:10.5194/nhess-13-1827-2013",
    "Himalayan lakes, area times a mean depth of 55 A^0.25 m, the depth that caps the paper's potential "
    "flood volume, min(lowering, mean depth) x area; software that recomputes its Table 1 has the same; "
    f"{_UNREAD}",
)
OCONNOR_2001 = Relation(
    "oconnor_2001_m2_m3",
    ((3.114, 1.0), (1.685e-4, 2.0)),
    "m2",
    "m3",
    "O'Connor et al. (2001), U.S. Geol. Surv. Prof. Paper 1606, doi:10.3133/pp1606",
    f"moraine-dammed lakes of the Three Sisters and Mount Jefferson, Oregon; {_UNREAD}",
)
#: What a band is made of by default.
DEFAULT_RELATIONS = (HUGGEL_2002, COOK_QUINCEY_2015, SAKAI_2012, EVANS_1986)
#: All that are known here, by name.
RELATIONS = {each.name: each for each in (*DEFAULT_RELATIONS, FUJITA_2013, OCONNOR_2001)}
#: Why a relation enters a band only where it is named.
_ON_REQUEST = {
    FUJITA_2013.name: "a bound on what a flood can release, not a fit to volumes of lakes",
    OCONNOR_2001.name: "a quadratic of one range's lakes, five times the others at 1 km2",
}

_ATTRS: dict[str, dict[str, Any]] = {
    "volume": {"long_name": "lake volume by a published relation with area", "units": "m3"},
    "volume_lower": {"long_name": "lower bound of the published 95% prediction interval", "units": "m3"},
    "volume_upper": {"long_name": "upper bound of the published 95% prediction interval", "units": "m3"},
    "in_range": {
        "long_name": "area within the relation's calibrated range",
        "flag_values": np.array([_OUTSIDE, _INSIDE, _UNKNOWN], "uint8"),
        "flag_meanings": "outside inside unknown",
    },
    "band_lower": {"long_name": "smallest volume over the relations", "units": "m3"},
    "band_upper": {"long_name": "largest volume over the relations", "units": "m3"},
    "band_count": {"long_name": "number of relations that the band rests on", "units": "1"},
}
_SPREAD = "the spread between relations; it holds no error of any of them, nor that of the area"


def lake_volume(
    area: xr.Dataset | xr.DataArray | NDArray[Any] | Sequence[float] | float,
    *,
    relations: Sequence[Relation | str] | None = None,
    unknown_range: Literal["take", "leave out"] = "take",
) -> xr.Dataset:
    """Volumes of lakes as a band over published relations with area, never one number.

    A relation is NaN where an area lies outside the range of lakes that it was fitted to. Of many the papers'
    ranges are not known here: they are taken at every area, which ``in_range`` and ``note`` say, or left out
    with ``unknown_range="leave out"``. The band is the spread between relations. It is no error of a volume:
    there are lakes that lie far from every relation (Cook & Quincey 2015).

    Lazy for Dask arrays.

    Parameters
    ----------
    area
        Areas in m2, of any dims: a number, an array, a DataArray, or a Dataset of series with ``area``. The
        attribute ``units``, if there, must be ``"m2"``.
    relations
        Names in :data:`RELATIONS` or relations of your own; ``None`` for :data:`DEFAULT_RELATIONS`.
    unknown_range
        What to do with a relation whose calibrated range is not known.

    Returns
    -------
    xarray.Dataset
        ``volume``, ``volume_lower`` and ``volume_upper`` ``(relation, ...)`` float64, m3: the volume, and the
        95% prediction interval, NaN where none was published; ``in_range`` ``(relation, ...)`` uint8 (0
        outside, 1 inside, 2 unknown); ``band_lower`` and ``band_upper`` ``(...)`` float64, m3, NaN where no
        relation is left; ``band_count`` ``(...)`` uint8, how many are. A lake of area 0 holds 0. Coordinates
        of ``relation``: its name with the units of the paper, ``formula``, ``source`` and ``note``. The
        attribute ``relations_in_band`` is the most that a band here can rest on, and ``relations_left_out``
        says of all others, by name, where they are left out and why.

    Raises
    ------
    CubeError
        Units other than m2, areas below 0, numbers without units that are all below one pixel (most likely
        km2), an unknown relation or a relation twice.

    References
    ----------
    Cook & Quincey (2015), Earth Surf. Dynam. 3, 559-575, on how far such relations hold.

    Examples
    --------
    >>> band = lake_volume(1e6)
    >>> (band[["band_lower", "band_upper"]] / 1e6).round(1).to_array().values.tolist()
    [31.4, 43.2]
    >>> print(band.relations_in_band, band.relations_left_out.split(";")[0])
    4 fujita_2013_km2_1e6m3: a bound on what a flood can release, not a fit to volumes of lakes
    """
    chosen = _chosen(relations)
    if unknown_range not in ("take", "leave out"):
        raise CubeError(f"unknown_range is {unknown_range!r}; expected 'take' or 'leave out'")
    areas = _checked_areas(area)
    parts = [_of_relation(areas, each, unknown_range) for each in chosen]
    dim = xr.DataArray([each.name for each in chosen], dims="relation", name="relation")
    volumes = xr.concat(parts, dim, coords="minimal", compat="override")
    each_volume = [part["volume"] for part in parts]
    least, most = cast(Any, np.fmin), cast(Any, np.fmax)  # they pass over NaN without a warning
    volumes["band_lower"], volumes["band_upper"] = reduce(least, each_volume), reduce(most, each_volume)
    volumes["band_count"] = volumes["volume"].notnull().sum("relation", dtype=np.uint8)
    for name, attrs in _ATTRS.items():
        volumes[name].attrs = {**attrs, **({"comment": _SPREAD} if name.startswith("band") else {})}
    notes = [_note(each, unknown_range) for each in chosen]
    texts = {"formula": [r.formula for r in chosen], "source": [r.source for r in chosen], "note": notes}
    volumes.attrs = _account(chosen, unknown_range, by_default=relations is None)
    return volumes.assign_coords({name: ("relation", text) for name, text in texts.items()})


def _chosen(relations: Sequence[Relation | str] | None) -> tuple[Relation, ...]:
    if relations is None:
        return DEFAULT_RELATIONS
    names = [relations] if isinstance(relations, str | Relation) else list(relations)
    if unknown := [each for each in names if not isinstance(each, Relation) and each not in RELATIONS]:
        raise CubeError(f"no relation is called {unknown[0]!r}; known are {', '.join(RELATIONS)}")
    chosen = tuple(each if isinstance(each, Relation) else RELATIONS[each] for each in names)
    if not chosen or len({each.name for each in chosen}) < len(chosen):
        raise CubeError(f"relations are {[each.name for each in chosen]}; expected at least one, none twice")
    return chosen


def _checked_areas(area: Any) -> xr.DataArray:
    """Areas as float64, their units and signs checked; those of a lazy array when it is computed."""
    if isinstance(area, xr.Dataset):
        if "area" not in area:
            raise CubeError(
                f"the dataset holds {sorted(map(str, area))}; expected 'area', as lake_area() has it"
            )
        area = area["area"]
    areas = area if isinstance(area, xr.DataArray) else xr.DataArray(np.asarray(area, float), name="area")
    units = areas.attrs.get("units")
    if units not in (None, "m2"):
        raise CubeError(
            f"the areas are in {units!r}; expected 'm2', convert them and set the attribute units"
        )
    if areas.chunks is None and units is None:
        largest = float(areas.max()) if areas.size else 0.0
        if 0 < largest < _PIXEL_M2:
            raise CubeError(
                f"the largest area is {largest:g}, less than a pixel; expected m2: multiply km2 by 1e6"
            )
    checked: xr.DataArray = xr.apply_ufunc(
        _not_negative, areas, dask="parallelized", output_dtypes=[np.float64], keep_attrs=False
    )
    return checked


def _not_negative(values: NDArray[Any]) -> Float:
    if (values < 0).any():
        raise CubeError(f"an area is {np.nanmin(values):g} m2; expected 0 or more")
    return values.astype(np.float64)


def _of_relation(areas: xr.DataArray, relation: Relation, unknown_range: str) -> xr.Dataset:
    """Volume, interval and range flag of one relation."""
    if relation.range_km2 is None:
        known = xr.full_like(areas, _UNKNOWN, np.uint8)
        taken = areas == areas if unknown_range == "take" else areas == 0
    else:
        low, high = (edge * 1e6 for edge in relation.range_km2)
        taken = ((areas >= low) & (areas <= high)) | (areas == 0)  # no water needs no range
        known = xr.where(areas.isnull(), _UNKNOWN, xr.where(taken, _INSIDE, _OUTSIDE)).astype(np.uint8)
    volume = relation.volume_m3(areas).where(taken)
    below, above = relation.interval or (np.nan, np.nan)
    return xr.Dataset(
        {
            "volume": volume,
            "volume_lower": volume * below,
            "volume_upper": volume * above,
            "in_range": known,
        }
    )


def _account(chosen: Sequence[Relation], unknown_range: str, *, by_default: bool) -> dict[str, Any]:
    """Attributes: how many relations a band can rest on, and why the others are left out."""
    words = {each.name: _word(each, unknown_range) for each in chosen}
    out = {name: word for name, word in words.items() if word.startswith("left out")}
    for name in RELATIONS:
        if name not in words:
            out[name] = _ON_REQUEST[name] if by_default else "not among the relations asked for"
    left = sum(each.range_km2 is not None or unknown_range == "take" for each in chosen)
    return {
        "relations_in_band": left,
        "relations_left_out": "; ".join(f"{name}: {word}" for name, word in out.items()),
    }


def _note(relation: Relation, unknown_range: str) -> str:
    """What becomes of the relation at which area, and what is known of it."""
    word = _word(relation, unknown_range)
    return f"{word}; {relation.note}" if relation.note else word


def _word(relation: Relation, unknown_range: str) -> str:
    if relation.range_km2 is not None:
        low, high = relation.range_km2
        return f"left out below and above its calibrated {low:g} to {high:g} km2"
    if unknown_range == "take":
        return "taken at every area: its calibrated range is not known here"
    return "left out: its calibrated range is not known here"
