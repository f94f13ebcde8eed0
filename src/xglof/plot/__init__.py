"""Pictures: maps with lake outlines, areas through time, years side by side, report cards, coverage, scores.

Figures are made without pyplot: nothing is left open, and no backend is chosen. Every function computes what
it draws, rasters thinned to what a screen shows.
"""

from __future__ import annotations

from xglof.plot.audit import audit_sheet
from xglof.plot.card import report_card
from xglof.plot.coverage_bars import coverage
from xglof.plot.interactive import explore
from xglof.plot.maps import map_lakes, true_colour
from xglof.plot.scores import reliability_diagram, sweep_curves
from xglof.plot.series import area_series
from xglof.plot.summary import overview
from xglof.plot.years import small_multiples

__all__ = [
    "area_series",
    "audit_sheet",
    "coverage",
    "explore",
    "map_lakes",
    "overview",
    "reliability_diagram",
    "report_card",
    "small_multiples",
    "sweep_curves",
    "true_colour",
]
