"""Modalities and bands: names, aliases, units, dtypes and nodata, as frozen values.

The names are those of TerraMind's modalities (``S2L2A``, ``S1RTC``, ``S1GRD``, ``DEM``) and of the
Sentinel-2 products (``B01`` ... ``B12``). Everything else in the package asks this module.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Resampling = Literal["nearest", "bilinear", "cubic"]


@dataclass(frozen=True, slots=True)
class Band:
    """One variable of a cube.

    Attributes
    ----------
    name
        Its variable name in a cube.
    dtype, units, nodata
        As the cube holds it. ``nodata`` is ``0`` for integers and NaN for floats.
    long_name
        For plots and CF attributes.
    resampling
        How it is brought to the cube's grid (SAR in linear power, before decibels).
    native_m
        Pixel size of the product, metres.
    aliases
        Other names met in archives; matched without regard to case.
    """

    name: str
    dtype: str
    units: str
    nodata: float
    long_name: str
    resampling: Resampling
    native_m: float
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Modality:
    """A sensor product: its bands in the order that a network takes them."""

    name: str
    long_name: str
    bands: tuple[Band, ...]
    has_time: bool = True

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the bands, in order."""
        return tuple(band.name for band in self.bands)


def _s2(name: str, long_name: str, native_m: int, *aliases: str) -> Band:
    return Band(
        name,
        dtype="uint16",
        units="1e-4",  # reflectance x 10,000, offset removed
        nodata=0,
        long_name=f"surface reflectance, {long_name}",
        resampling="bilinear",
        native_m=native_m,
        aliases=(*aliases, f"{name}_{native_m}m"),
    )


def _sar(name: str) -> Band:
    long_name = f"backscatter {name.upper()}"
    return Band(name, "float32", "dB", float("nan"), long_name, "bilinear", 10, (name.upper(),))


_S2_BANDS = (
    _s2("B01", "coastal aerosol, 443 nm", 60, "coastal"),
    _s2("B02", "blue, 490 nm", 10, "blue"),
    _s2("B03", "green, 560 nm", 10, "green"),
    _s2("B04", "red, 665 nm", 10, "red"),
    _s2("B05", "red edge, 705 nm", 20, "rededge1"),
    _s2("B06", "red edge, 740 nm", 20, "rededge2"),
    _s2("B07", "red edge, 783 nm", 20, "rededge3"),
    _s2("B08", "near infrared, 842 nm", 10, "nir"),
    _s2("B8A", "narrow near infrared, 865 nm", 20, "nir08"),
    _s2("B09", "water vapour, 945 nm", 60, "nir09"),
    _s2("B11", "short-wave infrared, 1610 nm", 20, "swir16"),
    _s2("B12", "short-wave infrared, 2190 nm", 20, "swir22"),
)
_DEM_BAND = Band(
    "dem",
    "float32",
    "m",
    float("nan"),
    "elevation above EGM2008",
    "bilinear",
    30,
    ("data", "elevation", "DEM"),
)

#: Sentinel-2's scene classification: a layer of the cube, never an input of a network.
SCL = Band("SCL", "uint8", "1", 0, "Sentinel-2 scene classification", "nearest", 20, ("scl", "SCL_20m"))

#: Sentinel-2's cloud probability, where an archive offers it.
CLD = Band("CLD", "uint8", "percent", 255, "Sentinel-2 cloud probability", "nearest", 20, ("CLD_20m",))

#: Where a Sentinel-1 product saw radar shadow (1), layover (2), both (3) or neither (0).
S1_MASK = Band("s1_mask", "uint8", "1", 255, "Sentinel-1 layover and shadow", "nearest", 30)

#: Layers that come with a modality in some archives; flags are made from them, networks never see them.
LAYERS: MappingProxyType[str, tuple[Band, ...]] = MappingProxyType(
    {"S2L2A": (SCL, CLD), "S1RTC": (S1_MASK,), "S1GRD": (), "DEM": ()}
)

#: Every modality that a cube can hold and a network can take, by name.
MODALITIES: MappingProxyType[str, Modality] = MappingProxyType(
    {
        "S2L2A": Modality("S2L2A", "Sentinel-2 L2A surface reflectance", _S2_BANDS),
        "S1RTC": Modality(
            "S1RTC", "Sentinel-1 radiometrically terrain-corrected gamma0", (_sar("vv"), _sar("vh"))
        ),
        "S1GRD": Modality("S1GRD", "Sentinel-1 ground-range sigma0", (_sar("vv"), _sar("vh"))),
        "DEM": Modality("DEM", "Copernicus DEM", (_DEM_BAND,), has_time=False),
    }
)

#: Names of the bands in decibels.
SAR_BANDS = MODALITIES["S1RTC"].names

#: Ground resolution (m) of the bands that decide on water besides visible and near-infrared light of 10 m:
#: Sentinel-1 IW resolves about 20 m in ground range and 22 m in azimuth whatever its pixel spacing (Torres
#: and others 2012, doi:10.1016/j.rse.2011.05.028), the short-wave infrared of Sentinel-2 20 m.
WATER_RESOLUTION_M = MappingProxyType(dict.fromkeys((*SAR_BANDS, "B11", "B12"), 20.0))


def resolve(names: Iterable[object]) -> dict[str, str]:
    """Map the names met in a dataset to the names of this module.

    Parameters
    ----------
    names
        Variable names as an archive or a user spells them, such as ``blue``, ``B02_10m``, ``VV``.

    Returns
    -------
    dict
        ``{name met: canonical name}`` for those that differ and are known. A name is left alone where
        its canonical name is among ``names`` already.

    Examples
    --------
    >>> resolve(["blue", "VV", "B8A_20m", "B03", "mine"])
    {'blue': 'B02', 'VV': 'vv', 'B8A_20m': 'B8A'}
    """
    present = [name for name in names if isinstance(name, str)]
    taken = set(present)
    renames: dict[str, str] = {}
    for name in present:
        canonical = _BY_ALIAS.get(name.lower())
        if canonical is not None and canonical not in taken:
            renames[name] = canonical
            taken.add(canonical)
    return renames


def _index_aliases() -> dict[str, str]:
    bands = {band.name: band for modality in MODALITIES.values() for band in modality.bands}
    bands |= {layer.name: layer for layers in LAYERS.values() for layer in layers}
    return {alias.lower(): band.name for band in bands.values() for alias in (band.name, *band.aliases)}


_BY_ALIAS = _index_aliases()
