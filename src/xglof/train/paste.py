"""Lakes of one chip in the place of another's land."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from xglof.train.batch import Sample

T = TypeVar("T")


def paste_lakes(sample: Sample, chance: float, least_px: int, generator: torch.Generator) -> Sample:
    """Some of the chips with a lake of another chip of the batch, at the place where it lies in that chip.

    A lake is a set of labelled and observed lake pixels that touch, corners included. It brings the pixels of
    every modality, so the sensors never contradict each other. At its own place, a lake that the edge of its
    chip cuts is cut by the edge here too. Lakes are given as the chips had them before, so none goes twice
    over; a chip stays as it is where no other has a lake large enough.

    Parameters
    ----------
    sample
        Chips.
    chance
        Chance that a chip is given a lake.
    least_px
        Least pixels of a lake that is given.
    generator
        Where the draws come from, on the CPU.

    Notes
    -----
    After Ghiasi et al. 2021, Simple copy-paste is a strong data augmentation method for instance
    segmentation, doi:10.1109/CVPR46437.2021.00294.
    """
    draws = torch.rand((len(sample.label), 3), generator=generator, dtype=torch.float64).numpy()
    wanted = np.flatnonzero(draws[:, 0] < chance)
    if not len(wanted):
        return sample
    lakes = [_lakes(plane, least_px) for plane in (sample.label == 1).cpu().numpy()]
    masks, donors, targets = [], [], []
    for target in wanted.tolist():
        giving = [chip for chip, found in enumerate(lakes) if found and chip != target]
        if giving:
            donors.append(_drawn(giving, draws[target, 1]))
            masks.append(_drawn(lakes[donors[-1]], draws[target, 2]))
            targets.append(target)
    if not targets:
        return sample
    return _paste(sample, torch.tensor(targets), torch.tensor(donors), torch.from_numpy(np.stack(masks)))


def _drawn(choices: list[T], draw: float) -> T:
    return choices[int(draw * len(choices))]


def _lakes(lake: npt.NDArray[np.bool_], least_px: int) -> list[npt.NDArray[np.bool_]]:
    """Masks of the lakes of a chip that are large enough."""
    from scipy import ndimage

    if lake.sum() < least_px:
        return []
    numbers, _ = ndimage.label(lake, structure=np.ones((3, 3)))
    large = np.flatnonzero(np.bincount(numbers.ravel())[1:] >= least_px) + 1
    return [numbers == number for number in large]


def _paste(sample: Sample, targets: Tensor, donors: Tensor, masks: Tensor) -> Sample:
    """The sample with the pixels of ``donors`` in ``targets`` wherever ``masks``, ``(n, H, W)``, say so."""
    targets, donors, masks = (part.to(sample.label.device) for part in (targets, donors, masks))

    def apply(planes: Tensor) -> Tensor:
        where = masks if planes.ndim == 3 else masks[:, None]
        return planes.index_copy(0, targets, torch.where(where, planes[donors], planes[targets]))

    return replace(
        sample,
        inputs={name: apply(values) for name, values in sample.inputs.items()},
        label=apply(sample.label),
        seen={name: apply(mask) for name, mask in sample.seen.items()},
    )
