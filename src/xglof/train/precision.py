"""Mixed precision as inference has it: the network chooses, its inputs stay float32."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lightning.fabric.plugins.precision import MixedPrecision

if TYPE_CHECKING:
    from xglof.train.settings import Precision


class AutocastOnly(MixedPrecision):
    """Lightning's mixed precision without its conversion of inputs.

    In 16 bits an elevation is known to 10 m and more, which makes terraces of slopes.
    """

    def convert_input(self, data: Any) -> Any:
        """The inputs as they are."""
        return data


def precision_plugin(precision: Precision, device: str) -> AutocastOnly | None:
    """What Lightning is to be given for a precision; ``None`` for float32.

    Parameters
    ----------
    precision
        As in the config.
    device
        ``"cuda"`` or ``"cpu"``.
    """
    return None if precision == "32" else AutocastOnly(precision, device)
