"""The models that ship with xglof, by name."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from xglof.errors import ModelError
from xglof.models.hub import FETCHED, fetched_folder
from xglof.models.spec import ModelInput, ModelSpec
from xglof.models.weights import UNTRAINED, Weights

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

_SEGMENTER = "xglof.models.terramind:segmenter"
_ALL = ("S2L2A", "S1RTC", "DEM")

# Statistics and limits of CryoSentinel's data set (docs/DATA.md and data/multimodal_dataset.py of
# github.com/abzalabdrash/cryosentinel), where they stand rounded to one or two decimals.
_CRYOSENTINEL_S2_MEAN = (
    857.6, 1044.0, 1356.7, 1574.4, 1786.2, 2076.5, 2215.2, 2277.8, 2348.5, 2243.7, 2665.0, 2217.2,
)  # fmt: skip
_CRYOSENTINEL_S2_STD = (
    626.3, 709.2, 748.7, 825.5, 773.5, 786.1, 810.8, 834.9, 833.6, 729.6, 875.7, 851.3,
)  # fmt: skip

CRYOSENTINEL = ModelSpec(
    name="cryosentinel",
    factory=_SEGMENTER,
    kwargs=(("indices", (5, 11, 17, 23)), ("modalities", ("S2L2A", "S1GRD", "DEM")), ("size", "large")),
    inputs=(
        # fills are what its own code makes of nodata: 0, -25 dB, and -32768 m clipped to -500 m
        ModelInput(
            "S2L2A", mean=_CRYOSENTINEL_S2_MEAN, std=_CRYOSENTINEL_S2_STD, fill=(0,) * 12, clip=(0, 16_000)
        ),
        ModelInput("S1GRD", mean=(-9.25, -18.00), std=(5.90, 5.92), fill=(-25, -25)),
        ModelInput("DEM", mean=(4299.8,), std=(901.0,), fill=(-500,), clip=(-500, 9_000)),
    ),
    resolution=10,
    weights=Weights(f"{FETCHED}cryosentinel/weights.safetensors", ""),
    licence="Apache-2.0",
    caveat="made for High Mountain Asia and lakes from 0.5 ha; needs Sentinel-2, S1 GRD (no RTC) and a DEM",
    summary="TerraMind large and UperNet by CryoSentinel, 321.58 M weights",
)

#: Repository on the Hugging Face Hub, and file in it, of models whose weights are fetched.
HUB_SOURCES = MappingProxyType(
    {
        "cryosentinel": (
            "abzal-glw/cryosentinel-terramind-v3",
            "terramind_v3_finetune_almaty_v2/checkpoints/soup.ckpt",
        )
    }
)


#: benchmarks/block_memory.py --window; of the large ones nobody has measured it yet
_WINDOW_BYTES = {
    "terramind-tiny": 30_000_000,
    "terramind-small": 35_000_000,
    "unet-resnet34": 70_000_000,
    "unet-efficientnet-b3-s1": 90_000_000,
}


def _untrained(
    name: str, factory: str, modalities: tuple[str, ...], summary: str, **kwargs: object
) -> ModelSpec:
    inputs = [TERRAMIND_INPUTS[modality] for modality in modalities]
    if len(inputs) == 1:
        inputs = [replace(inputs[0], optional=False)]
    return ModelSpec(
        name=name,
        factory=factory,
        kwargs=(("modalities", modalities), *kwargs.items()),
        inputs=tuple(inputs),
        resolution=10,
        weights=UNTRAINED,
        licence="Apache-2.0",
        summary=summary,
        window_bytes=_WINDOW_BYTES.get(name),
    )


def _terramind(size: str, summary: str, **kwargs: object) -> ModelSpec:
    return _untrained(f"terramind-{size}", _SEGMENTER, _ALL, summary, size=size, **kwargs)


_SLIM = {"decoder_channels": 64, "scale_modules": False}
_UNET = "xglof.models.unet:build"
_FOR_TRAINING = (
    _terramind("tiny", "TerraMind tiny and a slim UperNet, 6.8 M weights", **_SLIM),
    _terramind("small", "TerraMind small and a slim UperNet, 24.2 M weights", **_SLIM),
    _terramind("base", "TerraMind base and UperNet as CryoSentinel has it"),
    _terramind("large", "TerraMind large and UperNet as CryoSentinel has it, 321.6 M weights"),
    _untrained("unet-resnet34", _UNET, _ALL, "U-Net on ResNet-34, a baseline", encoder="resnet34"),
    _untrained(
        "unet-efficientnet-b3-s1",
        _UNET,
        ("S1RTC",),
        "U-Net on EfficientNet-B3, radar alone, after Adhikari and Regmi (arXiv 2512.24117)",
        encoder="efficientnet-b3",
    ),
)

#: Seeds of the simulated valleys that the demo model was trained on: a score on these would prove nothing.
DEMO_TRAINING_SEEDS = range(1000, 1048)

_SPECS = {spec.name: spec for spec in (TINY_DEMO, WATER_INDEX, CRYOSENTINEL, *_FOR_TRAINING)}


def names() -> tuple[str, ...]:
    """Names of the models that ship with xglof."""
    return tuple(_SPECS)


def get_spec(name: str | os.PathLike[str]) -> ModelSpec:
    """The spec of a shipped model, or of a model folder.

    Parameters
    ----------
    name
        A name of :func:`names`, or the path of a folder that :func:`xglof.models.folder.write_model` made.

    Raises
    ------
    ModelError
        If there is none of that name, or the folder is none of a model.
    """
    if name in _SPECS:
        return _as_fetched(_SPECS[str(name)])
    from xglof.models.folder import MODEL_FILE, read_model

    path = Path(name).expanduser()
    if path.exists() or path.name != str(name) or path.name == MODEL_FILE:
        return read_model(path)
    raise ModelError(
        f"model {str(name)!r} is unknown; there are {', '.join(_SPECS)}; or pass the path of a model folder "
        "or an xglof.ModelSpec"
    )


def _as_fetched(spec: ModelSpec) -> ModelSpec:
    """The spec with the digest of the weights that were fetched on this machine, if they were."""
    if spec.weights is None or not spec.weights.uri.startswith(FETCHED):
        return spec
    from xglof.models.folder import read_model

    try:
        found = read_model(fetched_folder(spec.name)).weights
    except ModelError:  # not fetched, or spoilt: the check of the weights says what to do
        return spec
    return (
        spec
        if found is None
        else spec.with_weights(Weights(f"{FETCHED}{spec.name}/{found.path.name}", found.sha256))
    )
