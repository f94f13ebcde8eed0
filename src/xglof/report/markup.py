"""Pieces of HTML: every text from data is escaped here, and pictures travel inside the page."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from xglof.cube.card_facts import one_line


@dataclass(frozen=True, slots=True)
class Markup:
    """Text that is HTML already: it passes :func:`safe` as it is."""

    text: str


def safe(value: object) -> str:
    """Text for an element or an attribute, on one line, with markup escaped."""
    return value.text if isinstance(value, Markup) else html.escape(one_line(value), quote=True)


def anchor(name: str) -> str:
    """Id of a lake's place on the page; ids of lakes may hold anything."""
    return "lake-" + base64.urlsafe_b64encode(name.encode()).decode().rstrip("=")


def link(name: str, text: str) -> Markup:
    """A text on a lake that leads to its card."""
    return Markup(f'<a href="#{anchor(name)}">{safe(text)}</a>')


def section(title: str, *parts: str, name: str) -> str:
    """A part of the page with a heading."""
    heading = f'<h2 id="{safe(name)}-title">{safe(title)}</h2>'
    return (
        f'<section id="{safe(name)}" aria-labelledby="{safe(name)}-title">{heading}{"".join(parts)}</section>'
    )


def heading(title: object) -> str:
    """A heading inside a part of the page."""
    return f"<h3>{safe(title)}</h3>"


def folded(title: object, *parts: str) -> str:
    """Parts of the page that open on request; they work without scripts."""
    return f"<details><summary>{safe(title)}</summary>{''.join(parts)}</details>"


def paragraph(value: object, *, kind: str = "") -> str:
    """A paragraph, of a CSS class or none."""
    return f'<p class="{safe(kind)}">{safe(value)}</p>' if kind else f"<p>{safe(value)}</p>"


def bullets(lines: Iterable[object]) -> str:
    """A list."""
    return f"<ul>{''.join(f'<li>{safe(line)}</li>' for line in lines)}</ul>"


def facts(pairs: Iterable[tuple[str, object]]) -> str:
    """Names and values, one under the other on a phone."""
    return f"<dl>{''.join(f'<dt>{safe(n)}</dt><dd>{safe(v)}</dd>' for n, v in pairs)}</dl>"


def table(heads: Sequence[str], rows: Iterable[Sequence[object]], *, caption: str) -> str:
    """A table that scrolls sideways where it is too wide; the first cell of a row is its header."""
    top = "".join(f'<th scope="col">{safe(head)}</th>' for head in heads)
    body = "".join(
        f'<tr><th scope="row">{safe(row[0])}</th>{"".join(f"<td>{safe(cell)}</td>" for cell in row[1:])}</tr>'
        for row in rows
    )
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{safe(caption)}"><table>'
        f"<caption>{safe(caption)}</caption><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def picture(figure: Any, alt: str, *, caption: object = "", wide: bool = False) -> str:
    """A matplotlib figure as a picture inside the page.

    Parameters
    ----------
    figure
        matplotlib Figure, drawn at its own resolution.
    alt
        What it shows, for those who do not see it.
    caption
        Under the picture.
    wide
        Keep its letters readable on a phone: it scrolls sideways instead of shrinking.
    """
    held = io.BytesIO()
    figure.savefig(held, format="png", metadata={"Software": None})
    width, height = (round(side * figure.dpi) for side in figure.get_size_inches())
    data = base64.b64encode(held.getvalue()).decode()
    image = f'<img src="data:image/png;base64,{data}" width="{width}" height="{height}" alt="{safe(alt)}">'
    inner = (
        f'<div class="scroll" role="region" tabindex="0" aria-label="Picture, scrolls sideways">{image}</div>'
    )
    words = f"<figcaption>{safe(caption)}</figcaption>" if caption else ""
    return f'<figure class="{"wide" if wide else "fit"}">{inner if wide else image}{words}</figure>'


