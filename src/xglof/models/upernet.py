"""UperNet over the maps of a plain transformer, in plain torch, with terratorch's parameter names.

Source: Xiao et al. 2018, arXiv 1807.10221; a pyramid out of one resolution: Li et al. 2022, arXiv 2203.16527.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_POOLED = (1, 2, 3, 6)


class Pyramid(nn.Module):
    """Four maps of one size as four sizes: 4, 2, 1 and 1/2 times as large.

    Parameters
    ----------
    dims
        Channels of the four maps.
    """

    def __init__(self, dims: Sequence[int]) -> None:
        super().__init__()
        self.fpn1, self.fpn2 = _enlargers(dims)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Maps of the channels that :func:`pyramid_dims` says."""
        return _pyramid(self.fpn1, self.fpn2, maps)


def pyramid_dims(dims: Sequence[int]) -> tuple[int, ...]:
    """Channels that a :class:`Pyramid` over maps of ``dims`` channels gives."""
    return (dims[0] // 4, dims[1] // 2, dims[2], dims[3])


class UperNet(nn.Module):
    """Pooled context, joined from coarse to fine.

    Parameters
    ----------
    dims
        Channels of the four maps, fine to coarse.
    channels
        Width.
    scale_modules
        Make a pyramid of the maps first, as :class:`Pyramid` does.
    """

    def __init__(self, dims: Sequence[int], channels: int, *, scale_modules: bool) -> None:
        super().__init__()
        self.scale_modules = scale_modules
        if scale_modules:
            self.fpn1, self.fpn2 = _enlargers(dims)
            dims = pyramid_dims(dims)
        self.psp_modules = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(side), _Conv(dims[-1], channels, 1)) for side in _POOLED
        )
        self.bottleneck = _Conv(dims[-1] + len(_POOLED) * channels, channels, 3)
        self.lateral_convs, self.fpn_convs = nn.ModuleList(), nn.ModuleList()
        for dim in dims[:-1]:
            self.lateral_convs.append(_Conv(dim, channels, 1))
            self.fpn_convs.append(_Conv(channels, channels, 3))
        self.fpn_bottleneck = _Conv(len(dims) * channels, channels, 3)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Features (B, channels, h, w) of the size of the finest map."""
        if self.scale_modules:
            maps = _pyramid(self.fpn1, self.fpn2, maps)
        levels = [conv(level) for conv, level in zip(self.lateral_convs, maps[:-1], strict=True)]
        levels.append(self._context(maps[-1]))
        for index in range(len(levels) - 1, 0, -1):
            levels[index - 1] = levels[index - 1] + _resized(levels[index], levels[index - 1])
        smooth = [conv(level) for conv, level in zip(self.fpn_convs, levels[:-1], strict=True)]
        smooth.append(levels[-1])
        joined = torch.cat([smooth[0], *(_resized(level, smooth[0]) for level in smooth[1:])], dim=1)
        return cast(Tensor, self.fpn_bottleneck(joined))

    def _context(self, coarsest: Tensor) -> Tensor:
        pooled = [_resized(module(coarsest), coarsest) for module in self.psp_modules]
        return cast(Tensor, self.bottleneck(torch.cat([coarsest, *pooled], dim=1)))


class _Conv(nn.Module):
    """Convolution, normalisation over the batch, ReLU."""

    def __init__(self, inputs: int, outputs: int, side: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, side, padding=side // 2, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)), inplace=True)


def _enlargers(dims: Sequence[int]) -> tuple[nn.Sequential, nn.Sequential]:
    first, second = dims[0], dims[1]
    four_times = nn.Sequential(
        nn.ConvTranspose2d(first, first // 2, 2, 2),
        nn.BatchNorm2d(first // 2),
        nn.GELU(),
        nn.ConvTranspose2d(first // 2, first // 4, 2, 2),
    )
    return four_times, nn.Sequential(nn.ConvTranspose2d(second, second // 2, 2, 2))


def _pyramid(fpn1: nn.Module, fpn2: nn.Module, maps: list[Tensor]) -> list[Tensor]:
    return [fpn1(maps[0]), fpn2(maps[1]), maps[2], F.max_pool2d(maps[3], 2)]


def _resized(level: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(level, size=like.shape[2:], mode="bilinear", align_corners=True)
