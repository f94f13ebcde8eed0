"""Cubes: Sentinel-1, Sentinel-2 and DEM on one grid, lazily, with every decision recorded."""

from xglof.cube.load import open_cube

__all__ = ["open_cube"]
