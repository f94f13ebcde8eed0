"""Losses of lake segmentation, each blind to ignored pixels, and their weighted sum.

They are our own where segmentation-models-pytorch has the same: there a batch without a valid pixel gives NaN
(focal), a batch without lake costs nothing however much lake is mapped (Dice, Tversky), images are sorted one
by one (Lovász); and its import takes 7 s. Tests compare the two where they agree.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from xglof.errors import TrainError
from xglof.train.boundary import boundary_loss
from xglof.train.lovasz import lovasz_hinge
from xglof.train.pixels import Pixels


def cross_entropy(
    pixels: Pixels,
    *,
    pos_weight: float | None = None,
    pos_weight_max: float = 100.0,
    hardest: float = 1.0,
    hardest_least: int = 4096,
) -> Tensor:
    """The mean binary cross entropy ``-(w y log p + (1 - y) log(1 - p))`` of the pixels, or of the hardest.

    Parameters
    ----------
    pixels
        Logits and truth of a batch.
    pos_weight
        ``w``; ``None`` for land over lake pixels of the batch, between 1 and ``pos_weight_max``.
    pos_weight_max
        Where a lone lake pixel is kept from outweighing all others.
    hardest
        Share of the valid pixels of the batch, those of the greatest loss, that the mean is taken over.
    hardest_least
        Never fewer pixels than these, where there are as many.

    Returns
    -------
    torch.Tensor
        Scalar of 0 or more; 0 without a valid pixel.

    Notes
    -----
    The hardest pixels: Shrivastava, Gupta & Girshick 2016, Training region-based object detectors with online
    hard example mining, doi:10.1109/CVPR.2016.89, with pixels for regions.
    """
    weight = (
        pixels.logit.new_tensor(pos_weight) if pos_weight is not None else _balance(pixels, pos_weight_max)
    )
    losses = F.binary_cross_entropy_with_logits(
        pixels.logit, pixels.lake, pos_weight=weight, reduction="none"
    )
    if hardest >= 1:
        return pixels.mean(losses)
    valid = int(pixels.valid.sum())
    count = min(max(hardest_least, int(hardest * valid)), valid)
    if count == 0:
        return pixels.mean(losses)
    return torch.where(pixels.valid, losses, -1.0).flatten().topk(count, sorted=False).values.mean()


def _balance(pixels: Pixels, most: float) -> Tensor:
    """Land over lake pixels of a batch, between 1 and ``most``."""
    lake = pixels.lake.sum()
    return ((pixels.valid.sum() - lake) / lake.clamp(min=1)).clamp(1, most)


def focal(pixels: Pixels, *, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """The mean focal loss ``-a_t (1 - p_t)^gamma log p_t`` of the pixels.

    ``p_t`` is the probability of the true class; ``a_t`` is ``alpha`` on lakes and ``1 - alpha`` on land.

    Parameters
    ----------
    pixels
        Logits and truth of a batch.
    alpha
        Weight of the lakes, 0 to 1.
    gamma
        How much less a pixel counts the surer it is, 0 or more.

    Notes
    -----
    Lin et al. 2017, Focal loss for dense object detection, doi:10.1109/ICCV.2017.324.
    """
    margin = (2 * pixels.lake - 1) * pixels.logit
    # log(1 - p_t) and log p_t by softplus: powers of 1 - p_t have no gradient where p_t rounds to 1
    losses = torch.exp(-gamma * F.softplus(margin)) * F.softplus(-margin)
    return pixels.mean((alpha * pixels.lake + (1 - alpha) * (1 - pixels.lake)) * losses)


def dice(pixels: Pixels, *, smooth: float = 1.0) -> Tensor:
    """The soft Dice loss of a batch, ``1 - (2 sum p y + s) / (sum p + sum y + s)``.

    Sums run over all valid pixels of the batch; without lake it still falls with the lake that is mapped.

    Parameters
    ----------
    pixels
        Logits and truth of a batch.
    smooth
        ``s``, above 0, pixels.

    Returns
    -------
    torch.Tensor
        Scalar between 0 and 1.

    Notes
    -----
    After Milletari, Navab & Ahmadi 2016, V-Net, doi:10.1109/3DV.2016.79, without the squares of the
    denominator, as CryoSentinel has it.
    """
    return tversky(pixels, alpha=0.5, beta=0.5, smooth=smooth / 2)


def tversky(pixels: Pixels, *, alpha: float = 0.3, beta: float = 0.7, smooth: float = 1.0) -> Tensor:
    """The Tversky loss of a batch, ``1 - (TP + s) / (TP + alpha FP + beta FN + s)``.

    With ``TP = sum p y``, ``FP = sum p (1 - y)``, ``FN = sum (1 - p) y`` over all valid pixels of the batch.

    Parameters
    ----------
    pixels
        Logits and truth of a batch.
    alpha, beta
        What a false alarm and a miss cost; 0.5 and 0.5 is Dice, 1 and 1 Jaccard.
    smooth
        ``s``, above 0, pixels.

    Returns
    -------
    torch.Tensor
        Scalar between 0 and 1.

    Notes
    -----
    Salehi, Erdogmus & Gholipour 2017, Tversky loss function for image segmentation using 3D fully
    convolutional deep networks, doi:10.1007/978-3-319-67389-9_44.
    """
    right = (pixels.probability * pixels.lake).sum()
    alarms, misses = pixels.probability.sum() - right, pixels.lake.sum() - right
    return 1 - (right + smooth) / (right + alpha * alarms + beta * misses + smooth)


@dataclass(frozen=True, slots=True)
class LossSettings:
    """What the parts of a loss are set to; as they stand, those of CryoSentinel's first stage.

    Attributes
    ----------
    pos_weight, pos_weight_max, hardest, hardest_least
        Of :func:`cross_entropy`.
    focal_alpha, focal_gamma
        Of :func:`focal`.
    smooth
        Of :func:`dice` and :func:`tversky`, pixels.
    tversky_alpha, tversky_beta
        Of :func:`tversky`; the second stage has 0.25 and 0.75.
    """

    pos_weight: float | None = None
    pos_weight_max: float = 100.0
    hardest: float = 0.5
    hardest_least: int = 4096
    focal_alpha: float = 0.25
    focal_gamma: float = 2.0
    smooth: float = 1.0
    tversky_alpha: float = 0.3
    tversky_beta: float = 0.7

    def __post_init__(self) -> None:
        ranges = {
            "pos_weight_max": (self.pos_weight_max >= 1, "1 or more"),
            "hardest": (0 < self.hardest <= 1, "a share above 0, 1 for all pixels"),
            "hardest_least": (self.hardest_least >= 1, "1 or more"),
            "focal_alpha": (0 <= self.focal_alpha <= 1, "a number from 0 to 1"),
            "focal_gamma": (self.focal_gamma >= 0, "0 or more"),
            "smooth": (self.smooth > 0, "pixels, above 0: without, a batch with no lake has no loss"),
            "tversky_alpha": (self.tversky_alpha >= 0, "0 or more"),
            "tversky_beta": (self.tversky_beta >= 0, "0 or more"),
            "pos_weight": (self.pos_weight is None or self.pos_weight > 0, "a factor above 0"),
        }
        for name, (good, wanted) in ranges.items():
            value = getattr(self, name)
            if not good or (value is not None and not math.isfinite(value)):
                raise TrainError(f"{name} of the loss is {value}; give {wanted}")


Part = Callable[[Pixels, LossSettings], Tensor]

#: The parts that a loss can have, by name.
PARTS: Mapping[str, Part] = MappingProxyType(
    {
        "bce": lambda pixels, s: cross_entropy(
            pixels,
            pos_weight=s.pos_weight,
            pos_weight_max=s.pos_weight_max,
            hardest=s.hardest,
            hardest_least=s.hardest_least,
        ),
        "focal": lambda pixels, s: focal(pixels, alpha=s.focal_alpha, gamma=s.focal_gamma),
        "dice": lambda pixels, s: dice(pixels, smooth=s.smooth),
        "tversky": lambda pixels, s: tversky(
            pixels, alpha=s.tversky_alpha, beta=s.tversky_beta, smooth=s.smooth
        ),
        "lovasz": lambda pixels, s: lovasz_hinge(pixels),
        "boundary": lambda pixels, s: boundary_loss(pixels),
    }
)

#: The weights of CryoSentinel, as in its public configurations.
CRYOSENTINEL: Mapping[str, float] = MappingProxyType(
    {"bce": 0.5, "focal": 1.0, "dice": 1.0, "tversky": 0.5, "boundary": 0.5, "lovasz": 0.3}
)


@dataclass(frozen=True, slots=True)
class Loss:
    """A weighted sum of losses; made by :func:`compose`.

    Attributes
    ----------
    weights
        By name of the part (:data:`PARTS`), above 0.
    settings
        Of the parts.
    """

    weights: Mapping[str, float]
    settings: LossSettings

    def __call__(self, logits: Tensor, label: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch, and its parts.

        Parameters
        ----------
        logits
            ``(B, 1, H, W)`` of any floating dtype; computed in float32.
        label
            ``(B, H, W)`` uint8: 0 land, 1 lake, 255 ignored.

        Returns
        -------
        total : torch.Tensor
            Scalar float32; 0 with a gradient of 0 where every pixel is ignored.
        parts : dict of str to torch.Tensor
            Each part before its weight, scalar float32 without gradient.

        Raises
        ------
        TrainError
            Shapes that do not fit, or labels that are no uint8 of 0, 1 and 255.
        """
        pixels = Pixels.of(logits, label)
        with torch.autocast(logits.device.type, enabled=False):  # sums over a batch need float32
            parts = {name: PARTS[name](pixels, self.settings) for name in self.weights}
            total = torch.stack([weight * parts[name] for name, weight in self.weights.items()]).sum()
        return total, {name: part.detach() for name, part in parts.items()}


