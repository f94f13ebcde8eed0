"""Training and inference see the same pixels: a chip is the engine's window at its place, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chip_cubes import SPEC, Inference, in_file, labelled
from toys import WINDOW
from xglof.train import stored
from xglof.train.batch import prepare
from xglof.train.sampling import chips

relaxed = settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
sides = st.integers(1, 3 * WINDOW)
offsets = st.integers(0, 40)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files in small chunks are read chunk by chunk, so that windows cross many."""
    monkeypatch.setattr(stored, "_LEAST_PX", 1)


def as_stored(cube: Any, how: str, block: tuple[int, int]) -> Any:
    if how == "memory":
        return cube
    if how == "file":
        return in_file(cube, (1, *block))
    return cube.chunk(
        dict(zip(("time", "y", "x"), (1, *block), strict=True)) | {"time": 1}
        if "time" in cube.dims
        else dict(zip(("y", "x"), block, strict=True))
    )


@relaxed
@given(
    sides,
    sides,
    st.tuples(offsets, offsets),
    st.sampled_from([3, 8, 16]),
    st.sampled_from(["memory", "file", "dask"]),
    st.tuples(st.integers(5, 50), st.integers(5, 50)),
    st.sampled_from([None, 2]),
    st.booleans(),
    st.integers(0, 99),
)
def test_chips_are_the_windows_of_inference(
    height: int,
    width: int,
    offset: tuple[int, int],
    stride: int,
    how: str,
    block: tuple[int, int],
    times: int | None,
    south_up: bool,
    seed: int,
) -> None:
    place = {"left": 500_000 + 10 * offset[0], "top": 3_100_000 - 10 * offset[1]}
    cube, label = labelled(height, width, times=times, seed=seed, **place)
    if south_up:
        cube, label = cube.isel(y=slice(None, None, -1)), label.isel(y=slice(None, None, -1))
    inference = Inference(cube, SPEC, WINDOW, stride)
    source = chips(
        as_stored(cube, how, block),
        label=as_stored(label, how, block),
        model=SPEC,
        stride=stride,
        min_valid=0,
    )
    chosen = inference.modalities()
    for name, group in source.index.groupby("modalities"):
        rows = group.index.to_numpy()[:: max(len(group) // 6, 1)]
        batch = source.read(rows)
        sample = prepare(SPEC, batch)
        assert "+".join(batch.modalities) == name
        for number, chip in enumerate(source.index.iloc[rows].itertuples()):
            where = chip.step, chip.row, chip.col
            assert chosen[where] == name
            for variable, planes in batch.planes.items():
                expected = inference.plane(variable, *where)
                assert planes.numpy().dtype == expected.dtype
                np.testing.assert_array_equal(planes[number].numpy(), expected)
            given_to_network = inference.inputs(*where)
            for modality, values in sample.inputs.items():
                assert torch.equal(values[number], torch.from_numpy(given_to_network[modality]))
