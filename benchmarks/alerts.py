"""Alerts on SIMULATED series: false alarms, steps found, and what intervals cover.

::

    python benchmarks/alerts.py [--lakes 2000] [--years 5] [--seed 1] [--write REPORT PICTURE]

Every series is drawn: a constant area and normal scatter, 14 dates in June to October of each year of which
one in seven is lost at random, so that 12 a year are left. ``flag_series`` estimates the scatter from the
same series that the alerts are found in. ``--write docs/alerts.md docs/images/alert_detection.png`` puts the
tables between their marks in the page, and the curve beside it.
"""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from _segment.report import table
from numpy.typing import NDArray

from xglof.lakes.alerts import find_alerts
from xglof.lakes.scatter import interval
from xglof.lakes.series import flag_series

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from _alert_cases import RESOLUTIONS, outside, rewritten, smallest

from lake_series import area_series, season_dates

Float = NDArray[np.float64]

BUDGETS = (0.001, 0.01, 0.05)
#: Two sensors take turns, the second sees every lake 2 sigma larger with one and a half times the scatter;
#: a noisy autumn has that scatter from September on.
KINDS = ("one sensor", "two sensors", "noisy autumn")
STEPS = (1, 2, 3, 4, 5, 6)
LEVELS = (0.68, 0.95)
_AREA, _SIGMA = 1e5, 1000.0  # m2
_DATES, _LOST, _STEP_YEAR = 14, 1 / 7, 3
_MAIN = 0.01
_BIAS, _NOISIER = 2.0, 1.5
_INK = {0.001: "#56b4e9", 0.01: "#d55e00", 0.05: "#009e73"}  # hues after Okabe & Ito (2008)


def stable_series(
    lakes: int, years: int, rng: np.random.Generator, *, kind: str = "one sensor"
) -> xr.Dataset:
    """SIMULATED lakes that do not change: ``(lake, time)`` of :func:`xglof.lakes.lake_area`."""
    times = season_dates(years, per_year=_DATES)
    scatter = rng.normal(size=(lakes, times.size))
    second = (np.arange(times.size) % 2 == 1) & (kind == "two sensors")
    autumn = (times.astype("datetime64[M]").astype(int) % 12 >= 8) & (kind == "noisy autumn")
    scatter = np.where(second | autumn, _NOISIER * scatter, scatter)
    area = _AREA + _SIGMA * (scatter + _BIAS * second)
    seen = rng.random(area.shape) >= _LOST
    area[~seen] = np.nan
    return area_series(area, times=times, sensors=np.where(second, "s1", "s2"), observed=seen)


def with_step(series: xr.Dataset, sigmas: float) -> xr.Dataset:
    """The series with a lasting step after year 3."""
    step = sigmas * _SIGMA * after_step(series)
    return series.assign({name: series[name] + step for name in ("area", "area_lower", "area_upper")})


def after_step(series: xr.Dataset) -> xr.DataArray:
    """Dates after the step."""
    year = series["time"].dt.year
    return year >= year[0] + _STEP_YEAR


def false_alarms(lakes: int, years: int, rng: np.random.Generator) -> list[tuple[str, ...]]:
    """Rows: alerts of stable series in 100 lake-years, by budget."""
    rows = []
    for name in KINDS:
        flagged = flag_series(stable_series(lakes, years, rng, kind=name))
        for budget in BUDGETS:
            alerts = find_alerts(flagged, false_alarms=budget, withdrawn=True)
            counts = [
                len(alerts),
                *((alerts["status"] == status).sum() for status in ("confirmed", "withdrawn")),
            ]
            span = lakes * years
            rates = [f"{100 * count / span:.2f} ± {100 * np.sqrt(count) / span:.2f}" for count in counts]
            rows.append((name, f"{budget:g}", str(span), str(counts[0]), f"{100 * budget:g}", *rates))
    return rows


