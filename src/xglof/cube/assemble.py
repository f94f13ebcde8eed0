"""From chosen items to the Dataset: time steps, harmonised bands, pairing, flags and attributes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from xglof.bands import MODALITIES, SCL
from xglof.cube.flags import SHADOW_DISTANCE_M, quality_flags, terrain_shadow
from xglof.cube.grid import READ_CELL_PX, reading_lattice
from xglof.cube.harmonise import remove_offset, to_db
from xglof.cube.scenes import Chosen, Scene, Selection, Step, choose, nearest, s1_steps, s2_steps
from xglof.cube.sources import Archive, Period

if TYPE_CHECKING:
    import xarray as xr

#: When the radars of the Copernicus DEM (TanDEM-X) looked.
DEM_EPOCH = "2011/2015"
_SCL_MEANINGS = (
    "no_data saturated_or_defective dark_area cloud_shadow vegetation bare_soil water unclassified "
    "cloud_medium_probability cloud_high_probability thin_cirrus snow_or_ice"
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a cube is made from, once the arguments are checked."""

    archive: Archive
    modalities: tuple[str, ...]
    period: Period
    geobox: Any
    sign: Callable[[str], str]
    max_cloud_cover: float | None
    max_gap_days: float
    selection: Selection

    def choose(self, modality: str, margin_px: int = 0) -> Chosen:
        """The usable scenes of a modality around the grid."""
        # a quarter of a pixel inwards: files that only share an edge with the grid stay out
        area = self.geobox.pad(margin_px).footprint("EPSG:4326", buffer=-0.25).geom
        period = self.period
        if modality == "S1RTC" and "S2L2A" in self.modalities:
            period = period.widened(self.max_gap_days)
        cover = self.max_cloud_cover if modality == "S2L2A" else None
        return choose(self.archive, modality, period, area, self.selection, cover)

    def read(self, chosen: Chosen, groups: Sequence[Sequence[Scene]], margin_px: int = 0) -> dict[str, Any]:
        """Band name -> Dask array ``(group, y, x)``, the grid widened by a margin."""
        from xglof.cube.reader import read_planes

        lattice = reading_lattice(self.geobox.pad(margin_px))
        return read_planes(chosen, groups, lattice, self.archive.root, self.sign)


@dataclass(frozen=True, slots=True)
class _Layers:
    """What is chosen for each modality; everything that can fail has been tried."""

    s2: Chosen | None
    s1: Chosen | None
    dem: Chosen | None
    s2_steps: tuple[Step, ...]
    s1_steps: tuple[Step, ...]
    pairs: tuple[int | None, ...]
    margin_px: int
    shadow: str

    @property
    def steps(self) -> tuple[Step, ...]:
        """Time steps of the cube."""
        return self.s2_steps if self.s2 else self.s1_steps


def assemble(plan: Plan, chunks: Mapping[str, Any]) -> xr.Dataset:
    """The cube of a plan, lazily.

    Raises
    ------
    CatalogError
        A modality of which nothing usable is found.
    """
    import xarray as xr
    from odc.geo.xr import xr_coords

    layers = _choose_layers(plan)
    coords = dict(xr_coords(plan.geobox)) | _coordinates(layers)
    arrays: dict[str, Any] = {}
    if layers.s2:
        arrays |= _sentinel2(plan, layers.s2, layers.s2_steps)
    if layers.s1:
        arrays |= _sentinel1(plan, layers.s1, layers)
    wide_dem = None
    if layers.dem:
        wide_dem = plan.read(layers.dem, [layers.dem.scenes], layers.margin_px)["dem"][0]
        inner = tuple(slice(layers.margin_px, layers.margin_px + size) for size in plan.geobox.shape)
        arrays["dem"] = wide_dem[inner]
    dims = ("time", *plan.geobox.dimensions)
    cube = xr.Dataset(
        {
            name: (dims[-array.ndim :], _rechunked(array, dims[-array.ndim :], chunks), _band_attrs(name))
            for name, array in arrays.items()
        },
        coords=coords,
    )
    cube = _with_flags(cube, wide_dem, layers)
    for variable in cube.data_vars.values():
        variable.encoding["grid_mapping"] = "spatial_ref"
    return cube.assign_attrs(_attrs(plan, layers))


def _rechunked(array: Any, dims: Sequence[str], chunks: Mapping[str, Any]) -> Any:
    wanted = {axis: chunks[dim] for axis, dim in enumerate(dims) if dim in chunks}
    return array.rechunk(wanted) if wanted else array


