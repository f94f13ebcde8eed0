"""Who cuts chips from the store: the floor, xglof, and peers. Each in a process of its own, again and again.

A contender is a function of the store, the stride and the turn. It returns how many chips it gave, as arrays
or tensors of all bands and the label in batches of 8, in how many seconds of the clock and of the processor.
What it opens and lists before is not timed.
"""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from _sampling.store import Store
from xglof.models.registry import TINY_DEMO

BATCH, SIDE_PX = 8, 224
#: Seconds after which a contender's turn ends.
_TURN_S = 10.0
_BANDS = tuple(name for source in TINY_DEMO.inputs for name in source.bands)


@dataclass(frozen=True, slots=True)
class Turn:
    """What a contender did."""

    chips: int
    seconds: float
    cpu_seconds: float


def _counted(batches: Iterable[int]) -> Turn:
    """A turn through batches, each of which says how many chips it has, as long as there is time."""
    begin, cpu, chips = time.perf_counter(), time.process_time(), 0
    for count in batches:
        chips += count
        if time.perf_counter() - begin > _TURN_S:
            break
    return Turn(chips, time.perf_counter() - begin, time.process_time() - cpu)


@functools.cache
def _source(store: Store, stride: int) -> Any:
    from xglof.train.sampling import chips

    cube, label = store.open()
    return chips(cube, label=label, stride=stride)


def floor(store: Store, stride: int, turn: int) -> Turn:
    """Every stored block of every variable read and decoded once by zarr, by two threads; nothing is cut."""
    import zarr

    del turn
    bands, labels = zarr.open_group(store.cube, mode="r"), zarr.open_group(store.label, mode="r")
    spans = [slice(begin, begin + store.chunk) for begin in range(0, store.side, store.chunk)]
    jobs = []
    for array in [*(bands[name] for name in _BANDS), labels["lake"]]:
        places = list(itertools.product(spans, spans))
        if array.ndim == 3:
            places = [(step, *place) for step in range(store.dates) for place in places]
        jobs += [(array, place) for place in places]
    chips = len(_source(store, stride))
    begin, cpu = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(2) as pool:
        for _ in pool.map(lambda job: job[0][job[1]].nbytes, jobs):
            pass
    return Turn(chips, time.perf_counter() - begin, time.process_time() - cpu)


def xglof_loader(store: Store, stride: int, turn: int) -> Turn:
    """An epoch of ChipLoader, shuffled, two threads, nothing held from earlier."""
    from xglof.train.loader import ChipLoader

    source = _source(store, stride)
    loader = ChipLoader(source.with_index(source.index), batch_size=BATCH, balance=None, drop_last=False)
    return _counted(len(batch.rows) for batch in loader.batches(turn))


def xglof_prepared(store: Store, stride: int, turn: int) -> Turn:
    """The same, and standardised as the network takes it."""
    from xglof.train.batch import prepare
    from xglof.train.loader import ChipLoader

    source = _source(store, stride)
    loader = ChipLoader(source.with_index(source.index), batch_size=BATCH, balance=None, drop_last=False)
    return _counted(len(prepare(source.spec, batch).rows) for batch in loader.batches(turn))


def xbatcher_patches(store: Store, stride: int, turn: int) -> Turn:
    """BatchGenerator in the order of its grid, which is the fastest it has; stacked to batches."""
    generator = _generator(store, stride)
    order = (generator[number] for number in range(turn, len(generator)))
    return _counted(len(_stacked(group)["B02"]) for group in _groups(order))


def xbatcher_workers(store: Store, stride: int, turn: int) -> Turn:
    """BatchGenerator behind a shuffling DataLoader with two worker processes."""
    return _counted(_loaded(_Patches(store, stride), turn))


def torchgeo_workers(store: Store, stride: int, turn: int) -> Turn:
    """GridGeoSampler behind a DataLoader with two workers, each query read from the store through xarray."""
    from torchgeo.samplers import GridGeoSampler

    dataset = _geo_dataset(store)
    sampler = GridGeoSampler(dataset, size=SIDE_PX, stride=stride)
    return _counted(_loaded(dataset, turn, sampler))


