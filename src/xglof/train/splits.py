"""Which chips train a network and which measure it: one assignment for every stage of a training."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from xglof.errors import TrainError
from xglof.train.ground import places_of
from xglof.train.schemes import (
    DROPPED,
    FOLDS,
    SCHEMES,
    Blocks,
    CryoSentinelBlocks,
    Given,
    Ground,
    Published,
    Scheme,
    Words,
)

if TYPE_CHECKING:
    import pandas

    from xglof.train.split_check import SplitReport

_FORMAT = 1
_NEEDED = ("longitude", "latitude", "side_m", "source")


@dataclass(frozen=True, slots=True)
class Split:
    """A rule that gives every chip a fold: "train", "val", "test", or "dropped".

    Make one with :meth:`blocks`, :meth:`cryosentinel`, :meth:`given` or :meth:`published`. The first two look
    at the place of a chip only, so that all dates of a place have one fold, and other chips change nothing
    (lakes aside, see :meth:`blocks`): every stage of a training can share them, whatever chips the stage has.

    Attributes
    ----------
    rule
        The scheme and its settings.

    Examples
    --------
    >>> import pandas
    >>> index = pandas.DataFrame({"longitude": 77.05, "latitude": [43.0, 43.05, 43.1], "side_m": 2240.0,
    ...                           "source": 0})
    >>> split = Split.blocks(block_m=20_000, buffer_m=5_000)
    >>> split.assign(index)["fold"].tolist()
    ['dropped', 'test', 'test']
    >>> Split.from_json(split.to_json()) == split
    True
    """

    rule: Scheme

    @classmethod
    def blocks(
        cls,
        *,
        block_m: float = 20_000.0,
        buffer_m: float = 5_000.0,
        salt: str = "xglof-blocks-v1",
        shares: Sequence[int] = (80, 10, 10),
    ) -> Split:
        """A split by blocks of about equal size on the ellipsoid: scheme ``ellipsoid-v1``.

        Bands of ``block_m`` along the meridian are counted from the equator. Each is cut into as many equal
        blocks as have ``block_m`` of width on the band's side nearest to the pole, all around the earth, so
        that there is no seam. The sha256 of salt, band and block gives the fold.

        A chip is dropped where the circle around its square comes within half the buffer of a block of
        another fold. The footprints of two folds are then at least ``buffer_m`` apart along the ground,
        however their rasters are turned. Between blocks of one fold nothing is dropped.

        A lake lies in one fold: chips of val and train that touch a lake of a test chip are dropped, then
        those of train that touch one of a val chip, at all their dates. Test chips are never dropped for
        that.

        Parameters
        ----------
        block_m
            Side of a block, m. It must exceed the buffer by more than the diagonal of a chip.
        buffer_m
            Least distance between footprints of different folds, m.
        salt
            Another text gives another draw.
        shares
            Percents of the blocks for train, val and test. Chips are dropped around the folds with the fewest
            blocks above all, so that their share of the chips is smaller.

        Raises
        ------
        TrainError
            Sizes or shares that are none.

        References
        ----------
        Karney (2013), doi:10.1007/s00190-012-0578-z: lengths on the ellipsoid. Roberts et al. (2017),
        doi:10.1111/ecog.02881: why blocks and not random draws.
        """
        return cls(Blocks(block_m, buffer_m, salt, tuple(shares)))

    @classmethod
    def cryosentinel(
        cls, *, block_deg: float = 0.15, buffer_deg: float = 0.02, salt: str = "cryosentinel-blocks-v1"
    ) -> Split:
        """A split exactly as CryoSentinel published it: scheme ``cryosentinel-v1``.

        Blocks of equal degrees; the first 8 hexadecimal digits of ``sha1(salt|row|column)``, modulo 100, give
        train below 80, val below 90, else test. Chips whose centre is within the buffer of any block's edge
        are dropped. Lakes may lie in two folds, and two stages with blocks of different sizes leak, see
        :func:`xglof.train.stages.leakage`.

        Parameters
        ----------
        block_deg
            Side of a block: 0.15 as its last stage has it, 0.25 in the one before.
        buffer_deg
            From the edge to the nearest centre, degrees of latitude and of longitude alike.
        salt
            As published.

        References
        ----------
        CryoSentinel, src/cryosentinel/data/block_split.py, https://github.com/abzalabdrash/Cryosentinel.
        """
        return cls(CryoSentinelBlocks(block_deg, buffer_deg, salt))

    @classmethod
    def given(
        cls,
        folds: Sequence[str],
        *,
        sources: Sequence[str] = (),
        ground: Ground = "shared",
        buffer_m: float = 0.0,
    ) -> Split:
        """A split by source, for data whose folds are known: scheme ``given-v1``.

        Parameters
        ----------
        folds
            "train", "val", "test" or "dropped" for each source, in the order of the index's ``source``.
        sources
            Names of the sources: with them two splits are equal only if their data are.
        ground
            ``"separate"`` where each source is a world of its own, as simulated valleys are: places and names
            of lakes then tell nothing across sources, and nothing is measured.
        buffer_m
            Least distance between footprints of different folds, which :meth:`check` asks for, m. At 0 they
            must not meet.

        Raises
        ------
        TrainError
            Another word for a fold, or as many names as there are not folds.
        """
        return cls(Given(tuple(folds), tuple(sources), ground, buffer_m))

    @classmethod
    def published(cls) -> Split:
        """The split that came with Parquet shards, chip by chip: scheme ``published-v1``.

        A chip's fold is what its shard says, ``published_split`` in the index; a chip whose word is no fold
        is dropped. Nothing keeps such folds apart: :meth:`check` tells whether they meet.
        """
        return cls(Published())

    @property
    def scheme(self) -> str:
        """Name of the scheme."""
        return self.rule.name

    @property
    def digest(self) -> str:
        """sha256 of :meth:`to_json`, hexadecimal: equal for equal splits only."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def assign(self, index: pandas.DataFrame) -> pandas.DataFrame:
        """The index of chips with its ``fold``: "train", "val", "test" or "dropped".

        Parameters
        ----------
        index
            A row a chip: ``longitude`` and ``latitude`` of the centre (degrees on WGS 84), ``side_m``,
            ``source``; ``lake_ids`` (ids separated by a space) where lakes are known.

        Returns
        -------
        pandas.DataFrame
            A new one. The order of the rows changes nothing.

        Raises
        ------
        TrainError
            Columns that are missing, places beyond the earth, chips without a size or too large for blocks.
        """
        _check_index(index)
        fold = self.rule.folds(index)
        if self.rule.whole_lakes and "lake_ids" in index:
            fold = _with_whole_lakes(index, fold)
        return index.assign(fold=fold.astype(str).astype(object))

    def check(self, index: pandas.DataFrame) -> SplitReport:
        """How far the folds of an index are apart, and what they share.

        Parameters
        ----------
        index
            As :meth:`assign` takes it. Where it has a ``fold`` in every row, that is checked; else it is
            assigned first.

        Raises
        ------
        TrainError
            As :meth:`assign`. Whether the folds pass is told by the report, see
            :meth:`~xglof.train.split_check.SplitReport.require`.
        """
        from xglof.train.split_check import report

        return report(self.rule, with_folds(self, index))

    def to_json(self) -> str:
        """The split as canonical JSON: keys in order, no spaces."""
        settings = asdict(self.rule)  # type: ignore[call-overload]
        content = {"format": _FORMAT, "scheme": self.scheme, "settings": settings}
        return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)

    @classmethod
    def from_json(cls, text: str) -> Split:
        """The split that :meth:`to_json` wrote.

        Raises
        ------
        TrainError
            Something else, or a scheme or a setting that is unknown here.
        """
        try:
            content = json.loads(text)
            scheme, settings = str(content["scheme"]), dict(content["settings"])
            known = content["format"] == _FORMAT
        except (ValueError, TypeError, KeyError) as error:
            raise TrainError(
                "the text is no split; expected the JSON of to_json(), such as split.json beside a model"
            ) from error
        kinds = {kind.name: kind for kind in SCHEMES}
        if not known or scheme not in kinds:
            raise TrainError(
                f"the split has format {content['format']!r} and scheme {scheme!r}; this version knows "
                f"format {_FORMAT} and {', '.join(kinds)}"
            )
        return cls(_built(kinds[scheme], settings))


