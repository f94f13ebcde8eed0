"""``xglof score``: maps against their truths, in tables, files and two pictures."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from rich.console import Console

from xglof.errors import CubeError, OutputError
from xglof.evaluate.bootstrap import BLOCK_M, block_counts, bootstrap_intervals
from xglof.evaluate.boundary import TOLERANCE_M, add_boundary_shares, score_boundary
from xglof.evaluate.calibration import reliability
from xglof.evaluate.chips import Empty, score_chips
from xglof.evaluate.counts import OUTCOMES, confusion_counts
from xglof.evaluate.histogram import probability_histogram
from xglof.evaluate.matching import MIN_IOU
from xglof.evaluate.objects import lake_matches, lake_scores
from xglof.evaluate.shares import SHARES, add_shares
from xglof.evaluate.sweep import best_threshold, sweep_counts
from xglof.outputs import FolderKind, new_folder, read_zarr
from xglof.progress import TaskProgress, open_console
from xglof.scoring_tables import print_scores

if TYPE_CHECKING:
    import pandas

Given = str | os.PathLike[str]

#: The last file that is written; its presence marks a folder as one of scores.
SCORES = "scores.json"
_KIND = FolderKind(
    "folder of scores", f"holds no {SCORES}", "--overwrite", lambda folder: (folder / SCORES).is_file()
)
_SHORES = ("mapped_hit", "mapped_miss", "true_hit", "true_miss")
_STORE = "segmentation.zarr"  # in the folder of a run
_LAKES = Path("truth", "lakes.parquet")  # in the folder of a simulated catalogue
_RASTER = ("zarr.json", ".zgroup", ".zmetadata")  # one of them lies in a Zarr store
_OF_POLYGONS = ("all_touched", "dates", "tolerance")
_SHOWN = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)  # thresholds of the summary


@dataclass(frozen=True, slots=True)
class ScoreRules:
    """What is counted how; see the functions of :mod:`xglof.evaluate`.

    Attributes
    ----------
    threshold
        Of ``lake_probability``; ``None`` scores ``lake`` as it is.
    tolerance_m
        Of shores.
    chip_px, empty
        Side of a chip, and the IoU of one without any lake.
    block_m
        Side of a block of ground that is resampled.
    min_iou, min_area
        From which on two lakes are one, and how large one must be to count (m2).
    all_touched, dates, tolerance
        Of a truth of polygons, and refused for others: see :func:`xglof.train.labels.rasterise`.
    """

    threshold: float | None = None
    tolerance_m: float = TOLERANCE_M
    chip_px: int = 224
    empty: Empty = "skip"
    block_m: float = BLOCK_M
    min_iou: float = MIN_IOU
    min_area: float = 0.0
    all_touched: bool = False
    dates: str | None = None
    tolerance: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """Counts of one map against its truth, in memory; they add to those of others.

    Attributes
    ----------
    name
        Of the map.
    dates
        Confusion counts and shore counts of every date, dim ``time`` or none.
    chips
        As :func:`xglof.evaluate.score_chips` gives them.
    blocks
        As :func:`xglof.evaluate.block_counts` gives them.
    histogram
        As :func:`xglof.evaluate.probability_histogram` gives it; ``None`` for a map without probabilities.
    matches
        As :func:`xglof.evaluate.lake_matches` gives them.
    used
        Threshold of the map, where it is known.
    """

    name: str
    dates: xr.Dataset
    chips: xr.Dataset
    blocks: xr.Dataset
    histogram: xr.Dataset | None
    matches: pandas.DataFrame
    used: float | None


def run_score(
    seg: Given | Sequence[Given],
    truth: Given | Sequence[Given],
    out: Given,
    *,
    rules: ScoreRules | None = None,
    overwrite: bool = False,
    console: Console | None = None,
) -> dict[str, Any]:
    """Scores of maps against their truths, printed and written; the figures of ``scores.json``.

    The counts of several maps are pooled.

    Parameters
    ----------
    seg
        Zarr store of a segmentation, or the folder of a run that holds ``segmentation.zarr``; or several.
    truth
        As many: a Zarr store with ``lake`` or a file of polygons, see :func:`xglof.train.labels.labels_of`;
        or the folder of a simulated catalogue or of a run of ``xglof demo``. It may have more dates.
    out
        Folder to make: ``scores.json``, ``scores.csv`` (every date), ``lakes.csv`` (by size class),
        ``matches.csv`` (every lake), and, of maps with probabilities, ``sweep.csv``, ``calibration.csv``,
        ``sweep.png`` and ``reliability.png``.
    rules
        What is counted how; ``None`` for the defaults.
    overwrite
        Replace an earlier folder of scores at ``out``.
    console
        Where to print; standard output by default.

    Returns
    -------
    dict
        The figures of ``scores.json``; shares that are not defined are ``None``.

    Raises
    ------
    OutputError
        No such map, other numbers of maps and truths, a place that is taken.
    CubeError, TrainError
        Maps and truths that do not fit, see :func:`xglof.evaluate.score`.
    """
    rules, console = rules or ScoreRules(), console or open_console()
    maps, truths = _paths(seg), _paths(truth)
    if len(maps) != len(truths):
        raise OutputError(f"{len(maps)} maps came with {len(truths)} truths; give each map its own")
    with new_folder(out, overwrite=overwrite, kind=_KIND) as folder:
        found = [_gather(*pair, rules, console) for pair in zip(maps, truths, strict=True)]
        with console.status("writing"):
            named = [{"segmentation": str(a), "truth": str(b)} for a, b in zip(maps, truths, strict=True)]
            figures = {"maps": named, **_figures(found, rules)}
            _write(folder, found, figures)
    print_scores(console, figures, Path(out))
    return figures


def _paths(given: Given | Sequence[Given]) -> list[Path]:
    return [Path(each) for each in ([given] if isinstance(given, str | os.PathLike) else given)]


def _gather(path: Path, truth: Path, rules: ScoreRules, console: Console) -> Evidence:
    """Everything that is counted of one map."""
    store = path / _STORE if (path / _STORE).is_dir() else path
    name = store.parent.resolve().name if store.name == _STORE else store.name
    seg = read_zarr(store)
    actual = open_truth(truth, seg, rules)
    how: dict[str, Any] = {"threshold": rules.threshold}
    space = [dim for dim in actual.dims if dim != "time"]
    lazy = {
        "counts": confusion_counts(seg, actual, **how),
        "shores": score_boundary(seg, actual, tolerance_m=rules.tolerance_m, dim=space, **how),
        "chips": score_chips(seg, actual, size=rules.chip_px, empty=rules.empty, **how),
        "blocks": block_counts(seg, actual, block_m=rules.block_m, **how),
        "histogram": probability_histogram(seg, actual) if "lake_probability" in seg else None,
    }
    with TaskProgress(f"counting, {name}", console):
        done = _computed({name: table for name, table in lazy.items() if table is not None})
        matches = lake_matches(seg, actual, min_iou=rules.min_iou, min_area=rules.min_area, **how)
    used = seg.attrs.get("threshold") if rules.threshold is None else rules.threshold
    return Evidence(
        name,
        done["counts"].assign(done["shores"].data_vars),
        done["chips"],
        done["blocks"],
        done.get("histogram"),
        matches,
        None if used is None else float(used),
    )


def _computed(lazy: dict[str, xr.Dataset]) -> dict[str, xr.Dataset]:
    """The tables in memory, from one pass over the maps."""
    from dask.base import compute

    # variable by variable: Dask loses one that another of the same Dataset follows from
    done = compute({name: dict(table.data_vars) for name, table in lazy.items()})[0]
    return {name: table.assign(done[name]) for name, table in lazy.items()}


def open_truth(path: Path, seg: xr.Dataset, rules: ScoreRules) -> xr.DataArray:
    """The truth at a path on the grid and dates of a segmentation, lazily where it is large."""
    from xglof.simulate import read_truth
    from xglof.train.labels import labels_of

    how: dict[str, Any] = {name: getattr(rules, name) for name in _OF_POLYGONS}
    catalogue = next((each for each in (path, path / "catalog") if (each / _LAKES).is_file()), None)
    given = [name for name, value in how.items() if value]
    if given and (catalogue or any((path / name).exists() for name in _RASTER)):
        raise CubeError(f"{', '.join(given)} came for {path}, which is a raster; they are for polygons only")
    return labels_of(read_truth(catalogue)[0], seg) if catalogue else labels_of(path, seg, **how)


def _figures(found: list[Evidence], rules: ScoreRules) -> dict[str, Any]:
    """What is printed and written, from the counts of all maps."""
    used = {each.used for each in found}
    pixels = _pooled(found, [*OUTCOMES])
    shores = _pooled(found, [*_SHORES])
    figures: dict[str, Any] = {
        "rules": asdict(rules),
        "threshold": used.pop() if len(used) == 1 else None,
        "dates": sum(each.dates["tp"].size for each in found),
        "pixels": _numbers(add_shares(pixels)) | {"interval": _interval(found)},
        "boundary": _numbers(add_boundary_shares(shores)),
        "chips": _chip_figures([each.chips for each in found]),
        "lakes": _lake_table(found).reset_index().to_dict("records"),
        "sweep": None,
        "calibration": None,
        "by_map": [_map_figures(each) for each in found],
        "by_date": _date_table(found).to_dict("records"),
    }
    histogram = _histogram(found)
    if histogram is not None:
        table, curve = sweep_counts(histogram["pixels"]), reliability(histogram)
        best, most = best_threshold(table)
        shown = {f"{at:g}": float(table["iou"].sel(threshold=at)) for at in _SHOWN}
        figures["sweep"] = {"best_threshold": best, "best_iou": most, "iou": shown}
        figures["calibration"] = {name: float(curve[name]) for name in ("ece", "mce")}
    plain: dict[str, Any] = _plain(figures)
    return plain


def _pooled(found: list[Evidence], names: list[str]) -> xr.Dataset:
    return xr.Dataset({name: sum(each.dates[name].sum() for each in found) for name in names})


def _numbers(table: xr.Dataset) -> dict[str, float]:
    return {str(name): value.item() for name, value in table.data_vars.items()}


def _map_figures(one: Evidence) -> dict[str, Any]:
    """Pooled scores of one map."""
    summed = one.dates[[*OUTCOMES, *_SHORES]].sum()
    return {"map": one.name} | _numbers(add_boundary_shares(add_shares(summed)))


def _interval(found: list[Evidence]) -> dict[str, Any]:
    """Bounds of the pooled shares, or why there are none; a place in several maps is one block."""
    import pandas

    frames = [_places(each.blocks) for each in found]
    joined = pandas.concat(frames).groupby(level=[0, 1, 2]).sum().reset_index(drop=True)
    counts = xr.Dataset.from_dataframe(joined.rename_axis("block")).assign_attrs(found[0].blocks.attrs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # told from the number of blocks instead
        try:
            drawn = bootstrap_intervals(counts)
        except CubeError as error:
            return {"reason": str(error)}
    bounds = {name: drawn[name].sel(bound=["lower", "upper"]).values.tolist() for name in SHARES}
    return {name: drawn.attrs[name] for name in sorted(drawn.attrs)} | bounds


def _places(blocks: xr.Dataset) -> pandas.DataFrame:
    """Counts of blocks by CRS and by centre."""
    import pandas

    *_, rows, columns = (name for name in blocks.coords if blocks[name].dims == ("block",))
    mapping = next((blocks[name].attrs for name in blocks.coords if "crs_wkt" in blocks[name].attrs), {})
    crs = np.full(blocks.sizes["block"], str(mapping.get("crs_wkt")))
    where = [crs, *(blocks[name].to_numpy().round(6) for name in (rows, columns))]
    return pandas.DataFrame({name: blocks[name].to_numpy() for name in OUTCOMES}, index=where)


def _chip_figures(chips: list[xr.Dataset]) -> dict[str, float]:
    iou = np.concatenate([each["iou"].to_numpy().ravel() for each in chips])
    known = iou[np.isfinite(iou)]
    counted, empty = (sum(int(each[name].sum()) for each in chips) for name in ("counted", "empty"))
    mean, median = (float(of(known)) if known.size else np.nan for of in (np.mean, np.median))
    return {"chips": counted, "empty": empty, "scored": known.size, "mean_iou": mean, "median_iou": median}


def _lake_table(found: list[Evidence]) -> pandas.DataFrame:
    import pandas

    return lake_scores(pandas.concat([each.matches for each in found], ignore_index=True))


def _histogram(found: list[Evidence]) -> xr.Dataset | None:
    """The sum of all histograms; ``None`` unless every map has one."""
    histograms = [each.histogram for each in found if each.histogram is not None]
    if len(histograms) < len(found):
        return None
    names = ("pixels", "probability_sum")
    return xr.Dataset({name: sum(each[name].variable for each in histograms) for name in names})


def _date_table(found: list[Evidence]) -> pandas.DataFrame:
    """A row a date of a map."""
    import pandas

    rows = []
    for each in found:
        table = add_boundary_shares(add_shares(each.dates))
        dated = table if "time" in table.dims else table.expand_dims("time")
        plain = dated.drop_vars([name for name in dated.coords if name != "time"])
        rows.append(plain.to_dataframe().reset_index().assign(map=each.name))
    joined = pandas.concat(rows, ignore_index=True)
    return joined[["map", "time", *(name for name in joined if name not in ("map", "time"))]]


def _plain(value: Any) -> Any:
    """Values as JSON has them: ``None`` for NaN, and text for dates."""
    if isinstance(value, dict):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    if isinstance(value, np.integer):
        return int(value)
    return value if isinstance(value, str | int | bool | None) else str(value)


def _write(folder: Path, found: list[Evidence], figures: dict[str, Any]) -> None:
    """Tables and pictures, and the figures last."""
    import pandas

    _date_table(found).to_csv(folder / "scores.csv", index=False, float_format="%.6g")
    _lake_table(found).to_csv(folder / "lakes.csv", float_format="%.6g")
    matches = pandas.concat([each.matches.assign(map=each.name) for each in found], ignore_index=True)
    matches.to_csv(folder / "matches.csv", index=False, float_format="%.6g")
    histogram = _histogram(found)
    if histogram is not None:
        _write_curves(folder, histogram, figures)
    text = json.dumps(figures, indent=2)
    (folder / SCORES).write_text(text + "\n", encoding="utf-8")


def _write_curves(folder: Path, histogram: xr.Dataset, figures: dict[str, Any]) -> None:
    from xglof.plot.scores import reliability_diagram, sweep_curves

    table, curve = sweep_counts(histogram["pixels"]), reliability(histogram)
    table.to_dataframe().to_csv(folder / "sweep.csv", float_format="%.6g")
    groups = ["lower", "upper", "pixels", "lake_pixels", "mean_probability", "lake_share"]
    curve.to_dataframe()[groups].to_csv(folder / "calibration.csv", index=False, float_format="%.6g")
    names = [each["map"] for each in figures["by_map"]]
    title = names[0] if len(names) == 1 else f"{len(names)} maps"
    sweep_curves(table, folder / "sweep.png", used=figures["threshold"], title=title)
    reliability_diagram(curve, folder / "reliability.png", title=title)
