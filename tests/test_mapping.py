from __future__ import annotations

import geopandas
import numpy as np
import pandas as pd
import xarray as xr

from lake_maps import lake_map
from xglof.cube.flags import Flag
from xglof.mapping import Mapped


def test_observed_is_a_share_of_what_was_requested() -> None:
    lake = np.zeros((3, 4, 10), "uint8")
    flags = np.zeros(lake.shape, "uint16")
    flags[1, :, 4:] = flags[2] = Flag.not_requested
    lake[flags != 0] = 255
    lake[:2, 0, :2] = 255
    seg = lake_map(lake, flags=flags, chunks={"y": 3})
    observed = Mapped(xr.Dataset(), seg, geopandas.GeoDataFrame(), xr.Dataset(), pd.DataFrame()).observed
    assert observed.dims == ("time",)
    np.testing.assert_allclose(observed, [38 / 40, 14 / 16, np.nan])
