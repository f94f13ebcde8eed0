"""Glacial lakes from Sentinel-1, Sentinel-2 and Copernicus DEM cubes.

Importing the package registers the accessor ``.glof`` on xarray's Dataset and DataArray, and loads neither
torch nor rasterio: they come with the first call that needs them.
"""

from __future__ import annotations

from xglof import evaluate, lakes, simulate, train
from xglof._version import __version__
from xglof.accessor import GlofArrayAccessor, GlofDatasetAccessor
from xglof.cube import open_cube
from xglof.cube.complete import complete
from xglof.cube.composite import composite
from xglof.cube.coverage import coverage
from xglof.cube.products import Product, Provider
from xglof.cube.registration import sensor_shift
from xglof.engine.apply import segment
from xglof.errors import CatalogError, CubeError, ModelError, OutputError, TrainError, XglofError
from xglof.evaluate.audit import audit_labels
from xglof.models.folder import read_model, write_model
from xglof.models.spec import ModelInput, ModelSpec
from xglof.models.weights import Weights
from xglof.outputs import read_zarr, write_zarr
from xglof.rasters import write_cogs
from xglof.report import write_report
from xglof.show_versions import show_versions

__all__ = [
    "CatalogError",
    "CubeError",
    "GlofArrayAccessor",
    "GlofDatasetAccessor",
    "ModelError",
    "ModelInput",
    "ModelSpec",
    "OutputError",
    "Product",
    "Provider",
    "TrainError",
    "Weights",
    "XglofError",
    "__version__",
    "audit_labels",
    "complete",
    "composite",
    "coverage",
    "evaluate",
    "lakes",
    "open_cube",
    "read_model",
    "read_zarr",
    "segment",
    "sensor_shift",
    "show_versions",
    "simulate",
    "train",
    "write_cogs",
    "write_model",
    "write_report",
    "write_zarr",
]
