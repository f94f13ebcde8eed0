"""From chosen scenes to the Dataset: time steps, pairing, harmonised bands, flags and attributes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from xglof.cube.describe import DEM_EPOCH, band_attrs, time_coordinates
from xglof.cube.flags import quality_flags
from xglof.cube.harmonise import check_radar_units, to_db
from xglof.cube.layover import layover_and_shadow, radar_geometry
from xglof.cube.marching import REACH_M, GridOnGround
from xglof.cube.pixel_grid import PixelGrid
from xglof.cube.planes import Planes, Reading, band_of, read_planes, tiling
from xglof.cube.ranking import Ranking
from xglof.cube.scenes import Chosen, Orbit, Selection, choose
from xglof.cube.series import Series, in_turn, paired
from xglof.cube.shadow import terrain_shadow
from xglof.cube.sources import Archive, Period
from xglof.cube.steps import Scene, Step, s1_steps, s2_steps

if TYPE_CHECKING:
    import xarray as xr

RADAR = ("S1RTC", "S1GRD")
_DEM_REACH_M = 1000.0  # more than the halo of pixels that elevation is interpolated with, at any latitude
_IN_TIME = ("S2L2A", *RADAR)  # in the order in which they give a cube its time steps
Axis = Sequence[datetime] | Literal["each"] | None


@dataclass(frozen=True, slots=True)
class Wishes:
    """Which scenes are wanted.

    Attributes
    ----------
    period
        Of the cube.
    max_cloud_cover, max_gap_days, orbit
        As :func:`xglof.open_cube` takes them.
    ranking
        Which Sentinel-2 steps are the best; ``None`` takes all.
    offset
        Whether pixels are looked at to decide the radiometric offset.
    """

    period: Period
    max_cloud_cover: float | None = None
    max_gap_days: float = 7.0
    orbit: Orbit | None = None
    ranking: Ranking | None = None
    offset: Literal["metadata", "pixels"] = "metadata"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a cube is made from, once the arguments are checked."""

    archive: Archive
    geobox: Any
    reading: Reading
    wishes: Wishes
    selection: Selection = field(default_factory=Selection)
    used: dict[str, list[Scene]] = field(default_factory=dict)

    def choose(self, modality: str, margin_px: int = 0, *, widened: bool = False) -> Chosen:
        """The usable scenes of a modality around the grid."""
        wishes = self.wishes
        return choose(
            self.archive,
            modality,
            wishes.period.widened(wishes.max_gap_days) if widened else wishes.period,
            self._area(modality, margin_px),
            self.selection,
            max_cloud_cover=wishes.max_cloud_cover if modality == "S2L2A" else None,
            orbit=wishes.orbit if modality in RADAR else None,
            offset_needed=wishes.offset == "metadata",
        )

    def _area(self, modality: str, margin_px: int) -> Any:
        """Where scenes are looked for, in degrees."""
        if modality != "DEM":
            # a quarter of a pixel inwards: files that only share an edge with the grid stay out
            return self.geobox.pad(margin_px).footprint("EPSG:4326", buffer=-0.25).geom
        # tiles end where others begin: the next one is needed to interpolate, and to tell it from sea
        reach = 3 + math.ceil(_DEM_REACH_M / PixelGrid.of(self.geobox)[0].step_m)
        return self.geobox.pad(margin_px + reach).footprint("EPSG:4326").geom

    def read(self, chosen: Chosen, groups: Sequence[Sequence[Scene]], margin_px: int = 0) -> Planes:
        """Bands on the grid, widened by a margin."""
        used = [scene for group in groups for scene in group]
        self.used[chosen.modality] = list(dict.fromkeys(used))
        return read_planes(chosen, groups, self.geobox.pad(margin_px), self.reading)


@dataclass(frozen=True, slots=True)
class _Layers:
    """What is chosen for each modality; everything that can fail has been tried."""

    axis: tuple[datetime, ...]
    optical: Series | None
    radar: Series | None
    dem: Chosen | None
    ground: GridOnGround
    margin_px: int


