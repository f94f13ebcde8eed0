"""The walk on plain arrays, against an oracle that goes lake by lake and date by date."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from xglof.lakes.detection import (
    BASELINE_DAYS,
    BASELINE_MOST,
    CONFIRMED,
    PROVISIONAL,
    WITHDRAWN,
    Views,
    walk,
)
from xglof.lakes.thresholds import EACH, pair_quantile, per_observation, single_quantile


def views(
    area, *, ratio=0.2, dof=40.0, outline=5.0, weak=False, source=0, lower=np.nan, upper=np.nan, step=30.0
):
    area = np.atleast_2d(np.asarray(area, float))
    point = np.isfinite(area)
    spread = {
        name: np.array(np.broadcast_to(np.asarray(value, float), area.shape))
        for name, value in {
            "ratio": ratio,
            "dof": dof,
            "outline": outline,
            "lower": lower,
            "upper": upper,
        }.items()
    }
    for name in ("lower", "upper"):
        spread[name][point] = area[point]
    return Views(
        days=step * np.arange(area.shape[1]),
        area=area,
        weak=np.broadcast_to(weak, area.shape),
        source=np.broadcast_to(source, area.shape),
        rate=np.full(len(area), 12.0),
        floor=np.zeros(len(area)),
        **spread,
    )


def told(alerts):
    names = ("lake", "side", "first", "raised", "decided", "status")
    return [tuple(int(alerts[name][row]) for name in names) for row in range(len(alerts["lake"]))]


def walked(area, **options):
    return told(walk(views(area, **options), 0.01)[0])


def test_a_step_is_provisional_at_the_first_view_and_confirmed_at_the_second():
    assert walked([100, 100, 100, 80]) == [(0, -1, 3, 3, -1, PROVISIONAL)]
    assert walked([100, 100, 100, 80, 80]) == [(0, -1, 3, 3, 4, CONFIRMED)]


def test_a_spike_is_withdrawn_and_enters_no_baseline():
    alerts, latest = walk(views([100, 100, 100, 180, 100, 100]), 0.01)
    assert told(alerts) == [(0, 1, 3, 3, 4, WITHDRAWN)]
    assert latest.before[0] == 100
    assert latest.count[0] == 5


def test_two_in_a_row_alert_that_neither_does_alone():
    steady = [100.0] * 20
    assert walked([*steady, 96.8]) == []
    assert walked([*steady, 96.8, 96.8]) == [(0, -1, 20, 21, 21, CONFIRMED)]
    assert walked([*steady, 96.8, 103.2]) == []
    assert walked([*steady, 97.4, 97.4]) == []


def test_drainage_and_refilling_are_two_alerts():
    area = [100] * 5 + [50] * 5 + [100] * 5
    assert walked(area) == [(0, -1, 5, 5, 6, CONFIRMED), (0, 1, 10, 10, 11, CONFIRMED)]


def test_a_weak_view_raises_but_neither_confirms_nor_withdraws():
    area = [100, 100, 100, 50, 50, 50]
    weak = np.array([0, 0, 0, 1, 1, 0], bool)
    assert walked(area[:5], weak=weak[:5]) == [(0, -1, 3, 3, -1, PROVISIONAL)]
    assert walked(area, weak=weak) == [(0, -1, 3, 3, 5, CONFIRMED)]
    assert walked([100, 100, 100, 50, 100], weak=weak[:5]) == [(0, -1, 3, 3, -1, PROVISIONAL)]
    _, latest = walk(views([100, 100, 103, 103], weak=np.array([0, 0, 1, 1], bool)), 0.01)
    assert latest.before[0] == 100


def test_a_partial_view_counts_where_it_is_certain():
    gap = np.nan
    area = [100, 100, 100, gap, gap]
    assert walked(area, lower=20, upper=60) == [(0, -1, 3, 3, 4, CONFIRMED)]
    assert walked(area, lower=140, upper=300) == [(0, 1, 3, 3, 4, CONFIRMED)]
    assert walked(area, lower=20, upper=140) == []
    spike = walked([100, 100, 100, 50, gap, 100], lower=20, upper=140)
    assert spike == [(0, -1, 3, 3, 5, WITHDRAWN)]  # the uncertain view decides nothing


def test_sources_have_baselines_of_their_own_and_the_outline_stands_in_before():
    optical, radar = 100.0, 108.0  # a bias of 8 sigma between them
    area = [optical, optical, optical] + [radar, optical] * 8
    source = np.where(np.array(area) == radar, 1, 2)
    assert walked(area, source=source, outline=10.0) == []
    drained = np.append(area, [radar - 9, optical - 9])
    alerts = walked(drained, source=np.append(source, [1, 2]), outline=10.0)
    assert alerts == [(0, -1, 19, 19, 20, CONFIRMED)]


def test_the_baseline_is_two_years_and_never_less_than_two_views():
    _, latest = walk(views([100, 100, 100, 102], step=400.0), 0.01)
    assert latest.count[0] == 2
    assert latest.before[0] == 101
    _, latest = walk(views(np.full(60, 100.0), step=10.0), 0.01)
    assert latest.count[0] == BASELINE_MOST


def test_no_sigma_no_alert():
    assert walked([100, 100, 100, 10, 10], ratio=np.nan, outline=np.nan) == []
    assert walked([100, 100, 100, 10, 10], ratio=np.nan, outline=2.0) == [(0, -1, 3, 3, 4, CONFIRMED)]


def test_one_false_first_view_does_not_make_a_baseline():
    assert walked([500, 100, 100, 100, 100, 100]) == []
    assert walked([100, 500, 100, 100, 100, 100]) == []


def test_alerts_up_to_a_date_are_known_on_that_date():
    rng = np.random.default_rng(6)
    area = 100 + rng.normal(size=(300, 40)) * 1.3
    area[:100, 20:] -= 4
    area[100:200, 25] += 9
    area[rng.random(area.shape) < 0.1] = np.nan
    weak = rng.random(area.shape) < 0.1
    seen = views(area, weak=weak, lower=90.0, upper=101.0)
    whole, _ = walk(seen, 0.05)
    assert len(whole["lake"]) > 250
    for date in range(5, 40, 6):
        cut = {
            name: getattr(seen, name)[..., : date + 1]
            for name in ("days", "area", "lower", "upper", "ratio", "dof", "outline", "weak", "source")
        }
        part, _ = walk(dataclasses.replace(seen, **cut), 0.05)
        known = whole["raised"] <= date
        later = whole["decided"] > date
        expected = {name: values[known] for name, values in whole.items()}
        expected["decided"] = np.where(later, -1, whole["decided"])[known]
        expected["status"] = np.where(later, PROVISIONAL, whole["status"])[known]
        for name, values in part.items():
            np.testing.assert_array_equal(values, expected[name], err_msg=name)


def oracle(area, sigma, dof, rate, budget):
    """One lake, strong point views of one source, in words of its own."""
    q = float(per_observation(budget, rate))
    single, pair = (float(of(q, dof)) for of in (single_quantile, pair_quantile))
    steady, first, is_open, found = [], None, False, []
    for date, value in enumerate(area):
        now = [(d, v) for d, v in steady[-BASELINE_MOST:] if 30 * (date - d) <= BASELINE_DAYS]
        now = steady[-2:] if len(now) < 2 else now
        if not now:
            steady.append((date, value))
            continue
        change = value - np.mean([v for _, v in now])
        low, high = pair * sigma * np.sqrt(0.5 + 1 / len(now)), single * sigma * np.sqrt(1 + 1 / len(now))
        spread = 1 / len(now)
        far = EACH * low if len(now) >= 2 else high
        side = int(np.sign(change)) if abs(change) > far else 0
        again = first is not None and side != 0 and side == first[1]
        if is_open and again and abs(change) <= low:
            continue
        if is_open and again:
            found[-1] = (*found[-1][:3], date, CONFIRMED)
        elif is_open:
            found[-1], is_open = (*found[-1][:3], date, WITHDRAWN), False
            again = False
        elif (
            again
            and (abs(change) <= high or abs(first[2]) > low)
            and abs(change + first[2]) / 2 > pair * sigma * np.sqrt(0.5 + (first[3] + spread) / 2)
        ):
            if len(now) >= 2:
                found.append((side, first[0], date, date, CONFIRMED))
        else:
            again = False
        if again:
            steady, first, is_open = [(first[0], area[first[0]]), (date, value)], None, False
        elif side:
            first = (date, side, change, spread)
            if abs(change) > high and len(now) >= 2:
                found.append((side, date, date, -1, PROVISIONAL))
                is_open = True
        else:
            first = None
            steady.append((date, value))
    return found


@pytest.mark.parametrize("seed", range(4))
def test_the_walk_equals_a_loop_over_one_lake(seed):
    rng = np.random.default_rng(seed)
    area = (
        100
        + rng.normal(size=(60, 50))
        + np.cumsum(rng.normal(size=(60, 50)) * 4 * (rng.random((60, 50)) < 0.06), axis=1)
    )
    alerts = told(walk(views(area, dof=20.0), 0.05)[0])
    for lake in range(len(area)):
        mine = sorted(row[1:] for row in alerts if row[0] == lake)
        assert mine == sorted(oracle(area[lake], 1.0, 20.0, 12.0, 0.05))
    assert len(alerts) > 60
