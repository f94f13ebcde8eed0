"""What splits leak between stages, how far their folds are apart, and what they drop.

::

    python benchmarks/split_leakage.py [--stride 1120] [--write docs/splits.md]

Nothing is drawn at random: areas are filled with chips of 224 pixels at 10 m, a stride apart, as if each had
been cut. ``--write`` puts the tables between their marks in the page.
"""

from __future__ import annotations

import argparse
import math
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from _segment.report import table

from xglof.train.ground import in_space, parallel_radius_m
from xglof.train.schemes import DROPPED, FOLDS
from xglof.train.splits import Split
from xglof.train.stages import Bounds, chip_lattice, leakage

SIDE_M, STRIDE_M = 2240.0, 1120.0
#: The regions of CryoSentinel's last stage, as its configs/aoi.yaml bounds them: west, south, east, north.
REGIONS: dict[str, Bounds] = {
    "Ile Alatau": (76.5, 42.7, 78.2, 43.55),
    "Zhetysu Alatau": (78.0, 43.8, 81.5, 45.5),
    "Tien Shan": (70.0, 38.0, 83.0, 45.5),
}
#: Where the distances are measured: names with latitudes.
RANGES: dict[str, Bounds] = {
    "Khumbu, 28 N": (86.0, 27.4, 88.0, 28.6),
    "Zhetysu Alatau, 45 N": (78.0, 43.8, 81.5, 45.5),
    "Patagonia, 49 S": (-74.2, -50.0, -72.2, -48.0),
    "Chugach, 61 N": (-149.0, 60.4, -145.0, 61.6),
    "Svalbard, 78 N": (13.0, 77.5, 18.0, 78.5),
}
FIRST, LAST = Split.cryosentinel(block_deg=0.25), Split.cryosentinel(block_deg=0.15)


@dataclass(frozen=True, slots=True)
class Scheme:
    """A split and what it is called in a table."""

    name: str
    split: Split


PUBLISHED = (Scheme("published, 0.25° blocks", FIRST), Scheme("published, 0.15° blocks", LAST))
DEFAULT = Scheme("default, 20 km blocks, 5 km buffer", Split.blocks())
OTHERS = (
    Scheme("20 km blocks, 2 km buffer", Split.blocks(buffer_m=2000)),
    Scheme("30 km blocks, 5 km buffer", Split.blocks(block_m=30_000)),
    Scheme("20 km, 5 km, shares 60/20/20", Split.blocks(shares=(60, 20, 20))),
)


def percent(share: float) -> str:
    """A share in percent."""
    return f"{share:.1%}"


def made_up() -> list[tuple[str, ...]]:
    """Rows: the shares that follow from the two lattices alone, and their product."""
    # both lattices repeat after 0.75 degrees; hundredths whose middles lie on no edge
    place = np.arange(75) + 0.5
    kept = {size: np.minimum(place % size, -place % size) > 2 for size in (15, 25)}
    both = (kept[15] & kept[25]).sum() / kept[15].sum()
    return [
        ("of the places that the later stage keeps, kept by the earlier one along an axis", percent(both)),
        ("along both axes", percent(both**2)),
        ("of these, in a block of training of the earlier stage", percent(0.8)),
        ("training before: the product", percent(0.8 * both**2)),
        ("validation or test before", percent(0.2 * both**2)),
        ("dropped before", percent(1 - both**2)),
    ]


def stages(stride_m: float) -> list[tuple[str, ...]]:
    """Rows: what of the later validation and test was training before, by region."""
    rows = []
    for name, bounds in REGIONS.items():
        found = leakage(FIRST, LAST, bounds=bounds, side_m=SIDE_M, stride_m=stride_m)
        for leak in found.folds:
            before = [percent(leak.earlier[fold]) for fold in (*FOLDS, DROPPED)]
            rows.append(
                (f"{name}, {leak.fold}", f"{leak.places}", *before, percent(leak.met), percent(leak.covered))
            )
    return rows


