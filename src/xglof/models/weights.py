"""Weights: where a network's numbers lie, and the check that they are the right ones.

Only safetensors files are read: a file of weights can then do nothing but hold numbers.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from xglof.errors import ModelError
from xglof.models.hub import FETCHED, HUB, HubFile, fetched_path

if TYPE_CHECKING:
    from torch import nn

_PACKAGE = "package:"


@dataclass(frozen=True, slots=True)
class Weights:
    """A safetensors file and its SHA-256.

    Attributes
    ----------
    uri
        A path; ``package:NAME`` for a file that ships with xglof; ``hf://OWNER/REPO/FILE@COMMIT`` for one on
        the Hugging Face Hub at a commit of 40 hexadecimal digits, which is downloaded once, to the cache of
        huggingface_hub; ``fetched:MODEL/FILE`` for one that ``xglof models fetch`` put on this machine.
    sha256
        Hexadecimal digest of the whole file; checked at every load.
    """

    uri: str
    sha256: str

    def __post_init__(self) -> None:
        if self.uri.startswith(HUB):
            HubFile.of(self.uri)  # raises where it names no commit: a branch would be another file tomorrow

    @classmethod
    def of(cls, path: str | Path) -> Weights:
        """Describe a file that is there: its path and digest."""
        return cls(str(Path(path).resolve()), file_digest(Path(path)))

    @property
    def path(self) -> Path:
        """The file; of one on the Hub its place in the cache, where it is after :meth:`check`."""
        if self.uri.startswith(_PACKAGE):
            return Path(__file__).parent / "data" / self.uri.removeprefix(_PACKAGE)
        if self.uri.startswith(FETCHED):
            return fetched_path(self.uri)
        if self.uri.startswith(HUB):
            return HubFile.of(self.uri).path
        return Path(self.uri)

    def locate(self) -> Path:
        """The file, downloaded where it is on the Hub and not in the cache yet; its digest is not checked.

        Raises
        ------
        ModelError
            If the file is absent, or the Hub can't be reached and its file is in no cache.
        """
        if self == UNTRAINED:
            raise ModelError(
                "this model is for training and has no trained weights; train it with xglof.train.fit, then "
                "pass the folder that it wrote"
            )
        if self.uri.startswith(HUB):
            return HubFile.of(self.uri).download()
        unknown = self.uri.startswith(FETCHED) and not self.sha256  # no digest of an earlier fetch
        if unknown or not self.path.is_file():
            raise ModelError(self._absent())
        return self.path

    def check(self) -> None:
        """Check that the file is there and is the recorded one; one on the Hub is downloaded first.

        Raises
        ------
        ModelError
            As :meth:`locate`, and if the digest differs.
        """
        found = file_digest(self.locate())
        if found != self.sha256.lower():
            raise ModelError(
                f"weights {self.path} have SHA-256 {found}, expected {self.sha256}: the file is damaged or "
                "another one; fetch it again or correct the model's sha256"
            )

    def _absent(self) -> str:
        if self.uri.startswith(FETCHED):
            name = self.uri.removeprefix(FETCHED).partition("/")[0]
            return (
                f"the weights of {name!r} are not on this machine; get them once with `xglof models fetch "
                f"{name}`, or convert a checkpoint with `xglof models convert` and pass its folder"
            )
        return f"weights {self.path} are not there; give the path of a .safetensors file"

    def load_into(self, network: nn.Module) -> None:
        """Check the file and load it into a network, every key matched.

        Half-precision tensors are widened to the network's own dtype.

        Raises
        ------
        ModelError
            As :meth:`check`, and if it is no safetensors file, or a key or shape differs.
        """
        self.check()
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            network.load_state_dict(load_file(self.path))
        except (SafetensorError, RuntimeError) as error:
            raise ModelError(f"weights {self.path} do not fit the network: {error}") from error


def file_digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


#: The weights of a spec whose network is yet to be trained: no segmentation runs on random numbers.
UNTRAINED = Weights("untrained:", "")