def assemble(
    plan: Plan,
    modalities: Sequence[str],
    chunks: Mapping[str, Any],
    axis: Axis = None,
    beside: xr.Dataset | None = None,
) -> xr.Dataset:
    """The cube of a plan, lazily.

    Parameters
    ----------
    plan
        Where from, on which grid, which scenes.
    modalities
        What it holds.
    chunks
        Of the result, by dim.
    axis
        Moments of the time steps; by default those of Sentinel-2, or else of Sentinel-1. ``"each"``: of
        either, each acquisition a step of its own.
    beside
        Variables that a user has already, on the grid and the axis; flags are made of these too.

    Raises
    ------
    CatalogError
        A modality of which nothing usable is found.
    """
    import xarray as xr
    from odc.geo.xr import xr_coords

    layers = _choose_layers(plan, modalities, axis)
    arrays: dict[str, Any] = {}
    failed: dict[str, Any] = {}
    for key, series in (("S2L2A", layers.optical), ("S1", layers.radar)):
        if series:
            planes = _along_axis(plan, series)
            arrays |= planes.bands
            failed[key] = planes.failed
    wide_dem = None
    if layers.dem:
        wide = plan.read(layers.dem, [layers.dem.scenes], layers.margin_px)
        inner = tuple(slice(layers.margin_px, layers.margin_px + size) for size in plan.geobox.shape)
        wide_dem = wide.bands["dem"][0]
        arrays["dem"] = wide_dem[inner]
        failed["DEM"] = None if wide.failed is None else wide.failed[0][inner]
    coords: dict[Any, Any] = dict(xr_coords(plan.geobox))
    if layers.axis:
        coords |= time_coordinates(layers.axis, layers.optical, layers.radar)
    dims = ("time", *plan.geobox.dimensions)
    variables = {
        name: (dims[-a.ndim :], _rechunked(a, dims[-a.ndim :], chunks), band_attrs(name, layers.radar))
        for name, a in arrays.items()
    }
    lost = {key: _rechunked(a, dims[-a.ndim :], chunks) for key, a in failed.items() if a is not None}
    cube = xr.Dataset(variables, coords=coords)
    if beside is not None:
        cube = xr.merge([beside, cube], join="exact", compat="override", combine_attrs="override")
    cube = _with_flags(cube, wide_dem, layers, lost, plan.geobox)
    for variable in cube.data_vars.values():
        variable.encoding["grid_mapping"] = "spatial_ref"
    return cube.assign_attrs(_attrs(plan, layers))


def _rechunked(array: Any, dims: Sequence[str], chunks: Mapping[str, Any]) -> Any:
    wanted = {axis: chunks[dim] for axis, dim in enumerate(dims) if dim in chunks}
    return array.rechunk(wanted) if wanted else array


def _choose_layers(plan: Plan, modalities: Sequence[str], axis: Axis) -> _Layers:
    moments, series = _along_one_axis(plan, [name for name in _IN_TIME if name in modalities], axis)
    optical, radar = series.get("S2L2A"), next((series[name] for name in RADAR if name in series), None)
    ground = GridOnGround.of(plan.geobox)
    margin = 0
    if "DEM" in modalities and _marches(optical, radar):
        margin = ground.margin_px(REACH_M)
    dem = plan.choose("DEM", margin) if "DEM" in modalities else None
    return _Layers(moments, optical, radar, dem, ground, margin)


def _along_one_axis(
    plan: Plan, names: Sequence[str], axis: Axis
) -> tuple[tuple[datetime, ...], dict[str, Series]]:
    """The moments of the cube, and for each modality which of its steps stand at them."""
    first = names[:1] if axis is None else names if axis == "each" else []
    found = {name: _steps(plan, name, widened=name not in first) for name in names}
    moments, series = in_turn({name: found[name] for name in first})
    if axis is not None and axis != "each":
        moments = list(axis)

    def reject(scene: Scene, reason: str) -> None:
        plan.selection.reject(scene.id, reason)

    for name in names:
        if name not in series:
            series[name] = paired(*found[name], moments, plan.wishes.max_gap_days, reject)
    return tuple(moments), series


def _steps(plan: Plan, modality: str, *, widened: bool) -> tuple[Chosen, Sequence[Step]]:
    """The scenes of a modality and its time steps: all of them, or the best."""
    chosen = plan.choose(modality, widened=widened)
    if modality in RADAR:
        check_radar_units(str(chosen.product.units))
    if modality != "S2L2A":
        return chosen, s1_steps(chosen.scenes)
    steps: Sequence[Step] = s2_steps(chosen.scenes)
    if plan.wishes.ranking:
        steps = plan.wishes.ranking.best(steps, plan.geobox, plan.reading, plan.selection)
    if plan.wishes.offset == "pixels":
        from xglof.cube.overviews import look_at_offsets

        steps = look_at_offsets(steps, plan.reading)
    return chosen, steps


def _marches(optical: Series | None, radar: Series | None) -> bool:
    """Whether shadow or layover may be told from the DEM."""
    sunny = optical and _has_sun(optical)
    return bool(sunny or (radar and "s1_mask" not in radar.chosen.bands))


