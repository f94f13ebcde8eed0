"""What users ask of a cube, checked before anything is searched."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, get_args

from xglof.bands import LAYERS, MODALITIES, Resampling, resolve
from xglof.cube.assemble import RADAR
from xglof.cube.planes import Methods
from xglof.cube.ranking import RankBy
from xglof.cube.scenes import check_orbit
from xglof.cube.stacks import Backend, OnError
from xglof.cube.window_stack import Method
from xglof.errors import CubeError

_LONGEST_GAP_DAYS = 36_525
_ALL = ("S2L2A", "S1RTC", "S1GRD", "DEM")


def check_modalities(modalities: Sequence[str]) -> tuple[str, ...]:
    """The modalities in the package's order.

    Raises
    ------
    CubeError
        None, an unknown one, or both kinds of Sentinel-1.
    """
    if isinstance(modalities, str):
        modalities = (modalities,)
    if not isinstance(modalities, Iterable):
        raise CubeError(f"modalities={modalities!r} is no list; expected some of {', '.join(_ALL)}")
    modalities = tuple(modalities)
    for name in modalities:
        if name not in _ALL:
            raise CubeError(f"modality {name!r} is unknown; expected some of {', '.join(_ALL)}")
    if not modalities:
        raise CubeError(f"modalities= is empty; expected some of {', '.join(_ALL)}")
    if all(name in modalities for name in RADAR):
        raise CubeError("modalities= names S1RTC and S1GRD, which are both vv and vh; expected one of them")
    return tuple(name for name in _ALL if name in modalities)


def check_limits(
    modalities: Sequence[str],
    max_cloud_cover: float | None,
    max_gap_days: float,
    orbit: object,
    max_scenes: int | None,
) -> None:
    """Refuse numbers out of their range, and a wish about a sensor that is not there."""
    if max_cloud_cover is not None and not (_is_number(max_cloud_cover) and 0 <= max_cloud_cover <= 100):
        raise CubeError(f"max_cloud_cover is {max_cloud_cover!r}; expected percent, 0 to 100")
    if not (_is_number(max_gap_days) and 0 <= max_gap_days <= _LONGEST_GAP_DAYS):
        raise CubeError(f"max_gap_days is {max_gap_days!r}; expected days, 0 or more")
    check_orbit(orbit)
    if orbit is not None and not any(name in modalities for name in RADAR):
        raise CubeError(f"orbit={orbit!r} is of Sentinel-1, which is not among modalities=; leave it out")
    if max_scenes is None:
        return
    if not (isinstance(max_scenes, Integral) and not isinstance(max_scenes, bool) and max_scenes >= 1):
        raise CubeError(f"max_scenes is {max_scenes!r}; expected a whole number, 1 or more")


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


_CHOICES: dict[str, tuple[str, ...]] = {
    "composite": get_args(Method),
    "rank_by": get_args(RankBy),
    "offset": ("metadata", "pixels"),
    "on_error": get_args(OnError),
    "backend": get_args(Backend),
}


def check_choices(**given: str) -> None:
    """Refuse a word that is none of an argument's."""
    for name, value in given.items():
        if value not in _CHOICES[name]:
            raise CubeError(f"{name} is {value!r}; expected one of {', '.join(map(repr, _CHOICES[name]))}")


def check_resampling(resampling: Mapping[str, Resampling] | None) -> Methods:
    """Methods by canonical band name.

    Raises
    ------
    CubeError
        An unknown band or method, or a method that would blend classes.
    """
    given = dict(resampling or {})
    known = {band.name: band for m in MODALITIES.values() for band in m.bands}
    known |= {layer.name: layer for layers in LAYERS.values() for layer in layers}
    names = resolve(given)
    methods = {names.get(name, name): method for name, method in given.items()}
    for name, method in methods.items():
        if name not in known:
            raise CubeError(f"resampling= names {name!r}; expected bands among {', '.join(known)}")
        if method not in get_args(Resampling):
            raise CubeError(f"resampling of {name} is {method!r}; expected {', '.join(get_args(Resampling))}")
        if known[name].resampling == "nearest" and method != "nearest":
            raise CubeError(f"resampling of {name} is {method!r}; expected 'nearest', it holds classes")
    return tuple(sorted(methods.items()))


def check_chunks(chunks: Mapping[str, Any] | None, dimensions: tuple[str, str]) -> dict[str, Any]:
    """User's chunks under the names of the cube's dims (``y`` and ``x`` are understood on any grid)."""
    names = {"time": "time", "y": dimensions[0], "x": dimensions[1]} | {name: name for name in dimensions}
    unknown = [name for name in chunks or {} if name not in names]
    if unknown:
        raise CubeError(f"chunks= names {unknown[0]!r}; expected dims among time, {', '.join(dimensions)}")
    for name, size in (chunks or {}).items():
        parts = size if isinstance(size, Sequence) and not isinstance(size, str) else (size,)
        if size != "auto" and not all(isinstance(p, Integral) and (int(p) > 0 or p == -1) for p in parts):
            raise CubeError(f"chunks= gives {name} {size!r}; expected pixels above 0, -1 for all, or 'auto'")
    return {names[name]: size for name, size in (chunks or {}).items()}
