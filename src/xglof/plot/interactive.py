"""Lakes on an interactive map, through geopandas and folium."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from xglof.errors import CubeError

if TYPE_CHECKING:
    import geopandas

_NEEDED = ("folium", "mapclassify")
#: What a reader wants to see of an outline, where it is there; in this order.
_TOLD = (
    "lake_id", "name", "time", "area_km2", "area_sigma_km2", "event", "parents", "small",
    "touches_unobserved", "elevation_m", "sensors", "quality", "observed_fraction", "model", "certainty",
    "verified", "comment",
)  # fmt: skip


def explore(lakes: geopandas.GeoDataFrame, **options: Any) -> Any:
    """Interactive map of lake outlines: a folium Map, which a notebook shows and ``save()`` writes as HTML.

    Times are written as text and areas in km². The map loads its background and its scripts from the net.

    Parameters
    ----------
    lakes
        Polygons with a CRS, of any dates.
    options
        For :meth:`geopandas.GeoDataFrame.explore`, such as ``column="lake_id"`` or ``tiles=None``; they win
        over the columns chosen here.

    Returns
    -------
    folium.Map

    Raises
    ------
    CubeError
        folium or mapclassify is not installed; no CRS.
    """
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        raise CubeError(
            f"an interactive map needs {' and '.join(missing)}, not installed here; run: "
            f"python -m pip install {' '.join(_NEEDED)}"
        )
    if lakes.crs is None:
        raise CubeError("the GeoDataFrame of lakes has no CRS; set the one its numbers are in with set_crs()")
    shown = _readable(lakes)
    told = [name for name in _TOLD if name in shown]
    chosen: dict[str, Any] = {"tooltip": told[:4] or False, "popup": told or False, "color": "#0072b2"}
    chosen["style_kwds"] = {"fillOpacity": 0.15, "weight": 2}
    if "column" in options:
        del chosen["color"]
    return shown.explore(**(chosen | options))


def _readable(lakes: geopandas.GeoDataFrame) -> geopandas.GeoDataFrame:
    """The table with dates as text, areas in km² and nothing that JSON has no word for."""
    import pandas as pd

    shown = lakes.copy()
    for name in [name for name in shown.columns if name != shown.geometry.name]:
        if pd.api.types.is_datetime64_any_dtype(shown[name]):
            shown[name] = shown[name].dt.strftime("%Y-%m-%d").fillna("")
    for name in ("area", "area_sigma"):
        if f"{name}_m2" in shown:
            shown[f"{name}_km2"] = (shown[f"{name}_m2"] / 1e6).round(4)
    return shown
