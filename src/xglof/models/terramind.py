"""Networks on TerraMind, built by terratorch's own factories (Jakubik et al. 2025, arXiv 2504.11171)."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_MODALITIES = ("S2L2A", "S1RTC", "DEM")
#: Scale of the standardised elevation in metres, and the pixel size: for slopes in the stem.
_DEM_STD_M = 951.272
_PIXEL_M = 10.0
_STEM = 32
#: What the stem sees of each modality: the bands of the sensors; two slopes and how level the ground is.
_PLANES = {"S2L2A": 12, "S1RTC": 2, "DEM": 3}
#: Slope at which ground is level by 1/e, rise over run.
_LEVEL = 0.05


def tiny_demo(*, decoder_channels: int = 32, features: int = 16) -> nn.Module:
    """TerraMind tiny with a slim UperNet and a full-resolution stem beside it.

    The transformer sees 16 px patches, so outlines of narrow lakes come from the stem: two convolutions on
    the bands themselves. Any set of the modalities may be given, at least one of them.

    Parameters
    ----------
    decoder_channels
        Width of UperNet.
    features
        Channels that the decoder hands to the fusion with the stem.
    """
    from terratorch.models import EncoderDecoderFactory

    core = EncoderDecoderFactory().build_model(
        task="segmentation",
        backbone="terramind_v1_tiny",
        backbone_pretrained=False,
        backbone_modalities=list(_MODALITIES),
        necks=[
            {"name": "SelectIndices", "indices": [2, 5, 8, 11]},
            {"name": "ReshapeTokensToImage", "remove_cls_token": False},
            {"name": "LearnedInterpolateToPyramidal"},
        ],
        decoder="UperNetDecoder",
        decoder_channels=decoder_channels,
        decoder_scale_modules=False,  # the neck makes the pyramid; it is made once
        num_classes=features,
    )
    return TinyDemo(core, features)


class TinyDemo(nn.Module):
    """Decoder features of a TerraMind segmenter fused with a stem at full resolution; one logit."""

    def __init__(self, core: nn.Module, features: int) -> None:
        super().__init__()
        self.core = core
        planes = sum(_PLANES.values()) + len(_MODALITIES)  # and which modalities are there
        self.stem = nn.Sequential(_conv(planes, _STEM), _conv(_STEM, _STEM))
        self.fuse = nn.Sequential(_conv(features + _STEM, _STEM), nn.Conv2d(_STEM, 1, 1))

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        """Logits (B, 1, H, W) from standardised (B, C, H, W) inputs by modality."""
        given = {name: inputs[name] for name in _MODALITIES if name in inputs}
        deep = self.core(given).output
        fine = self.stem(self._planes(given))
        return cast(Tensor, self.fuse(torch.cat([deep, fine], dim=1)))

    def _planes(self, given: dict[str, Tensor]) -> Tensor:
        like = next(iter(given.values()))[:, :1]
        planes = []
        for name in _MODALITIES:
            if name in given:
                planes.append(_relief(given[name]) if name == "DEM" else given[name])
            else:
                planes.append(like.new_zeros(like.shape[0], _PLANES[name], *like.shape[2:]))
            planes.append(torch.full_like(like, float(name in given)))
        return torch.cat(planes, dim=1)


def _conv(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


def _relief(dem: Tensor) -> Tensor:
    """Slopes along x and y (rise over run, at most 2) and levelness from 0 to 1, (B, 3, H, W).

    From standardised elevation (B, 1, H, W), whose own height drops out. A frozen lake looks like its snowy
    shores from above; that it lies level tells it apart.
    """
    padded = F.pad(dem * _DEM_STD_M, (1, 1, 1, 1), mode="replicate")
    across = padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]
    down = padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]
    slopes = torch.cat([across, down], dim=1) / (2 * _PIXEL_M)
    level = torch.exp(-(slopes**2).sum(dim=1, keepdim=True) / _LEVEL**2)
    return torch.cat([slopes.clamp(-2, 2), level], dim=1)
