"""How far an area must lie from its baseline, so that false alarms keep to a stated budget.

A lake that does not change, with normal scatter, is tested at every observation against the mean of ``m``
earlier ones. A single observation raises an alert where its difference passes the high threshold, Student's
quantile times ``sigma sqrt(1 + 1/m)``. Two in a row raise one where the mean of their differences passes the
low threshold, the quantile times ``sigma sqrt(1/2 + 1/m)``, and each of them a part of it: the mean of two
finds more steps than two tests of one, and one spike cannot carry it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float = NDArray[np.float64]

#: Shares of the budget of single observations and of pairs. Pairs use about two thirds of theirs, since each
#: of the two must agree. That both together keep the budget is measured: benchmarks/alerts.py.
SINGLE_SHARE, PAIR_SHARE = 0.3, 0.75
#: Part of the low threshold that each of two observations must pass.
EACH = 2 / 3
#: One sigma of the bias between two sources, in sigmas of the outline: a border that lies half a cell further
#: out all around (Hanshaw & Bookhagen's sigma is 0.6872 of that). It does not average out over the views.
BIAS_OF_OUTLINE = 1 / 0.6872

_LEAST_P, _MOST_P = 1e-12, 0.25


def per_observation(false_alarms: float, rate: ArrayLike) -> Float:
    """Share of the budget of a lake-year that one observation has.

    Parameters
    ----------
    false_alarms
        Alerts that may be raised in a year of a lake that does not change.
    rate
        Observations of the lake in a year; fewer than one count as one.

    Examples
    --------
    >>> per_observation(0.01, [20, 0.5]).tolist()
    [0.0005, 0.01]
    """
    return np.asarray(false_alarms / np.maximum(np.asarray(rate, float), 1.0))


def single_quantile(budget: ArrayLike, dof: ArrayLike) -> Float:
    """Student's quantile that a single observation must pass, from the budget of one observation.

    Parameters
    ----------
    budget
        Probability of a false alarm at an observation, see :func:`per_observation`.
    dof
        Degrees of freedom of sigma; infinity for a known one, NaN gives NaN.

    Examples
    --------
    >>> single_quantile(0.01 / 12, [10, 40, float("inf")]).round(2).tolist()
    [5.53, 4.02, 3.66]
    """
    return _quantile(np.asarray(budget) * SINGLE_SHARE / 2, dof)


def pair_quantile(budget: ArrayLike, dof: ArrayLike) -> Float:
    """Student's quantile that the mean of two observations must pass, from the budget of one observation.

    Parameters
    ----------
    budget, dof
        As for :func:`single_quantile`.
    """
    return _quantile(np.asarray(budget) * PAIR_SHARE / 2, dof)


def _quantile(probability: ArrayLike, dof: ArrayLike) -> Float:
    """Value that Student's variable exceeds with a one-sided probability; normal for infinite ``dof``."""
    from scipy.special import ndtri, stdtrit

    chance, free = np.broadcast_arrays(np.asarray(probability, float), np.asarray(dof, float))
    chance, known = np.clip(chance, _LEAST_P, _MOST_P), np.isinf(free)
    student = -stdtrit(np.where(known, 1.0, free), chance)
    return np.asarray(np.where(known, -ndtri(chance), student))


def smallest_step(chance: float, low: ArrayLike, variance: ArrayLike, shared: ArrayLike) -> Float:
    """Lasting step that two observations show with a chance at least, m2; sigma counts as known.

    Their mean must pass the low threshold, and each of them its part of that. A normal approximation: each of
    the two conditions is met with the root of the chance, as if they did not hang together.

    Parameters
    ----------
    chance
        Probability, such as 0.9.
    low
        Threshold of the mean of two, m2.
    variance, shared
        Of one observation, and of what two observations share, m4.

    Examples
    --------
    >>> float(smallest_step(0.9, 2.6, 1.0, 1 / 24).round(2))
    3.8
    """
    from scipy.special import ndtri

    reach = ndtri(np.sqrt(chance))
    low, variance, shared = (np.asarray(v, float) for v in (low, variance, shared))
    of_two, each = (reach * np.sqrt(variance / views + shared) for views in (2, 1))
    return np.asarray(np.fmax(low + of_two, EACH * low + each))
