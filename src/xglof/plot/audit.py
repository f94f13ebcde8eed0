"""Picture sheet of a label audit: candidates side by side with what the rule passed over."""

from __future__ import annotations

import os
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xglof.cube.card_facts import counted, day
from xglof.evaluate.audit_rule import DIRECTIONS, VOTES, AuditRule, ChipView, marked, mndwi, votes
from xglof.evaluate.shares import SHARES
from xglof.lakes.layer import LAKE, UNOBSERVED

if TYPE_CHECKING:
    from xglof.evaluate.audited import Audit

_BRIGHTEST, _GAMMA = 0.3, 1.4  # as maps are drawn
_LABEL, _MODEL, _NODATA = "#ff5ad1", "#ffe14d", "#dedede"
_MARKS = {"omission": "#009e73", "commission": "#d55e00"}  # apart for every kind of colour vision
_WORDS = {
    "omission": "omission: a lake that the label has not",
    "commission": "commission: a lake that only the label has",
}
_COLUMNS = ("picture", "MNDWI", "label", "model", "what the rule marks")
_ROW_IN, _LEFT_IN, _PANEL_IN, _FOOT_IN = 2.35, 3.15, 2.25, 0.8
_SAID_IN, _LINE_IN, _SCORES_IN = 0.55, 0.175, 1.2  # top of the words, one of their lines, scores and titles
_LINE_CHARS = 165


