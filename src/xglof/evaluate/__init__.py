"""Agreement of maps with a truth, from counts that add up over dates, tiles and workers."""

from __future__ import annotations

from xglof.evaluate.counts import confusion_counts
from xglof.evaluate.scores import score

__all__ = ["confusion_counts", "score"]
