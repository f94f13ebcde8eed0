"""Which Sentinel-2 steps are worth reading: the best N, chosen before any of their bands is read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from xglof.cube.scenes import Selection
from xglof.cube.steps import Step
from xglof.errors import CatalogError

if TYPE_CHECKING:
    from xglof.cube.planes import Reading
    from xglof.cube.windows import Window

RankBy = Literal["cloud_cover", "SCL"]


@dataclass(frozen=True, slots=True)
class Ranking:
    """The best steps, in all or of each window of a composite.

    Attributes
    ----------
    most
        How many.
    by
        ``"cloud_cover"``: what the items state of themselves. ``"SCL"``: the share of the grid that shows the
        ground in a small copy of the scene classification, which is read for that.
    windows
        Of a composite; empty: the best of all.
    """

    most: int
    by: RankBy = "cloud_cover"
    windows: tuple[Window, ...] = ()

    def best(self, steps: Sequence[Step], geobox: Any, reading: Reading, selection: Selection) -> list[Step]:
        """The best steps in order of time; of equally good ones the earlier.

        Raises
        ------
        CatalogError
            The items have no scene classification to rank by.
        """
        badness = self._badness(steps, geobox, reading)
        kept: list[Step] = []
        for members in self._groups(steps):
            order = sorted(members, key=lambda index: (badness[index], steps[index].when))
            kept += [steps[index] for index in order[: self.most]]
            for index in order[self.most :]:
                for scene in steps[index].scenes:
                    selection.reject(scene.id, f"not among the best {self.most} by {self.by}")
        return sorted(kept, key=lambda step: (step.when, step.scenes[0].id))

    def _badness(self, steps: Sequence[Step], geobox: Any, reading: Reading) -> list[float]:
        if self.by == "SCL":
            from xglof.cube.overviews import clear_shares

            if any("SCL" not in scene.bands for step in steps for scene in step.scenes):
                raise CatalogError(
                    'rank_by="SCL" needs a scene classification, which these items lack; use "cloud_cover"'
                )
            return [-share for share in clear_shares(steps, geobox, reading)]
        return [_stated_cover(step) for step in steps]

    def _groups(self, steps: Sequence[Step]) -> list[list[int]]:
        if not self.windows:
            return [list(range(len(steps)))]
        return [
            [index for index, step in enumerate(steps) if window.start <= step.when < window.end]
            for window in self.windows
        ]


def _stated_cover(step: Step) -> float:
    """Mean cloud cover of the step's items, percent; unknown counts as fully covered."""
    stated = [scene.item.properties.get("eo:cloud_cover") for scene in step.scenes]
    numbers = [float(value) if isinstance(value, (int, float)) else math.inf for value in stated]
    return min(sum(numbers) / len(numbers), 101.0)
