"""The errors of xglof: a message says what came, what was expected and what to do."""

from __future__ import annotations


class XglofError(Exception):
    """Base of every error that xglof raises on purpose; the command line shows it without a traceback."""


class CubeError(XglofError, ValueError):
    """A cube, an area of interest or a grid that breaks the contract of :mod:`xglof.cube`."""


class CatalogError(XglofError, ValueError):
    """A catalogue, a search or an item that gives nothing usable."""


class ModelError(XglofError, ValueError):
    """An unknown model, weights that fail their check, or a network that breaks its contract."""


class OutputError(XglofError, OSError):
    """A place to write to that is taken or not writable, or one to read from that holds nothing of ours."""


class TrainError(XglofError, ValueError):
    """Labels, chips, a split or a training that can't be used as it is."""
