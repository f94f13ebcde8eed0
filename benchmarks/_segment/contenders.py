"""The contenders: the floor, xglof from memory and from disk, and its peers."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol

from _segment.raster import grid_of, memory_cube, standardised
from _segment.settings import Settings, find_spec
from xglof.engine.lattice import Axis, stride_of

if TYPE_CHECKING:
    import torch
    import xarray as xr

Batch = dict[str, "torch.Tensor"]
#: A block as large as a UTM zone: the raster is one.
_ONE_BLOCK = 2**20


class IncomparableError(Exception):
    """A contender would not run the lattice's windows."""


class Contender(Protocol):
    """One way through the windows, in a process of its own.

    Attributes
    ----------
    network
        Its forward passes are counted.
    """

    network: torch.nn.Module

    def load(self) -> int:
        """Bring the input to where the timing begins; its size in memory, bytes."""
        ...

    def wake(self) -> None:
        """Before the timing: have a GPU's clock and memory where the last run left them."""
        ...

    def run(self) -> None:
        """What is timed."""
        ...

    def rest(self) -> None:
        """After the timing: leave a GPU's spare memory to the contender whose turn is next."""
        ...

    def blocks(self) -> list[list[int]] | None:
        """Sizes of the blocks along y and x, pixels; ``None`` where there are none."""
        ...


@contextmanager
def counted(network: torch.nn.Module) -> Iterator[list[int]]:
    """The batch of each forward pass, as they come."""
    batches: list[int] = []

    def note(module: object, inputs: tuple[Batch]) -> None:
        batches.append(len(next(iter(inputs[0].values()))))  # append: many threads may come at once

    handle = network.register_forward_pre_hook(note)
    try:
        yield batches
    finally:
        handle.remove()


def windows_of_blocks(axes: tuple[Axis, Axis], blocks: list[list[int]]) -> int:
    """Windows that touch a block, summed over the blocks: some are of two."""
    counts = []
    for axis, sizes in zip(axes, blocks, strict=True):
        edges = list(itertools.accumulate(sizes, initial=0))
        counts.append(sum(len(axis.starts(*span)) for span in itertools.pairwise(edges)))
    return counts[0] * counts[1]


def precision(device: str) -> AbstractContextManager[Any]:
    """bfloat16 for matrix products on a GPU, as the engine has it."""
    import torch

    return nullcontext() if device == "cpu" else torch.autocast("cuda", dtype=torch.bfloat16)


class _Networked:
    """What all have in common: settings, spec and network."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.spec = find_spec(settings.model)
        self.device = settings.device
        self.batch = settings.batch or 2  # resolved settings name one
        self.network = self.spec.load(self.device)

    def blocks(self) -> list[list[int]] | None:
        """No blocks."""
        return None

    def wake(self) -> None:
        """On a GPU, one forward pass over zeros."""
        import torch

        if self.device != "cpu":
            side = (self.spec.window, self.spec.window)
            with torch.inference_mode(), precision(self.device):
                self.network({
                    source.modality: torch.zeros(self.batch, len(source.bands), *side, device=self.device)
                    for source in self.spec.inputs
                })  # fmt: skip
            torch.cuda.synchronize(self.device)

    def rest(self) -> None:
        """On a GPU, give back what torch keeps for later."""
        import torch

        if self.device != "cpu":
            torch.cuda.empty_cache()

    def split(self, stacked: torch.Tensor) -> Batch:
        """A batch by modality from all bands (B, C, H, W)."""
        parts = stacked.split([len(source.bands) for source in self.spec.inputs], dim=1)
        return {source.modality: part for source, part in zip(self.spec.inputs, parts, strict=True)}


class Floor(_Networked):
    """Forward passes over the ideal windows, cut, batched and on the device already; nothing else.

    Parameters
    ----------
    side_by_side
        One-thread batches on all cores at once, as the engine runs them, and not one batch on all cores.
    """

    def __init__(self, settings: Settings, *, side_by_side: bool = False) -> None:
        super().__init__(settings)
        self.side_by_side = side_by_side
        self.batches: list[Batch] = []

    def load(self) -> int:
        """Cut the windows."""
        import torch

        raster = torch.from_numpy(standardised(self.settings, self.spec))
        side, stride = self.spec.window, self.settings.axes()[0].stride
        down, across = (range(0, size - side + 1, stride) for size in raster.shape[1:])
        corners = list(itertools.product(down, across))
        for begin in range(0, len(corners), self.batch):
            crops = [raster[:, y : y + side, x : x + side] for y, x in corners[begin : begin + self.batch]]
            parts = self.split(torch.stack(crops)).items()
            self.batches.append({name: part.contiguous().to(self.device) for name, part in parts})
        return sum(part.nbytes for batch in self.batches for part in batch.values())

    def run(self) -> None:
        """All forward passes."""
        import torch

        if self.side_by_side:
            cores = len(os.sched_getaffinity(0))
            with ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                for _ in pool.map(self._forward, self.batches):
                    pass
            return
        for batch in self.batches:
            self._forward(batch)
        if self.device != "cpu":
            torch.cuda.synchronize(self.device)

    def _forward(self, batch: Batch) -> None:
        import torch

        with torch.inference_mode(), precision(self.device):  # both are a thread's own
            self.network(batch)


class InMemory(_Networked):
    """xglof on a cube of NumPy arrays, computed by Dask's threads.

    Parameters
    ----------
    chunks
        Side of a block; ``None`` for the engine's own.
    """

    def __init__(self, settings: Settings, *, chunks: int | None = None) -> None:
        super().__init__(settings)
        self.chunks = chunks

    def load(self) -> int:
        """Make the cube."""
        self.cube = memory_cube(self.spec, self.settings.side)
        return int(self.cube.nbytes)

    def segment(self) -> xr.Dataset:
        """The lazy segmentation."""
        return segment_as(self.settings, self.cube, chunks=self.chunks)

    def blocks(self) -> list[list[int]] | None:
        """Of the output."""
        return blocks_of(self.segment())

    def run(self) -> None:
        """Build the graph and compute the probability."""
        import dask

        with dask.config.set(scheduler="threads"):
            self.segment()["lake_probability"].compute()


class FromDisk(_Networked):
    """xglof from a catalogue of COGs to Zarr: search, read, mosaic, mask, map and write."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        # what open_cube and write_zarr import when they are called is no part of their time
        import odc.stac
        import rasterio
        import zarr

        _ = odc.stac, rasterio, zarr
        self.runs = 0

    def load(self) -> int:
        """Nothing lies in memory."""
        return 0

    def segment(self) -> xr.Dataset:
        """The lazy segmentation of the lazy cube."""
        import xglof

        modalities = tuple(source.modality for source in self.spec.inputs)
        catalog = self.settings.folder / "catalog"
        cube = xglof.open_cube(
            catalog=str(catalog), geobox=grid_of(self.settings.side), modalities=modalities
        )
        return segment_as(self.settings, cube)

    def blocks(self) -> list[list[int]] | None:
        """Of the output."""
        return blocks_of(self.segment())

    def run(self) -> None:
        """All of it, into a new store."""
        import dask

        from xglof.outputs import write_zarr

        self.runs += 1
        with dask.config.set(scheduler="threads"):
            write_zarr(self.segment(), self.settings.folder / f"from-disk-{self.runs}.zarr")