def audit_sheet(
    audit: Audit, *, most: int = 8, controls: int = 2, path: str | os.PathLike[str] | None = None
) -> Any:
    """Figure with the candidates of a label audit, and chips that are none, one a row.

    Shows picture, MNDWI, label, probability of the model and what the rule marks. Under the title stand the
    raw scores with the corrected ones, how many chips and pixels they differ by in each direction, and what
    the rule does not correct.

    Parameters
    ----------
    audit
        Of :func:`xglof.audit_labels` or :func:`xglof.train.chip_audit.audit_chips`.
    most
        Most candidates drawn: the largest of either direction, in turn.
    controls
        Chips with water that are no candidates, drawn by lot (from the digest of the rule, so the same ones
        each time): what the rule passed over is to be looked at, too.
    path
        Where to write a PNG; ``None`` writes none.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure

    rows = _rows(audit, most, controls)
    said = _said(audit, rows)
    head = _SAID_IN + len(said) * _LINE_IN + _SCORES_IN
    width, height = _LEFT_IN + len(_COLUMNS) * _PANEL_IN + 0.2, head + len(rows) * _ROW_IN + _FOOT_IN
    figure = Figure(figsize=(width, height), dpi=100)
    _head(figure, audit, said)
    for number, row in enumerate(rows):
        top = height - head - number * _ROW_IN
        view = audit.view(row.chip)
        _words(figure, audit, row, view.label.shape, (0.25 / width, (top - 0.1) / height))
        for place, draw in enumerate((_picture, _index, _label, _model, _mark)):
            left = _LEFT_IN + place * _PANEL_IN
            size = _PANEL_IN - 0.1
            ax = figure.add_axes((left / width, (top - size) / height, size / width, size / height))
            ax.set(xticks=[], yticks=[], anchor="NW")  # chips at an edge are cut
            draw(ax, view, audit, row)
            if number == 0:
                ax.set_title(_COLUMNS[place], fontsize=11, loc="left")
    _foot(figure, height)
    if path is not None:
        figure.savefig(path, dpi=100, format="png")
    return figure


@dataclass(frozen=True, slots=True)
class _Row:
    """One line of the sheet: a chip, and which of its candidates it shows; ``None`` for a control."""

    chip: int
    candidate: int | None


def _rows(audit: Audit, most: int, controls: int) -> list[_Row]:
    table = audit.candidates
    turns = table.groupby("direction").cumcount().to_numpy()  # the largest of each, then the next of each
    order = np.lexsort((np.arange(len(table)), turns))[: max(most, 0)]
    rows = [_Row(int(table["row"].iloc[place]), int(place)) for place in order]
    chips = audit.chips
    wet = chips[[f"{name}_{vote}" for name in ("tp", "fp", "fn") for vote in VOTES]].sum(axis=1) > 0
    others = np.setdiff1d(np.flatnonzero(wet), table["row"])
    lot = np.random.default_rng(int(audit.rule.digest[:8], 16))
    drawn = lot.permutation(others)[: max(controls, 0)]
    return rows + [_Row(int(chip), None) for chip in sorted(drawn)]


def _said(audit: Audit, rows: list[_Row]) -> list[str]:
    """Lines of words under the title."""
    table, shown = audit.candidates, sum(row.candidate is not None for row in rows)
    chips, others = counted(len(audit.chips), "chip"), counted(len(rows) - shown, "other chip")
    said = [
        f"Applied to all {chips}: {counted(len(table), 'candidate')}, {shown} drawn, the largest of either "
        f"direction in turn. {others} drawn by lot.",
        _rule_words(audit.rule),
        *audit.remarks,
    ]
    return [line for each in said for line in textwrap.wrap(each, _LINE_CHARS)]


def _head(figure: Any, audit: Audit, said: list[str]) -> None:
    height = figure.get_figheight()
    title = f"Label audit, rule {audit.rule.version}, digest {audit.rule.digest[:12]}"
    scores = _SAID_IN + len(said) * _LINE_IN + 0.17, _score_lines(audit)
    for down, text, style in (
        (0.2, title, {"fontsize": 15}),
        (_SAID_IN, "\n".join(said), {"fontsize": 10.5}),
        (*scores, {"fontsize": 10.5, "family": "monospace"}),
    ):
        figure.text(0.25 / figure.get_figwidth(), 1 - down / height, text, va="top", **style)


def _rule_words(rule: AuditRule) -> str:
    near = "" if rule.nir_most is None else f" with B08 up to {rule.nir_most:g}"
    return (
        f"Model: lake from {rule.threshold:g}. MNDWI: water above {rule.water_above:g}{near}, land up to "
        f"{rule.land_up_to:g}, nothing where B03 is below {rule.green_least:g} or under a flag. Marked: "
        f"squares of {rule.width_m:g} m. Candidate: from {rule.area_m2 / 1e4:g} ha."
    )


def _score_lines(audit: Audit) -> str:
    """Raw scores with the corrected ones under them, and what the latter differ by."""
    lines = [f"{'':<11}{'IoU':>8}{'F1':>8}{'precision':>11}{'recall':>8}   labels changed"]
    for name, line in audit.scores().iterrows():
        changes = [
            f"{each} {counted(int(line[f'{each}_chips']), 'chip')}, {int(line[f'{each}_px']):,} px"
            for each in DIRECTIONS
        ]
        told = {"raw": "none", "left out": "none; chips of candidates are left out"}.get(
            str(name), "; ".join(changes)
        )
        shares = "".join(
            f"{line[each]:>{width}.4f}" for each, width in zip(SHARES, (8, 8, 11, 8), strict=True)
        )
        lines.append(f"{name:<11}{shares}   {told}")
    return "\n".join(lines)


def _words(figure: Any, audit: Audit, row: _Row, shape: tuple[int, ...], place: tuple[float, float]) -> None:
    chip = audit.chips.iloc[row.chip]
    when = "" if np.isnat(np.datetime64(chip["time"])) else day(chip["time"])
    name = str(chip["chip"])
    where = f"{chip['latitude']:.4f}°N {chip['longitude']:.4f}°E"
    tall, wide = (side * float(chip["pixel_m"]) / 1000 for side in shape)
    lines = [
        name,
        where if when in name else f"{when} {where}",
        f"{wide:.2f} km wide, {tall:.2f} km high",
        "",
    ]
    colour = "0.25"
    if row.candidate is None:
        lines += [
            "no candidate (drawn by lot)",
            f"chip IoU {_share(audit.chip_shares['iou'].iloc[row.chip])}",
        ]
    else:
        found = audit.candidates.iloc[row.candidate]
        colour = _MARKS[found["direction"]]
        what, rest = _WORDS[found["direction"]].split(": ")
        lines += [f"{what}:", rest, f"{found['px']:,} px, {found['area_m2'] / 1e4:,.1f} ha"]
        lines += [f"chip IoU {_share(found['iou_raw'])} raw,", f"{_share(found['iou_corrected'])} corrected"]
    figure.text(*place, "\n".join(lines[:3]), fontsize=9.5, va="top")
    figure.text(*place, "\n".join(["", "", "", *lines[3:]]), fontsize=9.5, va="top", color=colour)


def _share(value: float) -> str:
    return "none (no lake)" if np.isnan(value) else f"{value:.3f}"


def _picture(ax: Any, view: ChipView, audit: Audit, row: _Row) -> None:
    light, said = _light(view)
    ax.imshow(light, interpolation="nearest")
    if said:
        ax.text(
            0.02, 0.02, said, transform=ax.transAxes, fontsize=8, color="white", backgroundcolor="#00000080"
        )


def _light(view: ChipView) -> tuple[NDArray[np.float64], str]:
    """Picture ``(y, x, 3)`` from 0 to 1 in true colour, else in the bands at hand, and which these are."""
    names = next(
        (each for each in (("B04", "B03", "B02"), ("B11", "B08", "B03")) if set(each) <= view.bands.keys()),
        ("B03",) * 3,
    )
    raw = np.stack([np.nan_to_num(np.asarray(view.bands[name], float)) for name in names], axis=-1)
    light = np.clip(raw / 10_000 / _BRIGHTEST, 0, 1) ** (1 / _GAMMA)
    light[(raw == 0).any(axis=-1)] = 0.87
    return light, "" if names[0] == "B04" else ", ".join(dict.fromkeys(names))


def _index(ax: Any, view: ChipView, audit: Audit, row: _Row) -> None:
    """MNDWI, and hatched where it says nothing."""
    from matplotlib import colormaps

    ax.imshow(
        mndwi(view.bands),
        cmap=colormaps["RdBu"].with_extremes(bad=_NODATA),
        vmin=-1,
        vmax=1,
        interpolation="nearest",
    )
    _hatch(ax, votes(view, audit.rule) == VOTES.index("unclear"))


def _hatch(ax: Any, where: NDArray[np.bool_]) -> None:
    if where.any():
        veil = ax.contourf(where.astype(float), levels=[0.5, 1.5], colors=["#ffffff99"], hatches=["////"])
        veil.set_edgecolor("0.2")
        veil.set_linewidth(0)


def _label(ax: Any, view: ChipView, audit: Audit, row: _Row) -> None:
    codes = np.select([view.label == LAKE, view.label == UNOBSERVED], [1, 2], 0)
    _flat(ax, codes, ["#4a4a4a", _LABEL, _NODATA])


def _model(ax: Any, view: ChipView, audit: Audit, row: _Row) -> None:
    from matplotlib import colormaps

    colours = colormaps["cividis"].with_extremes(bad=_NODATA)
    ax.imshow(view.probability, cmap=colours, vmin=0, vmax=1, interpolation="nearest")


def _mark(ax: Any, view: ChipView, audit: Audit, row: _Row) -> None:
    """The picture in pale grey, outlines of label and model, and the marked pixels."""
    light, _ = _light(view)
    ax.imshow(0.35 + 0.6 * light.mean(axis=-1), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    found = marked(view, audit.rule, float(audit.chips["pixel_m"].iloc[row.chip]))
    for name, where in found.items():
        if where.any():
            ax.imshow(
                np.ma.masked_where(~where, where),
                cmap=_one(_MARKS[name]),
                interpolation="nearest",
                alpha=0.75,
            )
    wet = view.probability >= audit.rule.threshold
    for where, colour, style in ((view.label == LAKE, _LABEL, "dashed"), (wet, _MODEL, "solid")):
        if where.any() and not where.all():
            ax.contour(where.astype(float), levels=[0.5], colors=["black"], linewidths=2.4)
            ax.contour(where.astype(float), levels=[0.5], colors=[colour], linewidths=1.3, linestyles=[style])


def _flat(ax: Any, codes: NDArray[Any], colours: list[str]) -> None:
    from matplotlib.colors import ListedColormap

    ax.imshow(codes, cmap=ListedColormap(colours), vmin=0, vmax=len(colours) - 1, interpolation="nearest")


def _one(colour: str) -> Any:
    from matplotlib.colors import ListedColormap

    return ListedColormap([colour])


def _foot(figure: Any, height: float) -> None:
    """The key."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    key: list[Any] = [
        Line2D([], [], color=_LABEL, lw=2, ls="dashed", label="outline of the label"),
        Line2D([], [], color=_MODEL, lw=2, label="outline of the model"),
        *(Patch(color=colour, label=_WORDS[name]) for name, colour in _MARKS.items()),
        Patch(color="#2166ac", label="MNDWI 1, water"),
        Patch(color="#b2182b", label="MNDWI -1, land"),
        Patch(facecolor="white", edgecolor="0.2", hatch="////", label="MNDWI says nothing"),
        Patch(color=_NODATA, label="no data, no label"),
        Patch(color="#fee838", label="model: probability 1"),
        Patch(color="#00224e", label="model: probability 0"),
    ]
    figure.legend(
        handles=key,
        loc="lower center",
        ncols=5,
        frameon=False,
        fontsize=10,
        bbox_to_anchor=(0.5, 0.04 / height),
    )
