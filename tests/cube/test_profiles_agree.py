"""One simulated valley through every profile and form of catalogue: the same cube from all of them."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import cloudpickle
import numpy as np
import pystac
import pytest
import rasterio
import xarray as xr
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords
from pyproj import Transformer
from scipy.ndimage import binary_dilation

import archives
import stac_server
from archives import DARK, OFFSET, Document, Place, Shelf
from cog_server import CogServer, serve_cogs
from xglof.bands import MODALITIES
from xglof.cube import open_cube
from xglof.cube.complete import complete
from xglof.cube.flags import Flag
from xglof.cube.providers import CDSE, EARTH_SEARCH, OPERA, PLANETARY_COMPUTER

ALL = ("S2L2A", "S1RTC", "DEM")
S2_NAMES = MODALITIES["S2L2A"].names
TEN_METRES = ("B02", "B03", "B04", "B08")
BASELINE = ["0 by baseline", *["1000 by baseline"] * 3]
_RADAR_PROFILE = """
name = "mine"
url = "items.json"

[[products]]
modality = "S1RTC"
collection = "my-radar"
assets = {{ vv = "VV", vh = "VH" }}
dtype = "float32"
nodata = {nodata}
units = "{units}"
calibration = "gamma0"
"""


@dataclass(frozen=True)
class Form:
    """A way to the valley, and what a cube says of it besides its pixels.

    ``steps`` are the optical passes that it holds; in the ``removed`` ones of these the files are without the
    offset.
    """

    catalog: object
    modalities: tuple[str, ...] = ALL
    offsets: Sequence[str] = tuple(BASELINE)
    repaired: Mapping[str, int] = field(default_factory=dict)
    rejected: int = 0
    steps: Sequence[int] = (0, 1, 2, 3)
    removed: Sequence[int] = ()
    tolerance_db: float = 0.0
    ignored: int = 0


@pytest.fixture(scope="module")
def place(simulated: Path) -> Place:
    return archives.read_place(simulated)


@pytest.fixture(scope="module")
def grids(place: Place) -> dict[str, GeoBox]:
    own = place.grid
    inner = archives.shifted(own, 0.0).extent
    return {
        "own": own,
        "half a pixel off": archives.shifted(own, 0.5),
        "next zone": GeoBox.from_bbox(inner.to_crs("EPSG:32644").boundingbox, "EPSG:32644", resolution=10),
        "degrees": GeoBox.from_bbox(inner.to_crs("EPSG:4326").boundingbox, "EPSG:4326", resolution=8e-5),
        "coarser": GeoBox.from_bbox(inner.boundingbox, "EPSG:32645", resolution=23),
    }


GRIDS = ("own", "half a pixel off", "next zone", "degrees")


def _documents_of(place: Place, folder: Path) -> tuple[list[Document], list[Document]]:
    """The items as simulated, with the folder's paths and relative to it; the folder is a catalogue too."""
    documents = archives.as_simulated(place, Shelf(folder, str(folder)))
    archives.save_static(documents, folder)
    return documents, archives.relative(documents, str(folder))


def _forms_on_disk(place: Place, folder: Path) -> dict[str, Form]:
    documents, relative = _documents_of(place, folder)
    collection = {"type": "FeatureCollection", "features": relative}
    (folder / "items.json").write_text(json.dumps(collection))
    forms = {
        "folder": Form(folder),
        "catalog.json": Form(str(folder / "catalog.json")),
        "ItemCollection": Form(folder / "items.json"),
        "list": Form(_items(documents)),
        "no projection metadata": Form(_items(archives.stripped(documents))),
        "proj:epsg": Form(_items(archives.stripped(documents, epsg=True))),
        "stac-geoparquet": Form(folder / "items.parquet"),
    }
    try:
        from stac_geoparquet.arrow import parse_stac_items_to_arrow, to_parquet
    except ImportError:  # the test says that it is not there
        return forms
    to_parquet(parse_stac_items_to_arrow(relative), folder / "items.parquet")
    return forms


def _items(documents: Sequence[Document]) -> list[pystac.Item]:
    return [pystac.Item.from_dict(document, preserve_dict=True) for document in documents]


def _own_radar(place: Place, folder: Path, units: str, nodata: str) -> Form:
    folder.mkdir()
    documents = archives.in_units(place, Shelf(folder, str(folder)), units)
    collection = {"type": "FeatureCollection", "features": archives.relative(documents, str(folder))}
    (folder / "items.json").write_text(json.dumps(collection))
    (folder / "mine.toml").write_text(_RADAR_PROFILE.format(units=units, nodata=nodata))
    return Form(str(folder / "mine.toml"), ("S1RTC",), tolerance_db=1e-4)