def blocks_of(seg: xr.Dataset) -> list[list[int]]:
    """Sizes of a segmentation's blocks along y and x, pixels."""
    return [list(sizes) for sizes in seg["lake_probability"].data.chunks[-2:]]


def segment_as(settings: Settings, cube: xr.Dataset, chunks: int | None = None) -> xr.Dataset:
    """``xglof.segment`` under these settings."""
    import xglof

    return xglof.segment(
        cube,
        model=find_spec(settings.model),
        overlap=settings.overlap,
        batch_size=settings.batch,
        device=settings.device,
        chunks=chunks,
    )


class _Peer(_Networked):
    """A peer's engine over the same network and windows, from one standardised array in memory."""

    def load(self) -> int:
        """Stack the bands, (1, C, Y, X), reflected to the outer edges of the lattice's windows."""
        import torch

        self.raster = torch.from_numpy(standardised(self.settings, self.spec))[None]
        return self.raster.nbytes

    def forward(self, stacked: torch.Tensor) -> torch.Tensor:
        """Logits float32 of a stacked batch."""
        with precision(self.device):
            logits: torch.Tensor = self.network(self.split(stacked))
        return logits.float()


class TerraTorch(_Peer):
    """``terratorch.tasks.tiled_inference``."""

    def __init__(self, settings: Settings) -> None:
        from terratorch.tasks.tiled_inference import tiled_inference

        super().__init__(settings)
        self.infer = tiled_inference

    def run(self) -> None:
        """Without its own padding, so that it cuts the lattice's windows."""
        import torch

        with torch.inference_mode():
            self.infer(
                self.forward,
                self.raster,
                crop=self.spec.window,
                stride=self.settings.axes()[0].stride,
                delta=0,
                padding=False,
                batch_size=self.batch,
                device=self.device,
            ).cpu()


class Monai(_Peer):
    """``monai.inferers.sliding_window_inference``.

    Raises
    ------
    IncomparableError
        At an overlap for which MONAI, that rounds a stride down, takes another than the engine.
    """

    def __init__(self, settings: Settings) -> None:
        import importlib

        window = find_spec(settings.model).window
        own, wanted = int(window * (1 - settings.overlap)), stride_of(window, settings.overlap)
        if own != wanted:
            raise IncomparableError(
                f"its windows would lie {own} px apart, not {wanted} px; take another overlap"
            )
        self.infer = importlib.import_module("monai.inferers").sliding_window_inference
        super().__init__(settings)

    def run(self) -> None:
        """Gaussian weights; raster and result on the network's device."""
        import torch

        with torch.inference_mode():
            self.infer(
                self.raster.to(self.device),
                (self.spec.window, self.spec.window),
                self.batch,
                self.forward,
                overlap=self.settings.overlap,
                mode="gaussian",
            ).cpu()


#: Each contender by its title, in the order of the table; ``{}`` stands for the side of the small blocks.
FLOORS: dict[str, dict[str, Callable[[Settings], Contender]]] = {
    "cpu": {
        "floor, one batch on all cores": Floor,
        "floor, one-thread batches side by side": lambda settings: Floor(settings, side_by_side=True),
    },
    "cuda": {"floor, bfloat16 autocast": Floor},
}
OURS: dict[str, Callable[[Settings], Contender]] = {
    "xglof in memory, one block": lambda settings: InMemory(settings, chunks=_ONE_BLOCK),
    "xglof in memory, default blocks": InMemory,
    "xglof in memory, small blocks": lambda settings: InMemory(settings, chunks=settings.chunks),
    "xglof from COGs to Zarr": FromDisk,
}
PEERS: dict[str, Callable[[Settings], Contender]] = {
    "terratorch tiled_inference": TerraTorch,
    "MONAI sliding_window_inference": Monai,
}
