"""The rule of a label audit: what the model and MNDWI must both say against a label, on any chip.

The rule is fixed before any score is looked at, is applied to all chips alike, and knows nothing of how well
a chip scores. Its numbers have a digest, so that a figure can be traced to the rule that made it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xglof.cube.flags import Flag
from xglof.errors import CubeError
from xglof.lakes.layer import LAKE, UNOBSERVED, check_values

#: How label and model agree, by the order of their codes, and what MNDWI says.
OUTCOMES, VOTES = ("tp", "fp", "fn", "tn"), ("water", "land", "unclear")
#: A lake that the label has not, and a lake that only the label has.
DIRECTIONS = ("omission", "commission")
#: Pixels where MNDWI contradicts label and model together: lake that it calls land, land that it calls water.
CONTRADICTED = ("tp_land", "tn_water")
#: What is counted of every chip: pixels by agreement and vote, and those that the rule marks.
COUNTS = (*(f"{outcome}_{vote}" for outcome in OUTCOMES for vote in VOTES), *DIRECTIONS)

_WATER, _LAND, _UNCLEAR = range(3)
_TP, _FP, _FN, _TN, _NOWHERE = range(5)
_VERSION = "mndwi-1"  # another number for another meaning of the same fields
_DN = 10_000.0  # of a reflectance of 1
Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class AuditRule:
    """When a chip is a candidate for a wrong label.

    A pixel is marked where the label is contradicted by the model **and** by an index of water: the label
    says land and both say lake (``omission``), or the label says lake and both say land (``commission``). The
    index is MNDWI = (B03 - B11) / (B03 + B11) of Xu (2006). Marked pixels count where they fill a square of
    ``width_m``: narrower strips are what an outline that is a few pixels off leaves. A chip with at least
    ``area_m2`` of them is a candidate.

    The index is no independent witness everywhere. A model that sees Sentinel-2 sees what it is made of. And
    CryoSentinel's published chips were selected by it (docs/DATA.md, section 4, and ingest/sanity.py of its
    repository): a chip with lakes was dropped where label and MNDWI have an IoU below 0.2, or MNDWI more than
    3 times the water of the label; one without where MNDWI finds water on more than 5% of it. Water was an
    MNDWI above 0 as the document says, above 0.3 as the code does. The labels that MNDWI contradicts most
    are thus gone before an audit of these chips begins: it finds too few, and a model trained on them has
    learned from labels that agree with the index.

    Snow and ice have a high MNDWI, too: it is the snow index NDSI of Hall and others (1995) under another
    name. As they do, the near infrared is asked; where it is bright the index says nothing, and neither does
    it in the dark or under the flags named.

    Attributes
    ----------
    threshold
        The model says lake from this probability on.
    water_above, land_up_to
        MNDWI says water above the one, land up to the other, nothing between them.
    green_least
        Reflectance of B03 below which the index is noise: deep shadow.
    nir_most
        Reflectance of B08 above which a high index is snow, ice or cloud and not surely water; ``None`` asks
        no B08, as the published audit.
    unclear_when
        Flags of the cube under which the index says nothing.
    width_m
        Side of the smallest square, metres. Five pixels of 10 m: an outline 30 m off, the error that the
        inventory of Kumar and Vijay states, leaves strips of three.
    area_m2
        Least area of marked pixels in a chip, square metres.

    References
    ----------
    Xu (2006), doi:10.1080/01431160600589179. Hall, Riggs and Salomonson (1995),
    doi:10.1016/0034-4257(95)00137-P.

    Examples
    --------
    >>> AuditRule().digest == AuditRule(threshold=0.5).digest != AuditRule(threshold=0.6).digest
    True
    """

    threshold: float = 0.5
    water_above: float = 0.0
    land_up_to: float = 0.0
    green_least: float = 0.015
    nir_most: float | None = 0.11
    unclear_when: tuple[str, ...] = (
        "s2_nodata", "cloud", "cloud_shadow", "terrain_shadow", "low_sun", "snow", "ice", "failed_read",
    )  # fmt: skip
    width_m: float = 50.0
    area_m2: float = 5_000.0
    version: str = field(default=_VERSION, init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "unclear_when", tuple(self.unclear_when))
        if not 0 < self.threshold <= 1:
            raise CubeError(f"threshold is {self.threshold}; give a probability above 0 and up to 1")
        if not -1 <= self.land_up_to <= self.water_above <= 1:
            raise CubeError(
                f"land_up_to is {self.land_up_to} and water_above {self.water_above}; expected an MNDWI "
                "from -1 to 1, and land no higher than water"
            )
        positive = {"green_least": self.green_least, "width_m": self.width_m, "area_m2": self.area_m2}
        positive |= {} if self.nir_most is None else {"nir_most": self.nir_most}
        for name, value in positive.items():
            if not (math.isfinite(value) and value >= 0):
                raise CubeError(f"{name} is {value}; give a number of at least 0")
        if unknown := [name for name in self.unclear_when if name not in Flag.__members__]:
            raise CubeError(f"no such flag: {', '.join(unknown)}; there are {', '.join(Flag.__members__)}")

    @property
    def bands(self) -> tuple[str, ...]:
        """The bands that the rule reads."""
        return ("B03", "B11") if self.nir_most is None else ("B03", "B11", "B08")

    @property
    def digest(self) -> str:
        """SHA-256 of the rule's numbers, in hexadecimal: equal rules have equal digests."""
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def width_px(self, pixel_m: float) -> int:
        """Side of the smallest square, pixels of ``pixel_m`` metres."""
        return max(round(self.width_m / pixel_m), 1)