def compose(weights: Mapping[str, float], **settings: Any) -> Loss:
    """A weighted sum of losses, called with logits and label.

    Parameters
    ----------
    weights
        By name: ``bce``, ``focal``, ``dice``, ``tversky``, ``lovasz``, ``boundary``. A part of weight 0 is
        not computed.
    **settings
        Attributes of :class:`LossSettings`.

    Raises
    ------
    TrainError
        An unknown part or setting, a weight that is negative or not finite, or none above 0.

    Examples
    --------
    >>> import torch
    >>> loss = compose({"bce": 1, "dice": 1}, pos_weight=2, hardest=1)
    >>> total, parts = loss(torch.zeros(1, 1, 2, 2), torch.tensor([[[0, 1], [0, 255]]], dtype=torch.uint8))
    >>> round(float(parts["bce"]), 4), round(float(parts["dice"]), 4)
    (0.9242, 0.4286)
    """
    for name, weight in weights.items():
        if name not in PARTS:
            raise TrainError(f"no loss {name!r}; {_hint(name, PARTS)}")
        if not 0 <= weight < math.inf:
            raise TrainError(f"the weight of {name!r} is {weight}; give 0 or more")
    counted = {name: float(weight) for name, weight in weights.items() if weight > 0}
    if not counted:
        raise TrainError(f"no part of the loss has a weight above 0; there are {', '.join(PARTS)}")
    known = [field.name for field in fields(LossSettings)]
    for name in settings:
        if name not in known:
            raise TrainError(f"a loss has no setting {name!r}; {_hint(name, known)}")
    return Loss(counted, LossSettings(**settings))


def _hint(name: str, known: Any) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
