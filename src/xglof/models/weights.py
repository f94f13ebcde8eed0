"""Weights: where a network's numbers lie, and the check that they are the right ones.

Only safetensors files are read: a file of weights can then do nothing but hold numbers.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from xglof.errors import ModelError

if TYPE_CHECKING:
    from torch import nn

_PACKAGE = "package:"


@dataclass(frozen=True, slots=True)
class Weights:
    """A safetensors file and its SHA-256.

    Attributes
    ----------
    uri
        A path, or ``package:NAME`` for a file that ships with xglof.
    sha256
        Hexadecimal digest of the whole file; checked at every load.
    """

    uri: str
    sha256: str

    @classmethod
    def of(cls, path: str | Path) -> Weights:
        """Describe a file that is there: its path and digest."""
        return cls(str(Path(path).resolve()), file_digest(Path(path)))

    @property
    def path(self) -> Path:
        """The file."""
        if self.uri.startswith(_PACKAGE):
            return Path(__file__).parent / "data" / self.uri.removeprefix(_PACKAGE)
        return Path(self.uri)

    def check(self) -> None:
        """Check that the file is there and is the recorded one.

        Raises
        ------
        ModelError
            If the file is absent or its digest differs.
        """
        if not self.path.is_file():
            raise ModelError(f"weights {self.path} are not there; give the path of a .safetensors file")
        found = file_digest(self.path)
        if found != self.sha256:
            raise ModelError(
                f"weights {self.path} have SHA-256 {found}, expected {self.sha256}: the file is damaged or "
                "another one; fetch it again or correct the model's sha256"
            )

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
