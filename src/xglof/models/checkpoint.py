"""Checkpoints of others: the tensors in them, found under whatever names a training left, and no code run.

A PyTorch checkpoint is a pickle, which can run any code when it is read. Here it is read with
``weights_only=True``: numbers and plain containers. Other objects, such as the paths and settings that
trainers keep beside the weights, become stand-ins that hold nothing; a network is never made of them.
"""

from __future__ import annotations

import functools
import pickle  # its errors are caught; nothing is read with it
import re
import threading
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from xglof.errors import ModelError
from xglof.models.spec import ModelSpec

if TYPE_CHECKING:
    from torch import Tensor

#: ``"model"``: the weights as trained last; ``"ema"``: their moving average; ``"auto"``: what the training's
#: own loader would load (``state_dict``), and the average where there is nothing else.
Which = Literal["auto", "model", "ema"]

#: Put before names by ``torch.compile``, and by data-parallel training and averages.
_WRAPPERS = ("_orig_mod.", "module.")
#: Where trainers keep the network within their module, the likeliest first.
_PREFIXES = ("", "model.", "network.", "net.")
#: Where they keep a moving average of it, within their module and within a callback or the checkpoint.
_AVERAGED = ("ema_model.", "model_ema.", "ema.")
_SHADOWS = ("shadow", "ema_state_dict", "ema_weights", "ema_params", "shadow_params", "state_dict", "module")
_WHOLE = ("ema_state_dict", "state_dict_ema", "model_ema", "ema")
_STATES = ("state_dict", "model_state_dict", "model", "network")
_LISTED = 5


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a file of weights holds.

    Attributes
    ----------
    path
        The file.
    kind
        ``"Lightning checkpoint"``, ``"PyTorch checkpoint"`` or ``"safetensors"``.
    model, ema
        Tensors by name, as trained last and averaged; either may be empty, ``ema`` may hold a part.
    first
        Which of the two the training's own loader would load.
    stand_ins
        Names of the objects that were not read (:func:`read_checkpoint`).
    """

    path: Path
    kind: str
    model: Mapping[str, Tensor]
    ema: Mapping[str, Tensor]
    first: Literal["model", "ema"]
    stand_ins: tuple[str, ...] = ()

    def choose(self, which: Which) -> Literal["model", "ema"]:
        """Which weights ``which`` stands for here.

        Raises
        ------
        ModelError
            If the file does not hold them.
        """
        if which not in ("auto", "model", "ema"):
            raise ModelError(f"which is {which!r}; give 'auto', 'model' or 'ema'")
        chosen = self.first if which == "auto" else which
        if not (self.model if chosen == "model" else self.ema):
            other = "ema" if chosen == "model" else "model"
            raise ModelError(f"{self.path} holds no {chosen!r} weights; take which={other!r}")
        return chosen


@dataclass(frozen=True, slots=True)
class Fitted:
    """Tensors under the names of a network.

    Attributes
    ----------
    state
        Every tensor of the network, in its order.
    left_out
        Names in the file that are outside the network: of losses, metrics, averages.
    completed
        Of an average, names of the tensors that it lacks and the model's own stand for: buffers, and what
        was not trained.
    """

    state: dict[str, Tensor]
    left_out: tuple[str, ...] = ()
    completed: tuple[str, ...] = ()


def fit_checkpoint(spec: ModelSpec, checkpoint: Checkpoint, which: Which = "auto") -> Fitted:
    """The tensors of a spec's network out of a checkpoint, every one of them and no other.

    Parameters
    ----------
    spec
        The model.
    checkpoint
        As :func:`read_checkpoint` returns it.
    which
        The weights to take.

    Raises
    ------
    ModelError
        The file lacks the weights asked for, or they are those of another network: what is missing,
        unexpected or of another shape is listed, long lists shortened.
    """
    if checkpoint.choose(which) == "model":
        state, left = _named(spec, checkpoint.model)
        return Fitted(_strict(spec, state), left)
    average, left = _named(spec, checkpoint.ema)
    rest, _ = _named(spec, checkpoint.model)
    completed = tuple(name for name in _shapes(spec) if name not in average and name in rest)
    return Fitted(_strict(spec, {name: rest[name] for name in completed} | average), left, completed)


def fitted(spec: ModelSpec, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by name under the names of a spec's network, every one of them and no other.

    What ``torch.compile``, data-parallel training and a Lightning module put before names is taken off.

    Raises
    ------
    ModelError
        As :func:`fit_checkpoint`.
    """
    return _strict(spec, _named(spec, state)[0])


