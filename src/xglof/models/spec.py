"""A model as a frozen value: what it takes, how its input is prepared, and where its network comes from.

A spec travels in graphs and between machines in place of the network; each process loads the network once
per device (:meth:`ModelSpec.load`).
"""

from __future__ import annotations

import importlib
import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from xglof.bands import MODALITIES
from xglof.cube.flags import Flag
from xglof.errors import ModelError
from xglof.models.weights import Weights

if TYPE_CHECKING:
    from torch import nn

Activation = Literal["sigmoid", "softmax", "identity"]


@dataclass(frozen=True, slots=True)
class ModelInput:
    """One modality as a network takes it: ``(value - mean) / std`` a band, in the order of ``bands``.

    A value is found to be nodata first, then clipped or filled, then standardised.

    Attributes
    ----------
    modality
        A name of :data:`xglof.bands.MODALITIES`.
    mean, std
        One value a band, in the units of the cube (reflectance x 10,000, dB, m).
    bands
        Names of the bands; all of the modality by default.
    fill
        What stands for nodata before standardisation, one value a band; the mean by default.
    optional
        The network may be run without this modality.
    clip
        Least and most value of all its bands, in the units of the cube: what lies beyond is moved to them.
        ``None`` leaves values as they are. Nodata is not clipped but filled.
    """

    modality: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    bands: tuple[str, ...] = ()
    fill: tuple[float, ...] = ()
    optional: bool = False
    clip: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.modality not in MODALITIES:
            raise ModelError(f"modality {self.modality!r} is unknown; known are {', '.join(MODALITIES)}")
        known = MODALITIES[self.modality].names
        object.__setattr__(self, "bands", tuple(self.bands) or known)
        object.__setattr__(self, "mean", tuple(float(value) for value in self.mean))
        object.__setattr__(self, "std", tuple(float(value) for value in self.std))
        object.__setattr__(self, "fill", tuple(float(value) for value in self.fill) or self.mean)
        if unknown := [name for name in self.bands if name not in known]:
            raise ModelError(f"{self.modality} has no band {', '.join(unknown)}; it has {', '.join(known)}")
        counts = {len(self.bands), len(self.mean), len(self.std), len(self.fill)}
        if counts != {len(self.bands)}:
            raise ModelError(
                f"{self.modality}: {len(self.bands)} bands need as many means, stds and fills, "
                f"not {len(self.mean)}, {len(self.std)} and {len(self.fill)}"
            )
        if not all(0 < value < math.inf for value in self.std):
            raise ModelError(f"{self.modality}: a standard deviation must be above 0, not {min(self.std)}")
        if self.clip is not None:
            object.__setattr__(self, "clip", tuple(float(value) for value in self.clip))
            if len(self.clip) != 2 or not self.clip[0] < self.clip[1]:
                raise ModelError(f"{self.modality}: clip is {self.clip}; give the least and the most value")

    @property
    def has_time(self) -> bool:
        """Whether the modality observes: a DEM, which has no time, is no observation."""
        return MODALITIES[self.modality].has_time


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A segmentation model, complete: equal specs give equal networks.

    Attributes
    ----------
    name
        Written to every output.
    factory
        ``"package.module:function"``; called with ``kwargs`` it returns a :class:`torch.nn.Module` whose
        ``forward`` takes ``dict[str, Tensor (B, C, H, W)]`` of standardised float32 inputs by modality and
        returns logits ``(B, K, H, W)``, where ``K`` is the number of ``classes``. ``forward`` is called from
        several threads at once and must change no state.
    inputs
        The modalities in the order in which the network is given them.
    kwargs
        Keyword arguments of the factory, as a mapping or as pairs; the values can be hashed, and lists become
        tuples.
    window
        Side of the square that the network sees, pixels; a multiple of ``multiple_of``.
    resolution
        Pixel size that the model was made for, metres; a cube that is a quarter off is refused. ``None``
        where any will do.
    classes
        Names of the ``K`` channels; one of them is ``"lake"``.
    activation
        ``"sigmoid"`` a channel, ``"softmax"`` over channels, or ``"identity"`` for a network whose output is
        a probability already.
    weights
        A file of weights, or ``None`` for a network that needs none.
    unobserved_when
        Flags of the cube that make a pixel unobserved in the output.
    min_share
        A window whose observed share of an optional modality is below this is run without that modality.
    licence, caveat
        Said wherever the model's results are shown.
    summary
        One line for a list of models.
    window_bytes
        Peak memory of a forward pass by window of its batch, bytes (``benchmarks/block_memory.py --window``);
        what :func:`xglof.segment` needs to keep to a ``memory_budget``.
    """

    name: str
    factory: str
    inputs: tuple[ModelInput, ...]
    kwargs: tuple[tuple[str, Any], ...] = ()
    window: int = 224
    multiple_of: int = 16
    resolution: float | None = None
    classes: tuple[str, ...] = ("lake",)
    activation: Activation = "sigmoid"
    weights: Weights | None = None
    unobserved_when: tuple[str, ...] = ("cloud", "cloud_shadow", "terrain_shadow", "failed_read")
    min_share: float = 0.05
    licence: str = ""
    caveat: str = ""
    # kept out of comparisons: how a person reads it, and what it takes
    summary: str = field(default="", compare=False)
    window_bytes: int | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        pairs = self.kwargs.items() if isinstance(self.kwargs, Mapping) else self.kwargs
        object.__setattr__(self, "kwargs", tuple(sorted((str(key), _frozen(value)) for key, value in pairs)))
        for name in ("inputs", "classes", "unobserved_when"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        self._check()

    def _check(self) -> None:
        module, colon, function = self.factory.partition(":")
        if not (module and colon and function.isidentifier()):
            raise ModelError(f"factory {self.factory!r} is not of the form 'package.module:function'")
        if not any(source.has_time for source in self.inputs):
            raise ModelError(f"model {self.name!r} takes no modality that observes (S2L2A, S1RTC or S1GRD)")
        if self.multiple_of < 1 or self.window < 1 or self.window % self.multiple_of:
            raise ModelError(f"window {self.window} px is not a multiple of {self.multiple_of} px")
        if "lake" not in self.classes:
            raise ModelError(f"classes {self.classes} of model {self.name!r} hold no 'lake'")
        if self.activation not in ("sigmoid", "softmax", "identity"):
            raise ModelError(f"activation {self.activation!r} is none of sigmoid, softmax, identity")
        if self.activation == "softmax" and len(self.classes) < 2:
            raise ModelError(f"model {self.name!r} shares its softmax among one class; use 'sigmoid'")
        if not 0 <= self.min_share <= 1:
            raise ModelError(f"min_share is {self.min_share}; give a share from 0 to 1")
        names = [name for source in self.inputs for name in source.bands]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ModelError(f"model {self.name!r} takes {', '.join(twice)} twice; a variable is one input's")
        try:
            hash(self.kwargs)
        except TypeError as error:
            raise ModelError(
                f"kwargs {dict(self.kwargs)} of model {self.name!r} can't be hashed ({error}); pass numbers, "
                "texts and tuples of them, and build dicts in the factory"
            ) from error
        if unknown := [name for name in self.unobserved_when if name not in Flag.__members__]:
            raise ModelError(f"no such flag: {', '.join(unknown)}; there are {', '.join(Flag.__members__)}")

    def with_weights(self, weights: Weights | None) -> ModelSpec:
        """The same model with other weights."""
        return replace(self, weights=weights)

    def build(self) -> nn.Module:
        """The network as the factory makes it, before any weights are loaded."""
        module_name, _, function = self.factory.partition(":")
        try:
            make = getattr(importlib.import_module(module_name), function)
        except (ImportError, AttributeError) as error:
            raise ModelError(
                f"model {self.name!r}: the factory {self.factory!r} can't be had: {error}"
            ) from error
        network: nn.Module = make(**dict(self.kwargs))
        return network

    def load(self, device: str = "cpu") -> nn.Module:
        """The network with its weights, in evaluation mode, one a process and device.

        Parameters
        ----------
        device
            As torch names it, such as ``"cpu"`` or ``"cuda:0"``.

        Raises
        ------
        ModelError
            If the factory is missing, or the weights are absent, do not have the recorded SHA-256, or do
            not fit the network.
        """
        with _LOCK:
            key = (self, device)
            if key not in _NETWORKS:
                import torch

                if self.weights is not None:
                    self.weights.locate()  # a large network takes a while to build in vain
                with torch.inference_mode(False):  # whoever asks first: its parameters can be trained later
                    network = self.build()
                    if self.weights is not None:
                        self.weights.load_into(network)
                    _NETWORKS[key] = network.to(device).eval().requires_grad_(False)
                if device != "cpu":  # other streams use it too
                    torch.cuda.synchronize(device)
            return _NETWORKS[key]


def _frozen(value: object) -> object:
    """Lists as tuples, so that a spec can be hashed."""
    return tuple(_frozen(item) for item in value) if isinstance(value, list | tuple) else value


_LOCK = threading.RLock()  # a factory may load other specs
_NETWORKS: dict[tuple[ModelSpec, str], nn.Module] = {}
