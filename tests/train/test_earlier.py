"""What a training is compared with before it measures itself: all stages before it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from xglof.errors import TrainError
from xglof.train.earlier import Ancestry, check_earlier, folder_of_start, places_text, stage_before
from xglof.train.settings import ModelConfig
from xglof.train.splits import Split

SPLIT = Split.given(["train", "val"])
#: Valleys that lie far apart.
HERE, THERE, AWAY, BEYOND = 77.0, 78.0, 79.0, 80.0


def index(*valleys: float, split: Split = SPLIT) -> pd.DataFrame:
    """A chip a valley, each from a source of its own."""
    places = {"longitude": valleys, "latitude": 43.0, "side_m": 2240.0, "source": range(len(valleys))}
    return split.assign(pd.DataFrame(places))


def compared(model: ModelConfig, split: Split, chips: pd.DataFrame) -> Ancestry:
    return check_earlier(stage_before(model, split), split, chips)


def written(folder: Path, ancestry: Ancestry, split: Split = SPLIT) -> str:
    folder.mkdir(parents=True)
    (folder / "split.json").write_text(split.to_json())
    (folder / "places.csv").write_text(places_text(ancestry.places))
    return str(folder)


def first_stage(folder: Path, split: Split = SPLIT) -> str:
    """A model that learned here and was measured there."""
    return written(folder, compared(ModelConfig(start="random"), split, index(HERE, THERE)), split)


def test_the_third_stage_is_compared_with_the_first(tmp_path: Path) -> None:
    first = first_stage(tmp_path / "first" / "best")
    second = compared(ModelConfig(start=first), SPLIT, index(AWAY, THERE))
    assert second.notes == ()
    assert list(zip(second.places["longitude"], second.places["fold"], strict=True)) == [
        (AWAY, "train"), (THERE, "val"), (HERE, "train"),
    ]  # fmt: skip
    start = ModelConfig(start=written(tmp_path / "second" / "best", second))
    assert len(compared(start, SPLIT, index(BEYOND, THERE)).places) == 4
    for learned in (HERE, AWAY):
        with pytest.raises(TrainError, match=r"1 of 1 places of validation.*start model was trained on"):
            compared(start, SPLIT, index(BEYOND, learned))


@pytest.mark.parametrize(
    "start",
    ["best/weights.safetensors", "checkpoints/step-00000004.ckpt", "snapshots/step-00000004.safetensors"],
)
def test_files_of_a_run_have_its_split(start: str, tmp_path: Path) -> None:
    first_stage(tmp_path / "best")
    assert folder_of_start(tmp_path / start) == tmp_path / "best"
    with pytest.raises(TrainError, match="start model was trained on"):
        compared(ModelConfig(start=str(tmp_path / start)), SPLIT, index(THERE, HERE))


def test_the_model_s_own_weights_are_compared_too(tmp_path: Path) -> None:
    model = ModelConfig(name=first_stage(tmp_path / "model"), start="own")
    with pytest.raises(TrainError, match="start model was trained on"):
        compared(model, SPLIT, index(THERE, HERE))


def test_what_could_not_be_compared_is_said(tmp_path: Path) -> None:
    alone = compared(ModelConfig(start=str(tmp_path / "foreign.pt")), SPLIT, index(HERE, THERE))
    assert "no split.json lies beside the start 'foreign.pt'" in alone.notes[0], "and not where it lies"
    assert len(alone.places) == 2
    worlds = Split.given(["train", "val"], sources=["a/1.zarr", "b/1.zarr"], ground="separate")
    simulated = first_stage(tmp_path / "simulated", worlds)
    real = compared(ModelConfig(start=simulated), SPLIT, index(HERE, THERE))
    assert "not with the one that it starts from" in real.notes[0]
    assert len(real.places) == 2, "simulated places lie nowhere"


def test_the_same_cubes_are_known_though_one_stage_calls_them_worlds(tmp_path: Path) -> None:
    worlds = Split.given(["train", "val"], sources=["a/1.zarr", "b/1.zarr"], ground="separate")
    for first, second in ((worlds, SPLIT), (SPLIT, worlds)):
        start = ModelConfig(start=first_stage(tmp_path / first.digest[:8], first))
        with pytest.raises(TrainError, match=r"1 of 1 places of validation.*start model was trained on"):
            compared(start, second, index(THERE, HERE, split=second))


def test_places_that_are_none(tmp_path: Path) -> None:
    start = Path(first_stage(tmp_path / "model"))
    (start / "places.csv").write_text("source,longitude\n0,77\n")
    with pytest.raises(TrainError, match=r"places\.csv lack latitude, side_m, fold"):
        compared(ModelConfig(start=str(start)), SPLIT, index(HERE, THERE))
    (start / "places.csv").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(TrainError, match=r"places\.csv can't be read"):
        compared(ModelConfig(start=str(start)), SPLIT, index(HERE, THERE))


def test_folds_that_lie_nobody_knows_where(tmp_path: Path) -> None:
    """A model of before places were written: nothing of it can be compared, which is seen without data."""
    start = Path(first_stage(tmp_path / "model"))
    (start / "places.csv").unlink()
    model = ModelConfig(start=str(start))
    for split in (SPLIT, Split.blocks(), Split.published()):
        with pytest.raises(
            TrainError, match=r"'model' learned from folds .* no places\.csv in .* tells where"
        ):
            stage_before(model, split)
    worlds = Split.given(["train", "val"], ground="separate")
    assert compared(model, worlds, index(HERE, THERE)).notes, "simulated valleys are not compared by place"
    (start / "split.json").write_text(Split.published().to_json())
    with pytest.raises(TrainError, match="tells where they lay"):
        stage_before(model, SPLIT)
    (start / "split.json").write_text(Split.blocks().to_json())
    assert compared(model, Split.blocks(), index(HERE, THERE, split=Split.blocks())).notes


def test_places_without_their_split(tmp_path: Path) -> None:
    start = Path(first_stage(tmp_path / "model"))
    (start / "split.json").unlink()
    with pytest.raises(TrainError, match=r"has places\.csv and no split\.json, which go together"):
        stage_before(ModelConfig(start=str(start / "weights.safetensors")), SPLIT)


def test_a_registered_model_has_no_split_of_the_folder_we_are_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first_stage(tmp_path / "best")
    monkeypatch.chdir(tmp_path)
    model = ModelConfig(name="terramind-tiny-demo", start="own")
    assert "beside the start 'terramind-tiny-demo'" in compared(model, SPLIT, index(THERE, HERE)).notes[0]
    monkeypatch.chdir(tmp_path / "best")
    assert compared(model, SPLIT, index(THERE, HERE)).notes


def test_a_folder_without_a_split_takes_none_of_its_neighbours(tmp_path: Path) -> None:
    first_stage(tmp_path / "best")
    (tmp_path / "models" / "foreign").mkdir(parents=True)
    assert folder_of_start(tmp_path / "models" / "foreign") is None
