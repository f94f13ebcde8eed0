"""Snow and ice: from the indices of Sentinel-2, and what elevation and season make likely without it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import xarray as xr

#: Snow and ice have an NDSI of at least this many tenths (Dozier 1989; Hall, Riggs and Salomonson 1995).
NDSI_TENTHS = 4
#: Snow and ice reflect at least this in the near infrared (B08, x 10,000). Hall and others ask for 1100, a
#: value that milky lakes reach; between the two nothing is decided.
FROZEN_B08 = 2000
#: Snow whose near-infrared reflectance (B08, x 10,000) is below this is bare ice.
ICE_B08_BELOW = 4000

#: Lakes freeze under air colder than 0 degrees Celsius on average. The climatology is 4.5 K too cold and
#: scatters by 4.8 K: what is this cold in it is frozen even where it errs by both.
FROZEN_BELOW_C = -10.0
#: The coldest third of the year, as the cosine of the season: all that the prior speaks of.
_COLDEST_THIRD = -0.5
#: Days that a lake's ice follows the air.
LAKE_LAG_DAYS = 30
#: Fall of the temperature of the air near the ground, K a metre (Rolland 2003: 5.4 to 5.8 K/km in the Alps).
LAPSE_K_M = 5.5e-3
_MEAN_C, _POLEWARD_K = 14.7, -22.7  # global mean, and how much of the second Legendre polynomial
_SEASON_K = {"north": 15.6, "south": 2.3}  # half the range of the year at the pole, as sin(latitude)
_WARMEST_DAY = {"north": 201, "south": 20}  # a month after the solstice
_LATTICE_M, _LATTICE_DEG = 16_000.0, 0.125


def snow_and_ice(
    green: NDArray[np.uint16],
    near_infrared: NDArray[np.uint16],
    short_wave: NDArray[np.uint16],
    classified: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Snow and bare ice as their reflectances tell them.

    ``NDSI = (B03 - B11) / (B03 + B11)`` is at least 0.4 for both: clouds of droplets and rock are bright in
    the short-wave infrared. Water has a high NDSI too, so the near infrared decides: from 0.4 on it is snow,
    from 0.2 on bare ice of glaciers and lakes. Below that nobody can tell clear lake ice, shaded snow and
    milky water apart, and nothing is said, whatever a classification says.

    Parameters
    ----------
    green, near_infrared, short_wave
        B03, B08 and B11, uint16 reflectance x 10,000, nodata 0.
    classified
        bool, what a classification calls snow or ice (SCL 11), or ``None``. It stands in for the NDSI; the
        near infrared decides as before.

    Returns
    -------
    tuple of numpy.ndarray
        Snow and bare ice, bool; no pixel is both, and nodata is neither.

    Examples
    --------
    Fresh snow, glacier ice, a milky lake, rock:

    >>> green, nir = np.array([9000, 4500, 1600, 1500]), np.array([8500, 3000, 900, 2000])
    >>> snow, ice = snow_and_ice(green, nir, np.array([1000, 400, 150, 2500]))
    >>> snow.tolist(), ice.tolist()
    ([True, False, False, False], [False, True, False, False])
    """
    visible, infrared = green.astype(np.int32), short_wave.astype(np.int32)
    frozen = 10 * (visible - infrared) >= NDSI_TENTHS * (visible + infrared)
    frozen &= (visible > 0) & (infrared > 0)
    if classified is not None:
        frozen |= classified
    frozen &= near_infrared >= FROZEN_B08
    bright = near_infrared >= ICE_B08_BELOW
    return frozen & bright, frozen & ~bright


def air_temperature(
    elevation: NDArray[Any] | float, latitude: NDArray[Any] | float, day_of_year: NDArray[Any] | float
) -> NDArray[np.float32]:
    """Climatological temperature of the air near the ground, coarsely.

    The zonal mean at sea level is ``14.7 - 22.7 P2(sin(latitude))`` with a yearly wave of
    ``15.6 sin(latitude)`` in the north and ``2.3 sin(latitude)`` in the south: the form of North, Cahalan and
    Coakley (1981), with numbers that give 26 degrees at the equator and the steps to 60 degrees north (39 K
    in winter, 12 K in summer) and south (26 K, 22 K) of Pierrehumbert (2010, ch. 7). It falls by 5.5 K/km.
    Against January and July at 19 stations of the Alps, Himalaya, Tibet, Andes, Arctic and Alaska it is 4.5 K
    too cold, and scatters by 4.8 K; Tibet in summer is 11 K warmer, Iceland in winter 16 K.

    Parameters
    ----------
    elevation
        Metres above the sea, NaN unknown.
    latitude
        Degrees.
    day_of_year
        1 to 366.

    Returns
    -------
    numpy.ndarray
        float32, degrees Celsius, by the rules of broadcasting.
    """
    sine = np.sin(np.radians(np.asarray(latitude, dtype=np.float32)))
    wave = np.where(sine >= 0, _SEASON_K["north"], _SEASON_K["south"]) * np.abs(sine)
    season = _season(sine >= 0, day_of_year)
    sea_level = _MEAN_C + _POLEWARD_K * (1.5 * sine * sine - 0.5) + wave * season
    return np.asarray(sea_level.astype(np.float32) - np.float32(LAPSE_K_M) * elevation, dtype=np.float32)