def torchgeo_own(store: Store, stride: int, turn: int) -> Turn:
    """RandomGeoSampler and XarrayDataset as they come, bands with time only; all dates of a place at once."""
    from torchgeo.datasets import XarrayDataset
    from torchgeo.samplers import RandomGeoSampler

    class Zarr(XarrayDataset):
        filename_glob = store.cube.name

    names = [name for name in _BANDS if name != "dem"]
    dataset = Zarr(str(store.folder), data_vars=names, res=10.0)  # it takes no negative resolution
    queries = RandomGeoSampler(dataset, size=SIDE_PX, length=1 + turn)
    return _counted(dataset[query]["image"].shape[1] for query in itertools.islice(queries, 1))


def _generator(store: Store, stride: int) -> Any:
    import xbatcher

    cube, label = store.open()
    both = cube[list(_BANDS)].assign(lake=label["lake"]).drop_vars("spatial_ref")
    overlap = {"y": SIDE_PX - stride, "x": SIDE_PX - stride}
    sizes = {"time": 1, "y": SIDE_PX, "x": SIDE_PX}
    return xbatcher.BatchGenerator(both, sizes, overlap if stride < SIDE_PX else {})


class _Patches:
    """xbatcher's patches as a map-style dataset."""

    def __init__(self, store: Store, stride: int) -> None:
        self.generator = _generator(store, stride)

    def __len__(self) -> int:
        return len(self.generator)

    def __getitem__(self, number: int) -> dict[str, Any]:
        return _arrays(self.generator[number])


def _arrays(patch: Any) -> dict[str, Any]:
    return {str(name): np.ascontiguousarray(array.values.squeeze()) for name, array in patch.items()}


def _groups(patches: Iterator[Any]) -> Iterator[list[Any]]:
    while group := list(itertools.islice(patches, BATCH)):
        yield group


def _stacked(group: list[Any]) -> dict[str, Any]:
    arrays = [_arrays(patch) for patch in group]
    return {name: np.stack([each[name] for each in arrays]) for name in arrays[0]}


def _loaded(dataset: Any, turn: int, sampler: Any = None) -> Iterator[int]:
    """Batches of a DataLoader with two processes, counted; shuffled where there is no sampler."""
    import torch
    from torch.utils.data import DataLoader

    seed = torch.Generator().manual_seed(turn)
    loader = DataLoader(
        dataset, batch_size=BATCH, shuffle=sampler is None, sampler=sampler, num_workers=2, generator=seed
    )
    for batch in loader:
        yield len(batch["B02"])


def _geo_dataset(store: Store) -> Any:
    """The store as a dataset that torchgeo's samplers can query: a date is a row of its index."""
    import geopandas
    import odc.geo.xr  # noqa: F401  (registers .odc)
    import pandas as pd
    import shapely
    from torchgeo.datasets import GeoDataset

    cube, label = store.open()
    both = cube[list(_BANDS)].assign(lake=label["lake"])
    box = both.odc.geobox
    affine = box.affine

    class Dates(GeoDataset):  # type: ignore[misc]
        def __init__(self) -> None:
            times = pd.DatetimeIndex(both["time"].values)
            index = pd.IntervalIndex.from_arrays(times, times, closed="both", name="datetime")
            area = shapely.box(*box.boundingbox.bbox)
            self.index = geopandas.GeoDataFrame(geometry=[area] * len(times), index=index, crs=box.crs.proj)
            self._res = (10.0, 10.0)

        def __getitem__(self, query: Any) -> dict[str, Any]:
            x, y, when = self._disambiguate_slice(query)
            col, row = round((x.start - affine.c) / 10), round((affine.f - y.stop) / 10)
            step = int(np.argmin(np.abs(both["time"].values - np.datetime64(when.start))))
            part = both.isel(time=step, y=slice(row, row + SIDE_PX), x=slice(col, col + SIDE_PX))
            return _arrays(part)

    return Dates()


#: Title, function, and the package that it needs.
CONTENDERS: tuple[tuple[str, Callable[[Store, int, int], Turn], str | None], ...] = (
    ("floor: zarr reads and decodes", floor, None),
    ("xglof ChipLoader", xglof_loader, None),
    ("xglof ChipLoader, standardised", xglof_prepared, None),
    ("xbatcher BatchGenerator", xbatcher_patches, "xbatcher"),
    ("xbatcher, DataLoader, 2 workers", xbatcher_workers, "xbatcher"),
    ("torchgeo GridGeoSampler, 2 workers", torchgeo_workers, "torchgeo"),
    ("torchgeo XarrayDataset", torchgeo_own, "torchgeo"),
)
