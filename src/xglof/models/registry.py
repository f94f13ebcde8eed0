"""The models that ship with xglof, by name."""

from __future__ import annotations

from types import MappingProxyType

from xglof.errors import ModelError
from xglof.models.spec import ModelInput, ModelSpec
from xglof.models.weights import Weights

# TerraMind's pretraining statistics: DN (reflectance x 10,000), dB, m (TerraMind 1.0, arXiv 2504.11171).
_S2_MEAN = (
    1390.458, 1503.317, 1718.197, 1853.91, 2199.1, 2779.975, 2987.011, 3083.234, 3132.22, 3162.988, 2424.884,
    1857.648,
)  # fmt: skip
_S2_STD = (
    2106.761, 2141.107, 2038.973, 2134.138, 2085.321, 1889.926, 1820.257, 1871.918, 1753.829, 1797.379,
    1434.261, 1334.311,
)  # fmt: skip

#: TerraMind's inputs with its pretraining statistics, by modality.
TERRAMIND_INPUTS = MappingProxyType(
    {
        "S2L2A": ModelInput("S2L2A", mean=_S2_MEAN, std=_S2_STD, optional=True),
        "S1RTC": ModelInput("S1RTC", mean=(-10.93, -17.329), std=(4.391, 4.459), optional=True),
        "S1GRD": ModelInput("S1GRD", mean=(-12.599, -20.293), std=(5.195, 5.890), optional=True),
        "DEM": ModelInput("DEM", mean=(670.665,), std=(951.272,), optional=True),
    }
)

TINY_DEMO = ModelSpec(
    name="terramind-tiny-demo",
    factory="xglof.models.terramind:tiny_demo",
    inputs=tuple(TERRAMIND_INPUTS[name] for name in ("S2L2A", "S1RTC", "DEM")),
    resolution=10,
    weights=Weights(
        "package:terramind-tiny-demo.safetensors",
        sha256="4bfa070470e5f717dbd726eae2b54d5394311d9c39716e1321eda230a5d6787f",
    ),
    licence="Apache-2.0",
    caveat="demonstration model trained on simulated valleys only: not for use on real lakes",
    summary="TerraMind tiny, slim UperNet and a full-resolution stem, trained on simulated valleys",
    window_bytes=75_000_000,  # benchmarks/block_memory.py --window
)

WATER_INDEX = ModelSpec(
    name="water-index",
    factory="xglof.models.water_index:build",
    inputs=(
        # the physical units that the rules are written in: reflectance, dB, m
        ModelInput("S2L2A", bands=("B03", "B08", "B11"), mean=(0,) * 3, std=(10_000,) * 3, optional=True),
        ModelInput("S1RTC", mean=(0, 0), std=(1, 1), fill=(0, 0), optional=True),
        ModelInput("DEM", mean=(0,), std=(1,), optional=True),
    ),
    resolution=10,  # of its slopes
    licence="Apache-2.0",
    caveat="thresholds on water indices: confuses lakes with shadow and wet snow, misses ice-covered lakes",
    summary="NDWI and MNDWI with SAR and slope, no weights",
    window_bytes=8_000_000,
)

#: Seeds of the simulated valleys that the demo model was trained on: a score on these would prove nothing.
DEMO_TRAINING_SEEDS = range(1000, 1048)

_SPECS = {spec.name: spec for spec in (TINY_DEMO, WATER_INDEX)}


def names() -> tuple[str, ...]:
    """Names of the models that ship with xglof."""
    return tuple(_SPECS)


def get_spec(name: str) -> ModelSpec:
    """The spec of a shipped model.

    Raises
    ------
    ModelError
        If there is none of that name.
    """
    if name not in _SPECS:
        raise ModelError(
            f"model {name!r} is unknown; there are {', '.join(_SPECS)}; or pass an xglof.ModelSpec"
        )
    return _SPECS[name]