def _choose_layers(plan: Plan) -> _Layers:
    s2 = plan.choose("S2L2A") if "S2L2A" in plan.modalities else None
    s1 = plan.choose("S1RTC") if "S1RTC" in plan.modalities else None
    margin, shadow = _shadow_margin(plan, s2)
    dem = plan.choose("DEM", margin) if "DEM" in plan.modalities else None
    optical = tuple(s2_steps(s2.scenes)) if s2 else ()
    radar = tuple(s1_steps(s1.scenes)) if s1 else ()
    pairs: list[int | None] = list(range(len(radar)))
    if s2:
        pairs = [nearest(step, radar, plan.max_gap_days) for step in optical]
        kept = sorted({index for index in pairs if index is not None})
        for index in set(range(len(radar))) - set(kept):
            for scene in radar[index].scenes:
                plan.selection.reject(
                    scene.id, f"nearest to no Sentinel-2 step within {plan.max_gap_days:g} days"
                )
        radar = tuple(radar[index] for index in kept)
        pairs = [None if index is None else kept.index(index) for index in pairs]
    return _Layers(s2, s1, dem, optical, radar, tuple(pairs), margin, shadow)


def _shadow_margin(plan: Plan, s2: Chosen | None) -> tuple[int, str]:
    """Pixels of DEM needed around the grid to cast shadows, and what the attribute says about them."""
    if s2 is None or "DEM" not in plan.modalities:
        return 0, "none: needs Sentinel-2 and the DEM"
    if not any(math.isfinite(scene.solar_azimuth) for scene in s2.scenes):
        return 0, "none: the items state no sun angles"
    size = plan.geobox.resolution
    if plan.geobox.crs.geographic or abs(size.x) != abs(size.y) or plan.geobox.crs.units[0] != "metre":
        return 0, "none: needs square pixels in metres"
    return math.ceil(
        SHADOW_DISTANCE_M / abs(size.x)
    ), f"cast shadow of terrain within {SHADOW_DISTANCE_M:g} m"


def _sentinel2(plan: Plan, chosen: Chosen, steps: Sequence[Step]) -> dict[str, Any]:
    import dask.array as da

    groups = [group for step in steps for group in step.groups]
    offsets = [group[0].offset.value if group[0].offset else 0 for group in groups]
    subtract = da.from_array(np.array(offsets, dtype=np.int32)[:, None, None], chunks=1)
    planes = plan.read(chosen, groups)
    if any(offsets):
        planes = {
            name: plane if name == "SCL" else da.map_blocks(remove_offset, plane, subtract, dtype=plane.dtype)
            for name, plane in planes.items()
        }
    return {name: _merge_groups(plane, steps) for name, plane in planes.items()}


def _merge_groups(planes: Any, steps: Sequence[Step]) -> Any:
    """One plane a step: the first valid of its groups (a day whose scenes were under different offsets)."""
    import dask.array as da

    if all(len(step.groups) == 1 for step in steps):
        return planes
    merged, begin = [], 0
    for step in steps:
        plane = planes[begin]
        for index in range(begin + 1, begin + len(step.groups)):
            plane = da.where(plane > 0, plane, planes[index])
        merged.append(plane)
        begin += len(step.groups)
    return da.stack(merged)


def _sentinel1(plan: Plan, chosen: Chosen, layers: _Layers) -> dict[str, Any]:
    import dask.array as da

    names = MODALITIES["S1RTC"].names
    lattice = reading_lattice(plan.geobox)
    cells = (1, READ_CELL_PX, READ_CELL_PX)  # a step without radar is as many small tasks as any other
    blank = da.full((1, *lattice.geobox.shape), np.nan, dtype=np.float32, chunks=cells)
    empty = blank[:, lattice.rows, lattice.columns]
    if not layers.s1_steps:
        return {name: da.concatenate([empty] * len(layers.pairs)) for name in names}
    planes = plan.read(chosen, [step.scenes for step in layers.s1_steps])
    decibels = {name: planes[name].map_blocks(to_db, dtype=np.float32) for name in names}
    if layers.pairs == tuple(range(len(layers.s1_steps))):
        return decibels
    return {
        name: da.concatenate([empty if index is None else plane[index : index + 1] for index in layers.pairs])
        for name, plane in decibels.items()
    }


def _coordinates(layers: _Layers) -> dict[str, Any]:
    if not layers.steps:
        return {}
    moments = [np.datetime64(step.when.replace(tzinfo=None), "ns") for step in layers.steps]
    coords: dict[str, Any] = {"time": ("time", np.array(moments, dtype="datetime64[ns]"))}
    if layers.s2:
        coords |= _s2_coordinates(layers.s2_steps)
    if layers.s1:
        coords |= _s1_coordinates(layers)
    return coords