class Web:
    """Servers of files and of STAC APIs on the loopback, as long as its block lasts."""

    def __init__(self, stack: ExitStack, root: Path) -> None:
        self.stack, self.root = stack, root
        self.files: dict[str, CogServer] = {}

    def shelf(self, name: str) -> Shelf:
        """A served folder."""
        folder = self.root / name
        folder.mkdir()
        self.files[name] = self.stack.enter_context(serve_cogs(folder))
        return Shelf(folder, self.files[name].url)

    def api(self, documents: Sequence[Document]) -> str:
        """URL of an API that holds items."""
        url, handler = self.stack.enter_context(stac_server.serve(self.root))
        handler.items, handler.page = list(documents), 3
        return url


def _archives(place: Place, web: Web) -> dict[str, Form]:
    pc = archives.planetary_computer(place, web.shelf("pc"))
    radar = archives.opera(place, web.shelf("opera"))
    simulated = archives.as_simulated(place, web.shelf("simulated"))
    turned = {"positive y pixel size made negative": 1}
    burst = {"orbit taken from the burst id": 6}
    mask = Flag.s1_layover | Flag.s1_unknown  # the product's own mask tells these
    return {
        "planetary-computer": Form(replace(PLANETARY_COMPUTER, url=web.api(pc)), repaired=turned),
        "opera": Form(replace(OPERA, url=web.api(radar)), ("S1RTC",), repaired=burst, ignored=int(mask)),
        "API by its URL": Form(web.api(simulated)),
        "cdse": _cdse(place, web),
        **_earth_search(place, web),
    }


def _cdse(place: Place, web: Web) -> Form:
    """Files in a bucket ``eodata``, which the options of the profile lead to the loopback."""
    shelf = web.shelf("cdse")
    documents = archives.cdse(place, Shelf(shelf.root / "eodata", "s3://eodata"))
    here = {"AWS_S3_ENDPOINT": shelf.address.removeprefix("http://"), "AWS_HTTPS": "NO"}
    provider = replace(CDSE, url=web.api(documents), environment={**CDSE.environment, **here})
    ordered = {"proj:transform put from GDAL's order into STAC's": 2}
    return Form(provider, ("S2L2A", "DEM"), repaired=ordered)


def _earth_search(place: Place, web: Web) -> dict[str, Form]:
    shelf, asked = web.shelf("earth-search"), ("S2L2A", "DEM")
    dem = archives.dem_document(place.dem, shelf, "cop-dem-glo-30")
    newer = [scene for scene in place.optical if scene.baseline >= "05"]
    c1 = archives.earth_search(newer, shelf, "sentinel-2-c1-l2a", {"05.00": None, "05.09": None})
    flags = {"03.01": False, "05.00": False, "04.00": True, "05.09": True}
    mixed = archives.earth_search(place.optical, shelf, "sentinel-2-l2a", flags)

    def at(documents: list[Document]) -> Any:
        return replace(EARTH_SEARCH, url=web.api([*documents, dem]))

    by_flag = ["0 by flag", "1000 by flag", "0 by flag", "0 by flag"]
    by_both = ["0 by flag", "1000 by baseline", "0 by flag", "1000 by baseline"]
    return {
        "earth-search c1": Form(at(c1), asked, BASELINE[1:3], steps=(1, 3)),
        "earth-search l2a": Form(at(mixed), asked, by_flag, removed=(2, 3)),
        "earth-search both": Form(at([*mixed, *c1]), asked, by_both, rejected=2, removed=(2,)),
    }


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    with ExitStack() as stack:
        yield Web(stack, tmp_path_factory.mktemp("archives"))


@pytest.fixture(scope="module")
def forms(place: Place, web: Web, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Form]]:
    """Every way to the valley; Planetary Computer's files ask for a token, CDSE's for keys."""
    disk = tmp_path_factory.mktemp("disk")
    found = {
        **_forms_on_disk(place, disk / "valley"),
        "amplitude": _own_radar(place, disk / "amplitude", "amplitude", "0"),
        "decibel": _own_radar(place, disk / "decibel", "decibel", "-9999"),
        **_archives(place, web),
    }
    token = web.files["pc"].token()
    package, sas = ModuleType("planetary_computer"), ModuleType("planetary_computer.sas")
    package.sign = lambda href: f"{href}?{token}"  # type: ignore[attr-defined]
    sas.TOKEN_CACHE = {"pc": SimpleNamespace(token=token)}  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "planetary_computer", package)
        patch.setitem(sys.modules, "planetary_computer.sas", sas)
        patch.setenv("AWS_S3_ENDPOINT", "127.0.0.1:9")  # nobody: a reader without the profile's options
        patch.setenv("AWS_ACCESS_KEY_ID", "loopback")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "loopback")
        yield found


