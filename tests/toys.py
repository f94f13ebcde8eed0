"""Small networks and rasters for tests of the engine."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from xglof import ModelInput, ModelSpec
from xglof.bands import MODALITIES

WINDOW = 16
_BITS = {"S2L2A": 1, "S1RTC": 2, "DEM": 4}


class Constant(nn.Module):
    """The same logits everywhere."""

    def __init__(self, values: tuple[float, ...]) -> None:
        super().__init__()
        self.values = values

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        like = next(iter(inputs.values()))[:, :1]
        return torch.cat([torch.full_like(like, value) for value in self.values], dim=1)


class Context(nn.Module):
    """Depends on place in the window, on a wide neighbourhood and on the mean of the window."""

    def __init__(self, classes: int, side: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(7)
        self.first = nn.Conv2d(1, 6, 7, padding=3)
        self.second = nn.Conv2d(6, classes, 7, padding=3)
        self.place = nn.Parameter(torch.randn(1, classes, side, side, generator=generator))
        for layer in (self.first, self.second):
            nn.init.normal_(layer.weight, generator=generator, std=0.3)
            nn.init.zeros_(layer.bias)

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        total = torch.stack([value.sum(dim=1, keepdim=True) for value in inputs.values()]).sum(dim=0)
        deep = self.second(torch.tanh(self.first(total)))
        return deep + self.place + total.mean(dim=(1, 2, 3), keepdim=True)


class Wrong(nn.Module):
    """Breaks the contract: another shape, or a value that is not finite."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def forward(self, inputs: dict[str, Tensor]) -> Any:
        like = next(iter(inputs.values()))[:, :1]
        if self.how == "shape":
            return like[..., 1:]
        if self.how == "squeezed":
            return like[:, 0]
        return torch.full_like(like, float("nan"))


class Seen(nn.Module):
    """1 for each modality given: S2L2A 1, S1RTC 2, DEM 4."""

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        like = next(iter(inputs.values()))[:, :1]
        return torch.full_like(like, float(sum(_BITS[name] for name in inputs)))


class Threads(nn.Module):
    """The number of threads that torch has for this forward pass."""

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        return torch.full_like(next(iter(inputs.values()))[:, :1], float(torch.get_num_threads()))


class Precision(nn.Module):
    """1 where products of float32 are float32, else 0."""

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        products = getattr(torch.backends.mkldnn, "matmul", None)  # torch 2.9 on
        set_to = torch.get_float32_matmul_precision() if products is None else products.fp32_precision
        full = set_to in ("highest", "ieee")
        return torch.full_like(next(iter(inputs.values()))[:, :1], float(full))


class Killer(nn.Module):
    """The network of :class:`Context`, which kills the first process that runs it."""

    def __init__(self, marker: str) -> None:
        super().__init__()
        self.inner, self.marker = Context(1, WINDOW), marker

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        try:
            os.close(os.open(self.marker, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return cast(Tensor, self.inner(inputs))
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("not reached")


class Counting(nn.Module):
    """The network of :class:`Context`; appends a byte to a file for each window it is given."""

    def __init__(self, log: str) -> None:
        super().__init__()
        self.inner, self.log = Context(1, WINDOW), log

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        with Path(self.log).open("ab") as file:
            file.write(b"." * len(next(iter(inputs.values()))))
        return cast(Tensor, self.inner(inputs))


def constant(values: tuple[float, ...]) -> nn.Module:
    return Constant(values)


def context(classes: int = 1, side: int = WINDOW) -> nn.Module:
    return Context(classes, side)


def wrong(how: str) -> nn.Module:
    return Wrong(how)


def threads() -> nn.Module:
    return Threads()


def precision() -> nn.Module:
    return Precision()


def killer(marker: str) -> nn.Module:
    return Killer(marker)


def counting(log: str) -> nn.Module:
    return Counting(log)


def bits() -> nn.Module:
    return Seen()


def spec(network: str, modalities: tuple[str, ...] = ("S1RTC",), **changes: Any) -> ModelSpec:
    """A spec of one of the networks above, nothing standardised."""
    optional = changes.pop("optional", ())
    inputs = tuple(
        ModelInput(
            name,
            mean=(0,) * len(MODALITIES[name].bands),
            std=(1,) * len(MODALITIES[name].bands),
            optional=name in optional,
        )
        for name in modalities
    )
    return ModelSpec(
        **{"name": network, "factory": f"toys:{network}", "inputs": inputs, "window": WINDOW} | changes
    )


def raster(
    height: int,
    width: int,
    *,
    modalities: tuple[str, ...] = ("S1RTC",),
    times: int | None = 2,
    left: float = 500_000,
    top: float = 3_100_000,
    seed: int = 0,
    crs: str = "EPSG:32645",
    resolution: float = 10,
) -> xr.Dataset:
    """A cube of noise on a grid whose upper left corner is (left, top)."""
    from affine import Affine
    from odc.geo.geobox import GeoBox
    from odc.geo.xr import wrap_xr

    rng = np.random.default_rng(seed)
    transform = Affine(resolution, 0, left, 0, -resolution, top)
    grid = GeoBox((height, width), transform, crs)
    dates = np.datetime64("2021-07-01", "ns") + np.arange(times or 0) * np.timedelta64(10, "D")
    variables = {}
    for modality in (MODALITIES[name] for name in modalities):
        timed = modality.has_time and times is not None
        shape = (times, height, width) if timed else (height, width)
        for band in modality.bands:
            values = rng.integers(1, 9, shape) if band.dtype == "uint16" else rng.normal(size=shape)
            variables[band.name] = wrap_xr(
                values.astype(band.dtype), grid, **({"time": dates} if timed else {})
            )
    return xr.Dataset(variables)
