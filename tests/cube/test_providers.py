from __future__ import annotations

import copy
import math
import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import odc.stac
import pytest

from tiny_catalog import GRID, Written
from xglof.bands import LAYERS, MODALITIES, resolve
from xglof.cube import open_cube
from xglof.cube.providers import (
    CDSE,
    EARTH_SEARCH,
    OPERA,
    PLANETARY_COMPUTER,
    PROVIDERS,
    Product,
    Provider,
    candidates,
    check_whole,
    collections_of,
    product_of,
)
from xglof.errors import CatalogError

PC_S2 = [*MODALITIES["S2L2A"].names, "SCL", "visual"]
ES_S2 = ["coastal", "blue", "green", "red", "rededge1", "rededge2", "rededge3", "nir", "nir08", "nir09"]
ES_S2 += ["swir16", "swir22", "scl"]
CDSE_S2 = ["B01_60m", "B02_10m", "B03_10m", "B04_10m", "B05_20m", "B06_20m", "B07_20m", "B08_10m", "B8A_20m"]
CDSE_S2 += ["B09_60m", "B11_20m", "B12_20m", "SCL_20m", "B04_20m", "TCI_10m"]


@pytest.mark.parametrize("provider", PROVIDERS.values(), ids=PROVIDERS)
def test_profiles_name_every_band_and_no_stranger(provider: Provider) -> None:
    for product in provider.products:
        modality = MODALITIES[product.modality]
        assert tuple(product.required) == modality.names
        layers = set(product.assets) - set(modality.names)
        assert layers <= {layer.name for layer in LAYERS[product.modality]}
        assert len(set(product.assets.values())) == len(product.assets)


@pytest.mark.parametrize("provider", [PLANETARY_COMPUTER, EARTH_SEARCH, CDSE], ids=lambda p: p.name)
def test_asset_names_of_archives_are_aliases_of_the_bands(provider: Provider) -> None:
    for product in provider.products:
        for band, asset in product.required.items():
            assert {asset: band} == (resolve([asset]) or {asset: asset})


@pytest.mark.parametrize("provider", PROVIDERS.values(), ids=PROVIDERS)
def test_profiles_are_frozen_values_that_travel(provider: Provider) -> None:
    for other in (pickle.loads(pickle.dumps(provider)), copy.deepcopy(provider)):  # noqa: S301
        assert other == provider
        assert hash(other) == hash(provider)
    with pytest.raises(AttributeError):
        provider.url = "elsewhere"  # type: ignore[misc]
    with pytest.raises(TypeError):
        provider.environment["A"] = "b"  # type: ignore[index]
    with pytest.raises(TypeError):
        provider.products[0].assets["vv"] = "x"  # type: ignore[index]


def test_a_profile_does_not_follow_the_dict_it_was_made_from() -> None:
    assets = {"dem": "data"}
    product = Product("DEM", "mine", assets, "float32", math.nan)
    assets["dem"] = "elsewhere"
    assert product.assets["dem"] == "data"


def test_layers_have_their_own_dtype_and_nodata() -> None:
    [s2] = CDSE.products_of("S2L2A")
    assert [s2.dtype_of(name) for name in ("B02", "SCL", "CLD")] == ["uint16", "uint8", "uint8"]
    assert [s2.nodata_of(name) for name in ("B02", "SCL", "CLD")] == [0, 0, 255]
    [s1] = OPERA.products_of("S1RTC")
    assert (s1.dtype_of("vv"), s1.dtype_of("s1_mask"), s1.nodata_of("s1_mask")) == ("float32", "uint8", 255)
    assert math.isnan(s1.nodata_of("vv"))


def test_trap_planetary_computer_states_no_dtype_so_the_profile_does() -> None:
    [s2] = PLANETARY_COMPUTER.products_of("S2L2A")
    assert (s2.dtype, s2.nodata, s2.dtype_of("SCL")) == ("uint16", 0, "uint8")


def test_trap_cdse_names_its_baseline_and_bands_otherwise() -> None:
    [s2] = CDSE.products_of("S2L2A")
    assert s2.baseline_property == "processing:version"
    assert (s2.assets["B04"], s2.assets["B8A"], s2.assets["B01"]) == ("B04_10m", "B8A_20m", "B01_60m")
    assert CDSE.environment["AWS_S3_ENDPOINT"] == "eodata.dataspace.copernicus.eu"
    assert CDSE.environment["AWS_VIRTUAL_HOSTING"] == "FALSE"


