"""The sums of an audit, which merge: any split into batches and any order give the same bits.

Sums are exact (`exact.ExactSums`) and rounded once, when the scores are read. The worst rows are
kept by loss and then by row number, which is an order without ties.
"""

import math
from collections import Counter
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from crossent.auditing.exact import ExactSums, as_float
from crossent.auditing.scores import ClassScores, Scores, WorstRow
from crossent.auditing.scoring import LossFamily, ScoredBatch, ScoredRows
from crossent.errors import ArgumentError

_FIRST_ROWS = 5

# Losses are binned by the leading bits of their float64: 64 bins for each factor of two.
_TAIL_SHIFT = 52 - 6


class TallySettings(NamedTuple):
    """What two tallies must have in common to be merged."""

    family: LossFamily
    classes: int
    bins: int = 15
    worst: int = 10


class Tally:
    """Everything the scores are made of, in memory that does not grow with the rows."""

    def __init__(self, settings: TallySettings) -> None:
        self.settings = settings
        self.rows = 0
        self.elements = 0
        self.ignored = 0
        self.unnormalised = 0
        self.unscorable: Counter[str] = Counter()
        self.first_unscorable: dict[str, list[int]] = {}
        self.zero_prob = 0
        self.soft_labels = False
        self._count: Counter[int] = Counter()
        self._weight = ExactSums()
        self._loss = ExactSums()
        self._infinite_weight = ExactSums()
        self._hits = ExactSums()
        self._brier = ExactSums()
        self._mass = ExactSums()
        self._bin_gap = ExactSums()
        self._tail_count: Counter[int] = Counter()
        self._tail_loss = ExactSums()
        self._worst: list[WorstRow] = []

    def update(self, batch: ScoredBatch) -> None:
        """Add the rows of one batch."""
        scored = batch.scored
        self.rows += batch.rows
        self.elements += batch.elements
        self.ignored += batch.ignored
        self.unnormalised += batch.unnormalised
        for reason, (entries, rows) in batch.unscorable.items():
            self.unscorable[reason] += entries
            self._keep_first_rows(reason, rows.tolist())
        infinite = np.isinf(scored.loss) & (scored.weight > 0)
        self.zero_prob += int(np.count_nonzero(infinite))
        self._infinite_weight.add(0, scored.weight[infinite])
        self._count.update(_counted(scored.owner))
        self._add_sums(scored)
        self._add_tail(scored)

    def _add_sums(self, scored: ScoredRows) -> None:
        weight = scored.weight
        hit = (scored.predicted == scored.label).astype(np.float64)
        bins = self.settings.bins
        # [a, b) with the last bin closed: a confidence of exactly 1 belongs to it.
        bin_of = np.minimum((scored.confidence * bins).astype(np.int64), bins - 1)
        self._weight.add(scored.owner, weight)
        self._loss.add(scored.owner, _times(weight, scored.loss))
        self._hits.add(scored.owner, weight * hit)
        self._brier.add(0, weight * scored.brier)
        self._bin_gap.add(bin_of, weight * scored.confidence)
        self._bin_gap.add(bin_of, -weight * scored.outcome)
        if scored.label_mass is not None:
            self.soft_labels = True
            self._mass.add(*scored.label_mass)

    def _add_tail(self, scored: ScoredRows) -> None:
        """The worst rows, and the loss by magnitude, of the rows that count."""
        counts = scored.weight > 0
        loss = scored.loss[counts] + 0.0  # -0.0 and 0.0 are one value with two bit patterns
        magnitude = np.maximum(loss, 0.0).view(np.int64) >> _TAIL_SHIFT
        self._tail_count.update(_counted(magnitude))
        self._tail_loss.add(magnitude, _times(scored.weight[counts], loss))
        place = np.flatnonzero(counts)
        # The highest losses, and among equals the lowest rows: only those can enter the list.
        worst = place[np.lexsort((scored.row[place], -loss))[: self.settings.worst]]
        self._keep_worst([_worst_row(scored, int(i), self.settings) for i in worst])

    def merge(self, other: "Tally") -> None:
        """Add the rows of another part of the same data, with row numbers of the whole."""
        if self.settings != other.settings:
            raise ArgumentError(
                f"tallies must have the same settings to be merged; got {self.settings} and "
                f"{other.settings}"
            )
        self.rows += other.rows
        self.elements += other.elements
        self.ignored += other.ignored
        self.unnormalised += other.unnormalised
        self.zero_prob += other.zero_prob
        self.soft_labels = self.soft_labels or other.soft_labels
        self.unscorable.update(other.unscorable)
        for reason, rows in other.first_unscorable.items():
            self._keep_first_rows(reason, rows)
        self._count.update(other._count)
        self._tail_count.update(other._tail_count)
        for name, sums in vars(self).items():
            if isinstance(sums, ExactSums):
                sums.merge(getattr(other, name))
        self._keep_worst(other._worst)

    def _keep_first_rows(self, reason: str, rows: list[int]) -> None:
        known = self.first_unscorable.get(reason, [])
        self.first_unscorable[reason] = sorted({*known, *rows[:_FIRST_ROWS]})[:_FIRST_ROWS]

    def _keep_worst(self, rows: list[WorstRow]) -> None:
        merged = sorted(
            [*self._worst, *rows], key=lambda row: (-row.loss, row.row, row.output or 0)
        )
        self._worst = merged[: self.settings.worst]

    def scores(self) -> Scores:
        """The numbers that the sums stand for, each rounded once."""
        weight = self.total_weight()
        mean_loss = self._loss.mean(weight)
        finite_weight = weight - self._infinite_weight.finite()
        finite_loss = as_float(self._loss.finite() / finite_weight) if finite_weight else None
        gaps = sum((abs(self._bin_gap.finite(key)) for key in self._bin_gap), Fraction(0))
        return Scores(
            family=self.settings.family,
            rows=self.rows,
            scored=sum(self._count.values()),
            ignored=self.ignored,
            unscorable=sum(self.unscorable.values()),
            elements=self.elements,
            classes=self.settings.classes,
            weight=as_float(weight),
            mean_loss=mean_loss,
            mean_finite_loss=finite_loss,
            accuracy=self._hits.mean(weight),
            brier=self._brier.mean(weight),
            calibration_error=as_float(gaps / weight) if weight else None,
            calibration_bins=self.settings.bins,
            uniform_loss=math.log(self.settings.classes if self._is_softmax() else 2),
            prior_loss=self._prior_entropy(weight),
            worst_percent_share=self._worst_percent_share(),
            zero_prob=self.zero_prob,
            unnormalised=self.unnormalised,
            per_class=self._per_class(weight),
            worst=tuple(self._worst),
        )

    def total_weight(self) -> Fraction:
        """Sum of the weights of all scored entries."""
        return self._weight.finite()

    def label_mass(self) -> dict[int, Fraction]:
        """Weight of each class among the labels; of sigmoid outputs the weight of yes."""
        masses = self._mass if self.soft_labels else self._weight
        return {key: masses.finite(key) for key in masses}

    def _is_softmax(self) -> bool:
        return self.settings.family == "softmax"

    def _prior_entropy(self, weight: Fraction) -> float | None:
        """Entropy of the label frequencies; of several sigmoid outputs the mean of theirs."""
        if not weight:
            return None
        if self._is_softmax():
            return math.fsum(_surprise(mass / weight) for mass in self.label_mass().values())
        by_output: dict[int, Fraction] = {0: weight}
        if self.settings.classes > 1:
            by_output = {key: self._weight.finite(key) for key in self._weight}
        terms = []
        for output, of_output in by_output.items():
            if of_output:
                rate = self._mass.finite(output) / of_output
                entropy = _surprise(rate) + _surprise(1 - rate)
                terms.append(as_float(of_output / weight) * entropy)
        return math.fsum(terms)

    def _worst_percent_share(self) -> float | None:
        """Share of the loss from the worst 1 % of rows; the last bin counts in proportion."""
        total = self._tail_loss.finite()
        if not total or self._tail_loss.special():
            return None
        left = -(-sum(self._tail_count.values()) // 100)
        share = Fraction(0)
        for magnitude in sorted(self._tail_count, reverse=True):
            count = self._tail_count[magnitude]
            taken = min(left, count)
            share += self._tail_loss.finite(magnitude) * Fraction(taken, count)
            left -= taken
            if not left:
                break
        return as_float(share / total)

    def _per_class(self, weight: Fraction) -> tuple[ClassScores, ...]:
        """One entry for each class that occurs, in class order."""
        entries = []
        for key in sorted(self._count):
            of_class = self._weight.finite(key)
            entries.append(
                ClassScores(
                    class_id=key,
                    rows=self._count[key],
                    share=as_float(of_class / weight) if weight else None,
                    mean_loss=self._loss.mean(of_class, key),
                    accuracy=self._hits.mean(of_class, key),
                )
            )
        return tuple(entries)


def _surprise(rate: Fraction) -> float:
    """-f ln f, 0 at 0."""
    f = as_float(rate)
    return -f * math.log(f) if f > 0 else 0.0


def _times(
    weight: npt.NDArray[np.float64], loss: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """weight * loss, where weight 0 counts as 0 even of an infinite loss."""
    return np.where(weight == 0, 0.0, weight * np.where(weight == 0, 0.0, loss))


def _counted(keys: npt.NDArray[np.int64]) -> dict[int, int]:
    values, counts = np.unique(keys, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


def _worst_row(scored: ScoredRows, place: int, settings: TallySettings) -> WorstRow:
    several_outputs = settings.family == "sigmoid" and settings.classes > 1
    return WorstRow(
        row=int(scored.row[place]),
        output=int(scored.owner[place]) if several_outputs else None,
        label=int(scored.label[place]),
        label_prob=float(scored.label_prob[place]),
        predicted=int(scored.predicted[place]),
        loss=float(scored.loss[place]),
    )