def _s2_coordinates(steps: Sequence[Step]) -> dict[str, Any]:
    def offsets(step: Step) -> int:
        return max(scene.offset.value for scene in step.scenes if scene.offset)

    def known(step: Step, value: Callable[[Scene], float]) -> list[float]:
        return [number for scene in step.scenes if math.isfinite(number := value(scene))]

    def mean(step: Step) -> float:
        heights = known(step, lambda scene: scene.solar_elevation)
        return sum(heights) / len(heights) if heights else math.nan

    degrees = {"units": "degree"}
    return {
        "s2_items": _texts(step.joined(lambda s: s.id) for step in steps),
        "s2_baseline": _texts(step.joined(lambda s: s.offset.baseline if s.offset else "") for step in steps),
        "s2_offset": ("time", np.array([offsets(step) for step in steps], dtype=np.int32)),
        "s2_offset_source": _texts(
            step.joined(lambda s: s.offset.source if s.offset else "") for step in steps
        ),
        "sun_azimuth": (
            "time",
            np.array([_mean_direction(known(step, lambda scene: scene.solar_azimuth)) for step in steps]),
            degrees,
        ),
        "sun_elevation": ("time", np.array([mean(step) for step in steps]), degrees),
    }


def _mean_direction(azimuths: Sequence[float]) -> float:
    """Mean of directions in degrees, 0 to 360: that of 358 and 4 is 1. NaN for none."""
    if not azimuths:
        return math.nan
    first = azimuths[0]  # as turns from the first, so that equal ones keep their bits
    turns = [(azimuth - first + 180.0) % 360.0 - 180.0 for azimuth in azimuths]
    return (first + sum(turns) / len(turns)) % 360.0


def _s1_coordinates(layers: _Layers) -> dict[str, Any]:
    paired = [None if index is None else layers.s1_steps[index] for index in layers.pairs]

    def texts(value: Callable[[Scene], str]) -> Any:
        return _texts("" if step is None else step.joined(value) for step in paired)

    gaps = [
        math.nan if radar is None else abs((radar.when - step.when).total_seconds()) / 86400
        for step, radar in zip(layers.steps, paired, strict=True)
    ]
    coords = {
        "s1_items": texts(lambda s: s.id),
        "orbit_state": texts(lambda s: s.text("sat:orbit_state")),
        "relative_orbit": texts(lambda s: s.text("sat:relative_orbit")),
    }
    return coords | ({"s1_gap_days": ("time", np.array(gaps), {"units": "days"})} if layers.s2 else {})


def _texts(values: Any) -> tuple[str, Any]:
    return "time", np.array(list(values), dtype=object)


def _with_flags(cube: xr.Dataset, wide_dem: Any, layers: _Layers) -> xr.Dataset:
    shadow = None
    if layers.margin_px:
        size = cube.odc.geobox.resolution
        shadow = terrain_shadow(
            wide_dem,
            layers.margin_px,
            (size.y, size.x),
            cube.sun_azimuth.values,
            cube.sun_elevation.values,
            cube.B02.chunks,
        )
    flags = quality_flags(cube, shadow).assign_attrs(
        cloud_mask="SCL" if "SCL" in cube else "none", terrain_shadow=layers.shadow
    )
    return cube.assign(flags=flags)


def _band_attrs(name: str) -> dict[str, Any]:
    bands = [*(band for modality in MODALITIES.values() for band in modality.bands), SCL]
    band = next(band for band in bands if band.name == name)
    attrs: dict[str, Any] = {"long_name": band.long_name, "units": band.units}
    if band.dtype.startswith("uint"):
        attrs["nodata"] = int(band.nodata)
    if name in ("vv", "vh"):
        attrs |= {"product": "RTC gamma0"}
    if name == "dem":
        attrs |= {"epoch": DEM_EPOCH, "vertical_datum": "EGM2008"}
    if name == "SCL":
        attrs |= {"flag_values": np.arange(12, dtype=np.uint8), "flag_meanings": _SCL_MEANINGS}
    return attrs


def _attrs(plan: Plan, layers: _Layers) -> dict[str, Any]:
    from xglof._version import __version__

    scenes = [*(layers.s2.scenes if layers.s2 else ()), *(layers.dem.scenes if layers.dem else ())]
    used = len(scenes) + sum(len(step.scenes) for step in layers.s1_steps)
    attrs: dict[str, Any] = {
        "Conventions": "CF-1.11",
        "xglof_version": __version__,
        "catalog": plan.archive.name,
        "items_found": plan.selection.found,
        "items_used": used,
        "items_rejected": list(plan.selection.rejected),
    }
    return attrs | ({"dem_epoch": DEM_EPOCH} if layers.dem else {})
