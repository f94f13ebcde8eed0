"""Lakes as objects: polygons with ids that last, areas through time with bounds and errors, and alerts."""

from __future__ import annotations

from xglof.lakes.alerts import detectability, find_alerts
from xglof.lakes.area import lake_area
from xglof.lakes.attributes import lake_attributes
from xglof.lakes.contact import ice_contact
from xglof.lakes.export import write_lakes
from xglof.lakes.fusion import fuse_sensors, split_sensors
from xglof.lakes.lineage import lineage
from xglof.lakes.polygons import find_lakes
from xglof.lakes.review import keep_review
from xglof.lakes.scatter import interval
from xglof.lakes.series import SeriesFlag, flag_series
from xglof.lakes.stac import write_stac
from xglof.lakes.totals import total_area
from xglof.lakes.tracking import track
from xglof.lakes.trends import trend
from xglof.lakes.volume import lake_volume

__all__ = [
    "SeriesFlag",
    "detectability",
    "find_alerts",
    "find_lakes",
    "flag_series",
    "fuse_sensors",
    "ice_contact",
    "interval",
    "keep_review",
    "lake_area",
    "lake_attributes",
    "lake_volume",
    "lineage",
    "split_sensors",
    "total_area",
    "track",
    "trend",
    "write_lakes",
    "write_stac",
]
