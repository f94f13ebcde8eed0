"""Lakes as objects: polygons of every date, and their areas through time with bounds and errors."""

from __future__ import annotations

from xglof.lakes.area import lake_area
from xglof.lakes.polygons import find_lakes

__all__ = ["find_lakes", "lake_area"]
