"""Chips as they might have been: turned, scaled, badly calibrated, given a lake, a sensor short."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from xglof.bands import MODALITIES
from xglof.errors import TrainError
from xglof.models.spec import ModelInput, ModelSpec
from xglof.train.batch import Sample
from xglof.train.labels import IGNORE
from xglof.train.paste import paste_lakes
from xglof.train.warp import rescale, turn

Amounts = float | tuple[float, ...]


@dataclass(frozen=True, slots=True)
class BandNoise:
    """Errors of calibration and atmosphere: ``value * gain + offset`` in the units of the cube, a chip.

    Every number is the standard deviation of a normal draw; a tuple has one a band of the model's input.

    Attributes
    ----------
    gain, band_gain
        Of the factors, about 1, that all bands of a chip share, and that each band has of its own.
    offset, band_offset
        Of what is added to all bands of a chip, and to each band; reflectance x 10,000, dB or m.
    """

    gain: float = 0.0
    band_gain: Amounts = 0.0
    offset: float = 0.0
    band_offset: Amounts = 0.0

    def __post_init__(self) -> None:
        for name in ("gain", "band_gain", "offset", "band_offset"):
            amount = getattr(self, name)
            values = amount if isinstance(amount, list | tuple) else (amount,)
            if not values or not all(0 <= value < math.inf for value in values):
                raise TrainError(
                    f"{name} of the band noise is {amount}; give standard deviations of 0 or more"
                )
        for name in ("band_gain", "band_offset"):
            if isinstance(amounts := getattr(self, name), list):
                object.__setattr__(self, name, tuple(amounts))


@dataclass(frozen=True, slots=True)
class Augmentation:
    """What is done to chips before a network is trained on them; as it stands, flips alone.

    Mappings are by modality; a modality that a model does not take, or a chip does not have, is passed over.

    Attributes
    ----------
    flip
        Chance of a flip left to right, and of one top to bottom.
    rot90
        Also turn a chip by 0, 90, 180 or 270 degrees, each as likely. The sun and the radar then come from
        sides that they never come from, and TerraMind's places in the image are turned.
    jitter
        By modality, the most by which a band's standardised values are multiplied away from 1 (0.03: a factor
        between 0.97 and 1.03, of each band its own).
    jitter_chance
        Chance that a chip is jittered, in all its modalities.
    noise
        By modality, errors in the units of the cube, in every chip.
    height_shift_m
        Lowest and highest number of metres that is added to a chip's DEM: how high a valley lies says little
        about where its lakes are.
    scale
        Smallest and largest factor by which a chip is enlarged. Where a shrunk chip leaves room, the image is
        its reflection, as at the edge of a raster in inference, and the label is ignored.
    scale_chance
        Chance that a chip is scaled.
    copy_paste
        Chance that a chip is given a lake of another chip of the batch.
    least_donor_px
        Least labelled and observed pixels of a lake that is given away.
    drop
        By modality, the chance that a whole batch goes without it, so that the network learns to. The first
        sensor in the model's order stays where all were to go.
    """

    flip: float = 0.5
    rot90: bool = False
    jitter: Mapping[str, float] = field(default_factory=dict)
    jitter_chance: float = 0.5
    noise: Mapping[str, BandNoise] = field(default_factory=dict)
    height_shift_m: tuple[float, float] = (0.0, 0.0)
    scale: tuple[float, float] = (1.0, 1.0)
    scale_chance: float = 0.5
    copy_paste: float = 0.0
    least_donor_px: int = 32
    drop: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("jitter", "noise", "drop"):
            object.__setattr__(self, name, dict(getattr(self, name)))  # the caller's may change
            if unknown := [key for key in getattr(self, name) if key not in MODALITIES]:
                raise TrainError(f"{name} names {', '.join(unknown)}; modalities are {', '.join(MODALITIES)}")
        for name in ("height_shift_m", "scale"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        self._check()

    def _check(self) -> None:
        chances = {
            name: getattr(self, name) for name in ("flip", "jitter_chance", "scale_chance", "copy_paste")
        }
        chances |= {f"drop of {name}": chance for name, chance in self.drop.items()}
        for name, chance in chances.items():
            if not 0 <= chance <= 1:
                raise TrainError(f"{name} is {chance}; a chance lies between 0 and 1")
        for name, amount in self.jitter.items():
            if not 0 <= amount < 1:
                raise TrainError(
                    f"jitter of {name} is {amount}; give the most that a factor differs from 1, below 1"
                )
        for name in ("height_shift_m", "scale"):
            pair = getattr(self, name)
            if len(pair) != 2 or not -math.inf < pair[0] <= pair[1] < math.inf:
                raise TrainError(f"{name} is {pair}; give the lowest and the highest")
        if self.scale[0] <= 0:
            raise TrainError(f"scale is {self.scale}; factors are above 0")
        if self.least_donor_px < 1:
            raise TrainError(f"least_donor_px is {self.least_donor_px}; give 1 or more")

    def check(self, spec: ModelSpec) -> None:
        """Refusal of settings that a model can't be trained with; :func:`augment` asks it too.

        Raises
        ------
        TrainError
            A modality is to be dropped that the model requires, or noise has numbers for other bands.
        """
        for source in spec.inputs:
            if self.drop.get(source.modality, 0) > 0 and not source.optional:
                raise TrainError(
                    f"{source.modality} can't be dropped: {spec.name!r} requires it; take it out of 'drop'"
                )
            noise = self.noise.get(source.modality, BandNoise())
            for amounts in (noise.band_gain, noise.band_offset):
                if isinstance(amounts, tuple) and len(amounts) != len(source.bands):
                    raise TrainError(
                        f"noise of {source.modality} has {len(amounts)} numbers; {spec.name!r} takes "
                        f"{len(source.bands)} bands of it"
                    )


#: The recipe of CryoSentinel's second stage, as in its public configuration
#: (``terramind_v3_finetune_almaty_v2.yaml``). Here each chip is given a lake with that chance; there, all
#: chips of a batch are.
CRYOSENTINEL = Augmentation(
    jitter={"S2L2A": 0.03, "S1GRD": 0.07, "S1RTC": 0.07, "DEM": 0.02},
    jitter_chance=0.4,
    scale=(0.8, 1.2),
    scale_chance=0.4,
    copy_paste=0.2,
)

#: The recipe of ``terramind-tiny-demo``.
DEMO = Augmentation(
    rot90=True,
    noise={
        "S2L2A": BandNoise(gain=0.05, band_gain=0.02, offset=40, band_offset=15),
        "S1RTC": BandNoise(band_offset=(0.659, 0.669)),
    },
    height_shift_m=(-2854, 951),
    drop={"S2L2A": 0.10, "S1RTC": 0.15, "DEM": 0.10},
)


def augment(sample: Sample, settings: Augmentation, generator: torch.Generator, spec: ModelSpec) -> Sample:
    """The chips as they might have been; the sample itself is left as it is.

    The order is: scaled, turned and flipped, jittered, given lakes, a modality dropped. Calibration changes
    values only where the modality has data: what stands for nodata stays what it is in inference.

    Parameters
    ----------
    sample
        Chips on any device.
    settings
        What is done, and how often.
    generator
        Where every random number comes from, on the CPU: equal states give the same choices on every device.
    spec
        The model that the chips are for: its statistics turn metres and reflectance into standardised values.

    Raises
    ------
    TrainError
        The generator is not on the CPU, the sample lacks what its modalities have seen, chips that are to be
        turned are not square, or the settings do not suit the model (:meth:`Augmentation.check`).
    """
    settings.check(spec)
    _check_sample(sample, settings, generator)
    if settings.scale != (1.0, 1.0) and settings.scale_chance:
        sample = rescale(sample, settings.scale, settings.scale_chance, generator)
    if settings.flip or settings.rot90:
        sample = turn(sample, settings.flip, generator, rot90=settings.rot90)
    sample = _recalibrate(sample, settings, generator, spec)
    if settings.copy_paste:
        sample = paste_lakes(sample, settings.copy_paste, settings.least_donor_px, generator)
    return _drop(sample, settings.drop, generator, spec) if settings.drop else sample


def _check_sample(sample: Sample, settings: Augmentation, generator: torch.Generator) -> None:
    if generator.device.type != "cpu":
        raise TrainError(
            f"the generator is on {generator.device}; give one on the CPU, for any device of the chips"
        )
    if missing := [name for name in sample.inputs if name not in sample.seen]:
        raise TrainError(f"the sample does not say where {', '.join(missing)} has data; fill its 'seen'")
    if settings.rot90 and sample.label.shape[-1] != sample.label.shape[-2]:
        raise TrainError(
            f"chips of {sample.label.shape[-2]} x {sample.label.shape[-1]} px can't be turned by 90 degrees; "
            "cut squares or leave 'rot90' out"
        )


def _recalibrate(
    sample: Sample, settings: Augmentation, generator: torch.Generator, spec: ModelSpec
) -> Sample:
    """Jitter, noise and the shift of heights, as one factor and one offset a band of each chip."""
    chips = len(sample.label)
    jittered = None
    if any(settings.jitter.values()) and settings.jitter_chance:
        jittered = torch.rand((chips, 1), generator=generator) < settings.jitter_chance
    inputs = dict(sample.inputs)
    for source in spec.inputs:
        name = source.modality
        if (
            name in inputs
            and (change := _band_change(source, settings, jittered, chips, generator)) is not None
        ):
            values, seen = inputs[name], sample.seen[name][:, None]
            slope, offset = (part[:, :, None, None].to(values) for part in change)
            inputs[name] = torch.where(seen, values * slope + offset, values)
    return replace(sample, inputs=inputs)


def _band_change(
    source: ModelInput,
    settings: Augmentation,
    jittered: Tensor | None,
    chips: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor] | None:
    """Factor and offset of standardised values, ``(B, C)`` float64; ``None`` where nothing is to change."""
    name, shape = source.modality, (chips, len(source.bands))
    slope, offset = torch.ones(shape, dtype=torch.float64), torch.zeros(shape, dtype=torch.float64)
    mean, std = (torch.tensor(values, dtype=torch.float64) for values in (source.mean, source.std))
    amount, changed = settings.jitter.get(name, 0.0), False
    if amount and jittered is not None:
        factor = 1 + amount * (2 * torch.rand(shape, generator=generator) - 1)
        slope, changed = torch.where(jittered, factor.to(slope), slope), True
    if (noise := settings.noise.get(name, _NO_NOISE)) != _NO_NOISE:
        own, shared = (
            torch.randn((2, *shape), generator=generator),
            torch.randn((2, chips, 1), generator=generator),
        )
        amounts = [torch.as_tensor(values) for values in (noise.band_gain, noise.band_offset)]
        gain = (1 + noise.gain * shared[0]) * (1 + amounts[0] * own[0])
        added = noise.offset * shared[1] + amounts[1] * own[1]
        # with v the standardised value: ((v std + mean) gain + added - mean) / std
        slope, offset, changed = slope * gain, (mean * (gain - 1) + added) / std, True
    if name == "DEM" and settings.height_shift_m != (0.0, 0.0):
        low, high = settings.height_shift_m
        offset = offset + (low + (high - low) * torch.rand((chips, 1), generator=generator)) / std
        changed = True
    return (slope, offset) if changed else None


_NO_NOISE = BandNoise()


def _drop(
    sample: Sample, chances: Mapping[str, float], generator: torch.Generator, spec: ModelSpec
) -> Sample:
    """The batch without some of its modalities; what only a dropped sensor saw is ignored."""
    draws = torch.rand(len(spec.inputs), generator=generator).tolist()
    dropped = {
        s.modality for s, draw in zip(spec.inputs, draws, strict=True) if draw < chances.get(s.modality, 0)
    }
    sensors = [s.modality for s in spec.inputs if s.has_time and s.modality in sample.inputs]
    if dropped.issuperset(sensors):
        dropped -= set(sensors[:1])
    kept = {name: values for name, values in sample.inputs.items() if name not in dropped}
    if len(kept) == len(sample.inputs):
        return sample
    observed = torch.stack([sample.seen[name] for name in sensors if name not in dropped]).any(dim=0)
    return replace(
        sample,
        inputs=kept,
        label=torch.where(observed, sample.label, torch.full_like(sample.label, IGNORE)),
        seen={name: sample.seen[name] for name in kept},
    )