def distances(stride_m: float) -> list[tuple[str, ...]]:
    """Rows: how near centres and footprints of different folds come, by latitude."""
    rows = []
    for place, bounds in RANGES.items():
        index = chip_lattice(bounds, side_m=SIDE_M, stride_m=stride_m)
        narrowest = np.array([max(abs(bounds[1]), abs(bounds[3]))])
        twice_m = 0.04 * math.radians(1) * float(parallel_radius_m(narrowest)[0])
        for scheme in (*PUBLISHED, DEFAULT):
            assigned = scheme.split.assign(index)
            report = scheme.split.check(assigned)
            gap = min(each.distance_m for each in report.gaps)
            near = sum(each.too_near for each in report.gaps)
            promised = scheme.split.rule.apart_m if scheme is DEFAULT else twice_m - SIDE_M
            far = [
                f"{each / 1000:.2f} km" if math.isfinite(each) else "-" for each in (_centres(assigned), gap)
            ]
            rows.append(
                (
                    f"{place}: {scheme.name}",
                    f"{promised / 1000:.2f} km",
                    *far,
                    f"{near}",
                    "yes" if report.passes else "no",
                )
            )
    return rows


def _centres(index: pd.DataFrame) -> float:
    """Smallest distance between centres of different folds, m."""
    from scipy.spatial import cKDTree

    kept = index[index["fold"] != DROPPED]
    groups = [
        in_space(rows["longitude"].to_numpy(), rows["latitude"].to_numpy())
        for _, rows in kept.groupby("fold")
    ]
    pairs = [(one, other) for k, one in enumerate(groups) for other in groups[k + 1 :]]
    return min((float(cKDTree(one).query(other)[0].min()) for one, other in pairs), default=math.inf)


def cost(stride_m: float) -> list[tuple[str, ...]]:
    """Rows: what of the Tien Shan each scheme keeps."""
    index = chip_lattice(REGIONS["Tien Shan"], side_m=SIDE_M, stride_m=3 * stride_m)
    rows = []
    for scheme in (*PUBLISHED, DEFAULT, *OTHERS):
        fold = scheme.split.assign(index)["fold"]
        shares = [float((fold == name).mean()) for name in (*FOLDS, DROPPED)]
        judged = (shares[1] + shares[2]) / (1 - shares[3])
        promised = f"{scheme.split.rule.apart_m / 1000:g} km" if scheme not in PUBLISHED else "none"
        rows.append((scheme.name, promised, *map(percent, shares), percent(judged)))
    return rows


def tables(stride_m: float) -> dict[str, str]:
    """The tables by name, in Markdown."""
    before = ("train before", "val before", "test before", "dropped before")
    return {
        "made up": table(("of the later stage's places", "share"), made_up()),
        "stages": table(
            ("later stage", "places", *before, "footprint meets training", "area in training"),
            stages(stride_m),
        ),
        "distances": table(
            (
                "range: scheme",
                "footprints by the rule",
                "nearest centres",
                "nearest footprints",
                "chips that meet",
                "passes",
            ),
            distances(stride_m),
        ),
        "cost": table(
            ("scheme", "footprints apart by", *FOLDS, "dropped", "val and test of the kept"), cost(stride_m)
        ),
    }


def merged(page: str, told: dict[str, str], command: str) -> str:
    """A page with these tables between their marks; all else stays as it is."""
    facts = f"By `{command}`; xglof {version('xglof')}, {datetime.now(UTC):%Y-%m-%d}."
    for name, text in told.items():
        begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
        marks = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", flags=re.DOTALL)
        block = f"{begin}\n{text}\n\n{facts}\n{end}"
        page = marks.sub(lambda _, block=block: block, page) if marks.search(page) else f"{page}\n{block}\n"
    return page


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print the tables, and write them where that is wanted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--stride", type=float, default=STRIDE_M, help="m from chip to chip")
    parser.add_argument("--write", type=Path, metavar="REPORT", help="Markdown")
    asked: Any = parser.parse_args(words)
    if asked.stride <= 0:
        parser.error("--stride: expected metres above 0")
    told = tables(asked.stride)
    for name, text in told.items():
        print(f"## {name}\n\n{text}\n")
    if asked.write:
        page = asked.write.read_text(encoding="utf-8") if asked.write.exists() else "# Splits\n"
        command = shlex.join(["python", "benchmarks/split_leakage.py", "--stride", f"{asked.stride:g}"])
        asked.write.write_text(merged(page, told, command), encoding="utf-8")


if __name__ == "__main__":
    main()