def _built(kind: Any, settings: dict[str, Any]) -> Scheme:
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
    try:
        made: Scheme = kind(**values)
    except (TypeError, ValueError) as error:
        raise TrainError(f"the split {kind.name!r} has settings {sorted(settings)}: {error}") from error
    return made


def with_folds(split: Split, index: pandas.DataFrame) -> pandas.DataFrame:
    """The index with its own ``fold`` where every row has one, else with the folds of a split.

    Raises
    ------
    TrainError
        Another word for a fold; as :meth:`Split.assign`.
    """
    if "fold" not in index or index["fold"].isna().any() or (index["fold"] == "").any():
        return split.assign(index)
    _check_index(index)
    strange = sorted(set(index["fold"].astype(str)) - {*FOLDS, DROPPED})
    if strange:
        raise TrainError(f"the index has the folds {strange[:3]}; expected {', '.join((*FOLDS, DROPPED))}")
    return index


def _check_index(index: pandas.DataFrame) -> None:
    missing = [name for name in _NEEDED if name not in index]
    if missing:
        raise TrainError(f"the index lacks {', '.join(missing)}; expected a row a chip, as chips() makes it")
    longitude, latitude, side = (index[name].to_numpy(np.float64) for name in _NEEDED[:3])
    # `not ... all`, so that NaN counts too
    if not (np.abs(latitude) <= 90).all() or not (np.abs(longitude) <= 360).all():
        raise TrainError("the index has chips beyond the earth; expected longitude and latitude in degrees")
    if not ((side > 0) & np.isfinite(side)).all():
        raise TrainError("the index has chips without a size; expected side_m above 0")


def _with_whole_lakes(index: pandas.DataFrame, fold: Words) -> Words:
    """The folds, with chips dropped so that no lake lies in two: test keeps its own first, then val."""
    named = lakes_by_row(index)
    _, place = places_of(index, ["longitude", "latitude", "side_m"])
    fold = fold.copy()
    for keeps in FOLDS[:0:-1]:
        others = FOLDS[: FOLDS.index(keeps)]
        kept = named[fold[named.index] == keeps]
        touching = np.unique(named.index[named.isin(kept) & np.isin(fold[named.index], others)])
        fold[np.isin(place, place[touching]) & np.isin(fold, others)] = DROPPED
    return fold


def lakes_by_row(index: pandas.DataFrame) -> pandas.Series:
    """Ids of the lakes that chips touch, one a value; its index is the place of the chip's row."""
    import pandas as pd

    named = pd.Series(index["lake_ids"].to_numpy(object)).fillna("").astype(str).str.split().explode()
    return named.dropna()
