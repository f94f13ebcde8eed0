"""The picture sheet of a label audit: what it draws, and what it says beside it."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure

from audited_valley import SIZE, box, mislabelled, scene
from xglof.evaluate.audit import audit_labels
from xglof.evaluate.audit_rule import AuditRule
from xglof.evaluate.audited import Audit
from xglof.plot.audit import audit_sheet


@pytest.fixture(scope="module")
def found() -> Audit:
    made = mislabelled()
    return audit_labels(made.cube, made.seg, made.label, size=SIZE)


def words(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.texts)


def shown(figure: Figure) -> list[str]:
    """Names of the chips drawn, in order."""
    return [text.get_text().partition("\n")[0] for text in figure.texts if text.get_text().startswith("2023")]


def test_candidates_come_first_and_controls_after_them(found):
    figure = audit_sheet(found)
    assert shown(figure) == [f"2023-07-01 {name}" for name in ("r-9700 c1601", "r-9700 c1600", "r-9699 c1600",
                                                               "r-9699 c1601")]  # fmt: skip
    assert len(figure.axes) == 4 * 5
    assert [ax.get_title(loc="left") for ax in figure.axes[:5]] == [
        "picture", "MNDWI", "label", "model", "what the rule marks"
    ]  # fmt: skip
    said = words(figure)
    assert "Applied to all 4 chips: 2 candidates, 2 drawn" in said
    assert found.rule.digest[:12] in said
    assert said.count("no candidate (drawn by lot)") == 2
    assert "192 px, 1.9 ha" in said


def test_corrected_scores_stand_under_the_raw_ones(found):
    said = words(audit_sheet(found, controls=0)).splitlines()
    scores = found.scores()
    (raw,) = (number for number, line in enumerate(said) if line.startswith("raw"))
    for number, name in enumerate(scores.index):
        assert said[raw + number].startswith(name)
        assert f"{scores.loc[name, 'iou']:.4f}" in said[raw + number]
    assert "omission 1 chip, 180 px; commission 1 chip, 192 px" in said[raw + 1]
    score = re.compile(r"(\d|\)) corrected|corrected +\d")
    at = [number for number, line in enumerate(said) if score.search(line)]
    assert len(at) == 3  # of the whole, and of each candidate
    assert all("raw" in said[number - 1] for number in at)


def test_what_is_not_corrected_is_said(found):
    noted = replace(found, notes=("A note of these chips.",))
    said = words(audit_sheet(noted, controls=0)).replace("\n", " ")
    for remark in noted.remarks:
        assert remark in said
    assert "(tp_land)" in said
    assert "(tn_water)" in said
    plain, longer = (audit_sheet(each, controls=0).get_figheight() for each in (found, noted))
    assert longer == pytest.approx(plain + 0.175)


def test_the_marks_are_drawn_where_they_are(found):
    figure = audit_sheet(found, controls=0)
    commission, omission = (figure.axes[5 * row + 4].images[1].get_array() for row in (0, 1))
    assert np.array_equal(~commission.mask, box((SIZE, SIZE), (8, 20), (6, 22)))
    assert np.array_equal(~omission.mask, box((SIZE, SIZE), (6, 18), (5, 20)))


def test_few_candidates_are_the_largest_of_either_direction():
    shape = (SIZE, 4 * SIZE)
    sides = (20, 18, 8)
    label = np.zeros(shape)
    for number, side in enumerate(sides):
        label[4 : 4 + side, SIZE * number + 4 : SIZE * number + 4 + side] = 1
    omitted = box(shape, (4, 11), (3 * SIZE + 4, 3 * SIZE + 11))  # the smallest of all
    made = scene(omitted, label, np.where(omitted, 1.0, 0.0))
    found = audit_labels(made.cube, made.seg, made.label, size=SIZE, rule=AuditRule(area_m2=1000))
    assert len(found.candidates) == 4
    figure = audit_sheet(found, most=2)
    assert [name[-5:] for name in shown(figure)] == ["c1600", "c1603"]
    assert "4 candidates, 2 drawn" in words(figure)


def test_the_lot_falls_the_same_way_each_time():
    shape = (SIZE, 8 * SIZE)
    lakes = np.zeros(shape, bool)
    lakes[8:20] = np.arange(shape[1]) % SIZE > 20
    made = scene(lakes, lakes, np.where(lakes, 1.0, 0.0))
    drawn = set()
    for area in (5000, 5001, 5002):
        found = audit_labels(made.cube, made.seg, made.label, size=SIZE, rule=AuditRule(area_m2=area))
        names = shown(audit_sheet(found, controls=3))
        assert names == shown(audit_sheet(found, controls=3))
        drawn.add(tuple(names))
    assert len(drawn) > 1  # by the digest, not the first ones
    assert "0 candidates" in words(audit_sheet(found, controls=0))


def test_a_picture_is_written_whatever_bands_there_are(found, tmp_path):
    made = mislabelled()
    few, undated = made.cube[["B03", "B11"]], made.label.isel(time=0, drop=True)
    least = audit_labels(few, made.seg, undated, size=SIZE, rule=AuditRule(nir_most=None))
    for number, audit in enumerate((found, least)):
        path = tmp_path / f"{number}.png"
        audit_sheet(audit, most=1, controls=1, path=path)
        assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    said = [text.get_text() for ax in audit_sheet(least, most=1).axes for text in ax.texts]
    assert said[0] == "B03"  # not true colour, and said so
