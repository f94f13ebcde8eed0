"""Time steps of a sensor, laid along the time axis of a cube."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from xglof.cube.scenes import Chosen
from xglof.cube.steps import Scene, Step


@dataclass(frozen=True, slots=True)
class Series:
    """The steps of one modality, and which of them stands at each step of the cube.

    Attributes
    ----------
    chosen
        The modality's scenes.
    steps
        Those that stand somewhere, in order of time.
    places
        For each step of the cube the index in ``steps``, or ``None`` where nothing was near enough.
    """

    chosen: Chosen
    steps: tuple[Step, ...]
    places: tuple[int | None, ...]

    @property
    def placed(self) -> tuple[Step | None, ...]:
        """The step at each step of the cube."""
        return tuple(None if index is None else self.steps[index] for index in self.places)

    def laid_out(self, planes: Any, blank: Any) -> Any:
        """Planes of ``steps`` along the cube's time axis, ``blank`` where there is none."""
        import dask.array as da

        if self.places == tuple(range(len(self.steps))):
            return planes
        return da.concatenate([blank if i is None else planes[i : i + 1] for i in self.places])

    def gap_days(self, axis: Sequence[datetime]) -> list[float]:
        """Days between each step of the cube and the one that stands there; NaN without one."""
        return [
            math.nan if step is None else _apart(step, moment).total_seconds() / 86400
            for step, moment in zip(self.placed, axis, strict=True)
        ]


def in_turn(found: Mapping[str, tuple[Chosen, Sequence[Step]]]) -> tuple[list[datetime], dict[str, Series]]:
    """Each step of each modality as a step of its own, in order of time, and the moments of all."""
    order = sorted(
        (step.when, name, index) for name, (_, steps) in found.items() for index, step in enumerate(steps)
    )
    series = {
        name: Series(chosen, tuple(steps), tuple(i if name == own else None for _, own, i in order))
        for name, (chosen, steps) in found.items()
    }
    return [when for when, _, _ in order], series


def paired(
    chosen: Chosen,
    steps: Sequence[Step],
    axis: Sequence[datetime],
    max_gap_days: float,
    reject: Callable[[Scene, str], None],
) -> Series:
    """For each moment the nearest step within a gap, the earlier one of two equally near.

    Parameters
    ----------
    chosen, steps
        The modality.
    axis
        Moments of the cube, UTC.
    max_gap_days
        How far a step may be from its moment.
    reject
        Told each scene of the steps that are nearest to no moment.
    """
    nearest = [_nearest(moment, steps, max_gap_days) for moment in axis]
    kept = sorted({index for index in nearest if index is not None})
    for index in set(range(len(steps))) - set(kept):
        for scene in steps[index].scenes:
            reject(scene, f"nearest to no step of the cube within {max_gap_days:g} days")
    places = tuple(None if index is None else kept.index(index) for index in nearest)
    return Series(chosen, tuple(steps[index] for index in kept), places)


def _nearest(moment: datetime, steps: Sequence[Step], max_gap_days: float) -> int | None:
    gaps = [(_apart(step, moment), step.when, index) for index, step in enumerate(steps)]
    if not gaps:
        return None
    gap, _, index = min(gaps)
    return index if gap.total_seconds() <= max_gap_days * 86400 else None


def _apart(step: Step, moment: datetime) -> timedelta:
    """Time between a moment and an acquisition, or the period of a mosaic."""
    return max(step.when - moment, moment - max(step.end, step.when), timedelta(0))
