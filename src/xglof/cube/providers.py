"""The archives that have a profile, and which product of theirs an item is.

Where archives differ, they differ here and nowhere else. Collection ids, asset names and fills follow the
STAC collections of Planetary Computer, Earth Search v1, the Copernicus Data Space Ecosystem (CDSE) and NASA's
CMR-STAC. An archive that is not here is a :class:`Provider` of the user's, in Python or as a TOML file
(:mod:`xglof.cube.profiles`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from xglof.bands import LAYERS, MODALITIES
from xglof.cube.products import Product, Provider
from xglof.errors import CatalogError

__all__ = [
    "CDSE",
    "EARTH_SEARCH",
    "OPERA",
    "PLANETARY_COMPUTER",
    "PROVIDERS",
    "Product",
    "Provider",
    "candidates",
    "check_whole",
    "collections_of",
    "product_of",
]


def collections_of(modality: str, provider: Provider | None) -> tuple[str, ...]:
    """Collection ids under which a modality may be found; of every profile when ``provider`` is ``None``.

    Raises
    ------
    CatalogError
        The provider has no product of that modality.
    """
    ids = [product.collection for product in candidates(modality, provider)]
    if provider is not None and not ids:
        usable = [product.modality for product in provider.products if product.units != "digital_number"]
        others = [other.name for other in PROVIDERS.values() if other.products_of(modality)]
        raise CatalogError(
            f"{provider.name} holds no {modality}, only {', '.join(dict.fromkeys(usable))}; ask for "
            "modalities among these" + (f" or use catalog={others[0]!r}" if others else "")
        )
    return tuple(dict.fromkeys(ids))


def candidates(modality: str, provider: Provider | None) -> tuple[Product, ...]:
    """The products that an item of a modality may be of, preferred ones first."""
    providers = PROVIDERS.values() if provider is None else (provider,)
    return tuple(product for entry in providers for product in entry.products_of(modality))


def product_of(
    modality: str, collection: str | None, assets: Iterable[str], provider: Provider | None
) -> Product | None:
    """The product that an item is of, whole or not: the one of its collection whose asset names fit best.

    Parameters
    ----------
    modality
        Name of the modality.
    collection
        Of the item.
    assets
        Names of its assets.
    provider
        The archive, or ``None`` to choose among all profiles by the names.
    """
    held = frozenset(assets)
    fitting = [product for product in candidates(modality, provider) if product.collection == collection]
    return max(fitting, key=lambda product: _hits(product, held), default=None)


def check_whole(modality: str, described: Sequence[tuple[Product, Iterable[str]]]) -> None:
    """Refuse items that lack a band, and a scene classification that only some of them have.

    Parameters
    ----------
    modality
        Name of the modality.
    described
        Product and names of the assets of each item.

    Raises
    ------
    CatalogError
        A band is absent from some or all of the items, or ``SCL`` from some of them.
    """
    lacking: dict[tuple[str, str], int] = {}
    without_scl = 0
    for product, names in described:
        held = frozenset(names)
        for band, asset in product.required.items():
            if asset not in held:
                lacking[band, asset] = lacking.get((band, asset), 0) + 1
        without_scl += product.assets.get("SCL") not in held
    if "SCL" in {layer.name for layer in LAYERS[modality]} and 0 < without_scl < len(described):
        lacking["SCL", next(p.assets.get("SCL", "SCL") for p, _ in described)] = without_scl
    for (band, asset), count in lacking.items():
        raise CatalogError(
            f"band {band} (asset {asset!r}) is absent from {count} of {len(described)} {modality} items; "
            "expected it in all of them. Pass a list of the items that have it as catalog="
        )


def _hits(product: Product, held: frozenset[str]) -> int:
    """How many of its required assets an item has, and then how many of the layers."""
    required = frozenset(product.required.values())
    layers = frozenset(product.assets.values()) - required
    return len(required & held) * 100 + len(layers & held)


_S2_NAMES = MODALITIES["S2L2A"].names
_RADAR_PAIR = {"vv": "vv", "vh": "vh"}


def _s2(collection: str, names: Iterable[str], layers: Mapping[str, str], **more: Any) -> Product:
    assets = {**dict(zip(_S2_NAMES, names, strict=True)), **layers}
    return Product("S2L2A", collection, assets, "uint16", 0, **more)


def _dem(collection: str) -> Product:
    return Product("DEM", collection, {"dem": "data"}, "float32", float("nan"), worldwide=True)


#: Ground range, uncalibrated: listed so that it can be refused by its name.
_GRD = Product("S1GRD", "sentinel-1-grd", _RADAR_PAIR, "uint16", 0, units="digital_number")

PLANETARY_COMPUTER = Provider(
    "planetary-computer",
    "https://planetarycomputer.microsoft.com/api/stac/v1",
    (
        _s2("sentinel-2-l2a", _S2_NAMES, {"SCL": "SCL"}),
        Product(
            "S1RTC", "sentinel-1-rtc", _RADAR_PAIR, "float32", -32768.0, units="power", calibration="gamma0"
        ),
        _GRD,
        _dem("cop-dem-glo-30"),
    ),
    signing="planetary-computer",
)

_EARTH_SEARCH_NAMES = (
    *("coastal", "blue", "green", "red", "rededge1", "rededge2", "rededge3"),
    *("nir", "nir08", "nir09", "swir16", "swir22"),
)
_APPLIED = "earthsearch:boa_offset_applied"

EARTH_SEARCH = Provider(
    "earth-search",
    "https://earth-search.aws.element84.com/v1",
    (
        _s2("sentinel-2-c1-l2a", _EARTH_SEARCH_NAMES, {"SCL": "scl", "CLD": "cloud"}, offset_flag=_APPLIED),
        _s2("sentinel-2-l2a", _EARTH_SEARCH_NAMES, {"SCL": "scl"}, offset_flag=_APPLIED),
        _GRD,
        _dem("cop-dem-glo-30"),
    ),
)

_CDSE_NAMES = tuple(f"{band.name}_{band.native_m:g}m" for band in MODALITIES["S2L2A"].bands)

#: Its limits for everybody: 4 connections at a time and 2,000 requests a minute.
CDSE = Provider(
    "cdse",
    "https://stac.dataspace.copernicus.eu/v1",
    (
        _s2(
            "sentinel-2-l2a",
            _CDSE_NAMES,
            {"SCL": "SCL_20m", "CLD": "CLD_20m"},
            baseline_property="processing:version",
        ),
        Product(
            "S1RTC",
            "sentinel-1-global-mosaics",
            {"vv": "VV", "vh": "VH"},
            "float32",
            -32768.0,
            units="power",
            calibration="gamma0",
            mosaic=True,
        ),
        _GRD,
        _dem("cop-dem-glo-30-dged-cog"),
    ),
    environment={
        "AWS_S3_ENDPOINT": "eodata.dataspace.copernicus.eu",
        "AWS_VIRTUAL_HOSTING": "FALSE",
        "AWS_HTTPS": "YES",
    },
    credentials=("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
    concurrency=4,
)

#: NASA's OPERA RTC-S1 at the Alaska Satellite Facility: bursts at 30 m, with a layover and shadow mask.
OPERA = Provider(
    "opera",
    "https://cmr.earthdata.nasa.gov/stac/ASF",
    (
        Product(
            "S1RTC",
            "OPERA_L2_RTC-S1_V1_1",
            {"vv": "0_VV", "vh": "0_VH", "s1_mask": "0_mask"},
            "float32",
            float("nan"),
            units="power",
            calibration="gamma0",
        ),
    ),
    # besides a login in ~/.netrc: the login answers with a cookie, which GDAL must keep
    credentials=("GDAL_HTTP_COOKIEFILE", "GDAL_HTTP_COOKIEJAR"),
    concurrency=8,
)

#: Every archive with a profile, by the name that ``catalog=`` takes.
PROVIDERS: MappingProxyType[str, Provider] = MappingProxyType(
    {provider.name: provider for provider in (PLANETARY_COMPUTER, EARTH_SEARCH, CDSE, OPERA)}
)
