"""Pictures: true-colour maps with lake outlines, areas through time, one overview of both, and coverage.

Figures are made without pyplot: nothing is left open, and no backend is chosen. Every function computes what
it draws, rasters thinned to what a screen shows.
"""

from __future__ import annotations

from xglof.plot.coverage_bars import coverage
from xglof.plot.maps import map_lakes, true_colour
from xglof.plot.series import area_series
from xglof.plot.summary import overview

__all__ = ["area_series", "coverage", "map_lakes", "overview", "true_colour"]
