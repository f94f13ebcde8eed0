"""Agreement of maps with a truth, from counts that add up over dates, tiles and workers."""

from __future__ import annotations

from xglof.evaluate.bootstrap import block_counts, bootstrap_intervals, score_intervals
from xglof.evaluate.boundary import add_boundary_shares, score_boundary
from xglof.evaluate.calibration import reliability, score_calibration
from xglof.evaluate.chips import chip_iou, score_chips
from xglof.evaluate.counts import confusion_counts
from xglof.evaluate.histogram import probability_histogram, sweep_thresholds
from xglof.evaluate.matching import match_lakes
from xglof.evaluate.multiclass import confusion_matrix, score_classes
from xglof.evaluate.objects import lake_matches, lake_scores, score_lakes
from xglof.evaluate.scores import score
from xglof.evaluate.shares import add_shares
from xglof.evaluate.sweep import best_threshold, histogram_counts, sweep_counts

__all__ = [
    "add_boundary_shares",
    "add_shares",
    "best_threshold",
    "block_counts",
    "bootstrap_intervals",
    "chip_iou",
    "confusion_counts",
    "confusion_matrix",
    "histogram_counts",
    "lake_matches",
    "lake_scores",
    "match_lakes",
    "probability_histogram",
    "reliability",
    "score",
    "score_boundary",
    "score_calibration",
    "score_chips",
    "score_classes",
    "score_intervals",
    "score_lakes",
    "sweep_counts",
    "sweep_thresholds",
]