def opened(form: Form, grid: GeoBox, **more: Any) -> xr.Dataset:
    cube = open_cube(catalog=form.catalog, geobox=grid, modalities=form.modalities, **more)
    return cube.compute(scheduler="threads")


@pytest.fixture(scope="module")
def references(forms: dict[str, Form], grids: dict[str, GeoBox]) -> Any:
    """The cube of the folder as simulated, on a grid and of some modalities."""
    known: dict[tuple[str, tuple[str, ...]], xr.Dataset] = {}

    def of(grid: str, modalities: tuple[str, ...]) -> xr.Dataset:
        if (grid, modalities) not in known:
            known[grid, modalities] = opened(replace(forms["folder"], modalities=modalities), grids[grid])
        return known[grid, modalities]

    return of


def lost(place: Place, step: int, band: str, grid: GeoBox) -> np.ndarray:
    """Where a pixel of a cube may look at digital numbers that a removed offset left nothing of."""
    layer = place.optical[step].layers[band]
    gone = (layer.values > 0) & (layer.values <= OFFSET)
    near = binary_dilation(gone, np.ones((3, 3), bool), iterations=2)
    rows, columns = np.mgrid[: grid.shape[0], : grid.shape[1]]
    x, y = grid.affine * (columns + 0.5, rows + 0.5)
    x, y = Transformer.from_crs(str(grid.crs), str(layer.grid.crs), always_xy=True).transform(x, y)
    column, row = ~layer.grid.affine * (x, y)
    inside = [
        np.floor(at).astype(int).clip(0, size - 1) for at, size in zip((row, column), gone.shape, strict=True)
    ]
    return near[inside[0], inside[1]]


def agree(cube: xr.Dataset, reference: xr.Dataset, form: Form, place: Place) -> None:
    """Every pixel and what the coordinates say; ``removed`` steps only where the offset left something."""
    assert set(cube.data_vars) - {"s1_mask"} == set(reference.data_vars)
    for name in (
        "time",
        "sun_azimuth",
        "sun_elevation",
        "cloud_cover",
        "s1_time",
        "orbit_state",
        "relative_orbit",
    ):
        if name in reference.coords:
            xr.testing.assert_allclose(cube[name].variable, reference[name].variable)
    kept = np.ones((cube.sizes["time"], *cube.odc.geobox.shape), dtype=bool)
    for name in sorted(set(S2_NAMES) & set(cube.data_vars)):
        same = np.ones(kept.shape, dtype=bool)
        for step in form.removed:
            same[step] = ~lost(place, step, name, cube.odc.geobox)
        kept &= same
        np.testing.assert_array_equal(cube[name].values[same], reference[name].values[same], err_msg=name)
    assert kept.mean() > 0.85
    for name in [name for name in ("SCL", "dem") if name in cube]:
        np.testing.assert_array_equal(cube[name], reference[name], err_msg=name)
    for name in [name for name in ("vv", "vh") if name in cube]:
        np.testing.assert_allclose(cube[name], reference[name], rtol=0, atol=form.tolerance_db, err_msg=name)
    ours, theirs = (
        np.where(kept, which.flags.values & (0xFFFF ^ form.ignored), 0) for which in (cube, reference)
    )
    np.testing.assert_array_equal(ours, theirs)


ARCHIVES = (
    *("planetary-computer", "earth-search c1", "earth-search l2a", "earth-search both", "cdse", "opera"),
)
CATALOGUES = (
    *("API by its URL", "catalog.json", "ItemCollection", "stac-geoparquet", "list"),
    *("no projection metadata", "proj:epsg", "amplitude", "decibel"),
)
#: Files of finer pixels than the cube's are read on its grid, so their units and their cut matter there.
COARSER = ("planetary-computer", "earth-search c1", "cdse", "no projection metadata")


