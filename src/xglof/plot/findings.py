"""What is known of lakes in words and numbers: for a card and for the report, from one place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xglof.errors import CubeError
from xglof.lakes.alerts import detectability, find_alerts
from xglof.lakes.lineage import lineage
from xglof.lakes.polygons import SMALL_M2
from xglof.lakes.scatter import interval
from xglof.lakes.series import SeriesFlag, flagged
from xglof.lakes.trends import trend
from xglof.plot.inventory import given_names

if TYPE_CHECKING:
    from collections.abc import Mapping

    import geopandas
    import pandas as pd

#: Alerts in a year of a lake that does not change: 1 in 100 lake-years.
FALSE_ALARMS = 0.01
_NO_VALUE = SeriesFlag.outlier | SeriesFlag.provisional


@dataclass(frozen=True, slots=True)
class Latest:
    """The latest observations of a lake.

    Attributes
    ----------
    date, area, lower, upper, sigma
        Of the last value that is neither an outlier nor of winter radar alone: its date, m2, the 95% interval
        by the lake's scatter, one sigma by the outline. NaT and NaN for none.
    view, least, most, observed
        Of the last date with bounds: the date, bounds in m2, the observed share.
    """

    date: Any
    area: float
    lower: float
    upper: float
    sigma: float
    view: Any
    least: float
    most: float
    observed: float


@dataclass(frozen=True, slots=True)
class Findings:
    """What a report rests on, in memory.

    Attributes
    ----------
    series
        ``(lake, time)`` with flags and, as ``interval_lower`` and ``interval_upper``, the 95% intervals.
    polygons
        As they were tracked.
    trends
        ``(lake)``, see :func:`xglof.lakes.trends.trend`.
    limits
        ``(lake)``, see :func:`xglof.lakes.alerts.detectability`; ``None`` for composites.
    events, alerts
        A row an event or alert.
    false_alarms
        Budget of the alerts: how many a year of a lake that does not change may raise.
    given
        Names that people gave, by id.
    small
        Ids of lakes that were never seen as large as 0.02 km2.
    patches
        Those of them without an alert and with fewer than two values above 0: mostly noise of winter.
    """

    series: xr.Dataset
    polygons: geopandas.GeoDataFrame
    trends: xr.Dataset
    limits: xr.Dataset | None
    events: pd.DataFrame
    alerts: pd.DataFrame
    false_alarms: float
    given: Mapping[str, str]
    small: frozenset[str]
    patches: frozenset[str]

    @property
    def composite(self) -> bool:
        """The series is of composites: no alert is looked for in them."""
        return self.limits is None

    @property
    def names(self) -> list[str]:
        """Ids of the lakes, the largest first by the most water ever seen."""
        size = self.series["area_lower"].fillna(0).max("time").to_numpy()
        return [str(self.series["lake"].values[i]) for i in np.argsort(-size, kind="stable")]

    @property
    def lakes(self) -> list[str]:
        """Ids of the lakes that are no patches, the largest first."""
        return [name for name in self.names if name not in self.patches]

    def title(self, lake: str) -> str:
        """A lake's name with its id, or the id where nobody named it."""
        return f"{self.given[lake]} ({lake})" if lake in self.given else lake

    def shown(self, largest: int, most_alerts: int = 6) -> list[str]:
        """Lakes with alerts, large lakes and great changes first, and the largest lakes, each once."""
        rows = self.alerts.assign(
            small=self.alerts["lake"].isin(self.small), change=-self.alerts["change_m2"].abs()
        ).sort_values(["small", "status", "change"], kind="stable")
        alerted = [*dict.fromkeys(rows["lake"].astype(str))][:most_alerts]
        return [*dict.fromkeys([*alerted, *self.lakes[:largest]])]

    def latest(self, lake: str) -> Latest:
        """The latest observations of a lake."""
        row = int(self.series.get_index("lake").get_loc(lake))
        quality = self.series["quality"].values[row]
        good = np.isfinite(self.series["area"].values[row]) & ((quality & np.uint16(_NO_VALUE)) == 0)
        seen = np.isfinite(self.series["area_lower"].values[row])
        value = self._last(row, good, ("area", "interval_lower", "interval_upper", "area_sigma"))
        return Latest(*value, *self._last(row, seen, ("area_lower", "area_upper", "observed_fraction")))

    def _last(self, row: int, which: NDArray[np.bool_], names: tuple[str, ...]) -> tuple[Any, ...]:
        """Date and values of the last of some dates of a lake."""
        steps = np.flatnonzero(which)
        if not steps.size:
            return (np.datetime64("NaT"), *(np.nan for _ in names))
        date = self.series["time"].values[steps[-1]]
        return (date, *(float(self.series[name].values[row, steps[-1]]) for name in names))

    def latest_alert(self, lake: str) -> Any | None:
        """The row of a lake's last alert that stands."""
        rows = self.alerts[(self.alerts["lake"] == lake) & (self.alerts["status"] != "withdrawn")]
        return rows.sort_values("first_changed", kind="stable").iloc[-1] if len(rows) else None


def find_facts(
    series: xr.Dataset,
    lakes: geopandas.GeoDataFrame,
    *,
    alerts: pd.DataFrame | None = None,
) -> Findings:
    """Trends, limits, lineage and alerts of a series, in memory.

    Parameters
    ----------
    series
        As :func:`xglof.lakes.lake_area` or :func:`xglof.lakes.series.flag_series` returns it.
    lakes
        What :func:`xglof.lakes.tracking.track` returned.
    alerts
        As :func:`xglof.lakes.alerts.find_alerts` returns them, with their budget of false alarms; ``None``
        finds them at 1 in 100 lake-years. Of composites there are none.

    Raises
    ------
    CubeError
        The series has no time or no date.
    """
    if not series.sizes.get("time"):
        raise CubeError("the series has no time or no date; a report needs dates with a segmentation")
    seen = flagged(series).transpose("lake", "time", ...).compute()
    ends = interval(seen)
    seen = seen.assign(interval_lower=ends["lower"], interval_upper=ends["upper"])
    composite = bool(seen.attrs.get("composite"))
    budget = FALSE_ALARMS if alerts is None else float(alerts.attrs.get("false_alarms", FALSE_ALARMS))
    if alerts is None:
        alerts = no_alerts() if composite else find_alerts(seen, false_alarms=budget)
    limits = None if composite else detectability(seen, false_alarms=budget)
    small, patches = _specks(seen, alerts)
    return Findings(
        seen, lakes, trend(seen).compute(), limits, lineage(lakes, seen), alerts, budget,
        given=given_names(lakes), small=small, patches=patches,
    )  # fmt: skip


def _specks(seen: xr.Dataset, alerts: pd.DataFrame) -> tuple[frozenset[str], frozenset[str]]:
    """Ids of the lakes that were always small, and of those that are patches."""
    ids = seen["lake"].to_numpy().astype(str)
    small = seen["area_lower"].fillna(0).max("time").to_numpy() < SMALL_M2
    once = (seen["area"] > 0).sum("time").to_numpy() < 2
    quiet = ~np.isin(ids, alerts["lake"].to_numpy().astype(str))
    return frozenset(ids[small].tolist()), frozenset(ids[small & once & quiet].tolist())


def no_alerts() -> pd.DataFrame:
    """A table of alerts without a row."""
    import pandas as pd

    columns = {"lake": object, "kind": object, "status": object, "change_m2": float, "kin": object}
    dates = dict.fromkeys(("first_changed", "last_intact"), "datetime64[ns]")
    return pd.DataFrame({name: np.empty(0, kind) for name, kind in (columns | dates).items()})
