"""The tables of a training's config, as frozen values: what may be set, and what it is by default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from xglof.models.spec import ModelInput
from xglof.train.losses import LossSettings

Fold = Literal["train", "val", "test"]
Precision = Literal["32", "bf16-mixed", "16-mixed"]
Failure = Literal["distance", "lakes", "places"]


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Which network, and what it begins with; give ``name`` or ``factory``.

    Attributes
    ----------
    name
        A name of the registry, or the path of a model folder.
    factory
        ``"package.module:function"`` of a network of your own, with ``inputs``.
    inputs
        Modalities by name, with TerraMind's statistics, or as tables with the attributes of
        :class:`xglof.ModelInput`. With ``name``: what replaces the model's own.
    kwargs
        Keyword arguments of the factory; with ``name``, those that replace the model's own.
    start
        ``"random"``, ``"own"`` (the weights that the model comes with), or the path of a model folder, a
        safetensors file or a Lightning checkpoint of the same network. Needed where the model has weights.
    which
        Of a checkpoint that holds both, ``"model"`` or ``"ema"``; ``"auto"`` is what its own loader takes.
        Like ``part``, only where ``start`` is a path.
    part
        Part of the network that the weights of ``start`` are for, such as ``"encoder"`` for TerraMind's own;
        the rest begins at random, and weights of ``start`` that are for other parts are left aside. All of
        the network by default, and nothing left aside.
    window, multiple_of, resolution, min_share, unobserved_when, licence, caveat, summary
        As in :class:`xglof.ModelSpec`; the model's own where absent.
    """

    name: str = ""
    factory: str = ""
    inputs: tuple[str | ModelInput, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    start: str = ""
    which: Literal["auto", "model", "ema"] = "auto"
    part: str = ""
    window: int | None = None
    multiple_of: int | None = None
    resolution: float | None = None
    min_share: float | None = None
    unobserved_when: tuple[str, ...] | None = None
    licence: str | None = None
    caveat: str | None = None
    summary: str | None = None


@dataclass(frozen=True, slots=True)
class DataConfig:
    """Cubes with their labels, or Parquet shards; a config may have several.

    Attributes
    ----------
    cube
        Path or pattern of Zarr stores, such as ``"train/*.zarr"``.
    label
        Zarr store with ``lake``, or polygons (GeoPackage, shapefile, GeoParquet); ``{stem}`` stands for the
        name of the cube without its ending.
    scores
        Zarr store with ``lake_probability`` on the cube's grid, as a segmentation has it, for ``hard``;
        ``{stem}`` as above.
    shards
        Folder of Parquet shards, in place of ``cube`` and ``label``.
    regions, years
        Of shards; all by default.
    ignored, check
        Of shards, as :func:`xglof.train.parquet.read_shards` takes them.
    fold
        The fold that all chips of these cubes are in; absent where the split decides, as it does for shards.
    all_touched, dates, tolerance
        Of polygons, as :func:`xglof.train.labels.rasterise` takes them.
    """

    cube: str = ""
    label: str = ""
    scores: str = ""
    shards: str = ""
    regions: tuple[str, ...] | None = None
    years: tuple[int, ...] | None = None
    ignored: Literal["stored", "published"] = "stored"
    check: Literal["pixels", "metadata"] = "pixels"
    fold: Fold | None = None
    all_touched: bool = False
    dates: str | None = None
    tolerance: str | None = None


@dataclass(frozen=True, slots=True)
class SplitConfig:
    """How chips are shared among train, val and test.

    Attributes
    ----------
    scheme
        ``"blocks"``: blocks and buffer in metres on the ellipsoid. ``"cryosentinel-v1"``: as published, in
        degrees. ``"given"``: each ``[[data]]`` says its ``fold``; this is so where all of them do.
        ``"published"``: the fold that Parquet shards say of each chip.
    block_m, buffer_m, shares
        Of ``"blocks"``; shares of train, val and test in per cent. ``buffer_m`` of ``"given"``: how far apart
        the folds are said to be, 0 by default.
    block_deg, buffer_deg
        Of ``"cryosentinel-v1"``.
    salt
        Of the hash that assigns blocks; the scheme's own by default.
    ground
        Of ``"given"``: ``"separate"`` where each cube is a world of its own, as simulated ones are.
    despite
        Failures of the check that are accepted: ``"distance"``, ``"lakes"``, ``"places"``. For a published
        split whose faults are known.
    file
        A ``split.json`` of an earlier training, which a further stage must keep to.
    """

    scheme: Literal["blocks", "cryosentinel-v1", "given", "published"] = "blocks"
    block_m: float = 20_000
    buffer_m: float | None = None
    salt: str | None = None
    shares: tuple[int, int, int] = (80, 10, 10)
    block_deg: float = 0.15
    buffer_deg: float = 0.02
    ground: Literal["shared", "separate"] = "shared"
    despite: tuple[Failure, ...] = ()
    file: str = ""


@dataclass(frozen=True, slots=True)
class ChipsConfig:
    """How chips are cut and drawn.

    Attributes
    ----------
    sampling, stride, count
        ``"grid"``: a chip every ``stride`` pixels, half a window by default. ``"random"``: ``count`` chips.
    min_valid
        Least share of pixels of a chip that are labelled and observed.
    balance, positive
        Chips with lake to chips without, 3 to 1 by default, 0 for as they come; a chip has lake where at
        least the share ``positive`` of it is.
    epoch_chips
        Chips of an epoch; as many as the balance gives by default, or those of the whole run where that is
        shorter. An epoch walks once through the blocks of all cubes, so fewer chips mix more places in
        neighbouring batches, and blocks are read more often.
    hard
        Share of the chips without lake that are drawn by how much lake the ``scores`` see in them; half by
        default where there are scores.
    dates
        Most dates of a place in an epoch; all by default.
    mix, threads
        Places that a stretch of batches is drawn from, and threads that read.
    """

    sampling: Literal["grid", "random"] = "grid"
    stride: int | None = None
    count: int | None = None
    min_valid: float = 0.5
    balance: float = 3.0
    positive: float = 0.002
    epoch_chips: int | None = None
    hard: float | None = None
    dates: int | None = None
    mix: int | None = None
    threads: int = 2


@dataclass(frozen=True, slots=True)
class LossConfig:
    """Losses by weight, and their settings.

    Attributes
    ----------
    weights
        By name: ``bce``, ``focal``, ``dice``, ``tversky``, ``lovasz``, ``boundary``.
    settings
        Of the losses, see :class:`xglof.train.losses.LossSettings`.
    """

    weights: Mapping[str, float] = field(default_factory=lambda: {"bce": 1.0, "dice": 1.0})
    settings: LossSettings = field(default_factory=LossSettings)


@dataclass(frozen=True, slots=True)
class OptimiserConfig:
    """AdamW, its learning rates and their course.

    Attributes
    ----------
    lr, weight_decay, betas
        Of AdamW; ``lr`` is the peak.
    layer_decay, backbone_multiplier, freeze
        The encoder's block i of n learns at ``lr * backbone_multiplier * layer_decay ** (n - i)``; the first
        ``freeze`` blocks do not.
    warmup
        Share of the steps in which the rate rises; it falls as a cosine after that, to ``floor`` of the peak,
        which it reaches after the share ``floor_from`` of the steps.
    decayed
        ``"matrices"``: vectors (biases, norms) have no weight decay. ``"all"``: everything has.
    blocks, encoder
        Names of the encoder's list of blocks and of the encoder, for networks other than TerraMind.
    clip
        Largest norm of the gradients; 0 for any.
    """

    lr: float = 1e-4
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    layer_decay: float = 1.0
    backbone_multiplier: float = 1.0
    freeze: int = 0
    warmup: float = 0.05
    floor: float = 0.0
    floor_from: float = 1.0
    clip: float = 1.0
    decayed: Literal["matrices", "all"] = "matrices"
    blocks: str | None = None
    encoder: str | None = None


@dataclass(frozen=True, slots=True)
class AverageConfig:
    """Averages of the weights over the run.

    Attributes
    ----------
    ema
        Decay of the exponential moving average, a step; 0 for none. Where there is one, it is what is
        validated.
    swa_start
        Share of the steps after which a plain mean is kept, a step; 1 for none.
    soup
        How many of the snapshots that scored best in validation are averaged at the end; 0 for none.
    recalibrate
        Batches over which the statistics of batch norms are measured again, for averaged weights, whose own
        belong to none of them. They are drawn from all cubes and augmented as in training.
    settle
        Share of the steps after which batch norms are measured over as many batches and then kept: from there
        on the network learns with the statistics that it will have in inference. 1 for never. It is for
        networks that must do without a modality: each batch of training lacks it or has it, and statistics of
        a batch fit either case, while those of inference must fit both.
    recalibrate_drop
        By modality, the chance that such a batch goes without it; as in training where it is absent.
    use
        Which average is written; by default the one that scores best in validation.
    """

    ema: float = 0.0
    swa_start: float = 1.0
    soup: int = 0
    recalibrate: int = 100
    settle: float = 1.0
    recalibrate_drop: Mapping[str, float] | None = None
    use: Literal["ema", "swa", "soup", "best"] = "best"


@dataclass(frozen=True, slots=True)
class FitConfig:
    """Length, batches, numbers and machines.

    Attributes
    ----------
    steps, epochs
        Steps of the optimiser, or epochs; give one.
    batch_size, accumulate
        Chips of a batch, a process; batches of a step.
    precision, accelerator, devices, strategy
        As Lightning takes them; ``precision`` is ``"32"``, ``"bf16-mixed"`` or ``"16-mixed"``.
    compile
        Compile the network with ``torch.compile``.
    sync_batch_norm
        Several GPUs: batch norms over the batches of all of them.
    threads
        Threads of torch on a CPU; its own choice by default. The last bits of a training depend on it.
    checkpoint_every, validate_every
        Steps; by default a twentieth and a tenth of the training.
    keep
        Checkpoints that stay.
    tta
        Mean over these flips in validation: none, or ``"flips"``.
    patience
        Validations without a better IoU after which training ends early; 0 for never.
    validate_chips
        Most chips that a validation uses, drawn once; all by default.
    """

    steps: int = 0
    epochs: int = 0
    batch_size: int = 8
    accumulate: int = 1
    precision: Precision = "32"
    accelerator: str = "auto"
    devices: int | str = 1
    strategy: str = "auto"
    compile: bool = False
    sync_batch_norm: bool = True
    threads: int | None = None
    checkpoint_every: int | None = None
    validate_every: int | None = None
    keep: int = 2
    tta: Literal["none", "flips"] = "none"
    patience: int = 0
    validate_chips: int | None = None
