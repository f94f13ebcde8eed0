"""Scores as a terminal shows them: 80 columns, one thing a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from xglof.cube.card_facts import counted
from xglof.evaluate.bootstrap import ENOUGH_BLOCKS

_NONE = "-"
_MOST_ROWS, _NAME_WIDTH = 24, 18  # in a terminal of 80 columns
_PARTS = (("found", "true_lakes"), ("right", "mapped_lakes"))
_SHARES = ("iou", "f1", "precision", "recall", "boundary_f1")


def print_scores(console: Console, figures: dict[str, Any], out: Path) -> None:
    """Print the figures of :func:`xglof.scoring.run_score`."""
    console.print(_pixel_table(figures))
    console.print(_interval_note(figures["pixels"]["interval"]), soft_wrap=False)
    console.print()
    console.print(_lake_table(figures))
    console.print(_lake_note(figures))
    console.print()
    if figures["sweep"] is not None:
        console.print(_sweep_table(figures))
    for line in _notes(figures):
        console.print(line)
    pictures = " and ".join(f"{out / name}" for name in ("sweep.png", "reliability.png"))
    shown = f"; look at {pictures}" if figures["sweep"] else ""
    console.print(f"Written to {out}{shown}", soft_wrap=True)


def _pixel_table(figures: dict[str, Any]) -> Table:
    """A row a map, or a row a date of a single one, and one for all with its interval."""
    several = len(figures["by_map"]) > 1
    rows = figures["by_map" if several else "by_date"]
    table = Table(title=f"Pixels{_at(figures['threshold'])}", title_justify="left")
    table.add_column("map" if several else "date", overflow="fold", max_width=_NAME_WIDTH)
    for head in ("observed", "IoU", "F1", "precision", "recall", f"shore F1\n{_tolerance(figures)}"):
        table.add_column(head, justify="right", no_wrap=True)
    for row in rows if len(rows) <= _MOST_ROWS else []:
        name = row["map"] if several else _day(row)
        table.add_row(name, _observed(row), *(_share(row[share]) for share in _SHARES))
    table.add_section()
    pooled = {**figures["pixels"], **figures["boundary"]}
    whole = counted(len(rows), "map" if several else "date") if len(rows) > _MOST_ROWS else "all"
    table.add_row(whole, _observed(pooled), *(_share(pooled[share]) for share in _SHARES), style="bold")
    interval = figures["pixels"]["interval"]
    if "reason" not in interval:
        for place, word in ((0, "from"), (1, "to")):
            bounds = (_share(interval[share][place]) for share in _SHARES[:-1])
            table.add_row(f"{interval['level']:.0%} {word}", "", *bounds, "", style="dim")
    return table


def _at(threshold: float | None) -> str:
    return "" if threshold is None else f", lake from a probability of {threshold:g}"


def _tolerance(figures: dict[str, Any]) -> str:
    return f"{figures['rules']['tolerance_m']:g} m"


def _day(row: dict[str, Any]) -> str:
    return str(row["time"])[:10] if "-" in str(row["time"]) else "one date"


def _observed(row: dict[str, Any]) -> str:
    seen = sum(row[name] for name in ("tp", "fp", "fn", "tn"))
    whole = seen + row["unobserved"]
    return f"{seen / whole:.0%}" if whole else _NONE


def _share(value: float | None) -> str:
    return _NONE if value is None else f"{value:.3f}"


def _interval_note(interval: dict[str, Any]) -> str:
    if "reason" in interval:
        return f"No interval: {interval['reason']}."
    few = interval["blocks_with_lake"] < ENOUGH_BLOCKS
    size = f"{interval['block_m'] / 1000:g} km" if "block_m" in interval else "ground"
    note = (
        f"Interval: bootstrap over {interval['blocks']} blocks of {size}, "
        f"{interval['blocks_with_lake']} of them with a lake"
    )
    return f"{note}: too few, so it is too narrow." if few else f"{note}."


def _lake_table(figures: dict[str, Any]) -> Table:
    table = Table(title="Lakes by size, each date anew", title_justify="left")
    table.add_column("size", no_wrap=True)
    for head in (
        "true,\nfound",
        "recall",
        "mapped,\nright",
        "precision",
        "area\nbias",
        "in\n2 sigma",
    ):
        table.add_column(head, justify="right")
    for row in figures["lakes"]:
        if row["size"] == "all":
            table.add_section()
        found, right = (f"{row[part]} of {row[whole]}" for part, whole in _PARTS)
        bias = _NONE if row["area_bias"] is None else f"{row['area_bias']:+.0%}"
        near = _NONE if row["within_2_sigma"] is None else f"{row['within_2_sigma']:.0%}"
        style = "bold" if row["size"] == "all" else ""
        recall, precision = _share(row["recall"]), _share(row["precision"])
        table.add_row(row["size"], found, recall, right, precision, bias, near, style=style)
    return table


def _lake_note(figures: dict[str, Any]) -> str:
    total, rules = figures["lakes"][-1], figures["rules"]
    return (
        f"A lake is found by one mapped lake at most, with an IoU of {rules['min_iou']:g} or more. "
        f"Missed: {total['missed']}, {total['merged']} of them within another mapped lake. "
        f"False: {total['false']}, {total['fragments']} of them parts of a true lake. "
        "Lakes at unobserved ground or at the edge do not count."
    )


def _sweep_table(figures: dict[str, Any]) -> Table:
    table = Table(title="IoU by threshold", title_justify="left")
    found = figures["sweep"]
    best = found["best_threshold"]
    for at in found["iou"]:
        table.add_column(at, justify="right")
    table.add_column("best" if best is None else f"best, at {best:g}", justify="right")
    table.add_row(*(_share(iou) for iou in found["iou"].values()), _share(found["best_iou"]))
    return table


def _notes(figures: dict[str, Any]) -> list[str]:
    chips, rules = figures["chips"], figures["rules"]
    rule = "left out" if rules["empty"] == "skip" else "taken as 1"
    lines = [
        f"Chips of {rules['chip_px']} px: mean IoU {_share(chips['mean_iou'])}, median "
        f"{_share(chips['median_iou'])}, over {chips['scored']} of {chips['chips']}; {chips['empty']} "
        f"without any lake are {rule}."
    ]
    if figures["calibration"] is None:
        return [*lines, "No sweep and no calibration: a map has no probabilities."]
    error = figures["calibration"]
    return [
        "The best threshold was chosen on these maps: elsewhere its IoU is a little lower.",
        *lines,
        f"Calibration error {_number(error['ece'])}; of one group of probabilities at most "
        f"{_number(error['mce'])}.",
    ]


def _number(value: float | None) -> str:
    return _NONE if value is None else f"{value:.4f}"
