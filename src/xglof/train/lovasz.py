"""The Lovász hinge: a convex stand-in for the intersection over union."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from xglof.train.pixels import Pixels


def lovasz_hinge(pixels: Pixels) -> Tensor:
    """The Lovász hinge of each chip, averaged over the chips that have a valid pixel.

    With the margin errors ``e_i = 1 - (2 y_i - 1) x_i`` of a chip sorted from the largest down,
    ``sum_i max(e_i, 0) (J_i - J_(i-1))``, where ``J_i`` is the Jaccard loss (1 - IoU) if the first ``i``
    pixels of that order were wrong and the others right.

    Parameters
    ----------
    pixels
        Logits and truth of a batch.

    Returns
    -------
    torch.Tensor
        Scalar of 0 or more. A chip without lake costs its largest positive error, as one wrong pixel there
        takes the IoU from 1 to 0.

    Notes
    -----
    Berman, Rannen Triki & Blaschko 2018, The Lovász-softmax loss, doi:10.1109/CVPR.2018.00464.
    segmentation-models-pytorch sorts chip after chip and counts chips without a valid pixel as perfect ones.
    """
    chips = len(pixels.label)
    logit, lake, valid = (plane.reshape(chips, -1) for plane in (pixels.logit, pixels.lake, pixels.valid))
    # errors at ignored pixels and below 0 add nothing wherever they stand, so only those above 0 are sorted
    errors = torch.where(valid, F.relu(1 - (2 * lake - 1) * logit), 0.0)
    wrong = int((errors > 0).sum(dim=1).max()) if errors.numel() else 0
    errors, order = errors.topk(wrong, dim=1)
    counted = valid.any(dim=1).sum().clamp(min=1)
    return (errors * _jaccard_steps(lake.gather(1, order), lake.sum(dim=1, keepdim=True))).sum() / counted


def _jaccard_steps(lake: Tensor, lakes: Tensor) -> Tensor:
    """How the Jaccard loss grows with each further wrong pixel, ``(B, n)``.

    ``lake`` (B, n): 1 where the pixel is lake, else 0; ``lakes`` (B, 1): lake pixels of the chip. In closed
    form: differences of values near 1 would leave a gradient of few digits.
    """
    missed = lake.cumsum(dim=1)
    alarms = torch.arange(1, lake.shape[1] + 1, device=lake.device) - missed
    union = lakes + alarms
    steps = torch.where(lake > 0, 1 / union, (lakes - missed) / (union * (union - 1).clamp(min=1)))
    first = torch.arange(lake.shape[1], device=lake.device) == 0
    return torch.where((lakes == 0) & first, 1.0, steps)
