"""The boundary loss: how far from the shore a probability lies on the wrong side."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from xglof.train.pixels import Pixels


def boundary_loss(pixels: Pixels) -> Tensor:
    """The mean over valid pixels of ``sigmoid(x) phi``, with ``phi`` the signed distance to the shore, px.

    Parameters
    ----------
    pixels
        Logits and truth of a batch.

    Returns
    -------
    torch.Tensor
        Scalar, pixels; below 0 where more of the probability lies inside lakes than is lost outside.

    Notes
    -----
    Kervadec et al. 2019 (MIDL) and 2021, Boundary loss for highly unbalanced segmentation,
    doi:10.1016/j.media.2020.101851. In segmentation-models-pytorch there is none.
    """
    return pixels.mean(pixels.probability * signed_distance(pixels.label))


def signed_distance(label: Tensor) -> Tensor:
    """Distance between pixel centres to the nearest lake (from land) or to the nearest land (from a lake).

    Parameters
    ----------
    label
        ``(B, H, W)`` uint8: 0 land, 1 lake, 255 ignored. An ignored pixel is neither: distances go to what is
        known.

    Returns
    -------
    torch.Tensor
        ``(B, H, W)`` float32, pixels, on the device of ``label``: above 0 on land, below 0 on lakes, 0 where
        ignored and all over a chip that has no lake or no land. Computed on the CPU.
    """
    maps = [_signed_distance(chip) for chip in label.cpu().numpy()]
    return torch.from_numpy(np.stack(maps)).to(label.device) if maps else torch.zeros(label.shape)


def _signed_distance(label: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    from scipy.ndimage import distance_transform_edt

    lake, land = label == 1, label == 0
    if not (lake.any() and land.any()):
        return np.zeros(label.shape, np.float32)
    around = _nearest_land_around(lake, land)
    distance = np.where(land, distance_transform_edt(~lake), 0).astype(np.float32)
    distance[around] -= np.where(lake[around], distance_transform_edt(~land[around]), 0)
    return distance


def _nearest_land_around(lake: npt.NDArray[np.bool_], land: npt.NDArray[np.bool_]) -> tuple[slice, slice]:
    """The part of a chip that holds the land nearest to each lake pixel: small, most often.

    A frame of land about all lakes is nearer to them than anything beyond it. Where a part of the frame is
    ignored, it is the whole chip.
    """
    rows, cols = (np.flatnonzero(lake.any(axis=axis)) for axis in (1, 0))
    around = slice(max(rows[0] - 1, 0), rows[-1] + 2), slice(max(cols[0] - 1, 0), cols[-1] + 2)
    rim = [land[row, around[1]] for row in (rows[0] - 1, rows[-1] + 1) if 0 <= row < len(lake)]
    rim += [land[around[0], col] for col in (cols[0] - 1, cols[-1] + 1) if 0 <= col < lake.shape[1]]
    return around if all(line.all() for line in rim) else (slice(None), slice(None))
