"""The parts of a report, from the summary to the glossary."""

from __future__ import annotations

from typing import Any

import xarray as xr

from xglof.cube.card_facts import counted
from xglof.plot import account, tables
from xglof.plot.alert_words import alert_table
from xglof.plot.close_up import close_up, close_up_caption, lake_dates
from xglof.plot.findings import Findings
from xglof.plot.inventory import inventory_words
from xglof.plot.locator import locator
from xglof.plot.run_facts import summary_facts
from xglof.plot.series import area_series
from xglof.plot.years import cropped, lake_window
from xglof.report.markup import (
    anchor,
    bullets,
    facts,
    folded,
    heading,
    link,
    paragraph,
    picture,
    safe,
    section,
    table,
)

MOST_ALERT_CARDS = 40
MOST_EVENTS = 200
MOST_OF_LAKE = 20
MOST_LAKES = 2000
ALERT_STATUS = ("confirmed", "provisional", "withdrawn")

_LIMITS = (
    "An area is the water that was seen. It is given only where enough of the lake was observed (see the "
    "summary); bounds count all that was not observed once as land and once as water.",
    "Unobserved ground (cloud, shadow, no data, snow or ice over land) is its own answer and never land. "
    "Floating ice on a lake stays lake and is flagged.",
    "The 95 % interval rests on the scatter of the lake's own stable dates, by sensor, orbit and season. It "
    "says how far the same measurement would come out again. A bias that all dates share is not in it.",
    "The outline error (Hanshaw & Bookhagen 2014, doi:10.5194/tc-8-359-2014) is kept beside it so that areas "
    "can be compared with inventories.",
    "Outliers are flagged and never taken out. A drop counts as an outlier only if the next valid "
    "observation is back; a real drainage does not come back.",
    "The threshold of an alert follows from the stated budget of false alarms and the lake's own scatter. An "
    "alert is provisional at the first observation and confirmed at the second. An alert is a reason to "
    "look, not a finding: check the maps.",
    "A trend is the median of slopes (Theil-Sen) with the test of Mann and Kendall, values of one season. "
    'Where the values do not suffice the answer is "not computable".',
    "A volume is a band over published relations of area and volume. Single lakes lie off every relation by "
    "a factor of two and more.",
    "No alert does not mean no hazard: a lake that was not seen, or changed by less than its smallest "
    "detectable change, raises none.",
)
_TERMS = (
    ("unobserved", "Nothing can be said: no data, cloud, shadow. Never land."),
    ("bounds", "Least and most area that the view allows: the water seen, and that with all unobserved."),
    ("observed share", "Part of the lake's footprint that was seen at the date."),
    ("smallest detectable change", "Lasting change that two more valid views would show in 9 of 10 cases."),
    ("longest blind interval", "Longest time without a valid view: what came and went in it was not seen."),
    ("provisional", "Of an alert: seen once. Of a value: radar alone, outside the open-water season."),
    ("repeat scatter", "How far measurements of the lake lie apart while it does not change."),
)


def head(title: str, found: Findings, cube: xr.Dataset, seg: xr.Dataset) -> str:
    """Title, what it rests on in one line, and what a reader must know first."""
    lines = [f"<h1>{safe(title)}</h1>", paragraph(account.source_line(found, seg), kind="soft")]
    if account.is_simulated(cube):
        lines.append(
            paragraph("Simulated data: no satellite saw this. Use it to learn, not to act.", kind="note")
        )
    if caveat := seg.attrs.get("caveat"):
        lines.append(paragraph(f"Caveat of {seg.attrs.get('model', 'the model')}: {caveat}.", kind="note"))
    return "".join(lines)


def summary(found: Findings, cube: xr.Dataset, seg: xr.Dataset) -> str:
    """What was mapped, from what, and by what."""
    return section("Summary", facts(summary_facts(found, cube, seg)), name="summary")


def alerts(found: Findings, carded: list[str]) -> str:
    """Alerts, greatest change first, those of lakes that were always small below, or what could be found."""
    title = "Alerts"
    if found.composite:
        return section(title, paragraph(account.no_alert(found), kind="note"), name="alerts")
    if not len(found.alerts):
        return section(
            title, paragraph(account.no_alert(found)), bullets(account.power(found)), name="alerts"
        )
    small = found.alerts["lake"].isin(found.small)
    parts = [_alert_count(found)]
    if not small.all():
        parts.append(_alert_rows(found, carded, found.alerts[~small], "Alerts, the greatest change first"))
    if small.any():
        parts.append(heading("Lakes that were always small"))
        parts.append(
            _alert_rows(found, carded, found.alerts[small], "Alerts of lakes below 0.02 km² all the time")
        )
    note = "A lake's card gives the evidence: dates by sensor, the threshold, what sigma rests on."
    return section(title, *parts, paragraph(note, kind="soft"), bullets(account.power(found)), name="alerts")


def _alert_count(found: Findings) -> str:
    """How many alerts of each status there are, as a plate."""
    counts = found.alerts["status"].value_counts()
    told = [counted(int(counts[s]), f"{s} alert") for s in ALERT_STATUS if s in counts]
    return paragraph(f"{', '.join(told)}.", kind="alarm" if "confirmed" in counts else "note")


