"""Simulated glacial valleys with known lakes, in the catalogue layout of the real archives."""

from xglof.simulate.catalog import write_catalog
from xglof.simulate.optical import OpticalScene, render_optical
from xglof.simulate.radar import RadarScene, render_radar
from xglof.simulate.scene import Surface, Valley, valley
from xglof.simulate.states import true_lakes
from xglof.simulate.truth import read_truth

__all__ = [
    "OpticalScene",
    "RadarScene",
    "Surface",
    "Valley",
    "read_truth",
    "render_optical",
    "render_radar",
    "true_lakes",
    "valley",
    "write_catalog",
]
