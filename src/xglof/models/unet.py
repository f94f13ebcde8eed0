"""U-Nets of segmentation-models-pytorch: baselines beside foundation models, which are no free win.

Sources: Ronneberger et al. 2015, arXiv 1505.04597 (U-Net); Cryo-Bench, arXiv 2603.01576 (why to keep one).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from xglof.bands import MODALITIES
from xglof.errors import ModelError

_ARCHITECTURES = ("Unet", "UnetPlusPlus")


def build(
    *,
    modalities: Sequence[str],
    architecture: str = "Unet",
    encoder: str = "resnet34",
    num_classes: int = 1,
) -> UNet:
    """A U-Net over the bands of all modalities side by side, with random weights.

    Parameters
    ----------
    modalities
        Of ``S2L2A``, ``S1RTC``, ``S1GRD`` and ``DEM``, each with all its bands. Any of them may be absent
        from an input: zeros, the mean of the standardised bands, stand for it, and a plane for each modality
        says whether it is there. With one modality there is no such plane.
    architecture
        ``"Unet"`` or ``"UnetPlusPlus"`` of segmentation-models-pytorch.
    encoder
        An encoder of segmentation-models-pytorch, such as ``"resnet34"`` or ``"efficientnet-b3"``.
    num_classes
        Logits a pixel.

    Raises
    ------
    ModelError
        If segmentation-models-pytorch is not installed, or an argument is none of these.
    """
    if isinstance(modalities, str) or not modalities or len(set(modalities)) != len(modalities):
        raise ModelError(f"modalities {modalities!r}: pass a list of at least one, each of them once")
    if unknown := [name for name in modalities if name not in MODALITIES]:
        raise ModelError(f"no such modality: {', '.join(unknown)}; there are {', '.join(MODALITIES)}")
    if architecture not in _ARCHITECTURES:
        raise ModelError(f"architecture {architecture!r} is none of {', '.join(_ARCHITECTURES)}")
    try:
        import segmentation_models_pytorch as smp
    except ImportError as error:
        raise ModelError(
            "the U-Nets need segmentation-models-pytorch; install it with "
            "`pip install segmentation-models-pytorch`"
        ) from error
    if encoder not in smp.encoders.get_encoder_names():
        raise ModelError(
            f"segmentation-models-pytorch has no encoder {encoder!r}; take one such as 'resnet34', "
            "'efficientnet-b3' or 'mobilenet_v2'"
        )
    planes = sum(len(MODALITIES[name].bands) for name in modalities) + _flags(modalities)
    make = getattr(smp, architecture)
    # no weights from the net: a network is its spec, and photographs have three bands
    core = make(encoder_name=encoder, encoder_weights=None, in_channels=planes, classes=num_classes)
    for idle in ("_conv_head", "_bn1"):  # of a classifier; weights in no use stall data-parallel training
        if hasattr(core.encoder, idle):
            setattr(core.encoder, idle, nn.Identity())
    return UNet(core, tuple(modalities))


def _flags(modalities: Sequence[str]) -> int:
    return len(modalities) if len(modalities) > 1 else 0


class UNet(nn.Module):
    """A network over planes as one over modalities; made by :func:`build`."""

    def __init__(self, core: nn.Module, modalities: tuple[str, ...]) -> None:
        super().__init__()
        self.core, self.modalities = core, modalities

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        """Logits (B, K, H, W) from standardised (B, C, H, W) inputs by modality; sides are multiples of 32.

        Raises
        ------
        ModelError
            If ``inputs`` holds none of the modalities, or one that the network does not take.
        """
        if not inputs or not set(inputs) <= set(self.modalities):
            raise ModelError(
                f"the network takes any of {', '.join(self.modalities)}, and was given {tuple(inputs)}"
            )
        like = next(iter(inputs.values()))[:, :1]
        planes = []
        for name in self.modalities:
            bands = len(MODALITIES[name].bands)
            planes.append(inputs[name] if name in inputs else torch.zeros_like(like).repeat(1, bands, 1, 1))
        if _flags(self.modalities):
            planes += [torch.full_like(like, float(name in inputs)) for name in self.modalities]
        return cast(Tensor, self.core(torch.cat(planes, dim=1)))
