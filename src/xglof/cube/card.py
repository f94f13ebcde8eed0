"""A Dataset in a few lines, as text and as HTML: what ``.glof`` shows of itself.

Ids and attributes come from archives, so everything is escaped.
"""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

import numpy as np

from xglof.cube.card_facts import Dates, card_of, counted, one_line

if TYPE_CHECKING:
    import xarray as xr

_MOST_LINES = 100
_MOST_BARS = 400


def card_text(data: xr.Dataset) -> str:
    """The card as plain text, some lines."""
    card = card_of(data)
    lines = [f"<{card.title}>", *(f"{name:<9}{fact}" for name, fact in card.facts)]
    if card.dates:
        lines.append(f"{'':<9}{card.dates.caption}")
    return "\n".join(lines)


def card_html(data: xr.Dataset) -> str:
    """The card as one HTML element with its style: no script, nothing from elsewhere, everything escaped."""
    card = card_of(data)
    facts = "".join(f"<dt>{_safe(name)}</dt><dd>{_safe(fact)}</dd>" for name, fact in card.facts)
    parts = [f"<div class='xglof-title'>{_safe(card.title)}</div><dl>{facts}</dl>"]
    if card.dates:
        parts += [_strip(card.dates), _table(card.dates)]
    for what, lines in card.lists.items():
        shown = "".join(f"<li>{_safe(line)}</li>" for line in _cut(lines))
        parts.append(f"<details><summary>{len(lines)} {_safe(what)}</summary><ul>{shown}</ul></details>")
    return f"<div class='xglof-card'><style>{_STYLE}</style>{''.join(parts)}</div>"


def _safe(value: object) -> str:
    return html.escape(one_line(value), quote=True)


def _strip(dates: Dates) -> str:
    """A bar a date, one beside the other."""
    caption = f"<div class='xglof-note'>{_safe(dates.caption)}</div>"
    if dates.share is None or len(dates.names) > _MOST_BARS:
        return caption
    bars = []
    for name, share in zip(dates.names, dates.share, strict=True):
        high = min(max(share, 0.0), 1.0) if np.isfinite(share) else 0.0
        label = f"{name}: {share:.0%} {dates.means}" if np.isfinite(share) else f"{name}: unknown"
        bars.append(f"<i title='{_safe(label)}'><b style='height:{100 * high:.1f}%'></b></i>")
    return (
        f"{caption}<div style='max-width:{max(30 * len(bars), 170)}px'>"
        f"<div class='xglof-strip xglof-{dates.means}' role='img' "
        f"aria-label='{_safe(dates.caption)}'>{''.join(bars)}</div>"
        f"<div class='xglof-ends'><span>{_safe(dates.names[0])}</span>"
        f"<span>{_safe(dates.names[-1] if len(dates.names) > 1 else '')}</span></div></div>"
    )


def _table(dates: Dates) -> str:
    columns: dict[str, tuple[str, ...]] = {"date": dates.names}
    if dates.share is not None:
        head = "observed" if dates.means == "observed" else "cloud cover"
        columns[head] = tuple(f"{share:.0%}" if np.isfinite(share) else "" for share in dates.share)
    columns |= dates.columns
    heads = "".join(f"<th>{_safe(head)}</th>" for head in columns)
    rows = [
        "<tr>" + "".join(f"<td>{_safe(cell)}</td>" for cell in row) + "</tr>"
        for row in zip(*(column[:_MOST_LINES] for column in columns.values()), strict=True)
    ]
    left = len(dates.names) - len(rows)
    more = f"<div class='xglof-note'>and {left} more</div>" if left > 0 else ""
    return (
        f"<details><summary>{counted(len(dates.names), 'date')}</summary><div class='xglof-scroll'>"
        f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>{more}</details>"
    )


def _cut(lines: tuple[str, ...]) -> tuple[str, ...]:
    left = len(lines) - _MOST_LINES
    return lines if left <= 0 else (*lines[:_MOST_LINES], f"and {left} more")


# what has no colour of its own takes the page's, so that dark pages stay dark
_STYLE = """
.xglof-card{max-width:700px;line-height:1.5;font-size:13px;
color:var(--xr-font-color0,var(--jp-content-font-color0,inherit))}
.xglof-card .xglof-title{font-weight:600;padding:4px 0;margin-bottom:4px;
border-bottom:1px solid var(--xr-border-color,var(--jp-border-color2,rgba(128,128,128,.45)))}
.xglof-card dl{display:grid;grid-template-columns:max-content 1fr;gap:1px 14px;margin:0}
.xglof-card dt,.xglof-card .xglof-note,.xglof-card .xglof-ends{font-weight:400;opacity:.7}
.xglof-card dd{margin:0;overflow-wrap:anywhere}
.xglof-card .xglof-note{margin-top:8px}
.xglof-card .xglof-strip{display:flex;gap:2px;height:42px;margin-top:3px}
.xglof-card .xglof-strip i{display:flex;align-items:flex-end;flex:1 1 0;
background:rgba(128,128,128,.22)}
.xglof-card .xglof-strip b{display:block;width:100%;background:#009e73}
.xglof-card .xglof-cloud b{background:#8c8c8c}
.xglof-card .xglof-ends{display:flex;justify-content:space-between;font-size:11px}
.xglof-card details{margin-top:4px}
.xglof-card summary{cursor:pointer}
.xglof-card .xglof-scroll{max-height:260px;overflow:auto}
.xglof-card table{border-collapse:collapse;font-size:12px;margin:2px 0;color:inherit}
.xglof-card th,.xglof-card td{text-align:left;padding:1px 12px 1px 0;white-space:nowrap;
background:none;color:inherit;border:0}
.xglof-card th{font-weight:400;opacity:.7}
.xglof-card ul{margin:2px 0;padding-left:18px}
.xglof-card li{overflow-wrap:anywhere}
""".replace("\n", "")
