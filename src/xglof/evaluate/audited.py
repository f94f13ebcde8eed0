"""What a label audit found: candidates to review, and corrected scores that stand beside the raw ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xglof.errors import CubeError
from xglof.evaluate.audit_rule import CONTRADICTED, DIRECTIONS, OUTCOMES, VOTES, AuditRule, ChipView
from xglof.evaluate.shares import SHARES, add_shares

if TYPE_CHECKING:
    import pandas as pd

#: What a reviewer may write into the table of candidates.
VERDICTS = ("label wrong", "model wrong", "unclear", "")


@dataclass(frozen=True, slots=True, eq=False)
class Audit:
    """What a rule found in all chips.

    Attributes
    ----------
    rule
        The rule, fixed before.
    chips
        A row a chip, all of them: ``chip`` (name), ``time``, ``longitude``, ``latitude`` (degrees, centre),
        ``pixel_m``, ``pixel_m2``, and pixels by :data:`xglof.evaluate.audit_rule.COUNTS`. ``tp_water`` are
        pixels where label and model say lake and MNDWI water, and so on.
    view
        From a row of ``chips`` to what there is to see of it, ``(y, x)``; reads it.
    notes
        Sentences about these chips that a reader of the scores has to know.
    """

    rule: AuditRule
    chips: pd.DataFrame
    view: Callable[[int], ChipView]
    notes: tuple[str, ...] = ()

    @property
    def chip_shares(self) -> pd.DataFrame:
        """Raw ``iou``, ``f1``, ``precision`` and ``recall`` of every chip by itself, NaN without any lake."""
        return self._shares(self._confusion(corrected=False))

    @property
    def candidates(self) -> pd.DataFrame:
        """The table to review, a row a candidate and direction, the largest first.

        ``row`` counts ``chips``; ``direction`` is ``omission`` (a lake that the label has not) or
        ``commission`` (a lake that only the label has); ``px`` and ``area_m2`` of the marked pixels;
        ``label_px`` and ``model_px`` of lake; ``unclear_px`` where MNDWI says nothing; ``iou_raw`` beside
        ``iou_corrected`` of the chip. ``verdict`` is for one of :data:`VERDICTS`, ``comment`` for words.
        """
        import pandas as pd

        raw, corrected = self.chip_shares, self._shares(self._confusion(corrected=True))
        seen = self._confusion(corrected=False)
        parts = []
        for name in DIRECTIONS:
            rows = np.flatnonzero(self._found(name))
            held = self.chips.iloc[rows]
            parts.append(
                pd.DataFrame(
                    {
                        "chip": held["chip"],
                        "row": rows,
                        "time": held["time"],
                        "longitude": held["longitude"],
                        "latitude": held["latitude"],
                        "direction": name,
                        "px": held[name],
                        "area_m2": held[name] * held["pixel_m2"],
                        "label_px": (seen["tp"] + seen["fn"])[rows],
                        "model_px": (seen["tp"] + seen["fp"])[rows],
                        "unclear_px": self._unclear()[rows],
                        "iou_raw": raw["iou"].to_numpy()[rows],
                        "iou_corrected": corrected["iou"].to_numpy()[rows],
                        "verdict": "",
                        "comment": "",
                    }
                )
            )
        table = pd.concat(parts)
        return table.sort_values(["area_m2", "row"], ascending=[False, True], ignore_index=True)

    def scores(self, review: pd.DataFrame | None = None) -> pd.DataFrame:
        """Raw scores, and beside them what they are with the candidates corrected and left out.

        Counts are pooled over all chips before anything is divided. A label is only ever corrected towards
        the model, in both directions: ``corrected`` is the most that this rule can add. It is no bound on
        what the score would be with perfect labels. Wrong labels narrower than ``width_m``, on less than
        ``area_m2``, or where MNDWI says nothing stay as they are, and so do pixels where MNDWI contradicts
        label and model together (``tp_land``, ``tn_water``): to correct these could only lower the score.

        Parameters
        ----------
        review
            :attr:`candidates` with verdicts: adds the row ``reviewed``, in which only labels that a person
            called wrong are corrected.

        Returns
        -------
        pandas.DataFrame
            Rows ``raw``; ``corrected``: marked pixels of candidates get the label that model and MNDWI
            agree on; ``left out``: without all pixels of candidates. Columns ``tp``, ``fp``, ``fn``, ``tn``
            (pixels), ``iou``, ``f1``, ``precision``, ``recall``; by direction how many chips and pixels
            were changed (in ``left out``: chips left out, and marked pixels in them); and ``tp_land`` and
            ``tn_water``, chips and pixels of the row, whatever their width and area.

        Raises
        ------
        CubeError
            A review with other candidates, or a verdict that is none of :data:`VERDICTS`.
        """
        import pandas as pd

        marked = {name: self._found(name) for name in DIRECTIONS}
        nothing = {name: np.zeros(len(self.chips), bool) for name in DIRECTIONS}
        every = np.ones(len(self.chips), bool)
        kept = ~(marked["omission"] | marked["commission"])
        raw, corrected = self._confusion(corrected=False), self._confusion(corrected=True)
        lines = {
            "raw": self._line(raw, nothing, every),
            "corrected": self._line(corrected, marked, every),
            "left out": self._line(raw, marked, kept),
        }
        if review is not None:
            wrong = self._reviewed(review)
            lines["reviewed"] = self._line(self._confusion(corrected=True, only=wrong), wrong, every)
        table = pd.DataFrame(lines).T
        shares = self._shares({name: table[name].to_numpy() for name in OUTCOMES})
        rest = [name for name in table if name not in OUTCOMES]
        return pd.concat([table[[*OUTCOMES]], shares.set_axis(table.index), table[rest]], axis=1)

    @property
    def remarks(self) -> tuple[str, ...]:
        """Sentences that belong beside the scores: what the rule does not correct, and :attr:`notes`."""
        raw = self.scores().loc["raw"]
        lake, land = (
            f"{int(raw[f'{name}_px']):,} px in {int(raw[f'{name}_chips']):,} chips ({name})"
            for name in CONTRADICTED
        )
        return (
            f"MNDWI contradicts label and model together: lake that it calls land, {lake}; land that it "
            f"calls water, {land}. No label is corrected there, which could only lower the scores.",
            "Labels are only ever corrected towards the model: the row 'corrected' is the most that this "
            f"rule can add. Wrong labels narrower than {self.rule.width_m:g} m, on less than "
            f"{self.rule.area_m2 / 1e4:g} ha, or where MNDWI says nothing stay in every row.",
            *self.notes,
        )

    def _line(
        self,
        counts: Mapping[str, NDArray[np.int64]],
        changed: Mapping[str, NDArray[np.bool_]],
        kept: NDArray[np.bool_],
    ) -> dict[str, int]:
        """One row of the scores, without its shares: of the chips kept, with what was changed."""
        against = {name: kept & (self.chips[name] > 0).to_numpy() for name in CONTRADICTED}
        line = {name: int(counts[name][kept].sum()) for name in OUTCOMES}
        for name, where in {**changed, **against}.items():
            line[f"{name}_chips"] = int(where.sum())
            line[f"{name}_px"] = int(self.chips[name].to_numpy()[where].sum())
        return line

    def _confusion(
        self, *, corrected: bool, only: Mapping[str, NDArray[np.bool_]] | None = None
    ) -> dict[str, NDArray[np.int64]]:
        """Confusion counts of every chip, as labelled or with the marked pixels of candidates relabelled."""
        counts = {
            name: self.chips[[f"{name}_{vote}" for vote in VOTES]].sum(axis=1).to_numpy(np.int64)
            for name in OUTCOMES
        }
        if corrected:
            changed = {name: self._found(name) if only is None else only[name] for name in DIRECTIONS}
            for name, loses, gains in (("omission", "fp", "tp"), ("commission", "fn", "tn")):
                pixels = np.where(changed[name], self.chips[name].to_numpy(np.int64), 0)
                counts[loses], counts[gains] = counts[loses] - pixels, counts[gains] + pixels
        return counts

    def _found(self, direction: str) -> NDArray[np.bool_]:
        area = self.chips[direction] * self.chips["pixel_m2"]
        return np.asarray((self.chips[direction] > 0) & (area >= self.rule.area_m2))

    def _unclear(self) -> NDArray[np.int64]:
        return np.asarray(self.chips[[f"{name}_unclear" for name in OUTCOMES]].sum(axis=1), np.int64)

    def _reviewed(self, review: pd.DataFrame) -> dict[str, NDArray[np.bool_]]:
        ours, keys = self.candidates, ["row", "chip", "direction"]
        if missing := [name for name in (*keys, "verdict") if name not in review]:
            raise CubeError(f"the review has no {', '.join(missing)}; write verdicts into audit.candidates")
        if set(review[keys].itertuples(index=False)) != set(ours[keys].itertuples(index=False)):
            raise CubeError(
                f"the review has {len(review)} rows that are not the {len(ours)} candidates of this audit; "
                "write verdicts into its own table audit.candidates"
            )
        said = review["verdict"].fillna("").astype(str).str.strip()
        if not said.isin(VERDICTS).all():
            strange = said[~said.isin(VERDICTS)].iloc[0]
            raise CubeError(f"a verdict is {strange!r}; expected one of {', '.join(map(repr, VERDICTS))}")
        wrong = {name: np.zeros(len(self.chips), bool) for name in DIRECTIONS}
        for name in DIRECTIONS:
            rows = review["row"][(said == "label wrong") & (review["direction"] == name)]
            wrong[name][rows.to_numpy(np.intp)] = True
        return wrong

    @staticmethod
    def _shares(counts: Mapping[str, Any]) -> pd.DataFrame:
        named = xr.Dataset({name: ("row", np.asarray(counts[name])) for name in ("tp", "fp", "fn")})
        return add_shares(named)[list(SHARES)].to_dataframe().reset_index(drop=True)

    def __str__(self) -> str:
        told = [f"{name}_{unit}" for name in CONTRADICTED for unit in ("chips", "px")]  # in the remarks
        table = self.scores().drop(columns=told)
        shown = table.astype({name: int for name in table if name not in SHARES})
        chips, unclear = len(self.chips), self._unclear()
        blind = int((unclear == sum(self._confusion(corrected=False).values())).sum())
        found = {name: int(self._found(name).sum()) for name in DIRECTIONS}
        return "\n".join(
            [
                f"label audit by rule {self.rule.version}, digest {self.rule.digest[:12]}, applied to all "
                f"{chips:,} chips ({blind:,} of them where MNDWI says nothing)",
                f"omission (a lake that the label has not): {found['omission']:,} chips; "
                f"commission (a lake that only the label has): {found['commission']:,} chips",
                shown.to_string(float_format=lambda share: f"{share:.4f}"),
                *self.remarks,
            ]
        )
