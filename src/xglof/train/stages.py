"""What of a later stage's validation and test an earlier stage was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xglof.errors import TrainError
from xglof.train.ground import (
    Float,
    geod,
    latitude_at,
    northing_m,
    pairs_within,
    parallel_radius_m,
    places_of,
)
from xglof.train.schemes import DROPPED, FOLDS, Blocks, Given, Published
from xglof.train.split_check import too_near_squares
from xglof.train.splits import Split, with_folds

if TYPE_CHECKING:
    import pandas

Bounds = tuple[float, float, float, float]

#: Points a side at which a chip is looked at: shares of its area are of 256.
_POINTS = 16
_SITE = ["longitude", "latitude", "side_m"]
#: Digits of a place that are compared.
_DIGITS = 7


@dataclass(frozen=True, slots=True)
class FoldLeak:
    """Where the chips of one fold were in an earlier stage.

    Attributes
    ----------
    fold
        Name of the later stage's fold; "val and test" for both.
    places
        Different places of its chips.
    earlier
        Share of them whose centre the earlier split gives to "train", "val", "test" and "dropped".
    met
        Share whose footprint meets a footprint that the earlier stage trained on.
    covered
        Share of their area that footprints cover which the earlier stage trained on.
    """

    fold: str
    places: int
    earlier: Mapping[str, float]
    met: float
    covered: float


@dataclass(frozen=True, slots=True)
class Leakage:
    """What of a later split's validation and test was training before.

    Attributes
    ----------
    folds
        "val", "test" and both.
    """

    folds: tuple[FoldLeak, ...]

    @property
    def both(self) -> FoldLeak:
        """Validation and test together."""
        return self.folds[-1]

    def __str__(self) -> str:
        lines = [
            f"{'later fold':<13} {'places':>7} | earlier {'train':>6} {'val':>6} {'test':>6} {'dropped':>8} "
            f"| {'met':>6} {'covered':>8}"
        ]
        for leak in self.folds:
            shares = [f"{leak.earlier[name]:.1%}" for name in (*FOLDS, DROPPED)]
            lines.append(
                f"{leak.fold:<13} {leak.places:>7} |         {shares[0]:>6} {shares[1]:>6} {shares[2]:>6} "
                f"{shares[3]:>8} | {leak.met:>6.1%} {leak.covered:>8.1%}"
            )
        return "\n".join(lines)


def leakage(
    earlier: Split,
    later: Split,
    *,
    index: pandas.DataFrame | None = None,
    bounds: Bounds | None = None,
    earlier_index: pandas.DataFrame | None = None,
    side_m: float = 2240.0,
    stride_m: float = 1120.0,
) -> Leakage:
    """Shares of the later split's validation and test that were training ground in the earlier one.

    Parameters
    ----------
    earlier, later
        The splits of two stages.
    index
        Chips of the later stage: a row a chip, as :meth:`Split.assign` takes it; or
    bounds
        west, south, east, north in degrees, to be filled with chips, see :func:`chip_lattice`.
    earlier_index
        Chips of the earlier stage, or of several; those of the later one where it is left out. Where each row
        has a ``fold``, that is what it was for; else the earlier split says.
    side_m, stride_m
        With bounds: side of a chip and step between chips, m.

    Returns
    -------
    Leakage
        Shares of places: dates count once. Areas are compared at 256 points a chip; sides run north and east.

    Raises
    ------
    TrainError
        Not one of index and bounds; as :meth:`Split.assign`; no chip of val or test.

    Examples
    --------
    The two stages of CryoSentinel, in the Zhetysu Alatau:

    >>> stages = Split.cryosentinel(block_deg=0.25), Split.cryosentinel(block_deg=0.15)
    >>> found = leakage(*stages, bounds=(78, 43.8, 81.5, 45.5))
    >>> round(found.both.earlier["train"], 2), round(found.both.covered, 2)
    (0.53, 0.6)
    """
    if (index is None) == (bounds is None):
        raise TrainError(
            "leakage takes either index= or bounds=; give the chips, or an area to fill with chips"
        )
    chips = index if index is not None else chip_lattice(bounds, side_m=side_m, stride_m=stride_m)  # type: ignore[arg-type]
    judged = later.assign(chips)
    judged = judged[judged["fold"].isin(FOLDS[1:])].drop_duplicates([*_SITE, "fold"])
    if judged.empty:
        raise TrainError("the later split leaves no chip of val or test here; widen the area or the index")
    trained = earlier.assign(chips) if earlier_index is None else with_folds(earlier, earlier_index)
    trained = trained[trained["fold"] == "train"]
    squares = judged[_SITE].to_numpy(np.float64)
    covered = covered_shares(squares, places_of(trained, _SITE)[0].to_numpy(np.float64))
    before = earlier.rule.folds(judged)
    rows = [judged["fold"].to_numpy() == name for name in FOLDS[1:]]
    named = zip((*FOLDS[1:], "val and test"), (*rows, rows[0] | rows[1]), strict=True)
    return Leakage(tuple(_leak(name, before[at], covered[at]) for name, at in named))


def _leak(name: str, before: NDArray[np.object_], covered: Float) -> FoldLeak:
    count = max(len(before), 1)
    earlier = {fold: float((before == fold).sum() / count) for fold in (*FOLDS, DROPPED)}
    return FoldLeak(
        name, len(before), earlier, float((covered > 0).sum() / count), float(covered.sum() / count)
    )


def covered_shares(squares: Float, others: Float) -> Float:
    """Share of each square's area that other squares cover together.

    Parameters
    ----------
    squares, others
        ``(square, 3)``: longitude and latitude of the centre, degrees, and side, m.

    Returns
    -------
    numpy.ndarray
        ``(square,)`` from 0 to 1, in steps of 1/256.
    """
    steps = (np.arange(_POINTS) + 0.5) / _POINTS - 0.5
    found = np.zeros((len(squares), _POINTS, _POINTS), bool)
    for one, other in pairs_within(squares, others, 0.0):
        away, _, distance = geod().inv(*squares[one, :2].T, *others[other, :2].T)
        ours, theirs = squares[one, 2][:, None], others[other, 2][:, None]
        east = distance * np.sin(np.radians(away))
        north = distance * np.cos(np.radians(away))
        across = np.abs(steps * ours - east[:, None]) < theirs / 2
        along = np.abs(steps * ours - north[:, None]) < theirs / 2
        np.logical_or.at(found, one, along[:, :, None] & across[:, None, :])
    return np.asarray(found.mean(axis=(1, 2)))


def chip_lattice(bounds: Bounds, *, side_m: float = 2240.0, stride_m: float = 1120.0) -> pandas.DataFrame:
    """Chips that fill an area: an index with ``longitude``, ``latitude``, ``side_m`` and ``source`` 0.

    Parameters
    ----------
    bounds
        west, south, east, north, degrees.
    side_m, stride_m
        Side of a chip, and step between the centres northward and eastward along the ground, m.

    Raises
    ------
    TrainError
        A side or a step that is none.
    """
    import pandas as pd

    if not (0 < side_m < np.inf and 0 < stride_m < np.inf):
        raise TrainError(f"side_m is {side_m:g} and stride_m {stride_m:g}; expected metres above 0")
    west, south, east, north = bounds
    low, high = northing_m(np.array([south, north], np.float64))
    rows = latitude_at(np.arange(low + stride_m / 2, high, stride_m))
    step = np.degrees(stride_m / parallel_radius_m(rows))
    columns = [np.arange(west + each / 2, east, each) for each in step]
    longitude = np.concatenate(columns) if columns else np.empty(0)
    latitude = np.repeat(rows, [len(each) for each in columns])
    return pd.DataFrame({"longitude": longitude, "latitude": latitude, "side_m": float(side_m), "source": 0})


def check_stages(
    earlier: Split,
    later: Split,
    index: pandas.DataFrame,
    *,
    earlier_index: pandas.DataFrame | None = None,
) -> None:
    """Refuse a stage that would be measured on what an earlier stage was trained on.

    What passes: no chip of the later stage's validation and test meets a chip that the earlier stage trained
    on, or may have. That holds for these two stages only. Of three stages the first and the last may share
    ground though each has the split of the second, or none of its ground: compare the last with both, or give
    the places of both as ``earlier_index``. Lakes are not compared.

    Parameters
    ----------
    earlier, later
        The splits of two stages of one model. Where sources are worlds of their own, places are not compared,
        and a world is known by the name of its source. Where one split alone has such worlds, chips of both
        meet only at the very same place, as those of the same cubes do.
    index
        Chips of the later stage, as :meth:`Split.assign` takes it.
    earlier_index
        Chips of the earlier stage, or of several. Where each row has a ``fold``, that is what it was for, as
        of several stages it must be; else the earlier split says. Of several, ``earlier`` must be one whose
        sources lie in one world. With it footprints are compared, however
        equal the splits are. Without it, any place that the earlier split may give to train counts as trained
        on, at a chip's own size.

    Raises
    ------
    TrainError
        They meet; the earlier split is one of given or published folds, whose places are unknown without its
        index, or whose worlds have no names.
    """
    judged = later.assign(index)
    judged = judged[judged["fold"].isin(FOLDS[1:])].drop_duplicates([*_SITE, "source"])
    if "separate" in (earlier.rule.ground, later.rule.ground):
        met = _in_a_world_of_training(earlier, later, judged, earlier_index)
    elif earlier_index is not None:
        trained = with_folds(earlier, earlier_index)
        others = places_of(trained[trained["fold"] == "train"], _SITE)[0].to_numpy(np.float64)
        met, _ = too_near_squares(judged[_SITE].to_numpy(np.float64), others, 0.0)
    elif isinstance(earlier.rule, Given | Published):
        raise TrainError(
            "the start model was trained on given folds, and where its chips lay is not known; pass the "
            "index of the earlier stage, or train this one from other weights"
        )
    elif isinstance(earlier.rule, Blocks) and earlier == later:
        return  # its folds keep clear of each other's blocks, whatever chips a stage has
    else:
        met = earlier.rule.may_train_on(judged)
    if met.any():
        raise TrainError(
            f"{met.sum()} of {len(met)} places of validation and test ({met.mean():.0%}) are ground that the "
            f"start model was trained on, or may have been: its split is {earlier.scheme} "
            f"{earlier.digest[:8]}, this one {later.scheme} {later.digest[:8]}; use the split.json beside "
            "the start model for every stage, on the same data where folds were given"
        )


def _in_a_world_of_training(
    earlier: Split, later: Split, judged: pandas.DataFrame, earlier_index: pandas.DataFrame | None
) -> NDArray[np.bool_]:
    """Whether the source of each row was one of training, where sources are worlds of their own."""
    before, now = earlier.rule, later.rule
    if not isinstance(before, Given) or not isinstance(now, Given) or before.ground != now.ground:
        return _of_the_same_cubes(earlier, judged, earlier_index)
    if not before.sources or not now.sources:
        raise TrainError(
            "both stages have sources that are worlds of their own, and without names nobody can tell "
            "whether they are the same; give Split.given(..., sources=[...]) in both"
        )
    trained = {name for name, fold in zip(before.sources, before.given, strict=True) if fold == "train"}
    return np.isin(np.array(now.sources)[judged["source"].to_numpy(np.int64)], sorted(trained))


def _of_the_same_cubes(
    earlier: Split, judged: pandas.DataFrame, earlier_index: pandas.DataFrame | None
) -> NDArray[np.bool_]:
    """Whether each row has the place of a training chip, where one stage alone has worlds of its own.

    No ground is in common then, but the cubes may be: chips of other cubes do not agree in all digits.
    """
    if earlier_index is None:
        return np.zeros(len(judged), bool)
    trained = with_folds(earlier, earlier_index)
    trained = trained.loc[trained["fold"] == "train", _SITE].round(_DIGITS)
    known = set(trained.itertuples(index=False, name=None))
    sites = judged[_SITE].round(_DIGITS).itertuples(index=False, name=None)
    return np.fromiter((site in known for site in sites), bool, len(judged))