def _alert_rows(found: Findings, carded: list[str], rows: Any, caption: str) -> str:
    heads, cells = alert_table(rows)
    return table(heads, _titled(found, carded, cells), caption=caption)


def _titled(found: Findings, carded: list[str], rows: list[list[object]]) -> list[list[object]]:
    """Rows with names for ids, which lead to the card of a lake that has one."""
    return [
        [link(str(lake), found.title(str(lake))) if lake in carded else found.title(str(lake)), *rest]
        for lake, *rest in rows
    ]


def overview(found: Findings, cube: xr.Dataset, seg: xr.Dataset) -> str:
    """Where the lakes lie."""
    place = locator(found, cube, seg)
    return section(
        "Overview", picture(place.figure, place.alt, caption=place.caption, wide=True), name="overview"
    )


def lake_table(found: Findings, carded: list[str]) -> str:
    """A row a lake, the largest first; patches in a table that opens on request."""
    patches = [name for name in found.names if name in found.patches]
    heads, rows = tables.lake_table(found, found.lakes[:MOST_LAKES])
    parts = [
        table(heads, _titled(found, carded, rows), caption="Lakes, by the most water that each ever showed")
    ]
    if left := len(found.lakes) - len(rows):
        parts.append(paragraph(f"{left} smaller lakes are not in this table."))
    if patches:
        heads, rows = tables.patch_table(found, patches[:MOST_LAKES])
        caption = "Patches: below 0.02 km², no alert, fewer than two values above 0"
        more = len(patches) - len(rows)
        note = paragraph(f"{more} smaller ones are not in this table.") if more else ""
        title = f"{len(patches)} {'patch' if len(patches) == 1 else 'patches'} seen once or never whole"
        parts.append(folded(title, table(heads, rows, caption=caption), note))
    return section("Lakes", *parts, name="lakes")


def cards(found: Findings, cube: xr.Dataset, seg: xr.Dataset, carded: list[str]) -> str:
    """A card for each of some lakes, and which ones those are."""
    note = (
        f"{counted(len(carded), 'lake')} of {len(found.lakes)}: those with alerts (at most "
        f"{MOST_ALERT_CARDS}) and the largest. The others are in the table above."
    )
    parts = [card(found, cube, seg, name) for name in carded]
    return section("Lakes one by one", paragraph(note, kind="soft"), *parts, name="cards")


def card(found: Findings, cube: xr.Dataset, seg: xr.Dataset, lake: str) -> str:
    """Maps, series, figures, history and alerts of one lake."""
    known = inventory_words(found.polygons, lake)
    told = account.alert_sentences(found, lake)
    parts = [
        heading(found.title(lake)),
        paragraph(account.place_words(found, lake, cube), kind="soft"),
        paragraph(known) if known else "",
        "".join(paragraph(line, kind="alarm" if "confirmed" in line else "note") for line in told),
        _maps(found, cube, seg, lake),
        _series_picture(found, lake),
        facts(account.figures(found, lake)),
        "<h4>History</h4>",
        bullets(account.history(found, lake, MOST_OF_LAKE) or ["no event after the first sight"]),
    ]
    return f'<article class="card" id="{anchor(lake)}">{"".join(parts)}</article>'


def _maps(found: Findings, cube: xr.Dataset, seg: xr.Dataset, lake: str) -> str:
    """Maps of a lake side by side, with one caption."""
    bounds = lake_window(found.polygons, lake, cube.odc.geobox)
    near, near_seg = cropped(cube, bounds), cropped(seg, bounds)
    pictures, shown = [], []
    for title, date in lake_dates(near, found, lake):
        figure, drawn = close_up(near, near_seg, found, lake, date, title)
        pictures.append(picture(figure, f"Map of lake {lake}, {title}: {drawn.words}"))
        shown.append(drawn)
    caption = paragraph(close_up_caption(shown), kind="soft")
    return f'<div class="pair">{"".join(pictures)}</div>{caption}'


def _series_picture(found: Findings, lake: str) -> str:
    from matplotlib.figure import Figure

    from xglof.plot.series import series_key

    own = found.series.sel(lake=[lake])
    figure = Figure(figsize=(8.2, 4.4), dpi=120, layout="constrained")
    area_series(own, ax=figure.add_subplot(), emphasise=lake, alerts=found.alerts)
    key = series_key(own, emphasise=lake, alerts=found.alerts)
    figure.legend(handles=key, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return picture(figure, account.series_sentence(found, lake), wide=True)


def history(found: Findings) -> str:
    """Lineage of all lakes."""
    heads, rows = tables.event_table(found)
    left = account.told_events(found)[1]
    skipped = paragraph(f"{counted(left, 'event')} of patches left out.", kind="soft") if left else ""
    if not rows:
        text = "No lake split, merged, vanished or came back."
        return section("Lineage", paragraph(text), skipped, name="lineage")
    shown = rows[:MOST_EVENTS]
    note = f"{len(rows) - len(shown)} further events are not shown." if len(rows) > len(shown) else ""
    body = table(heads, _titled(found, [], shown), caption="Lakes that split, merged, vanished or came back")
    return section("Lineage", body, paragraph(note) if note else "", skipped, name="lineage")


def method() -> str:
    """How to read the numbers, and the words used."""
    terms = facts(_TERMS)
    return section("Method and limits", bullets(_LIMITS), name="method") + section(
        "Terms", terms, name="terms"
    )