def _along_axis(plan: Plan, series: Series) -> Planes:
    """The bands of a modality along the cube's time axis, radar in decibels."""
    import dask.array as da

    blocks = tiling(PixelGrid.of(plan.geobox)[1])
    sizes = (tuple(row[0].shape[0] for row in blocks), tuple(cell.shape[1] for cell in blocks[0]))

    def blank(dtype: Any, fill: float) -> Any:
        """A step without scenes: as many small tasks as any other."""
        return da.full((1, *plan.geobox.shape), fill, dtype=dtype, chunks=((1,), *sizes))

    planes = Planes({}, None)
    if series.steps:
        planes = plan.read(series.chosen, [step.scenes for step in series.steps])
    bands = {}
    for name in series.chosen.bands:
        band = band_of(series.chosen.modality, name)
        array = planes.bands.get(name)
        if array is not None and band.units == "dB":
            array = array.map_blocks(to_db, dtype=np.float32)
        bands[name] = series.laid_out(array, blank(band.dtype, band.nodata))
    failed = None if planes.failed is None else series.laid_out(planes.failed, blank(bool, False))
    return Planes(bands, failed)


def _with_flags(
    cube: xr.Dataset, wide_dem: Any, layers: _Layers, failed: Mapping[str, Any], geobox: Any
) -> xr.Dataset:
    """The cube with its flags, and attributes of these that say what they were made from."""
    shadow = layover = None
    chunks = next((v.chunks for v in cube.data_vars.values() if "time" in v.dims and v.chunks), None)
    if layers.margin_px and chunks is not None:
        ground, margin = layers.ground, layers.margin_px
        marching: dict[str, Any] = {"latitude": ground.latitude, "convergence": ground.convergence}
        if layers.optical and _has_sun(layers.optical):
            sun = (cube.sun_azimuth.values, cube.sun_elevation.values)
            shadow = terrain_shadow(wide_dem, margin, ground.resolution, *sun, chunks, **marching)
        looks = _looks(layers.radar, geobox)
        if any(math.isfinite(look) for look in looks[0]):
            layover = layover_and_shadow(wide_dem, margin, ground.resolution, *looks, chunks, **marching)
    flags = quality_flags(cube, shadow, layover=layover, failed=failed)
    return cube.assign(flags=flags.assign_attrs(terrain_shadow=_said_of_shadow(layers)))


def _said_of_shadow(layers: _Layers) -> str:
    if not (layers.optical and layers.dem):
        return "none: needs Sentinel-2 and the DEM"
    if not _has_sun(layers.optical):
        return "none: the items state no sun angles"
    return f"cast shadow of terrain within {REACH_M:g} m"


def _has_sun(optical: Series) -> bool:
    return any(math.isfinite(scene.solar_azimuth) for scene in optical.chosen.scenes)


def _looks(radar: Series | None, geobox: Any) -> tuple[list[float], list[float]]:
    """Look azimuth and incidence at the middle of the grid, per step, degrees; NaN where nobody can tell.

    Nothing where a product brings a mask of its own.
    """
    if radar is None or "s1_mask" in radar.chosen.bands:
        return [], []
    point = geobox.extent.centroid.to_crs("EPSG:4326").coords[0]
    angles = [_look(step, point) for step in radar.placed]
    return [look for look, _ in angles], [incidence for _, incidence in angles]


def _look(step: Step | None, point: tuple[float, float]) -> tuple[float, float]:
    """Of the first scene that sees the point."""
    for scene in step.scenes if step else ():
        stated = scene.item.properties.get("view:incidence_angle")
        incidence = float(stated) if isinstance(stated, (int, float)) else None
        angles = radar_geometry(scene.orbit_state, incidence, scene.footprint, point)
        if math.isfinite(angles[0]):
            return angles
    return math.nan, math.nan


def _attrs(plan: Plan, layers: _Layers) -> dict[str, Any]:
    from xglof._version import __version__

    selection = plan.selection
    used = [scene for scenes in plan.used.values() for scene in scenes]
    files = [scene.item.assets[scene.product.assets[band]] for scene in used for band in scene.bands]
    stated = [file.extra_fields.get("file:size") for file in files]
    sizes = [size for size in stated if isinstance(size, int)]
    attrs: dict[str, Any] = {
        "Conventions": "CF-1.11",
        "xglof_version": __version__,
        "catalog": plan.archive.name,
        "items_found": selection.found,
        "items_used": len(used),
        "items_rejected": list(selection.rejected),
        "items_repaired": list(selection.repaired),
        "files_used": len(files),
    }
    if sizes:  # most archives do not state them
        attrs |= {"files_sized": len(sizes), "files_bytes": sum(sizes)}
    if layers.dem:
        attrs |= {"dem_epoch": DEM_EPOCH, "dem_items": [scene.id for scene in layers.dem.scenes]}
    return attrs