def _named(spec: ModelSpec, state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Tensors by the names of a network as far as they tell, and names of those outside it."""
    expected = _shapes(spec)
    if set(state) == set(expected):
        return dict(state), ()
    plain = {_unwrapped(name): tensor for name, tensor in state.items()}
    if len(plain) != len(state):
        raise ModelError("two networks are in one state under the same names; save one of them")

    def matches(prefix: str) -> int:
        return sum(name.startswith(prefix) and name.removeprefix(prefix) in expected for name in plain)

    prefix = max(_PREFIXES, key=matches)  # the first of the best
    inside = {name.removeprefix(prefix): t for name, t in plain.items() if name.startswith(prefix)}
    return inside, tuple(name for name in plain if not name.startswith(prefix))


def _unwrapped(name: str) -> str:
    for wrapper in _WRAPPERS:
        name = name.removeprefix(wrapper).replace(f".{wrapper}", ".")
    return name


def _strict(spec: ModelSpec, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    expected = _shapes(spec)
    shapes = [
        f"{name} {tuple(state[name].shape)} for {shape}"
        for name, shape in expected.items()
        if name in state and tuple(state[name].shape) != shape
    ]
    problems = {
        "missing": [name for name in expected if name not in state],
        "unexpected": [name for name in state if name not in expected],
        "of another shape": shapes,
    }
    if told := [f"{len(names)} {what}: {_shortened(names)}" for what, names in problems.items() if names]:
        raise ModelError(
            f"the weights are not those of {spec.name!r} with its {len(expected)} tensors: {'; '.join(told)}"
        )
    return {name: state[name] for name in expected}


def _shortened(names: list[str]) -> str:
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {more} more" if more > 0 else "")


@functools.lru_cache(maxsize=8)
def _shapes(spec: ModelSpec) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors of a spec's network, in order."""
    import torch

    # a network of numbers: one without (torch.device("meta")) imports much of torch first, 6 s for any size
    with torch.random.fork_rng(devices=[]):  # to ask must not change what a training draws next
        network = spec.build()
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def read_checkpoint(path: str | Path, *, trust: bool = False) -> Checkpoint:
    """The tensors in a file of weights, on the CPU, and under the names that they have there.

    Parameters
    ----------
    path
        A Lightning or PyTorch checkpoint, or a safetensors file.
    trust
        Run the code that a pickle may hold, with all rights of the user who reads it. Only for a file of
        someone you trust.

    Raises
    ------
    ModelError
        There is no such file, it is damaged or holds no weights, or it can't be read without running code:
        the objects that block it are named.
    """
    file = Path(path)
    if not file.is_file():
        raise ModelError(
            f"checkpoint {file} is not there; give the path of a .ckpt, .pt or .safetensors file"
        )
    if file.suffix == ".safetensors":
        return Checkpoint(file, "safetensors", _safetensors(file), {}, "model")
    content, stand_ins = _unpickled(file, trust)
    if not isinstance(content, Mapping):
        raise ModelError(
            f"{file} holds a {type(content).__name__}, expected a dict with the network's tensors"
        )
    return _sorted_out(file, content, stand_ins)


def _safetensors(file: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{file} is no whole safetensors file: {error}") from error


def _sorted_out(file: Path, content: Mapping[str, Any], stand_ins: tuple[str, ...]) -> Checkpoint:
    """Which of the tensors in a checkpoint are the network's, and which their average."""
    kind = "Lightning checkpoint" if "pytorch-lightning_version" in content else "PyTorch checkpoint"
    found = next((content[name] for name in _STATES if isinstance(content.get(name), Mapping)), content)
    state = _tensors(found)
    if "current_model_state" in content:  # Lightning's own averages: state_dict holds the average
        own = _tensors(content["current_model_state"])
        return Checkpoint(file, kind, own, state, "ema", stand_ins)
    averages = {name for name in state if _unwrapped(name).startswith(_AVERAGED)}
    model = {name: tensor for name, tensor in state.items() if name not in averages}
    ema = {_without_average(name): state[name] for name in averages} or _shadow(content)
    if not model and not ema:
        hint = "give a checkpoint"
        if "learner" in content:
            hint = (
                "a checkpoint of xglof train goes on with its run; take the folders best or average beside it"
            )
        raise ModelError(f"{file} holds no tensors under {', '.join(_STATES)} or at the top; {hint}")
    return Checkpoint(file, kind, model, ema, "model" if model else "ema", stand_ins)


def _without_average(name: str) -> str:
    name = _unwrapped(name)
    return next(name.removeprefix(prefix) for prefix in _AVERAGED if name.startswith(prefix))


def _shadow(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The moving average that a callback or a trainer kept beside the weights; empty where there is none."""
    callbacks = content.get("callbacks")
    kept = [content[name] for name in _WHOLE if name in content]
    if isinstance(callbacks, Mapping):
        kept += [value for name, value in callbacks.items() if "ema" in str(name).lower()]
    for value in kept:
        if isinstance(value, Mapping):
            for tensors in (*(value.get(name) for name in _SHADOWS), value):
                if found := _tensors(tensors):
                    return found
    return {}


def _tensors(value: object) -> dict[str, Tensor]:
    import torch

    if not isinstance(value, Mapping):
        return {}
    return {
        name: tensor.detach()
        for name, tensor in value.items()
        if isinstance(name, str) and isinstance(tensor, torch.Tensor)
    }


class _StandIn:
    """Takes the place of an object in a pickle, whatever is done to make it, and does nothing."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        pass

    def __new__(cls, *args: object, **kwargs: object) -> _StandIn:
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        pass


class _EmptyDict:
    """The stand-in of a kind of dict: what it is filled with goes nowhere."""

    def __new__(cls, *args: object, **kwargs: object) -> Any:  # an OrderedDict: none but it may be filled
        return OrderedDict()


def _unpickled(file: Path, trust: bool) -> tuple[Any, tuple[str, ...]]:
    """What a checkpoint holds, and the names of the objects in it that stand-ins took the place of."""
    import torch

    if trust:
        with _explained(file, ()):
            return torch.load(file, map_location="cpu", weights_only=False), ()
    zipped = _is_zip(file)
    names: tuple[str, ...] = ()
    with _explained(file, names, zipped=zipped):
        if zipped:  # names are read off; nothing is made of them
            names = tuple(sorted(torch.serialization.get_unsafe_globals_in_checkpoint(file)))
    with _LOCK, _explained(file, names, zipped=zipped), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a pickle's version: it is read or refused
        with torch.serialization.safe_globals([_stand_in(name) for name in names]):
            content = torch.load(file, map_location="cpu", weights_only=True, mmap=zipped)
        if isinstance(content, _StandIn):  # the network itself, as objects
            raise pickle.UnpicklingError
    return content, names


def _stand_in(name: str) -> type:
    """A class that torch takes for the object of that name."""
    module, _, own = name.rpartition(".")
    return type(own, (_EmptyDict if own.lower().endswith("dict") else _StandIn,), {"__module__": module})


def _is_zip(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(4) == b"PK\x03\x04"


@contextmanager
def _explained(file: Path, names: tuple[str, ...], *, zipped: bool = False) -> Iterator[None]:
    """Errors of reading a checkpoint in our words; a hostile or damaged file can raise any."""
    try:
        yield
    except pickle.UnpicklingError as error:
        stated = re.search(r"GLOBAL ([\w.]+)", str(error))  # of files too old to have their names read off
        what = ", ".join(names[:_LISTED]) or (stated[1] if stated else "")
        if zipped and "Unsupported operand" in str(error):
            what = what or "a pickle of a protocol that torch only reads in full"
        if not what:
            told = str(error).rpartition("WeightsUnpickler error:")[2].strip().partition("\n")[0]
            raise ModelError(
                f"{file} is no checkpoint of PyTorch, or a damaged one ({told}); fetch it again"
            ) from error
        raise ModelError(
            f"{file} can't be read without running what it holds: {what}. `xglof models convert --trust` "
            "would run it, with all your rights: do so only for a file of someone you trust, or ask them for "
            "a safetensors file"
        ) from error
    except Exception as error:
        first = str(error).partition("\n")[0]
        raise ModelError(
            f"{file} is no checkpoint of PyTorch, or a damaged one ({type(error).__name__}: {first}); fetch "
            "it again"
        ) from error


_LOCK = threading.Lock()  # what torch is told to take is the process's
