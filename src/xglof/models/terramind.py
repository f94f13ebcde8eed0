"""Networks on TerraMind (Jakubik et al. 2025, arXiv 2504.11171), for specs to name as their factories.

They are built without the library terratorch, whose import takes far longer than the first window
(docs/design/models.md), and are the same networks as its ``EncoderDecoderFactory`` builds: the same names of
parameters, the same start from a seed, the same bits out.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xglof.bands import MODALITIES
from xglof.errors import ModelError
from xglof.models.terramind_encoder import ENCODED, PATCH, SIZES, Encoder
from xglof.models.upernet import Pyramid, UperNet, pyramid_dims

_MODALITIES = ("S2L2A", "S1RTC", "DEM")
#: Maps that UperNet joins.
_LEVELS = 4
#: Inputs are padded to whole patches of the coarsest level.
_MULTIPLE = 2 * PATCH
#: Scale of the standardised elevation in metres, and the pixel size: for slopes in the stem.
_DEM_STD_M = 951.272
_PIXEL_M = 10.0
_STEM = 32
#: What the stem sees of each modality: the bands of the sensors; two slopes and how level the ground is.
_PLANES = {"S2L2A": 12, "S1RTC": 2, "DEM": 3}
#: Slope at which ground is level by 1/e, rise over run.
_LEVEL = 0.05


def segmenter(
    *,
    size: str,
    modalities: Sequence[str] = _MODALITIES,
    indices: Sequence[int] | None = None,
    decoder_channels: int = 256,
    scale_modules: bool = True,
    num_classes: int = 1,
) -> Segmenter:
    """TerraMind with UperNet, as CryoSentinel has it; random weights, to be trained or loaded.

    Name it in a spec of your own: ``ModelSpec(factory="xglof.models.terramind:segmenter",
    kwargs={"size": "small"}, ...)``. Keys of its weights are those of terratorch's
    ``EncoderDecoderFactory`` with the necks ``SelectIndices``,
    ``ReshapeTokensToImage(remove_cls_token=False)`` and ``LearnedInterpolateToPyramidal`` before a
    ``UperNetDecoder``.

    Parameters
    ----------
    size
        ``"tiny"``, ``"small"``, ``"base"`` or ``"large"``.
    modalities
        Of ``S2L2A``, ``S1RTC``, ``S1GRD`` and ``DEM``, each with all its bands. The network takes them in
        this order whatever the order of its input, and any of them may be absent from an input. A network
        built with both ``S1RTC`` and ``S1GRD`` is given the one that the cube holds
        (:func:`xglof.engine.inputs.for_radar`).
    indices
        The four blocks whose outputs UperNet sees, counted from 0; by default the ends of four equal parts
        (``2, 5, 8, 11`` of 12).
    decoder_channels
        Width of UperNet.
    scale_modules
        Make a pyramid in UperNet, on top of that of the neck, as CryoSentinel does: UperNet then works at
        full resolution, on sixteen times the pixels.
    num_classes
        Logits a pixel.

    Raises
    ------
    ModelError
        If an argument is none of these.

    Examples
    --------
    >>> network = segmenter(size="tiny", modalities=["S2L2A"], decoder_channels=16).eval()
    >>> network({"S2L2A": torch.zeros(2, 12, 64, 64)}).shape
    torch.Size([2, 1, 64, 64])
    """
    _check(size, modalities, decoder_channels, num_classes)
    depth = SIZES[size].depth
    chosen = tuple(indices) if indices is not None else tuple(range(depth // 4 - 1, depth, depth // 4))
    if len(chosen) != _LEVELS or not all(0 <= index < depth for index in chosen):
        raise ModelError(f"indices {chosen}: UperNet takes {_LEVELS} blocks out of 0 to {depth - 1}")
    encoder = Encoder(SIZES[size], modalities, chosen)
    dims = (SIZES[size].dim,) * _LEVELS
    neck = Pyramid(dims)
    decoder = UperNet(pyramid_dims(dims), decoder_channels, scale_modules=scale_modules)
    return Segmenter(encoder, neck, decoder, nn.Conv2d(decoder_channels, num_classes, 1))


def _check(size: str, modalities: Sequence[str], decoder_channels: int, num_classes: int) -> None:
    if size not in SIZES:
        raise ModelError(f"TerraMind has no size {size!r}; there are {', '.join(SIZES)}")
    if isinstance(modalities, str):
        raise ModelError(f"modalities {modalities!r} is a text; pass a list, such as [{modalities!r}]")
    if unknown := [name for name in modalities if name not in ENCODED]:
        raise ModelError(f"TerraMind takes no {', '.join(unknown)} here; there are {', '.join(ENCODED)}")
    if not modalities or len(set(modalities)) != len(modalities):
        raise ModelError(f"modalities {tuple(modalities)}: pass at least one, and each of them once")
    if min(decoder_channels, num_classes) < 1:
        raise ModelError(
            f"decoder_channels {decoder_channels} and num_classes {num_classes} must be at least 1"
        )


class Segmenter(nn.Module):
    """Encoder, pyramid, decoder and a 1 x 1 convolution; made by :func:`segmenter`."""

    def __init__(self, encoder: Encoder, neck: nn.Module, decoder: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.head = _under("head.2", head)
        self.neck = _under("2", neck)

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        """Logits (B, K, H, W) from standardised (B, C, H, W) inputs by modality.

        Sides that are no multiple of 32 are padded with reflections inside.

        Raises
        ------
        ModelError
            If ``inputs`` holds none of the modalities, or one that the network does not take, or a shape
            differs.
        """
        self._check(inputs)
        height, width = next(iter(inputs.values())).shape[-2:]
        padded = {name: _padded(image) for name, image in inputs.items()}
        size = next(iter(padded.values())).shape[-2:]
        logits = self.head(self.decoder(self.neck(self.encoder(padded))))
        if logits.shape[-2:] != size:
            logits = F.interpolate(logits, size=size, mode="bilinear")
        top, left = (size[0] - height) // 2, (size[1] - width) // 2
        return cast(Tensor, logits[..., top : top + height, left : left + width])

    def _check(self, inputs: dict[str, Tensor]) -> None:
        taken = self.encoder.modalities
        if not inputs or not set(inputs) <= set(taken):
            raise ModelError(f"the network takes any of {', '.join(taken)}, and was given {tuple(inputs)}")
        first = next(iter(inputs.values())).shape
        for name, image in inputs.items():
            expected = (first[0], len(MODALITIES[name].bands), *first[-2:])
            if tuple(image.shape) != expected:
                raise ModelError(f"{name} has the shape {tuple(image.shape)}, expected {expected}")


def _under(name: str, module: nn.Module) -> nn.Sequential:
    """A module behind the name that terratorch's weights have for it."""
    for part in reversed(name.split(".")):
        module = nn.Sequential(OrderedDict({part: module}))
    return cast(nn.Sequential, module)


def _padded(image: Tensor) -> Tensor:
    down, across = (-side % _MULTIPLE for side in image.shape[-2:])
    if not (down or across):
        return image
    sides = (across // 2, across - across // 2, down // 2, down - down // 2)
    return F.pad(image, sides, mode="reflect")


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
    core = segmenter(
        size="tiny",
        decoder_channels=decoder_channels,
        scale_modules=False,  # the neck makes the pyramid; it is made once
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
        deep = self.core(given)
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