@pytest.mark.parametrize(
    ("name", "grid"),
    [
        *((name, grid) for name in ARCHIVES for grid in GRIDS),
        *((name, grid) for name in CATALOGUES for grid in ("own", "degrees")),
        *((name, "coarser") for name in COARSER),
    ],
)
def test_every_archive_gives_the_same_cube(
    name: str, grid: str, forms: dict[str, Form], grids: dict[str, GeoBox], references: Any, place: Place
) -> None:
    if name == "stac-geoparquet":
        pytest.importorskip("stac_geoparquet")
    form = forms[name]
    reference = references(grid, form.modalities)
    if "S2L2A" in form.modalities:
        reference = reference.isel(time=list(form.steps))
    cube = opened(form, grids[grid])
    agree(cube, reference, form, place)
    assert Counter(text.split(": ", 1)[1] for text in cube.attrs["items_repaired"]) == form.repaired
    assert len(cube.attrs["items_rejected"]) == form.rejected
    if "S2L2A" in form.modalities:
        said = zip(cube.s2_offset.values, cube.s2_offset_source.values, strict=True)
        assert [f"{value} by {source}" for value, source in said] == list(form.offsets)
        assert cube.s2_baseline.values.tolist() == [place.optical[step].baseline for step in form.steps]


def test_the_reference_is_what_the_files_hold(references: Any, place: Place) -> None:
    """On the valley's own grid, pixel by pixel, without the package's reading."""
    cube = references("own", ALL)
    for step, scene in enumerate(place.optical):
        for name in TEN_METRES:
            raw = scene.layers[name].values.astype(int)
            expected = np.where(raw == 0, 0, np.maximum(raw - scene.offset, 1))
            np.testing.assert_array_equal(cube[name][step], expected, err_msg=name)
            if scene.offset:
                assert [expected[tuple(np.array(raw.shape) * n // 6)] for n in (1, 2, 3, 4)] == [1, 1, 1, 1]
        scl = scene.layers["SCL"].values
        np.testing.assert_array_equal(cube.SCL[step], scl.repeat(2, axis=0).repeat(2, axis=1))
    assert cube.s1_items.values.tolist() == [
        place.radar[0].item.id, "", place.radar[1].item.id, place.radar[2].item.id
    ]  # fmt: skip
    for step, scene in ((0, place.radar[0]), (2, place.radar[1]), (3, place.radar[2])):
        np.testing.assert_allclose(cube.vv[step], _bilinear_db(scene.layers["vv"], place.grid), atol=2e-3)
    assert np.isnan(cube.vv[1]).all()


def _bilinear_db(layer: archives.Layer, grid: GeoBox) -> np.ndarray:
    """Decibels between the four nearest pixels that have data, where the pixel itself has."""
    rows, columns = np.mgrid[: grid.shape[0], : grid.shape[1]] + 0.5
    column, row = ~layer.grid.affine * (grid.affine * (columns, rows))
    top, left = np.floor(row - 0.5).astype(int), np.floor(column - 0.5).astype(int)
    down, right = row - 0.5 - top, column - 0.5 - left
    total, weight = np.zeros(grid.shape), np.zeros(grid.shape)
    for i, j, w in ((0, 0, (1 - down) * (1 - right)), (0, 1, (1 - down) * right),
                    (1, 0, down * (1 - right)), (1, 1, down * right)):  # fmt: skip
        power = layer.values[top + i, left + j].astype(float)
        total += np.where(np.isnan(power), 0, power) * w
        weight += np.where(np.isnan(power), 0, w)
    own = layer.values[np.floor(row).astype(int), np.floor(column).astype(int)]
    power = np.where(np.isnan(own), np.nan, total / np.where(weight > 0, weight, np.nan))
    return 10 * np.log10(power)


def test_what_a_removed_offset_leaves_nothing_of_is_unobserved(
    forms: dict[str, Form], grids: dict[str, GeoBox], references: Any, place: Place
) -> None:
    """Raw numbers of 1 to 1000 are 1 where we subtract, and no data where the archive has cut them to 0."""
    cube, reference = opened(forms["earth-search l2a"], grids["own"]), references("own", ("S2L2A", "DEM"))
    for name in TEN_METRES:
        raw = place.optical[3].layers[name].values
        gone = (raw > 0) & (raw <= OFFSET)
        assert gone.sum() == sum(dark <= OFFSET for dark in DARK)
        assert (reference[name].values[3][gone] == 1).all()
        assert (cube[name].values[3][gone] == 0).all()
        assert (cube.flags.values[3][gone] & Flag.s2_nodata > 0).all()
        np.testing.assert_array_equal(cube[name].values[3][~gone], reference[name].values[3][~gone])
        assert (raw == OFFSET + 1).sum() == 1  # the first number that an archive can keep


def test_files_are_reached_as_the_profiles_say(
    forms: dict[str, Form], grids: dict[str, GeoBox], web: Web
) -> None:
    """Tokens for every request, JPEG 2000 out of a bucket, and no file of another pixel size."""
    for name in ("planetary-computer", "cdse"):  # GDAL may remember their bytes from another test
        opened(replace(forms[name], modalities=("S2L2A",)), grids["own"])
    assert {request.status for request in web.files["pc"].requests} <= {200, 206}
    assert all(request.query.startswith("sig=SECRET") for request in web.files["pc"].requests)
    paths = {request.path for request in web.files["cdse"].requests if request.status < 400}
    assert len([path for path in paths if path.startswith("/eodata/Sentinel-2/")]) == 4 * 13
    assert not [path for path in paths if "/none/" in path]
    written = next((web.root / "cdse").rglob("B04_10m.jp2"))
    with rasterio.open(written) as file:
        assert file.driver == "JP2OpenJPEG"


@pytest.mark.parametrize("grid", ["own", "degrees"])
def test_what_is_missing_comes_from_any_of_them(
    grid: str, forms: dict[str, Form], grids: dict[str, GeoBox], references: Any
) -> None:
    """Optical bands of Earth Search, completed from Planetary Computer."""
    own = open_cube(catalog=forms["earth-search both"].catalog, geobox=grids[grid], modalities="S2L2A")
    full = complete(own.drop_vars("flags"), catalog=forms["planetary-computer"].catalog).compute()
    reference = references(grid, ALL)
    for name in ("vv", "vh", "dem", "SCL"):
        np.testing.assert_array_equal(full[name], reference[name], err_msg=name)
    assert full.s1_items.values.tolist() == reference.s1_items.values.tolist()
    unequal = np.abs(full.flags.astype(int) - reference.flags).values > 0
    assert not unequal[[0, 1, 3]].any()  # nothing was removed from these
    np.testing.assert_array_equal(full.B04[[0, 1, 3]], reference.B04[[0, 1, 3]])


@pytest.mark.parametrize("name", ["opera", "amplitude", "decibel"])
def test_a_coarser_cube_is_a_mean_of_power_whatever_the_units(
    name: str, forms: dict[str, Form], grids: dict[str, GeoBox], references: Any
) -> None:
    """GDAL guesses the width of its kernel from the size of a file, so that pixels differ a little here."""
    apart = opened(forms[name], grids["coarser"]) - references("coarser", ("S1RTC",))
    for band in ("vv", "vh"):
        assert abs(float(apart[band].mean())) < 0.01
        assert float(apart[band].std()) < 0.05


def test_a_grid_is_the_same_however_its_crs_is_spelt(
    forms: dict[str, Form], place: Place, references: Any
) -> None:
    """Datasets and files spell a CRS out; the cube of such a grid is that of the code's."""
    own = place.grid
    spelt = GeoBox(own.shape, own.affine, own.crs.to_wkt())
    cube, reference = opened(forms["folder"], spelt), references("own", ALL)
    for name in reference.data_vars:
        np.testing.assert_array_equal(cube[name], reference[name], err_msg=str(name))
    bare = xr.Dataset(coords={**xr_coords(spelt), "time": reference.time})
    full = complete(bare, catalog=forms["folder"].catalog).compute(scheduler="threads")
    for name in reference.data_vars:
        np.testing.assert_array_equal(full[name], reference[name], err_msg=str(name))


@pytest.mark.parametrize("grid", ["own", "degrees"])
@pytest.mark.parametrize("name", ["planetary-computer", "cdse", "earth-search both"])
def test_stackstac_gives_the_same_cube(
    name: str, grid: str, forms: dict[str, Form], grids: dict[str, GeoBox], references: Any, place: Place
) -> None:
    pytest.importorskip("stackstac")
    form = forms[name]
    cube = opened(form, grids[grid], backend="stackstac")
    assert {"SCL", "dem", *S2_NAMES} <= set(cube.data_vars)
    agree(cube, references(grid, form.modalities), form, place)


@pytest.mark.parametrize("backend", ["odc-stac", "stackstac"])
def test_no_token_is_in_a_graph(
    backend: Any, forms: dict[str, Form], grids: dict[str, GeoBox], no_compute: None
) -> None:
    pytest.importorskip(backend.replace("-", "."))
    catalog = forms["planetary-computer"].catalog
    cube = open_cube(catalog=catalog, geobox=grids["own"], backend=backend)
    leaked = b"SECRET" in cloudpickle.dumps(cube.__dask_graph__())
    assert not leaked
