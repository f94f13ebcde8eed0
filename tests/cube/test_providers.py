from __future__ import annotations

import pytest

from xglof.bands import MODALITIES, resolve
from xglof.cube.providers import EARTH_SEARCH, PLANETARY_COMPUTER, PROVIDERS, collections_of, recognise
from xglof.errors import CatalogError

PC_S2 = [*MODALITIES["S2L2A"].names, "SCL", "visual"]
ES_S2 = ["coastal", "blue", "green", "red", "rededge1", "rededge2", "rededge3", "nir", "nir08", "nir09"]
ES_S2 += ["swir16", "swir22", "scl"]


@pytest.mark.parametrize("provider", PROVIDERS.values(), ids=PROVIDERS)
def test_profiles_name_every_band_by_a_known_alias(provider: object) -> None:
    for product in provider.products:  # type: ignore[attr-defined]
        modality = MODALITIES[product.modality]
        assert tuple(product.required) == modality.names
        for band, asset in product.assets.items():
            assert {asset: band} == (resolve([asset]) or {asset: asset})
        assert len(set(product.assets.values())) == len(product.assets)


def test_profiles_are_frozen_values() -> None:
    with pytest.raises(AttributeError):
        PLANETARY_COMPUTER.url = "elsewhere"  # type: ignore[misc]
    with pytest.raises(TypeError):
        PLANETARY_COMPUTER.products[0].assets["B02"] = "x"  # type: ignore[index]


def test_sentinel1_of_earth_search_is_not_offered() -> None:
    with pytest.raises(CatalogError, match=r"only S2L2A, DEM; .*or use catalog='planetary-computer'"):
        collections_of("S1RTC", EARTH_SEARCH)
    assert collections_of("S1RTC", None) == ("sentinel-1-rtc",)
    assert collections_of("S2L2A", None) == ("sentinel-2-l2a",)


@pytest.mark.parametrize(("names", "band2", "flag"), [(PC_S2, "B02", None), (ES_S2, "blue", True)])
def test_recognised_by_the_names_of_the_assets(names: list[str], band2: str, flag: bool | None) -> None:
    product = recognise("S2L2A", [names, names], None)
    assert product.assets["B02"] == band2
    assert (product.offset_flag is not None) == bool(flag)


def test_a_band_absent_from_some_or_all_items() -> None:
    without = [name for name in PC_S2 if name != "B11"]
    with pytest.raises(CatalogError, match=r"B11 \(asset 'B11'\) is absent from 1 of 3 S2L2A items"):
        recognise("S2L2A", [PC_S2, without, PC_S2], None)
    with pytest.raises(CatalogError, match="absent from 1 of 1"):
        recognise("S2L2A", [["image"]], None)
    with pytest.raises(CatalogError, match=r"band B01 \(asset 'coastal'\) is absent from 1 of 2"):
        recognise("S2L2A", [ES_S2, PC_S2], EARTH_SEARCH)


def test_the_classification_is_in_all_items_or_in_none() -> None:
    bands = list(MODALITIES["S2L2A"].names)
    assert recognise("S2L2A", [bands, bands], None).required.keys() == set(bands)
    with pytest.raises(CatalogError, match="band SCL"):
        recognise("S2L2A", [PC_S2, bands], None)
