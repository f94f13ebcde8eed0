from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tiny_catalog import Written
from xglof.bands import MODALITIES
from xglof.cube.profiles import read_profile
from xglof.cube.providers import PROVIDERS, Product
from xglof.cube.sources import ItemArchive, open_archive
from xglof.errors import CatalogError

PROFILE = """
name = "mine"
url = "https://stac.example.org/v1"
concurrency = 8
credentials = ["AWS_PROFILE"]

[environment]
AWS_REQUEST_PAYER = "requester"

[[products]]
modality = "S1RTC"
collection = "s1-gamma"
dtype = "float32"
nodata = nan
units = "decibel"
calibration = "gamma0"
assets = { vv = "VV", vh = "VH", s1_mask = "MASK" }

[[products]]
modality = "DEM"
collection = "dem"
dtype = "int16"
nodata = -32768
assets = { dem = "height" }
"""


def _written(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text)
    return path


def test_every_field(tmp_path: Path) -> None:
    provider = read_profile(_written(tmp_path, PROFILE))
    assert (provider.name, provider.url) == ("mine", "https://stac.example.org/v1")
    assert (provider.concurrency, provider.credentials) == (8, ("AWS_PROFILE",))
    assert dict(provider.environment) == {"AWS_REQUEST_PAYER": "requester"}
    radar, dem = provider.products
    assets = {"vv": "VV", "vh": "VH", "s1_mask": "MASK"}
    assert radar == Product(
        "S1RTC", "s1-gamma", assets, "float32", float("nan"), units="decibel", calibration="gamma0"
    )
    assert dem == Product("DEM", "dem", {"dem": "height"}, "int16", -32768)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("concurrency = 8", "concurency = 8", r"mine.toml: key 'concurency' is unknown; expected name, url"),
        ('collection = "dem"', 'colection = "dem"', r"product 2: key 'colection' is unknown; expected mod"),
        ('url = "https://stac.example.org/v1"', "", "key 'url' is absent"),
        ("nodata = -32768", "", "product 2: key 'nodata' is absent"),
        ("[[products]]", "[products]", "TOMLDecodeError"),
        ("concurrency = 8", "concurrency = 'many'", "mine.toml: provider 'mine': concurrency is 'many'"),
        ('credentials = ["AWS_PROFILE"]', 'credentials = "AWS_PROFILE"', "names of environment variables"),
        ('AWS_REQUEST_PAYER = "requester"', 'AWS_SECRET_ACCESS_KEY = "x"', "a secret"),
        ('units = "decibel"', 'units = "dB"', "units is 'dB'; expected one of power, amplitude, decibel"),
        ('modality = "DEM"', 'modality = ["DEM"]', r"product 'dem': modality is \['DEM'\]; expected one of"),
        ('dtype = "int16"', 'dtype = ["int16"]', r"dtype is \['int16'\]; expected one of"),
        ('AWS_REQUEST_PAYER = "requester"', 'GDAL_HTTP_PROXY = "http://a:b@c"', "names 'GDAL_HTTP_PROXY'"),
        ('dem = "height"', 'elevation = "height"', "names 'elevation'; expected bands among dem"),
    ],
)  # fmt: skip
def test_each_wrong_key_is_named(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in PROFILE
    with pytest.raises(CatalogError, match=said):
        open_archive(_written(tmp_path, PROFILE.replace(old, new)))


def test_products_that_are_no_tables(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match=r"write \[\[products\]\]"):
        read_profile(_written(tmp_path, 'name = "a"\nurl = "b"\nproducts = "S2L2A"'))
    with pytest.raises(CatalogError, match="cannot be read as the profile"):
        read_profile(tmp_path / "absent.toml")


def test_a_profile_of_a_folder_beside_it(written: Written, tmp_path: Path) -> None:
    shutil.copytree(written.root, tmp_path / "valley")
    assets = "\n".join(f'{band} = "{band}"' for band in (*MODALITIES["S2L2A"].names, "SCL"))
    head = 'name = "valley"\nurl = "valley"\n[[products]]\nmodality = "S2L2A"\n'
    body = f'collection = "sentinel-2-l2a"\ndtype = "uint16"\nnodata = 0\n[products.assets]\n{assets}\n'
    path = _written(tmp_path, head + body)
    archive = open_archive(str(path))
    assert isinstance(archive, ItemArchive)
    assert (archive.name, archive.root) == ("valley", tmp_path / "valley")
    assert archive.provider is not None
    assert archive.provider.products_of("S2L2A")[0].assets["SCL"] == "SCL"
    assert len(archive.items) == len(written.items)


def test_the_profile_of_the_documentation_is_one(tmp_path: Path) -> None:
    page = Path(__file__).parents[2] / "docs" / "providers" / "your-own.md"
    [text] = re.findall(r"```toml\n(.*?)```", page.read_text(), re.DOTALL)
    provider = read_profile(_written(tmp_path, text))
    assert [product.modality for product in provider.products] == ["S1RTC", "S2L2A"]


@pytest.mark.parametrize("name", PROVIDERS)
def test_every_profile_has_a_page_that_names_its_collections(name: str) -> None:
    page = (Path(__file__).parents[2] / "docs" / "providers" / f"{name}.md").read_text()
    for product in PROVIDERS[name].products:
        assert f"`{product.collection}`" in page