@dataclass(frozen=True, slots=True, eq=False)
class ChipView:
    """What there is to see of chips: arrays of one shape, ``(y, x)`` or with axes before these.

    Attributes
    ----------
    label
        uint8: 0 land, 1 lake, 255 not labelled.
    probability
        float of lake, NaN unobserved.
    bands
        Reflectance x 10,000 by name, nodata 0 or NaN: those of the rule, others for pictures.
    flags
        uint16 bits of :class:`xglof.cube.flags.Flag`, or ``None``.
    """

    label: NDArray[np.uint8]
    probability: NDArray[np.floating[Any]]
    bands: Mapping[str, NDArray[Any]]
    flags: NDArray[Any] | None = None


def mndwi(bands: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
    """(B03 - B11) / (B03 + B11) of Xu (2006), float32 from -1 to 1, NaN where either band has no data."""
    green, infrared = (np.asarray(bands[name], dtype=np.float32) for name in ("B03", "B11"))
    held = (green > 0) & (infrared > 0)
    total = np.where(held, green + infrared, np.float32(np.nan))
    return np.asarray((green - infrared) / total)


def votes(view: ChipView, rule: AuditRule) -> NDArray[np.uint8]:
    """What MNDWI says of every pixel, by the place in :data:`VOTES`."""
    index = mndwi(view.bands)
    told = np.asarray(view.bands["B03"], dtype=np.float32) >= rule.green_least * _DN
    if view.flags is not None:
        forbidden = sum(Flag[name].value for name in rule.unclear_when)
        told &= (view.flags.astype(np.int64) & forbidden) == 0
    with np.errstate(invalid="ignore"):  # NaN is neither
        water, land = told & (index > rule.water_above), told & (index <= rule.land_up_to)
    if rule.nir_most is not None:
        near = np.asarray(view.bands["B08"], dtype=np.float32)
        water &= (near > 0) & (near <= rule.nir_most * _DN)
    return np.select([water, land], [np.uint8(_WATER), np.uint8(_LAND)], np.uint8(_UNCLEAR))


def agreement(view: ChipView, rule: AuditRule) -> NDArray[np.uint8]:
    """How model and label agree, by the place in :data:`OUTCOMES`; 4 where either says nothing."""
    probability = view.probability
    wet = probability >= probability.dtype.type(rule.threshold)  # as a map is thresholded
    true = check_values(view.label) == LAKE
    codes = np.where(wet, np.where(true, _TP, _FP), np.where(true, _FN, _TN)).astype(np.uint8)
    return np.where((view.label == UNOBSERVED) | np.isnan(probability), np.uint8(_NOWHERE), codes)


def marked(view: ChipView, rule: AuditRule, pixel_m: float) -> dict[str, NDArray[np.bool_]]:
    """Pixels that the rule marks, by direction: those that fill a square of its width.

    Parameters
    ----------
    view
        Chips ``(..., y, x)``; each is looked at for itself, without what lies beside it.
    rule
        The rule.
    pixel_m
        Side of a pixel, metres.
    """
    return _marked(agreement(view, rule), votes(view, rule), rule.width_px(pixel_m))


def _marked(
    agreed: NDArray[np.uint8], said: NDArray[np.uint8], width_px: int
) -> dict[str, NDArray[np.bool_]]:
    against = ((agreed == _FP) & (said == _WATER), (agreed == _FN) & (said == _LAND))
    return {name: _filled(each, width_px) for name, each in zip(DIRECTIONS, against, strict=True)}


def _filled(where: NDArray[np.bool_], width_px: int) -> NDArray[np.bool_]:
    """Pixels of the squares of a width that lie in a mask: its morphological opening."""
    from scipy.ndimage import binary_opening

    if width_px == 1 or not where.any():
        return where
    square = np.ones((1,) * (where.ndim - 2) + (width_px, width_px), bool)
    return np.asarray(binary_opening(where, square))


def count_chips(view: ChipView, rule: AuditRule, pixel_m: float) -> Counts:
    """Pixels of every chip in the order of :data:`COUNTS`, ``(chips, counts)`` int64.

    Parameters
    ----------
    view
        ``(chips, y, x)``.
    rule
        The rule.
    pixel_m
        Side of a pixel, metres.
    """
    agreed, said = agreement(view, rule), votes(view, rule)
    chips, kinds = len(agreed), (len(OUTCOMES) + 1) * len(VOTES)
    codes = (np.arange(chips)[:, None, None] * kinds + agreed * len(VOTES) + said).ravel()
    counts = np.bincount(codes, minlength=chips * kinds).reshape(chips, kinds)[
        :, : len(OUTCOMES) * len(VOTES)
    ]
    found = _marked(agreed, said, rule.width_px(pixel_m))
    each = [found[name].sum(axis=(-2, -1)) for name in DIRECTIONS]
    return np.concatenate([counts, np.stack(each, axis=-1)], axis=-1).astype(np.int64)