def test_radar_says_what_its_numbers_are() -> None:
    units = {
        (provider.name, product.modality): (product.units, product.calibration, product.mosaic)
        for provider in PROVIDERS.values()
        for product in provider.products
        if product.modality in ("S1RTC", "S1GRD")
    }
    assert units == {
        ("planetary-computer", "S1RTC"): ("power", "gamma0", False),
        ("planetary-computer", "S1GRD"): ("digital_number", "", False),
        ("earth-search", "S1GRD"): ("digital_number", "", False),
        ("cdse", "S1RTC"): ("power", "gamma0", True),
        ("cdse", "S1GRD"): ("digital_number", "", False),
        ("opera", "S1RTC"): ("power", "gamma0", False),
    }


def test_sentinel1_of_earth_search_is_not_offered() -> None:
    with pytest.raises(CatalogError, match=r"only S2L2A, DEM; .*or use catalog='planetary-computer'"):
        collections_of("S1RTC", EARTH_SEARCH)
    assert collections_of("S1GRD", EARTH_SEARCH) == ("sentinel-1-grd",)


def test_collections_in_order_of_preference() -> None:
    assert collections_of("S2L2A", EARTH_SEARCH) == ("sentinel-2-c1-l2a", "sentinel-2-l2a")
    assert collections_of("S2L2A", None) == ("sentinel-2-l2a", "sentinel-2-c1-l2a")
    assert collections_of("S1RTC", None) == (
        "sentinel-1-rtc",
        "sentinel-1-global-mosaics",
        "OPERA_L2_RTC-S1_V1_1",
    )
    assert collections_of("DEM", CDSE) == ("cop-dem-glo-30-dged-cog",)


@pytest.mark.parametrize(
    ("names", "band2", "flag", "baseline"),
    [
        (PC_S2, "B02", None, "s2:processing_baseline"),
        (ES_S2, "blue", "earthsearch:boa_offset_applied", "s2:processing_baseline"),
        (CDSE_S2, "B02_10m", None, "processing:version"),
    ],
    ids=["planetary-computer", "earth-search", "cdse"],
)
def test_recognised_by_the_names_of_the_assets(
    names: list[str], band2: str, flag: str | None, baseline: str
) -> None:
    product = product_of("S2L2A", "sentinel-2-l2a", names, None)
    assert product is not None
    assert (product.assets["B02"], product.offset_flag, product.baseline_property) == (band2, flag, baseline)


def test_recognised_by_the_collection_where_the_names_agree() -> None:
    for collection, cloud in (("sentinel-2-c1-l2a", True), ("sentinel-2-l2a", False)):
        product = product_of("S2L2A", collection, [*ES_S2, "cloud"], EARTH_SEARCH)
        assert product is not None
        assert product.collection == collection
        assert ("CLD" in product.assets) == cloud
    assert product_of("S2L2A", "landsat-c2-l2", ES_S2, EARTH_SEARCH) is None


def test_a_layer_decides_between_products_with_the_same_bands() -> None:
    bands = {"vv": "VV", "vh": "VH"}
    plain = Product("S1RTC", "mine", bands, "float32", 0, units="power", calibration="gamma0")
    masked = replace(plain, assets={**bands, "s1_mask": "MASK"})
    mine = Provider("mine", "https://example.org", (plain, masked))
    assert product_of("S1RTC", "mine", ["VV", "VH", "MASK"], mine) == masked
    assert product_of("S1RTC", "mine", ["VV", "VH"], mine) == plain
    assert candidates("S1RTC", mine) == (plain, masked)


def _described(provider: Provider, *items: list[str]) -> list[tuple[Product, list[str]]]:
    return [(provider.products_of("S2L2A")[0], names) for names in items]


