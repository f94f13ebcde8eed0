"""What chips of cubes and chips of shards have in common: an index, selections of it, and torch's items."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from torch.utils.data import Dataset

from xglof.errors import TrainError
from xglof.models.spec import ModelSpec
from xglof.train.batch import ChipBatch, prepare


class IndexedChips(Dataset[dict[str, Any]]):
    """Chips with an index of a row each; how they are read is a matter of the class.

    Attributes
    ----------
    spec
        The model that the chips are for.
    index
        A row a chip.
    """

    spec: ModelSpec
    index: pd.DataFrame

    def __len__(self) -> int:
        return len(self.index)

    def read(self, rows: Sequence[int]) -> ChipBatch:
        """The chips of these rows, in this order; rows of one set of modalities."""
        raise NotImplementedError

    def with_index(self, index: pd.DataFrame) -> Self:
        """Chips of another index, such as one that a split has assigned folds in.

        Parameters
        ----------
        index
            Rows of :attr:`index`, all or some, with columns changed or added.
        """
        raise NotImplementedError

    def select(
        self, rows: Sequence[int] | npt.NDArray[Any] | pd.Series | None = None, *, fold: str | None = None
    ) -> Self:
        """The chips of some rows, of a mask, or of a fold; they keep their ``chip_id``.

        Parameters
        ----------
        rows
            Row numbers, in the order wanted, or a mask with a value for each chip.
        fold
            ``"train"``, ``"val"``, ``"test"``, ``"dropped"``, or ``""`` before a split.

        Raises
        ------
        TrainError
            A mask of another length, a row that is not there, or no chip in the fold.
        """
        index = self.index
        if rows is not None:
            index = index.iloc[self._rows(rows)]
        if fold is not None:
            index = index[index["fold"] == fold]
            if index.empty:
                raise TrainError(f"no chip is in the fold {fold!r}; there are {self._folds()}")
        return self.with_index(index)

    def _folds(self) -> dict[str, int]:
        return {str(fold): int(count) for fold, count in self.index["fold"].value_counts().items()}

    def _told_folds(self) -> str:
        return ", ".join(f"{count:,} {fold or 'in no fold'}" for fold, count in self._folds().items())

    def _rows(self, rows: Sequence[int] | npt.NDArray[Any] | pd.Series) -> npt.NDArray[np.int64]:
        given = np.asarray(rows)
        if given.dtype == bool:
            if given.shape != (len(self),):
                raise TrainError(
                    f"the mask has the shape {given.shape}; expected one value for {len(self)} chips"
                )
            return np.flatnonzero(given)
        if given.size and (given.dtype.kind not in "iu" or given.min() < 0 or given.max() >= len(self)):
            raise TrainError(f"rows are {given.min()} to {given.max()}; expected 0 to {len(self) - 1}")
        return given.astype(np.int64)

    def _modalities(self, rows: npt.NDArray[np.int64]) -> tuple[str, ...]:
        """The one set of modalities that rows have."""
        sets = self.index["modalities"].iloc[rows].unique()
        if len(sets) != 1:
            raise TrainError(
                f"chips with {' and '.join(map(repr, sets)) or 'nothing'} can't share a batch; read rows of "
                "one set of modalities, as ChipLoader does"
            )
        return tuple(filter(None, str(sets[0]).split("+")))

    def __getitem__(self, row: int) -> dict[str, Any]:
        """A chip as the network takes it: an input by modality, ``label`` and ``row``."""
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)} chips")
        return self.__getitems__([row])[0]

    def __getitems__(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        """The chips of a batch, as torch's DataLoader asks for them when it is given a ``batch_sampler``."""
        sample = prepare(self.spec, self.read(rows))
        return [
            {name: values[number] for name, values in sample.inputs.items()}
            | {"label": sample.label[number], "row": int(row)}
            for number, row in enumerate(rows)
        ]
