"""Water by thresholds on indices: a network without weights, behind the same spec as the others."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_PIXEL_M = 10.0


def build(**thresholds: float) -> nn.Module:
    """The network; keyword arguments replace the thresholds of :class:`WaterIndex`."""
    return WaterIndex(**thresholds)


class WaterIndex(nn.Module):
    """Lake where every rule holds; the logit is the margin of the rule that holds least.

    Parameters
    ----------
    ndwi, mndwi
        Least (green - NIR) / (green + NIR) of McFeeters (1996) and (green - SWIR) / (green + SWIR) of Xu
        (2006).
    swir
        Most reflectance at 1.6 um: above it the pixel is cloud or bright ice.
    nir
        Most reflectance at 0.84 um: above it the pixel is snow or ice.
    green
        Least green reflectance: below it the pixel is shadow or too dark to tell.
    vv_db, vh_db
        Most backscatter of open water, dB; with optical data at hand it may be exceeded by ``wind_db``.
    wind_db
        Allowance for waves.
    slope
        Most slope, rise over run (15 degrees); lakes are flat.
    """

    def __init__(
        self,
        ndwi: float = 0.3,
        mndwi: float = 0.3,
        swir: float = 0.10,
        nir: float = 0.15,
        green: float = 0.015,
        vv_db: float = -15.0,
        vh_db: float = -22.0,
        wind_db: float = 6.0,
        slope: float = 0.27,
    ) -> None:
        super().__init__()
        self.ndwi, self.mndwi, self.swir, self.nir, self.green = ndwi, mndwi, swir, nir, green
        self.vv_db, self.vh_db, self.wind_db, self.slope = vv_db, vh_db, wind_db, slope

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        """Logits (B, 1, H, W) from reflectance (B03, B08, B11), decibels (vv, vh) and metres."""
        margins: list[Tensor] = []
        optical = "S2L2A" in inputs
        if optical:
            margins += self._optical(inputs["S2L2A"])
        if "S1RTC" in inputs:
            vv, vh = inputs["S1RTC"].split(1, dim=1)
            allowance = self.wind_db if optical else 0.0
            margins += [(self.vv_db + allowance - vv) / 2, (self.vh_db + allowance - vh) / 2]
        if "DEM" in inputs:
            margins.append((self.slope - _slope(inputs["DEM"])) * 20)
        return torch.stack(margins).amin(dim=0).clamp(-10, 10)

    def _optical(self, bands: Tensor) -> list[Tensor]:
        green, nir, swir = bands.split(1, dim=1)
        return [
            (_index(green, nir) - self.ndwi) * 20,
            (_index(green, swir) - self.mndwi) * 20,
            (self.swir - swir) * 100,
            (self.nir - nir) * 100,
            (green - self.green) * 200,
        ]


def _index(first: Tensor, second: Tensor) -> Tensor:
    total = first + second
    return torch.where(total > 0, (first - second) / total.clamp(min=1e-4), torch.zeros_like(total))


def _slope(dem: Tensor) -> Tensor:
    """Rise over run (B, 1, H, W) of the elevation smoothed over 3 x 3 pixels."""
    smooth = F.avg_pool2d(F.pad(dem, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    padded = F.pad(smooth, (1, 1, 1, 1), mode="replicate")
    across = padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]
    down = padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]
    return torch.hypot(across, down) / (2 * _PIXEL_M)