def found(flagged: xr.Dataset, budget: float, kind: str) -> Float:
    """Shares of lakes whose step alerts at the first view, within two, and is confirmed within two."""
    alerts = find_alerts(flagged, false_alarms=budget, withdrawn=True)
    alerts = alerts[alerts["kind"] == kind]
    valid = (np.isfinite(flagged["area"]) & after_step(flagged)).transpose("lake", "time").to_numpy()
    first = np.argmax(valid, axis=1)
    valid[np.arange(len(first)), first] = False
    times = flagged["time"].to_numpy()
    dates = pd.DataFrame(
        {"begin": times[first], "end": times[np.argmax(valid, axis=1)]}, index=flagged["lake"].to_numpy()
    )
    alerts = alerts.join(dates, on="lake")
    within = (alerts["raised"] >= alerts["begin"]) & (alerts["raised"] <= alerts["end"])
    told = (
        alerts["raised"] == alerts["begin"],
        within,
        within & (alerts["status"] == "confirmed") & (alerts["decided"] <= alerts["end"]),
    )
    return np.array([alerts.loc[rows, "lake"].nunique() / len(first) for rows in told])


def detection(lakes: int, rng: np.random.Generator) -> dict[tuple[int, float, str], Float]:
    """Shares found, by step, budget and kind; the same lakes throughout, five years each."""
    stable = stable_series(lakes, 5, rng)
    shares = {}
    for step in STEPS:
        for kind, sign in (("drainage", -1), ("expansion", 1)):
            flagged = flag_series(with_step(stable, sign * step))
            for budget in BUDGETS:
                shares[step, budget, kind] = found(flagged, budget, kind)
    return shares


def coverage(lakes: int, years: int, rng: np.random.Generator) -> list[tuple[str, ...]]:
    """Rows: how often the interval of an area covers the true area."""
    flagged = flag_series(stable_series(lakes, years, rng))
    rows = []
    for level in LEVELS:
        ends = interval(flagged, confidence=level)
        told = np.isfinite(ends["lower"].to_numpy())
        inside = ((ends["lower"] <= _AREA) & (ends["upper"] >= _AREA)).to_numpy()[told]
        by_lake = np.array([row.mean() for row in np.split(inside, np.cumsum(told.sum(axis=1))[:-1])])
        error = by_lake.std() / np.sqrt(lakes)  # areas of a lake share its sigma
        rows.append((f"{level:.0%}", str(inside.size), f"{inside.mean():.1%} ± {error:.1%}"))
    return rows


def share(value: float, count: int) -> str:
    """A share and one binomial standard error."""
    return f"{value:.1%} ± {np.sqrt(value * (1 - value) / count):.1%}"


def tables(lakes: int, years: int, seed: int) -> tuple[dict[str, str], dict[tuple[int, float, str], Float]]:
    """The tables by name, in Markdown, and the shares behind the curve."""
    rng = np.random.default_rng(seed)
    header = ("SIMULATED series", "budget", "lake-years", "issued", "budget in 100", "issued in 100")
    told = {
        "false alarms": table(
            (*header, "confirmed in 100", "withdrawn in 100"), false_alarms(lakes, years, rng)
        )
    }
    shares = detection(lakes, rng)
    rows = [
        (
            f"{step}",
            *(
                share(value, lakes)
                for kind in ("drainage", "expansion")
                for value in shares[step, _MAIN, kind]
            ),
        )
        for step in STEPS
    ]
    columns = ("at the first view", "within 2", "confirmed within 2")
    header = (
        "SIMULATED step, sigma",
        *(f"{kind} {column}" for kind in ("drop", "rise") for column in columns),
    )
    told["detection"] = table(header, rows)
    header = ("interval", "SIMULATED areas", "truth inside")
    told["coverage"] = table(header, coverage(lakes, years, rng))
    told |= beside(lakes, rng)
    return told, shares