def test_a_band_absent_from_some_or_all_items() -> None:
    without = [name for name in PC_S2 if name != "B11"]
    with pytest.raises(CatalogError, match=r"B11 \(asset 'B11'\) is absent from 1 of 3 S2L2A items"):
        check_whole("S2L2A", _described(PLANETARY_COMPUTER, PC_S2, without, PC_S2))
    with pytest.raises(CatalogError, match=r"absent from 1 of 1 .* Pass a list of the items that have it"):
        check_whole("S2L2A", _described(PLANETARY_COMPUTER, ["image"]))
    with pytest.raises(CatalogError, match=r"band B01 \(asset 'coastal'\) is absent from 1 of 2"):
        check_whole("S2L2A", _described(EARTH_SEARCH, ES_S2, PC_S2))


def test_the_classification_is_in_all_items_or_in_none_and_other_layers_may_come_and_go() -> None:
    bands = list(MODALITIES["S2L2A"].names)
    check_whole("S2L2A", _described(PLANETARY_COMPUTER, bands, bands))
    with pytest.raises(CatalogError, match=r"band SCL .* absent from 1 of 2"):
        check_whole("S2L2A", _described(PLANETARY_COMPUTER, PC_S2, bands))
    check_whole("S2L2A", _described(CDSE, CDSE_S2, [*CDSE_S2, "CLD_20m"]))


RADAR = {"modality": "S1RTC", "collection": "mine", "assets": {"vv": "a", "vh": "b"}, "dtype": "float32"}
RADAR |= {"nodata": 0, "units": "power", "calibration": "gamma0"}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"modality": "S3"}, "modality is 'S3'; expected one of S2L2A"),
        ({"collection": ""}, "collection must be the id"),
        ({"assets": ["vv"]}, "expected band name -> asset name"),
        ({"assets": {"vv": "a"}}, "assets lacks vh"),
        ({"assets": {"vv": "a", "vh": "b", "hh": "c"}}, "names 'hh'; expected bands among vv, vh, s1_mask"),
        ({"assets": {"vv": "a", "vh": "a"}}, "asset 'a' stands for several bands"),
        ({"assets": {"vv": "a", "vh": 3}}, "asset of vh is 3"),
        ({"dtype": "float16"}, "dtype is 'float16'"),
        ({"nodata": "0"}, "nodata is '0'; expected a number or nan"),
        ({"nodata": True}, "nodata is True"),
        ({"offset_flag": 1}, "offset_flag is 1"),
        ({"baseline_property": None}, "baseline_property is None"),
        ({"units": None}, "units is None; expected one of power, amplitude"),
        ({"calibration": "beta0"}, "calibration is 'beta0'"),
        ({"calibration": ""}, "units 'power' do not go with calibration ''"),
        ({"units": "digital_number"}, "units 'digital_number' do not go with calibration 'gamma0'"),
        ({"mosaic": "no"}, "mosaic is 'no'; expected true or false"),
    ],
)
def test_wrong_fields_of_a_product(wrong: dict[str, Any], said: str) -> None:
    assert Product(**RADAR).required == {"vv": "a", "vh": "b"}
    with pytest.raises(CatalogError, match=said):
        Product(**RADAR | wrong)


def test_units_are_of_radar_only() -> None:
    with pytest.raises(CatalogError, match="of radar only, DEM has none"):
        Product("DEM", "mine", {"dem": "data"}, "float32", math.nan, units="power")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"name": ""}, "name is ''"),
        ({"url": 5}, "url is 5"),
        ({"products": [Product(**RADAR)]}, "must be a tuple of Product"),
        ({"products": ()}, "has no products"),
        ({"signing": "aws"}, "signing is 'aws'; expected planetary-computer"),
        ({"concurrency": 0}, "concurrency is 0"),
        ({"concurrency": True}, "concurrency is True"),
        ({"credentials": ("my key",)}, "names of environment variables"),
        ({"environment": {"GDAL_DRIVER_PATH": "here"}}, "names 'GDAL_DRIVER_PATH'; expected GDAL's options"),
        ({"environment": {"AWS_HTTPS": True}}, "AWS_HTTPS is True; expected a text in quotes"),
        ({"environment": "AWS_HTTPS"}, "environment must be GDAL option -> text"),
    ],
)
def test_wrong_fields_of_a_provider(wrong: dict[str, Any], said: str) -> None:
    right: dict[str, Any] = {
        "name": "mine",
        "url": "https://example.org",
        "products": (Product(**RADAR),),
    }
    assert Provider(**right).environment == {}
    with pytest.raises(CatalogError, match=said):
        Provider(**right | wrong)


