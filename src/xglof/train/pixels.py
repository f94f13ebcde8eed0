"""The pixels that a loss counts."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from xglof.errors import TrainError
from xglof.train.labels import IGNORE


@dataclass(frozen=True, slots=True)
class Pixels:
    """Logits and truth of a batch, ready for a loss; no ignored pixel reaches a value or a gradient.

    Attributes
    ----------
    logit
        ``(B, H, W)`` float32, 0 where ``valid`` is not.
    probability
        ``(B, H, W)`` float32, of a lake: the sigmoid of ``logit``, 0 where ``valid`` is not.
    lake
        ``(B, H, W)`` float32, 1 on lakes, 0 elsewhere.
    valid
        ``(B, H, W)`` bool: has a label.
    label
        ``(B, H, W)`` uint8: 0 land, 1 lake, 255 ignored.
    """

    logit: Tensor
    probability: Tensor
    lake: Tensor
    valid: Tensor
    label: Tensor

    @classmethod
    def of(cls, logits: Tensor, label: Tensor) -> Pixels:
        """The pixels of a batch.

        Parameters
        ----------
        logits
            ``(B, 1, H, W)`` of any floating dtype; taken to float32, since sums over a batch overflow or lose
            small terms in half precision.
        label
            ``(B, H, W)`` uint8: 0 land, 1 lake, 255 ignored.

        Raises
        ------
        TrainError
            Shapes that do not fit, or labels that are no uint8 of these three values.
        """
        if logits.ndim != 4 or logits.shape[1] != 1 or logits.shape[:1] + logits.shape[2:] != label.shape:
            raise TrainError(
                f"logits {tuple(logits.shape)} and label {tuple(label.shape)} do not fit; a loss takes "
                "(B, 1, H, W) and (B, H, W)"
            )
        if label.dtype != torch.uint8:
            raise TrainError(f"the label is {label.dtype}; give uint8, 0 land, 1 lake, 255 ignored")
        lake, valid = label == 1, label != IGNORE
        if bool((valid & (label > 1)).any()):
            known = sorted(set(label.unique().tolist()) - {0, 1, IGNORE})
            raise TrainError(f"the label has the values {known}; it takes 0 land, 1 lake, 255 ignored")
        # chosen, not multiplied: a NaN times 0 is a NaN
        logit = torch.where(valid, logits[:, 0].float(), 0.0)
        return cls(logit, torch.where(valid, torch.sigmoid(logit), 0.0), lake.float(), valid, label)

    def mean(self, values: Tensor) -> Tensor:
        """The mean of ``(B, H, W)`` values over the valid pixels; 0 where there is none."""
        return torch.where(self.valid, values, 0.0).sum() / self.valid.sum().clamp(min=1)