def document(title: str, body: str) -> str:
    """A whole page: its rules let it load nothing from anywhere, nor run anything."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{safe(title)}</title><style>{STYLE}</style></head><body><main>{body}</main></body></html>\n"
    )


# colours by name, so that dark pages and print change them in one place
STYLE = """
:root{--ink:#1b1f24;--soft:#57606a;--page:#fff;--line:#d0d7de;--plate:#f6f8fa;--link:#0b5cad;
--alarm:#a40e26;--alarm-page:#fdecea;--note-page:#fff6d9;--note-line:#b58105}
@media (prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#9ea7b3;--page:#0f1419;--line:#363d47;
--plate:#181e25;--link:#79b8ff;--alarm:#ff9a93;--alarm-page:#35171a;--note-page:#2c2510;--note-line:#d8a822}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--page);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","DejaVu Sans",sans-serif}
main{max-width:70rem;margin:0 auto;padding:1.2rem 1rem 3rem}
h1{font-size:1.6rem;line-height:1.25;margin:0 0 .4rem}
h2{font-size:1.25rem;margin:2.2rem 0 .6rem;padding-bottom:.2rem;border-bottom:1px solid var(--line)}
h3{font-size:1.05rem;margin:0 0 .4rem;overflow-wrap:anywhere}
h4{font-size:.95rem;margin:.9rem 0 .2rem}
p{margin:.4rem 0 .7rem;overflow-wrap:anywhere}
ul{margin:.3rem 0 .8rem;padding-left:1.2rem}
a{color:var(--link)}
.soft,figcaption,caption{color:var(--soft)}
.note{background:var(--note-page);border-left:4px solid var(--note-line);padding:.5rem .8rem}
.alarm{background:var(--alarm-page);border-left:4px solid var(--alarm);padding:.5rem .8rem}
dl{display:grid;grid-template-columns:minmax(9rem,max-content) 1fr;gap:.15rem 1rem;margin:.4rem 0 .8rem}
dt{color:var(--soft)}
dd{margin:0;overflow-wrap:anywhere}
.scroll{overflow-x:auto;max-width:100%}
table{border-collapse:collapse;font-size:.85rem;margin:.3rem 0 .8rem;font-variant-numeric:tabular-nums}
caption{text-align:left;padding-bottom:.3rem}
th,td{text-align:left;padding:.3rem .65rem .3rem 0;border-bottom:1px solid var(--line);vertical-align:top}
thead th{color:var(--soft);font-weight:600;vertical-align:bottom}
td{white-space:nowrap}
tbody th{white-space:normal}
details{border:1px solid var(--line);border-radius:8px;padding:.5rem .8rem;margin:.6rem 0 1rem}
summary{cursor:pointer;color:var(--soft)}
a:focus-visible,summary:focus-visible,.scroll:focus-visible{outline:2px solid var(--link);outline-offset:2px}
tbody th{font-weight:600;position:sticky;left:0;background:var(--page)}
figure{margin:.6rem 0 1rem}
figcaption{font-size:.9rem}
img{display:block;max-width:100%;height:auto;background:#fff;border-radius:4px}
.pair{display:grid;grid-template-columns:1fr 1fr;gap:0 1rem}
.fit img,.wide img{max-width:min(100%,48rem)}
.card{border:1px solid var(--line);border-radius:8px;padding:1rem;margin:1rem 0;background:var(--plate)}
@media (max-width:640px){.pair{grid-template-columns:1fr}.wide img{max-width:none;width:40rem}
dl{grid-template-columns:1fr;gap:0}dd{margin-bottom:.45rem}.card{padding:.7rem}}
@media print{:root{--ink:#000;--soft:#444;--page:#fff;--line:#bbb;--plate:#fff;--link:#000;--alarm:#a40e26;
--alarm-page:#fff;--note-page:#fff;--note-line:#888}body{font-size:10pt}main{max-width:none;padding:0}
.card,figure,tr{break-inside:avoid}h2,h3{break-after:avoid}
th,td,tbody th{white-space:normal;position:static}.scroll{overflow:visible}table{font-size:8pt}
.wide img{width:auto;max-width:100%}a{text-decoration:none}}
""".replace("\n", "")
