"""What a user's own cube lacks, on its own grid and at its own times."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from xglof.bands import MODALITIES, resolve
from xglof.cube.arguments import check_choices, check_limits, check_modalities
from xglof.cube.assemble import Plan, Wishes, assemble
from xglof.cube.flags import check_flags
from xglof.cube.grid import check_grid_request
from xglof.cube.load import reach, reading_of
from xglof.cube.scenes import Orbit
from xglof.cube.sources import Period, parse_period
from xglof.cube.stacks import Backend, OnError
from xglof.errors import CubeError

if TYPE_CHECKING:
    import xarray as xr


def complete(
    cube: xr.Dataset,
    *,
    catalog: object,
    time: str | None = None,
    modalities: Sequence[str] | None = None,
    max_cloud_cover: float | None = None,
    max_gap_days: float = 7.0,
    orbit: Orbit | None = None,
    offset: Literal["metadata", "pixels"] = "metadata",
    on_error: OnError = "raise",
    backend: Backend = "odc-stac",
) -> xr.Dataset:
    """The cube with the modalities that it lacks, lazily; what it holds stays as it is.

    Parameters
    ----------
    cube
        A Dataset on a grid with a CRS, such as one of ``odc.stac.load``: dims ``(time, y, x)``, or the names
        that its grid gives them; ``time`` may be absent. Nothing of it is converted: models and indices take
        Sentinel-2 as reflectance x 10,000 without the radiometric offset, nodata 0 or NaN, and ``vv`` and
        ``vh`` as dB, nodata NaN.
    catalog, max_cloud_cover, orbit, offset, on_error, backend
        As :func:`xglof.open_cube` takes them.
    time
        When to look, as :func:`xglof.open_cube` takes it; by default the times of the cube. Needed for a cube
        without time, whose time steps are then those of the archive.
    modalities
        What to add. By default those among ``"S2L2A"``, ``"S1RTC"`` and ``"DEM"`` of which the cube has no
        band; under their canonical names or any alias of :mod:`xglof.bands`.
    max_gap_days
        How far in time an acquisition may be from the step of the cube that it is added to.

    Returns
    -------
    xarray.Dataset
        The variables of the cube, renamed to canonical names, with the new ones beside them on the same grid
        and chunks: at each time step the nearest acquisition. ``flags`` hold what was told of the new
        modalities, and of the old ones: the cube's own flags, or those made from its bands. Coordinates
        along time of :func:`xglof.open_cube` are added where the cube has none of that name.

    Raises
    ------
    CubeError
        A cube without a CRS or on a rotated grid; nothing is missing; a modality of which the cube has a
        part of the bands; a cube without time, and no ``time``.
    CatalogError
        As :func:`xglof.open_cube`.
    """
    cube = cube.rename(resolve(cube.data_vars))
    geobox = _geobox(cube)
    names = _missing(cube, modalities)
    check_limits(names, max_cloud_cover, max_gap_days, orbit, None)
    check_choices(offset=offset, on_error=on_error, backend=backend)
    axis = _moments(cube)
    if axis is None and time is None and any(MODALITIES[name].has_time for name in names):
        raise CubeError(
            f"the cube has no time to add {', '.join(names)} at; say when with time='2023-07/2023-09'"
        )
    period = parse_period(time) if time is not None or not axis else Period(min(axis), max(axis))
    archive = reach(catalog, names)
    wishes = Wishes(period, max_cloud_cover, max_gap_days, orbit, None, offset)
    plan = Plan(archive, geobox, reading_of(archive, on_error, backend), wishes)
    chunks = _chunks(cube, geobox)
    known = _under_own_names(cube, geobox)
    if axis is not None:  # a datetime holds microseconds; the cube's own moments come back at the end
        moments = np.array([moment.replace(tzinfo=None) for moment in axis], dtype="datetime64[ns]")
        known = known.assign_coords(time=moments)
    made = assemble(plan, names, chunks, axis, known.drop_vars("flags", errors="ignore"))
    if "flags" in known:
        made = made.assign(
            flags=(check_flags(known["flags"]) | made["flags"]).assign_attrs(made["flags"].attrs)
        )
    names_of_dims = dict(zip(geobox.dimensions, _spatial_dims(cube), strict=True))
    made = made.rename({old: new for old, new in names_of_dims.items() if old != new})
    return made.assign_coords(cube.coords).assign_attrs({**made.attrs, **cube.attrs})


def _geobox(cube: xr.Dataset) -> Any:
    import odc.geo.xr  # noqa: F401  registers .odc

    geobox = cube.odc.geobox
    if geobox is None or geobox.crs is None:
        raise CubeError(
            "the cube has no CRS or no regular grid; write one with cube.odc.assign_crs('EPSG:32645')"
        )
    check_grid_request(None, None, None, geobox)
    return geobox


def _missing(cube: xr.Dataset, modalities: Sequence[str] | None) -> tuple[str, ...]:
    held = {name: [b for b in MODALITIES[name].names if b in cube.data_vars] for name in MODALITIES}
    if modalities is None:
        lacking = tuple(name for name in ("S2L2A", "S1RTC", "DEM") if not held[name])
        if not lacking:
            raise CubeError("nothing is missing: the cube has bands of Sentinel-2, Sentinel-1 and the DEM")
        return lacking
    names = check_modalities(modalities)
    for name in names:
        if held[name]:
            raise CubeError(
                f"the cube has {', '.join(held[name])} of {name} already; drop these variables to have them "
                f"read anew with the others, or leave {name} out of modalities="
            )
    return names


def _moments(cube: xr.Dataset) -> list[datetime] | None:
    if "time" not in cube.dims:
        return None
    if not np.issubdtype(cube["time"].dtype, np.datetime64):
        raise CubeError(f"the cube's time is {cube['time'].dtype}; expected datetime64, in UTC")
    stamps = cube["time"].values.astype("datetime64[us]")
    if not len(stamps) or np.isnat(stamps).any():
        raise CubeError("the cube's time is empty or has gaps (NaT); give every step its moment")
    return [moment.replace(tzinfo=UTC) for moment in stamps.tolist()]


def _chunks(cube: xr.Dataset, geobox: Any) -> dict[str, Any]:
    """Those of the cube, if it is lazy and all its variables agree."""
    own = dict(zip(_spatial_dims(cube), geobox.dimensions, strict=True)) | {"time": "time"}
    lazy = next((v for v in cube.data_vars.values() if v.chunks and set(own) >= set(v.dims)), None)
    return {} if lazy is None else {own[str(dim)]: sizes for dim, sizes in lazy.chunksizes.items()}


def _spatial_dims(cube: xr.Dataset) -> tuple[str, str]:
    y, x = cube.odc.spatial_dims
    return str(y), str(x)


def _under_own_names(cube: xr.Dataset, geobox: Any) -> xr.Dataset:
    """The cube with the dims and coordinates that its GeoBox gives, and the height of the sun, if known."""
    from odc.geo.xr import xr_coords

    names = dict(zip(_spatial_dims(cube), geobox.dimensions, strict=True))
    cube = cube.rename({old: new for old, new in names.items() if old != new})
    cube = cube.assign_coords(xr_coords(geobox))
    optical = set(MODALITIES["S2L2A"].names) & set(cube.data_vars)
    if optical and "time" in cube.dims and "sun_elevation" not in cube.coords:
        cube = cube.assign_coords(sun_elevation=("time", np.full(cube.sizes["time"], np.nan)))
    return cube
