"""What of a cube a segmentation reads, checked before a graph is built."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import xarray as xr

from xglof.bands import SAR_BANDS
from xglof.cube.flags import check_flags
from xglof.cube.harmonise import radar_modality
from xglof.errors import CubeError
from xglof.models.registry import TERRAMIND_INPUTS
from xglof.models.spec import ModelInput, ModelSpec

#: How far, up or down, a cube's pixel may be from the size that a model was made for.
_RESOLUTION_FACTOR = 1.25
_METRES_A_DEGREE = 111_320.0
_RADARS = ("S1RTC", "S1GRD")
_SEGMENTER = "xglof.models.terramind:segmenter"


def geobox_of(data: xr.Dataset | xr.DataArray) -> Any:
    """Grid of a cube or mask.

    Raises
    ------
    CubeError
        No CRS, no regular grid, or a rotated one.
    """
    import odc.geo.xr  # noqa: F401  (registers .odc)

    kind = "cube" if isinstance(data, xr.Dataset) else "mask"
    if empty := [str(dim) for dim, size in data.sizes.items() if size == 0]:
        raise CubeError(
            f"the {kind} has nothing along {', '.join(empty)}; select at least one step and pixel"
        )
    geobox = data.odc.geobox
    if geobox is None or geobox.crs is None:
        raise CubeError(
            f"the {kind} has no CRS or no regular grid; write one with {kind}.odc.assign_crs('EPSG:...') "
            "or load the cube through xglof.open_cube"
        )
    if not geobox.axis_aligned:
        raise CubeError(f"the {kind}'s grid is rotated; reproject it to a north-up grid first")
    return geobox


def spatial_dims(cube: xr.Dataset) -> tuple[str, str]:
    """Names of the dims of rows and columns."""
    geobox_of(cube)
    y, x = cube.odc.spatial_dims
    return str(y), str(x)


def reversed_dims(cube: xr.Dataset, dims: tuple[str, str]) -> dict[str, slice]:
    """The dims to reverse, now and in the result, for rows that run south and columns that run east."""
    affine = geobox_of(cube).affine
    wrong = (affine.e > 0, affine.a < 0)
    return {dim: slice(None, None, -1) for dim, turn in zip(dims, wrong, strict=True) if turn}


def check_resolution(cube: xr.Dataset, spec: ModelSpec) -> None:
    """Refuse pixels of another size than the model was made for."""
    geobox = geobox_of(cube)
    metres = abs(geobox.affine.e) * (_METRES_A_DEGREE if geobox.crs.geographic else 1)
    wanted = spec.resolution
    if wanted is not None and not wanted / _RESOLUTION_FACTOR <= metres <= wanted * _RESOLUTION_FACTOR:
        raise CubeError(
            f"the cube has pixels of {metres:.3g} m and model {spec.name!r} was made for {wanted:g} m; open "
            "the cube at that resolution, or pass dataclasses.replace(spec, resolution=None) to try it"
        )


def find_inputs(cube: xr.Dataset, spec: ModelSpec, dims: tuple[str, str]) -> dict[str, xr.DataArray]:
    """The variables that the blocks need: the bands of the modalities at hand, and flags.

    Raises
    ------
    CubeError
        A band of a modality is missing, the cube has no sensor that the model takes, backscatter is not in
        decibels or of another product than the model takes, flags are no bits, or a variable has other dims.
    """
    found: dict[str, xr.DataArray] = {}
    sensors = 0
    for source in spec.inputs:
        missing = [name for name in source.bands if name not in cube]
        if len(missing) == len(source.bands) and source.optional:
            continue
        if missing:
            raise CubeError(
                f"model {spec.name!r} needs {', '.join(missing)} of {source.modality}, and the cube has only "
                f"{', '.join(map(str, cube.data_vars))}; load the modality with open_cube(..., "
                f"modalities=({source.modality!r}, ...))"
            )
        _check_radar(cube, spec, source)
        _check_decibels(cube, source.bands)
        found |= {name: cube[name] for name in source.bands}
        sensors += source.has_time
        timeless = any("time" not in cube[name].dims for name in source.bands)
        if source.has_time and "time" in cube.dims and timeless:
            raise CubeError(f"{source.modality} has no time in a cube that has one; give it the dim 'time'")
    if not sensors:
        wanted = " or ".join(source.modality for source in spec.inputs if source.has_time)
        raise CubeError(
            f"model {spec.name!r} needs {wanted}, and the cube has neither; a DEM observes nothing"
        )
    if "flags" in cube:
        found["flags"] = check_flags(cube["flags"])
    _check_dims(found, dims)
    return found


def radar_of(cube: xr.Dataset) -> str | None:
    """The Sentinel-1 modality that a cube says it holds, ``None`` where it says nothing.

    A cube from :func:`xglof.open_cube` says it in the attribute ``product`` of ``vv`` and ``vh``. Without
    it the backscatter is taken for what a model takes: an assumption of the user who made the cube.

    Raises
    ------
    CubeError
        The attribute cannot be read, or ``vv`` and ``vh`` disagree.
    """
    stated = {name: cube[name].attrs["product"] for name in SAR_BANDS if "product" in _attrs(cube, name)}
    if not stated:
        return None
    modalities = {radar_modality(str(product)) for product in stated.values()}
    if len(modalities) > 1:
        raise CubeError(
            f"vv is {stated['vv']!r} and vh is {stated['vh']!r}; take both from one Sentinel-1 product"
        )
    return modalities.pop()


def _attrs(cube: xr.Dataset, name: str) -> dict[str, Any]:
    return cube[name].attrs if name in cube else {}


def for_radar(spec: ModelSpec, cube: xr.Dataset) -> ModelSpec:
    """The spec with the Sentinel-1 input that the cube holds.

    It differs from ``spec`` where the cube holds the other of gamma0 (``S1RTC``) and sigma0 (``S1GRD``), the
    network is a TerraMind segmenter that has an embedding for it (``kwargs["modalities"]``), and ``spec``
    standardises its radar with TerraMind's pretraining statistics: those of the modality held take their
    place. Statistics of one's own cannot be carried over, so such a spec stays as it is, and
    :func:`find_inputs` refuses it.
    """
    held = radar_of(cube)
    radar = next((source for source in spec.inputs if source.modality in _RADARS), None)
    if held is None or radar is None or radar.modality == held:
        return spec
    embedded = dict(spec.kwargs).get("modalities", ())
    ours = TERRAMIND_INPUTS[radar.modality]
    if spec.factory != _SEGMENTER or held not in embedded or (radar.mean, radar.std) != (ours.mean, ours.std):
        return spec
    changed = replace(TERRAMIND_INPUTS[held], optional=radar.optional)
    return replace(spec, inputs=tuple(changed if source is radar else source for source in spec.inputs))


def _check_radar(cube: xr.Dataset, spec: ModelSpec, source: ModelInput) -> None:
    """Refuse sigma0 where a model takes gamma0, and the reverse: the network would see another sensor."""
    held = radar_of(cube) if source.modality in _RADARS else None
    if held is not None and held != source.modality:
        product = next(_attrs(cube, name)["product"] for name in SAR_BANDS if "product" in _attrs(cube, name))
        raise CubeError(
            f"model {spec.name!r} takes {source.modality}, and the cube holds {product} ({held}); load "
            f"{source.modality} with xglof.open_cube, pass a spec whose network and statistics are {held}, "
            "or leave the radar out with cube.drop_vars(['vv', 'vh'])"
        )


def _check_dims(found: dict[str, xr.DataArray], dims: tuple[str, str]) -> None:
    for name, array in found.items():
        if array.dims not in (dims, ("time", *dims)):
            raise CubeError(
                f"variable {name!r} has dims {array.dims}, expected {('time', *dims)} or {dims}; "
                f"transpose the cube with cube.transpose('time', {dims[0]!r}, {dims[1]!r})"
            )


def _check_decibels(cube: xr.Dataset, names: tuple[str, ...]) -> None:
    """Refuse backscatter that says it is something else than decibels: linear power would pass for land."""
    for name in names:
        stated = cube[name].attrs.get("units", "dB")
        if name in SAR_BANDS and stated != "dB":
            raise CubeError(
                f"{name} has units {stated!r}, expected 'dB'; take 10 * log10 of linear power and set "
                f"cube[{name!r}].attrs['units'] = 'dB', or load it with xglof.open_cube"
            )


def check_mask(mask: object, cube: xr.Dataset, dims: tuple[str, str]) -> xr.DataArray:
    """``where`` as it is, if it is a mask on the cube's grid and times.

    Raises
    ------
    CubeError
        It is no boolean DataArray, or lies on another grid or other times.
    """
    if not isinstance(mask, xr.DataArray) or mask.dtype != bool:
        kind = mask.dtype if isinstance(mask, xr.DataArray) else type(mask).__name__
        raise CubeError(f"where is {kind}; expected a boolean DataArray such as cube['dem'] > 3000")
    if mask.dims not in (dims, ("time", *dims)):
        raise CubeError(f"where has dims {mask.dims}, expected {dims} or {('time', *dims)}")
    if geobox_of(mask) != geobox_of(cube):
        raise CubeError(
            f"where lies on another grid: {_short(mask)}, and the cube {_short(cube)}; reproject it with "
            "mask.odc.reproject(cube.odc.geobox, resampling='nearest')"
        )
    if "time" in mask.dims and not _same_times(mask, cube):
        raise CubeError(
            "where has other times than the cube; select the cube's with mask.sel(time=cube.time)"
        )
    return mask


def _same_times(mask: xr.DataArray, cube: xr.Dataset) -> bool:
    times = [data.indexes.get("time") for data in (mask, cube)]
    if times[0] is None or times[1] is None:
        return times[0] is times[1] and mask.sizes["time"] == cube.sizes.get("time")
    return bool(times[0].equals(times[1]))


def _short(data: xr.Dataset | xr.DataArray) -> str:
    box = geobox_of(data)
    corner = f"({box.affine.c:g}, {box.affine.f:g})"
    return f"{box.shape.y} x {box.shape.x} pixels of {abs(box.resolution.x):g} from {corner} in {box.crs}"
