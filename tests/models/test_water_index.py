from __future__ import annotations

import pytest
import torch
from torch import Tensor

from xglof.models.water_index import build

# green, near infrared, short-wave infrared reflectance
SURFACES = {
    "clear lake": ((0.045, 0.02, 0.008), True),
    "silty lake": ((0.16, 0.07, 0.012), True),
    "snow": ((0.85, 0.80, 0.06), False),
    "glacier ice": ((0.45, 0.38, 0.04), False),
    "rock": ((0.16, 0.20, 0.24), False),
    "meadow": ((0.08, 0.35, 0.18), False),
    "cloud": ((0.55, 0.58, 0.40), False),
    "deep shadow": ((0.010, 0.004, 0.003), False),
}


def scene(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values)[None, :, None, None].expand(1, -1, 16, 16)


@pytest.mark.parametrize("surface", SURFACES)
def test_optical_rules(surface: str) -> None:
    reflectance, is_lake = SURFACES[surface]
    logit = build()({"S2L2A": scene(reflectance)})
    assert logit.shape == (1, 1, 16, 16)
    assert bool((logit > 0).all()) == is_lake


@pytest.mark.parametrize(("vv", "vh", "is_lake"), [(-20, -28, True), (-9, -15, False), (-20, -15, False)])
def test_radar_rules_alone(vv: float, vh: float, is_lake: bool) -> None:
    logit = build()({"S1RTC": scene((vv, vh))})
    assert bool((logit > 0).all()) == is_lake


def test_a_slope_is_no_lake_and_a_level_is() -> None:
    water = {"S2L2A": scene((0.045, 0.02, 0.008))}
    level = torch.full((1, 1, 16, 16), 4500.0)
    slope = torch.arange(16.0).mul(10 * 0.5).expand(1, 1, 16, 16)  # 27 degrees
    assert bool((build()({**water, "DEM": level}) > 0).all())
    assert not bool((build()({**water, "DEM": slope})[..., 2:-2, 2:-2] > 0).any())


def test_thresholds_are_arguments() -> None:
    silty = {"S2L2A": scene((0.10, 0.08, 0.012))}  # NDWI 0.11
    assert not bool((build()(silty) > 0).any())
    assert bool((build(ndwi=0.05)(silty) > 0).all())
