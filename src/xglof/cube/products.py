"""What an archive is, as frozen values that are checked when they are made."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, Literal, get_args

from xglof.bands import LAYERS, MODALITIES
from xglof.cube.harmonise import RadarUnits
from xglof.errors import CatalogError

Calibration = Literal["gamma0", "sigma0", ""]
Signing = Literal["planetary-computer"]

_DTYPES = ("uint8", "uint16", "int16", "float32")
_RADAR = ("S1RTC", "S1GRD")
#: What GDAL may be told by a profile. Others could load code (GDAL_DRIVER_PATH), trust anybody
#: (GDAL_HTTP_UNSAFESSL), send a file along (GDAL_HTTP_HEADER_FILE) or are of the machine, not of the archive
#: (proxies, certificates).
_OPTIONS = re.compile(
    r"AWS_(REGION|DEFAULT_REGION|S3_ENDPOINT|HTTPS|VIRTUAL_HOSTING|NO_SIGN_REQUEST|REQUEST_PAYER|MAX_KEYS"
    r"|PROFILE|DEFAULT_PROFILE)"
    r"|AZURE_(STORAGE_ACCOUNT|NO_SIGN_REQUEST)|GS_(NO_SIGN_REQUEST|USER_PROJECT)"
    r"|GDAL_HTTP_(CONNECTTIMEOUT|TIMEOUT|LOW_SPEED_LIMIT|LOW_SPEED_TIME|MAX_RETRY|RETRY_DELAY|RETRY_CODES"
    r"|MULTIRANGE|MULTIPLEX|MERGE_CONSECUTIVE_RANGES|VERSION|USERAGENT|TCP_KEEP\w+|MAX_\w*CONNECTIONS)"
    r"|GDAL_(DISABLE_READDIR_ON_OPEN|CACHEMAX|INGESTED_BYTES_AT_OPEN)|CPL_VSIL_CURL_[A-Z0-9_]+|VSI_CACHE(_SIZE)?"
)
_SECRET = re.compile(
    r"SECRET|PASSW|TOKEN|USERPWD|HEADER|BEARER|CREDENTIAL|CONNECTION_STRING|ACCESS_KEY|PRIVATE_KEY|SSLKEY"
    r"|_SAS\b|COOKIE|HMAC"
)
_LOGIN = re.compile(r"//[^/\s]*@|^[^/\s@:]+:[^/\s@]+@")


@dataclass(frozen=True, slots=True)
class Product:
    """One modality in one collection of an archive.

    Attributes
    ----------
    modality
        Name in :data:`xglof.bands.MODALITIES`.
    collection
        Id of its STAC collection.
    assets
        Canonical band name -> asset name: the bands of the modality, then layers of
        :data:`xglof.bands.LAYERS` that the collection offers.
    dtype, nodata
        Of the files of the bands; layers have those of :data:`xglof.bands.LAYERS`.
    offset_flag
        Item property that says whether the radiometric offset was removed already; ``None`` where the
        archive never removes it.
    baseline_property
        Item property with the processing baseline of Sentinel-2.
    units
        What the numbers of a radar file are. ``"digital_number"`` is uncalibrated.
    calibration
        Of a radar product; ``""`` for uncalibrated numbers and for other sensors.
    mosaic
        Whether an item is a composite over a period, not one acquisition.
    worldwide
        Elevation in tiles of one degree: whether the collection has all land, so that where it has no tile
        there is sea.

    Raises
    ------
    CatalogError
        A field that is not what it should be.
    """

    modality: str
    collection: str
    assets: Mapping[str, str] = field(hash=False)
    dtype: str
    nodata: float
    offset_flag: str | None = None
    baseline_property: str = "s2:processing_baseline"
    units: RadarUnits | None = None
    calibration: Calibration = ""
    mosaic: bool = False
    worldwide: bool = False

    def __post_init__(self) -> None:
        _check_product(self)
        object.__setattr__(self, "assets", MappingProxyType(dict(self.assets)))
        if math.isnan(self.nodata):  # one object, so that equal products are equal
            object.__setattr__(self, "nodata", math.nan)

    def __reduce__(self) -> tuple[Any, ...]:  # a mapping proxy cannot be pickled
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return type(self), tuple((values | {"assets": dict(self.assets)}).values())

    @property
    def required(self) -> Mapping[str, str]:
        """The assets that every item must have: the bands of the modality."""
        return {band: self.assets[band] for band in MODALITIES[self.modality].names}

    def dtype_of(self, band: str) -> str:
        """Dtype of the files of a band or layer."""
        return next((layer.dtype for layer in LAYERS[self.modality] if layer.name == band), self.dtype)

    def nodata_of(self, band: str) -> float:
        """Nodata of the files of a band or layer that do not declare it themselves."""
        return next((layer.nodata for layer in LAYERS[self.modality] if layer.name == band), self.nodata)


@dataclass(frozen=True, slots=True)
class Provider:
    """An archive.

    Attributes
    ----------
    name
        As ``catalog=`` takes it, and as it is called in attributes and messages.
    url
        Landing page of its STAC API, or the path of a static catalogue, an ItemCollection or a
        stac-geoparquet file.
    products
        What it holds; of several of one modality the first is preferred where both have an acquisition.
    signing
        How addresses are signed before they are read; ``None`` where they are read as they are.
    environment
        GDAL's options for reading its files. Never a secret.
    credentials
        Names of the environment variables that reading needs.
    concurrency
        How many reads one process may have under way; ``None`` does not limit them.

    Raises
    ------
    CatalogError
        A field that is not what it should be, or a secret in ``environment``.
    """

    name: str
    url: str
    products: tuple[Product, ...]
    signing: Signing | None = None
    environment: Mapping[str, str] = field(default_factory=dict, hash=False)
    credentials: tuple[str, ...] = ()
    concurrency: int | None = None

    def __post_init__(self) -> None:
        _check_provider(self)
        object.__setattr__(self, "environment", MappingProxyType(dict(self.environment)))

    def __reduce__(self) -> tuple[Any, ...]:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return type(self), tuple((values | {"environment": dict(self.environment)}).values())

    def products_of(self, modality: str) -> tuple[Product, ...]:
        """The products of a modality, the preferred one first."""
        return tuple(product for product in self.products if product.modality == modality)


def _check_product(product: Product) -> None:
    where = f"product {product.collection!r}"
    if not isinstance(product.modality, str) or product.modality not in MODALITIES:
        raise CatalogError(
            f"{where}: modality is {product.modality!r}; expected one of {', '.join(MODALITIES)}"
        )
    if not isinstance(product.collection, str) or not product.collection:
        raise CatalogError(f"{where}: collection must be the id of a STAC collection")
    _check_assets(product, where)
    if product.dtype not in _DTYPES:
        raise CatalogError(f"{where}: dtype is {product.dtype!r}; expected one of {', '.join(_DTYPES)}")
    if isinstance(product.nodata, bool) or not isinstance(product.nodata, (int, float)):
        raise CatalogError(f"{where}: nodata is {product.nodata!r}; expected a number or nan")
    for name in ("offset_flag", "baseline_property"):
        value = getattr(product, name)
        if not (isinstance(value, str) or (value is None and name == "offset_flag")):
            raise CatalogError(f"{where}: {name} is {value!r}; expected the name of an item property")
    radar = product.modality in _RADAR
    if radar and product.units not in get_args(RadarUnits):
        raise CatalogError(
            f"{where}: units is {product.units!r}; expected one of {', '.join(get_args(RadarUnits))}"
        )
    if not radar and (product.units is not None or product.calibration):
        raise CatalogError(f"{where}: units and calibration are of radar only, {product.modality} has none")
    if product.calibration not in get_args(Calibration):
        raise CatalogError(f"{where}: calibration is {product.calibration!r}; expected gamma0 or sigma0")
    if radar and (product.units == "digital_number") == bool(product.calibration):
        raise CatalogError(
            f"{where}: units {product.units!r} do not go with calibration {product.calibration!r}; expected "
            "gamma0 or sigma0 for power, amplitude and decibel, and none for digital_number"
        )
    for name in ("mosaic", "worldwide"):
        if not isinstance(getattr(product, name), bool):
            raise CatalogError(f"{where}: {name} is {getattr(product, name)!r}; expected true or false")


def _check_assets(product: Product, where: str) -> None:
    if not isinstance(product.assets, Mapping):
        raise CatalogError(f"{where}: assets is {product.assets!r}; expected band name -> asset name")
    bands = MODALITIES[product.modality].names
    known = (*bands, *(layer.name for layer in LAYERS[product.modality]))
    for band, asset in product.assets.items():
        if band not in known:
            raise CatalogError(f"{where}: assets names {band!r}; expected bands among {', '.join(known)}")
        if not isinstance(asset, str) or not asset:
            raise CatalogError(f"{where}: asset of {band} is {asset!r}; expected the name of an asset")
    absent = [band for band in bands if band not in product.assets]
    if absent:
        raise CatalogError(f"{where}: assets lacks {', '.join(absent)}; expected an asset for each band")
    names = list(product.assets.values())
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise CatalogError(f"{where}: asset {twice!r} stands for several bands; expected one each")


def _check_provider(provider: Provider) -> None:
    for name in ("name", "url"):
        if not isinstance(getattr(provider, name), str) or not getattr(provider, name):
            raise CatalogError(f"provider: {name} is {getattr(provider, name)!r}; expected a text")
    where = f"provider {provider.name!r}"
    if not isinstance(provider.products, tuple) or not all(isinstance(p, Product) for p in provider.products):
        raise CatalogError(f"{where}: products must be a tuple of Product")
    if not provider.products:
        raise CatalogError(f"{where} has no products; expected one or more")
    if provider.signing not in (None, *get_args(Signing)):
        raise CatalogError(
            f"{where}: signing is {provider.signing!r}; expected {' or '.join(get_args(Signing))}, or nothing"
        )
    limit = provider.concurrency
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise CatalogError(f"{where}: concurrency is {limit!r}; expected a whole number, 1 or more")
    if not isinstance(provider.credentials, tuple) or not all(
        isinstance(name, str) and re.fullmatch(r"[A-Z][A-Z0-9_]*", name) for name in provider.credentials
    ):
        raise CatalogError(
            f"{where}: credentials must be names of environment variables, such as AWS_PROFILE"
        )
    _check_environment(provider, where)


def _check_environment(provider: Provider, where: str) -> None:
    if not isinstance(provider.environment, Mapping):
        raise CatalogError(f"{where}: environment must be GDAL option -> text")
    for option, value in provider.environment.items():
        if isinstance(option, str) and _SECRET.search(option.upper()):  # its value is never in the message
            raise CatalogError(
                f"{where}: environment holds {option}, a secret; set it in the environment of the process "
                "and name it under credentials"
            )
        if not isinstance(option, str) or not _OPTIONS.fullmatch(option):
            raise CatalogError(
                f"{where}: environment names {option!r}; expected GDAL's options for reading an archive over "
                "a network, such as AWS_S3_ENDPOINT, AWS_NO_SIGN_REQUEST, AZURE_STORAGE_ACCOUNT, "
                "GDAL_HTTP_TIMEOUT or CPL_VSIL_CURL_CHUNK_SIZE. Set others in the environment of the process"
            )
        if not isinstance(value, str):
            raise CatalogError(f"{where}: environment {option} is {value!r}; expected a text in quotes")
        if _LOGIN.search(value):
            raise CatalogError(
                f"{where}: environment {option} holds a login, a secret; expected an address without one"
            )