@pytest.mark.parametrize(
    "option",
    [
        "AWS_SECRET_ACCESS_KEY",
        "AWS_ACCESS_KEY_ID",
        "AWS_SESSION_TOKEN",
        "AZURE_STORAGE_SAS_TOKEN",
        "AZURE_STORAGE_CONNECTION_STRING",
        "GDAL_HTTP_USERPWD",
        "GDAL_HTTP_BEARER",
        "GDAL_HTTP_HEADERS",
        "GDAL_HTTP_HEADER_FILE",
        "GDAL_HTTP_PROXYUSERPWD",
        "GDAL_HTTP_KEYPASSWD",
        "GS_OAUTH2_PRIVATE_KEY",
        "GS_HMAC_KEY",
        "gdal_http_bearer",
    ],
)
def test_a_secret_is_refused_and_not_repeated(option: str) -> None:
    with pytest.raises(CatalogError, match=f"holds {option}, a secret") as caught:
        Provider("mine", "https://example.org", (Product(**RADAR),), environment={option: "hunter2"})
    assert "hunter2" not in str(caught.value)


def _with_environment(**environment: str) -> Provider:
    return Provider("mine", "https://example.org", (Product(**RADAR),), environment=environment)


@pytest.mark.parametrize(
    "option",
    [
        "GDAL_HTTP_PROXY",
        "GDAL_HTTPS_PROXY",
        "GDAL_HTTP_UNSAFESSL",
        "GDAL_HTTP_SSLCERT",
        "GDAL_HTTP_AUTH",
        "GDAL_HTTP_NETRC_FILE",
        "GDAL_HTTP_TIMEOUT_X",
        "AWS_ROLE_ARN",
        "AWS_CONFIG_FILE",
        "AZURE_IMDS_CLIENT_ID",
        "GDAL_DRIVER_PATH",
        "X_AWS_HTTPS",
    ],
)
def test_only_known_options_are_taken_and_values_are_not_repeated(option: str) -> None:
    with pytest.raises(CatalogError, match=f"names {option!r}; expected GDAL's options") as caught:
        _with_environment(**{option: "hunter2"})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("value", ["http://me:hunter2@proxy:8080", "//me:hunter2@host/x", "me:hunter2@host"])
def test_a_login_in_a_value_is_refused_and_not_repeated(value: str) -> None:
    with pytest.raises(CatalogError, match="AWS_S3_ENDPOINT holds a login") as caught:
        _with_environment(AWS_S3_ENDPOINT=value)
    assert "hunter2" not in str(caught.value)


def test_options_for_reading_are_taken() -> None:
    taken = {
        "AWS_S3_ENDPOINT": "localhost:9000",
        "AWS_NO_SIGN_REQUEST": "YES",
        "AWS_REQUEST_PAYER": "requester",
        "AZURE_STORAGE_ACCOUNT": "mine",
        "GS_NO_SIGN_REQUEST": "YES",
        "GDAL_HTTP_USERAGENT": "me@example.org",
        "GDAL_HTTP_MAX_RETRY": "9",
        "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
        "CPL_VSIL_CURL_CHUNK_SIZE": "65536",
        "VSI_CACHE": "TRUE",
    }
    assert _with_environment(**taken).environment == taken


def test_trap_without_the_profile_integers_are_read_as_floats(written: Written) -> None:
    """odc-stac takes the dtype from the items, which do not state it, and the profile's from us."""
    items = written.of("A")
    assert not any(asset.extra_fields for asset in items[0].assets.values())
    plain = odc.stac.load(items, bands=["B03", "SCL"], geobox=GRID, chunks={})
    assert {plain[name].dtype for name in ("B03", "SCL")} == {np.dtype("float32")}
    stated = {"sentinel-2-l2a": {"assets": {"*": {"data_type": "uint16", "nodata": 0}}}}
    told = odc.stac.load(items, bands=["B03", "SCL"], geobox=GRID, chunks={}, stac_cfg=stated)
    assert {told[name].dtype for name in ("B03", "SCL")} == {np.dtype("uint16")}
    cube = open_cube(catalog=items, geobox=GRID, modalities=["S2L2A"])
    assert (cube.B03.dtype, cube.SCL.dtype) == ("uint16", "uint8")