def beside(lakes: int, rng: np.random.Generator) -> dict[str, str]:
    """The tables of what the budget does not cover, of later runs, and of small lakes."""
    rates = ("issued in 100", "confirmed in 100", "withdrawn in 100")
    counts = ("lakes", "confirmed on their day", "still listed", "listed no longer", "share")
    drops = (f"smallest drop of 2 views, {side} m" for side in RESOLUTIONS)
    return {
        "outside": table(("SIMULATED, what is not as assumed", *rates), outside(lakes, rng)),
        "later runs": table(("SIMULATED series", *counts), rewritten(max(lakes // 4, 20), rng)),
        "smallest lake": table(("area, ha", *drops), smallest(_MAIN)),
    }


def draw(shares: dict[tuple[int, float, str], Float], lakes: int, path: Path) -> None:
    """The detection curve as a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.4), dpi=150, layout="constrained")
    axes = figure.subplots()
    for budget in BUDGETS:
        both = np.array(
            [(shares[step, budget, "drainage"] + shares[step, budget, "expansion"]) / 2 for step in STEPS]
        )
        bars = 2 * np.sqrt(both[:, 1] * (1 - both[:, 1]) / (2 * lakes))
        ink = {"color": _INK[budget], "lw": 2.2 if budget == _MAIN else 1.4}
        axes.errorbar(
            STEPS, both[:, 1], bars, marker="o", capsize=3, label=f"within 2 views, budget {budget:g}", **ink
        )
        if budget == _MAIN:
            axes.plot(
                STEPS, both[:, 0], ls="--", marker="s", label=f"at the first view, budget {budget:g}", **ink
            )
    axes.axhline(0.9, color="0.6", lw=0.8, zorder=0)
    axes.set(
        xlabel="lasting step, in sigma of repeated measurement",
        ylabel="share of steps alerted",
        ylim=(0, 1.02),
    )
    axes.set_title(f"SIMULATED series: {lakes} lakes, 5 years, 12 views a year, drops and rises", fontsize=10)
    axes.legend(frameon=False, fontsize=9)
    axes.grid(alpha=0.25)
    figure.savefig(path, format="png")


def merged(page: str, told: dict[str, str], command: str) -> str:
    """A page with these tables between their marks; all else stays as it is."""
    facts = f"SIMULATED, by `{command}`; xglof {version('xglof')}, {datetime.now(UTC):%Y-%m-%d}."
    for name, text in told.items():
        begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
        marks = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", flags=re.DOTALL)
        block = f"{begin}\n{text}\n\n{facts}\n{end}"
        page = marks.sub(lambda _, block=block: block, page) if marks.search(page) else f"{page}\n{block}\n"
    return page


def main(words: Sequence[str] | None = None) -> None:
    """Simulate, print the tables, and write them and the curve where that is wanted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--lakes", type=int, default=2000, help="SIMULATED lakes of each series")
    parser.add_argument("--years", type=int, default=5, help="years of the stable series")
    parser.add_argument("--seed", type=int, default=1, help="of the random numbers")
    parser.add_argument("--write", type=Path, nargs=2, metavar=("REPORT", "PICTURE"), help="Markdown and PNG")
    asked: Any = parser.parse_args(words)
    if asked.lakes < 1 or asked.years < 1:
        parser.error("--lakes and --years: at least one of each must be simulated")
    told, shares = tables(asked.lakes, asked.years, asked.seed)
    for name, text in told.items():
        print(f"## {name}\n\n{text}\n")
    if asked.write:
        options = ["--lakes", str(asked.lakes), "--years", str(asked.years), "--seed", str(asked.seed)]
        report, picture = asked.write
        page = report.read_text(encoding="utf-8") if report.exists() else "# Alerts: simulated rates\n"
        command = shlex.join(["python", "benchmarks/alerts.py", *options])
        report.write_text(merged(page, told, command), encoding="utf-8")
        draw(shares, asked.lakes, picture)


if __name__ == "__main__":
    main()
