"""The stage that a training goes on from: its split and its places, which no further stage may measure by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from xglof.errors import TrainError, XglofError
from xglof.models.registry import get_spec, names
from xglof.train.settings import ModelConfig

if TYPE_CHECKING:
    import pandas as pd

    from xglof.train.splits import Split

#: Beside every model: where the chips of its training lay, and those of the stages before it.
PLACES_FILE = "places.csv"
_SPLIT_FILE = "split.json"
#: Folders of a run that hold weights without a split.
_OF_A_RUN = ("checkpoints", "snapshots")
_PLACES = ["source", "longitude", "latitude", "side_m", "fold"]


@dataclass(frozen=True, slots=True)
class Ancestry:
    """What a training's chips have to do with the stages before it.

    Attributes
    ----------
    places
        Of the chips of this training and of all stages before it, a row a place: ``source``, ``longitude``
        and ``latitude`` (degrees), ``side_m``, ``fold``.
    notes
        What could not be compared, as sentences.
    """

    places: pd.DataFrame
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Stage:
    """What is known of the stage that made the weights to start from.

    Attributes
    ----------
    start
        Name of the weights, without the folders that they lie in.
    split
        Its split; ``None`` where none lies beside the weights.
    places
        Of its chips and of those of the stages before it; ``None`` where they are not known.
    """

    start: str
    split: Split | None = None
    places: pd.DataFrame | None = None


def stage_before(model: ModelConfig, split: Split) -> Stage | None:
    """What lies beside the weights to start from, read before any data are; ``None`` for a random start.

    Parameters
    ----------
    model
        Which weights the training starts from.
    split
        Of this training.

    Raises
    ------
    TrainError
        Files that can't be read or are not complete; or the weights learned from folds that were given, and
        nothing tells where those lay.
    """
    if model.start in ("", "random"):
        return None
    start = _weights_of(model)
    name = model.name if model.start == "own" else model.start
    folder = folder_of_start(start)
    if folder is None:
        return Stage(Path(name).name)
    if not (folder / _SPLIT_FILE).is_file():
        raise TrainError(
            f"{folder} has {PLACES_FILE} and no {_SPLIT_FILE}, which go together; take both files of the "
            "model that the training starts from"
        )
    stage = Stage(Path(name).name, read_split(folder / _SPLIT_FILE), _read_places(folder / PLACES_FILE))
    _check_placed(stage, split, folder)
    return stage


def _check_placed(stage: Stage, split: Split, folder: Path) -> None:
    """Refuse what :func:`xglof.train.stages.check_stages` would after the pass over the data."""
    from xglof.train.schemes import Blocks, CryoSentinelBlocks

    assert stage.split is not None  # noqa: S101  # of a folder that has one
    derived = isinstance(stage.split.rule, Blocks | CryoSentinelBlocks)
    worlds = {split.rule.ground, stage.split.rule.ground}
    if stage.places is None and not derived and "separate" not in worlds:
        raise TrainError(
            f"the start {stage.start!r} learned from folds that were given, and no {PLACES_FILE} in {folder} "
            "tells where they lay, so it could be measured on what it learned from; train that stage again, "
            "or start from other weights"
        )


def check_earlier(stage: Stage | None, split: Split, index: pd.DataFrame) -> Ancestry:
    """Refuse chips to measure by that the weights to start from have learned from.

    Parameters
    ----------
    stage
        As :func:`stage_before` found it.
    split, index
        Of this training; the index with its folds.

    Raises
    ------
    TrainError
        As :func:`xglof.train.stages.check_stages`.
    """
    from xglof.train.stages import check_stages

    own = index[_PLACES].drop_duplicates()
    if stage is None:
        return Ancestry(own)
    if stage.split is None:
        note = (
            f"note: no split.json lies beside the start {stage.start!r}, so what its weights learned from "
            "could not be compared with the chips of val and test"
        )
        return Ancestry(own, (note,))
    check_stages(stage.split, split, index, earlier_index=stage.places)
    worlds = {split.rule.ground, stage.split.rule.ground}
    if stage.places is None or "separate" in worlds:  # such places lie nowhere on the earth
        note = "note: a further stage can be compared with this one, and not with the one that it starts from"
        return Ancestry(own, (note,))
    import pandas as pd

    return Ancestry(pd.concat([own, stage.places[_PLACES]], ignore_index=True).drop_duplicates())


def _weights_of(model: ModelConfig) -> Path:
    """Where the weights to start from lie: those of a registered model are beside its package's files."""
    if model.start != "own":
        return Path(model.start)
    if model.name not in names():
        return Path(model.name)
    weights = get_spec(model.name).weights
    assert weights is not None  # noqa: S101  # spec_of() asked
    return weights.path


def folder_of_start(start: Path) -> Path | None:
    """The model folder whose split and places go with weights to start from, ``None`` where there is none.

    That is the folder itself, the one that a file of weights lies in, or for a checkpoint or a snapshot of a
    run the best model of that run.
    """
    folder = start if start.is_dir() else start.parent
    if folder.name in _OF_A_RUN:
        folder = folder.parent / "best"
    known = any((folder / name).is_file() for name in (_SPLIT_FILE, PLACES_FILE))
    return folder if known else None


def read_split(path: Path) -> Split:
    """The split in a ``split.json``.

    Raises
    ------
    TrainError
        There is none.
    """
    from xglof.train.splits import Split

    try:
        return Split.from_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TrainError(f"split {path} can't be read ({error.strerror})") from error
    except XglofError:
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise TrainError(f"{path} holds no split: {error}") from error


def places_text(places: pd.DataFrame) -> str:
    """Places as CSV, with all digits."""
    text: str = places.to_csv(index=False)
    return text


def _read_places(file: Path) -> pd.DataFrame | None:
    import pandas as pd

    if not file.is_file():
        return None
    try:
        places = pd.read_csv(file, dtype={"fold": str}, float_precision="round_trip")
    except (OSError, ValueError) as error:
        raise TrainError(f"places {file} can't be read: {error}") from error
    if missing := [name for name in _PLACES if name not in places]:
        raise TrainError(f"places {file} lack {', '.join(missing)}; take the file that was written there")
    return places