def _season(north: NDArray[np.bool_], day_of_year: NDArray[Any] | float) -> NDArray[np.float64]:
    """1 on the warmest day of the year, -1 on the coldest."""
    warmest = np.where(north, _WARMEST_DAY["north"], _WARMEST_DAY["south"])
    return np.asarray(np.cos(2 * np.pi / 365.25 * (day_of_year - warmest)))


def frozen_prior(
    elevation: NDArray[Any] | float, latitude: NDArray[Any] | float, day_of_year: NDArray[Any] | float
) -> NDArray[np.bool_]:
    """Where a lake is frozen in all likelihood, by elevation, latitude and season alone.

    True in the coldest third of the lakes' year (19 December to 19 April in the north, 21 June to 20 October
    in the south), whatever the elevation, where :func:`air_temperature` of 30 days before is below -10
    degrees Celsius. In mid February that is above 3900 m at 28 degrees north, above 1250 m at 46.5 degrees
    and everywhere at 67 degrees. High up ice stays much longer, but highlands are warm in summer for their
    height, and where a lake may be open nothing is said. It is a prior for days that only radar saw, never an
    observation: a lake under it may be open, and one outside it frozen.

    Parameters
    ----------
    elevation, latitude, day_of_year
        As :func:`air_temperature` takes them.

    Returns
    -------
    numpy.ndarray
        bool; an unknown elevation gives False.

    Examples
    --------
    The lakes of the Upper Engadine in February and in July, a lake of the Cordillera Blanca in July:

    >>> [bool(frozen_prior(*place)) for place in [(1770, 46.5, 46), (1770, 46.5, 196), (4560, -9.4, 196)]]
    [True, False, False]
    """
    day = day_of_year - LAKE_LAG_DAYS
    deep_winter = _season(np.asarray(latitude, dtype=np.float32) >= 0, day) < _COLDEST_THIRD
    return np.asarray(deep_winter & (air_temperature(elevation, latitude, day) < FROZEN_BELOW_C))


def latitude_of(cube: xr.Dataset, like: xr.DataArray) -> xr.DataArray:
    """Latitude over a cube, lazily, in steps of about 16 km.

    Parameters
    ----------
    cube
        With a CRS.
    like
        Variable of the cube whose dims ``y, x`` and chunks the result takes.

    Returns
    -------
    xarray.DataArray
        ``(y, x)`` float32, degrees, constant over cells of an absolute lattice of the CRS (16 km, or 0.125
        degrees), so that cubes over one place agree.
    """
    import dask.array as da
    import pyproj
    import xarray as xr

    crs = cube.odc.geobox.crs
    dims = cube.odc.spatial_dims
    step = _LATTICE_DEG if crs.geographic else _LATTICE_M / crs.proj.axis_info[0].unit_conversion_factor
    # a millionth of a cell: coordinates of two grids differ by rounding
    cells = [np.floor(cube[dim].values / step + 1e-6) for dim in dims]
    (rows, row), (columns, column) = (np.unique(cell, return_inverse=True) for cell in cells)
    to_degrees = pyproj.Transformer.from_crs(crs.proj, "EPSG:4326", always_xy=True)
    east, north = np.meshgrid((columns + 0.5) * step, (rows + 0.5) * step)
    table = np.asarray(to_degrees.transform(east, north)[1], dtype=np.float32)
    sizes = dict(like.chunksizes)
    index = [
        da.from_array(place.astype(np.int32), chunks=(sizes.get(dim, -1),))
        for place, dim in zip((row, column), dims, strict=True)
    ]
    values = da.map_blocks(
        _look_up,
        index[0][:, None],
        index[1][None, :],
        table=table,
        dtype=np.float32,
        chunks=(index[0].chunks[0], index[1].chunks[0]),
        meta=np.empty((0, 0), "f4"),
    )
    return xr.DataArray(values, dims=dims)


def _look_up(
    row: NDArray[np.int32], column: NDArray[np.int32], *, table: NDArray[np.float32]
) -> NDArray[np.float32]:
    return np.asarray(table[row, column])
