"""The stage that a training goes on from: its split and its places, which no further stage may measure by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from xglof.errors import TrainError, XglofError
from xglof.train.settings import ModelConfig

if TYPE_CHECKING:
    import pandas as pd

    from xglof.train.splits import Split

#: Beside every model: where the chips of its training lay, and those of the stages before it.
PLACES_FILE = "places.csv"
_SPLIT_FILE = "split.json"
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


def check_earlier(model: ModelConfig, split: Split, index: pd.DataFrame) -> Ancestry:
    """Refuse chips to measure by that the weights to start from have learned from.

    Parameters
    ----------
    model
        Which weights the training starts from.
    split, index
        Of this training; the index with its folds.

    Raises
    ------
    TrainError
        As :func:`xglof.train.stages.check_stages`, or a split or places that can't be read.
    """
    from xglof.train.stages import check_stages

    own = index[_PLACES].drop_duplicates()
    start = model.name if model.start == "own" else model.start
    if start in ("", "random"):
        return Ancestry(own)
    folder = folder_of_start(Path(start))
    if folder is None:
        note = (
            f"note: no split.json lies beside the start {start!r}, so what its weights learned from could "
            "not be compared with the chips of val and test"
        )
        return Ancestry(own, (note,))
    earlier, before = read_split(folder / _SPLIT_FILE), _read_places(folder / PLACES_FILE)
    check_stages(earlier, split, index, earlier_index=before)
    worlds = {split.rule.ground, earlier.rule.ground}
    if before is None or "separate" in worlds:  # such places lie nowhere on the earth
        note = "note: a further stage can be compared with this one, and not with the one that it starts from"
        return Ancestry(own, (note,))
    import pandas as pd

    return Ancestry(pd.concat([own, before[_PLACES]], ignore_index=True).drop_duplicates())


def folder_of_start(start: Path) -> Path | None:
    """The model folder whose split goes with the weights to start from, ``None`` where there is none.

    That is the folder itself, the one that a file of weights lies in, or for a checkpoint or a snapshot of a
    run the best model of that run.
    """
    for folder in (start, start.parent, start.parent.parent / "best"):
        if (folder / _SPLIT_FILE).is_file():
            return folder
    return None


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
