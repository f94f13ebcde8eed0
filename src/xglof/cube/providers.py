"""Archives as frozen values: which collection holds a modality and how its files spell the bands.

Where archives differ, they differ here and nowhere else. Collection ids, asset names and fills follow the
STAC collections of Planetary Computer and Earth Search v1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from xglof.bands import MODALITIES
from xglof.errors import CatalogError


@dataclass(frozen=True, slots=True)
class Product:
    """One modality in one archive.

    Attributes
    ----------
    modality
        Name in :data:`xglof.bands.MODALITIES`.
    collection
        Id of its STAC collection.
    assets
        Canonical band name -> asset name. A scene classification, where there is one, is ``SCL``.
    dtype, nodata
        Of the files. Sentinel-1 RTC is linear power with a fill that its files declare.
    offset_flag
        Item property that says whether the radiometric offset was removed already; ``None`` where the
        archive never removes it.
    """

    modality: str
    collection: str
    assets: Mapping[str, str]
    dtype: str
    nodata: float
    offset_flag: str | None = None

    @property
    def required(self) -> Mapping[str, str]:
        """The assets that every item must have: the bands of the modality."""
        return {band: self.assets[band] for band in MODALITIES[self.modality].names}


@dataclass(frozen=True, slots=True)
class Provider:
    """An archive.

    Attributes
    ----------
    name
        As ``catalog=`` takes it.
    url
        Landing page of its STAC API.
    products
        One per modality that it holds in a usable form.
    signed
        Whether assets need a token (Planetary Computer).
    """

    name: str
    url: str
    products: tuple[Product, ...]
    signed: bool = False

    def product(self, modality: str) -> Product | None:
        """The product of a modality, or ``None``."""
        return next((product for product in self.products if product.modality == modality), None)


def _s2_assets(names: Iterable[str], scl: str) -> Mapping[str, str]:
    bands = dict(zip(MODALITIES["S2L2A"].names, names, strict=True))
    return MappingProxyType({**bands, "SCL": scl})


_DEM = Product("DEM", "cop-dem-glo-30", MappingProxyType({"dem": "data"}), "float32", float("nan"))

PLANETARY_COMPUTER = Provider(
    "planetary-computer",
    "https://planetarycomputer.microsoft.com/api/stac/v1",
    (
        Product("S2L2A", "sentinel-2-l2a", _s2_assets(MODALITIES["S2L2A"].names, "SCL"), "uint16", 0),
        Product("S1RTC", "sentinel-1-rtc", MappingProxyType({"vv": "vv", "vh": "vh"}), "float32", -32768.0),
        _DEM,
    ),
    signed=True,
)

_VISIBLE = ("coastal", "blue", "green", "red")
_INFRARED = ("nir", "nir08", "nir09", "swir16", "swir22")

#: Its Sentinel-1 is GRD (digital numbers in ground range), which is not sigma0 and is not offered.
EARTH_SEARCH = Provider(
    "earth-search",
    "https://earth-search.aws.element84.com/v1",
    (
        Product(
            "S2L2A",
            "sentinel-2-l2a",
            _s2_assets((*_VISIBLE, "rededge1", "rededge2", "rededge3", *_INFRARED), "scl"),
            "uint16",
            0,
            offset_flag="earthsearch:boa_offset_applied",
        ),
        _DEM,
    ),
)

#: Every archive with a profile, by the name that ``catalog=`` takes.
PROVIDERS: MappingProxyType[str, Provider] = MappingProxyType(
    {provider.name: provider for provider in (PLANETARY_COMPUTER, EARTH_SEARCH)}
)


def collections_of(modality: str, provider: Provider | None) -> tuple[str, ...]:
    """Collection ids under which a modality may be found; of every profile when ``provider`` is ``None``.

    Raises
    ------
    CatalogError
        The provider has no usable product of that modality.
    """
    ids = [product.collection for product in _products(modality, provider)]
    if provider is not None and not ids:
        held = ", ".join(product.modality for product in provider.products)
        others = [other.name for other in PROVIDERS.values() if other.product(modality)]
        raise CatalogError(
            f"{provider.name} holds no {modality}, only {held}; ask for modalities among these"
            + (f" or use catalog={others[0]!r}" if others else "")
        )
    return tuple(dict.fromkeys(ids))


def recognise(modality: str, assets: Iterable[Iterable[str]], provider: Provider | None) -> Product:
    """The product whose asset names fit the items best, checked to be complete.

    Parameters
    ----------
    modality
        Name of the modality.
    assets
        For each item, the names of its assets.
    provider
        The archive, or ``None`` to choose among all profiles by the names.

    Raises
    ------
    CatalogError
        A band is absent from some or all of the items, or the scene classification from some of them.
    """
    names = [frozenset(item) for item in assets]
    candidates = _products(modality, provider)
    best = max(candidates, key=lambda product: _hits(product, names))
    for band, asset in best.assets.items():
        lacking = sum(asset not in item for item in names)
        optional = band not in best.required
        if lacking and not (optional and lacking == len(names)):
            raise CatalogError(
                f"band {band} (asset {asset!r}) is absent from {lacking} of {len(names)} {modality} items; "
                f"expected it in all of them. Pass a list of the items that have it as catalog="
            )
    return best


def _hits(product: Product, names: Iterable[frozenset[str]]) -> int:
    wanted = frozenset(product.assets.values())
    return sum(len(wanted & item) for item in names)


def _products(modality: str, provider: Provider | None) -> list[Product]:
    providers = PROVIDERS.values() if provider is None else (provider,)
    found = (entry.product(modality) for entry in providers)
    return [product for product in found if product is not None]
