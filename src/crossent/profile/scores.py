"""What the scores are: range, sums, how they were written, how often right. Knows no rule."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossent.profile.labels import is_whole
from crossent.profile.precision import (
    Precision,
    Sums,
    log_sum_thresholds,
    percent_thresholds,
    sum_thresholds,
)
from crossent.profile.tallies import ColumnExtent, Extent, Facts, Hits, Rows
from crossent.profile.text_numbers import FORMS

# Four ulp of float32 at least: arrays of float64 are mostly widened float32.
_SLACK = {"float16": 4 * 2.0**-10, "bfloat16": 4 * 2.0**-7}
_LEAST_SLACK = 4 * 2.0**-23
# log_softmax of logits with a large common offset is a rounding error above 0 now and then.
_LOG_SLACK = 1e-4
# Ten scores of one decimal reach this; a thousand of three decimals stayed below 0.07.
_SCORE_ROUNDING = 0.5


class ScoreFacts(Facts):
    """Tallies over the scores of the rows that are kept."""

    def __init__(self, columns: int) -> None:
        self.dtypes: set[str] = set()
        self.rows = 0
        self.finite = 0
        self.forms = {form: Hits() for form in FORMS}
        self.nan = Hits()
        self.plus_inf = Hits()
        self.minus_inf = Hits()
        self.all_minus_inf = Hits()
        self.minus_inf_at_label = Hits()
        self.wrong_inf = Hits()
        self.below_zero = Hits()
        self.above_one = Hits()
        self.above_zero = Hits()
        self.zeros = 0
        self.extent = Extent()
        self.columns = ColumnExtent(columns)
        self.written = Precision()
        self.sums = Sums(sum_thresholds(columns, most=_SCORE_ROUNDING), expected=1.0)
        self.log_sums = Sums(log_sum_thresholds(columns), expected=0.0)
        self.percents = Sums(percent_thresholds(columns), expected=1.0)
        # With a class as label: argmax is that class. With yes or no: the side of 0, and of 0.5.
        self.judged = 0
        self.right = 0
        self.right_at_half = 0
        # Of labels 1 .. classes - 1, where both can be: argmax is the label, is the one before.
        self.shift_judged = 0
        self.right_as_is = 0
        self.right_shifted = 0
        # The same for labels 2 and up: a model that always says class 0 hits no label's neighbour.
        self.right_as_is_from_2 = 0
        self.right_shifted_from_2 = 0

    def see_forms(self, raw: NDArray[Any], forms: NDArray[np.int8], numbers: Rows) -> None:
        for form, hits in self.forms.items():
            hits.add(forms == form, raw, numbers)

    def see(
        self, scores: NDArray[np.float64], seen: NDArray[np.bool_], dtype: str, numbers: Rows
    ) -> NDArray[np.bool_]:
        """Tallies scores of shape (rows, columns) where `seen`; tells which rows are finite."""
        slack = _SLACK.get(dtype, _LEAST_SLACK)
        finite = np.isfinite(scores) & seen
        self.rows += len(scores)
        self.finite += int(np.count_nonzero(finite))
        if not finite.all():
            self.nan.add(np.isnan(scores) & seen, scores, numbers)
            self.plus_inf.add((scores == np.inf) & seen, scores, numbers)
            self.minus_inf.add((scores == -np.inf) & seen, scores, numbers)
            self.all_minus_inf.add((scores == -np.inf).all(axis=1), scores[:, 0], numbers)
        self.below_zero.add(finite & (scores < -slack), scores, numbers)
        self.above_one.add(finite & (scores > 1 + slack), scores, numbers)
        self.above_zero.add(finite & (scores > _LOG_SLACK), scores, numbers)
        self.zeros += int(np.count_nonzero(finite & (scores == 0)))
        self.extent.add(scores[finite])
        self.written.see(scores[finite], dtype)
        usable: NDArray[np.bool_] = ~(np.isnan(scores) | (scores == np.inf)).any(axis=1) & seen.all(
            axis=1
        )
        self.columns.add(scores[usable])
        whole: NDArray[np.bool_] = np.all(finite, axis=1)
        self._see_sums(scores, whole, usable & ~(scores == -np.inf).all(axis=1), numbers)
        return whole

    def all_in(self, low: float, high: float) -> bool:
        """Whether all scores that are numbers, and some are, lie in [low, high] +- four ulp."""
        return (
            self.finite > 0
            and self.plus_inf.count == self.minus_inf.count == 0
            and self.extent.low >= low - self._slack
            and self.extent.high <= high + self._slack
        )

    @property
    def _slack(self) -> float:
        return max(_SLACK.get(dtype, _LEAST_SLACK) for dtype in self.dtypes)

    def _see_sums(
        self,
        scores: NDArray[np.float64],
        whole: NDArray[np.bool_],
        usable: NDArray[np.bool_],
        numbers: Rows,
    ) -> None:
        sums = scores[whole].sum(axis=1)
        self.sums.add(sums, numbers[whole])
        self.percents.add(sums / 100, numbers[whole])
        # Rows that exceed 0 are no log-probabilities anyway; exp of them could overflow.
        logs = usable & (scores <= _LOG_SLACK).all(axis=1)
        if logs.any():
            with np.errstate(divide="ignore", under="ignore"):
                log_sums = np.log(np.exp(scores[logs]).sum(axis=1))
            # Below that all exponentials underflow, and it no longer matters where the sum is.
            self.log_sums.add(np.maximum(log_sums, -750.0), numbers[logs])

    def judge_ids(
        self,
        scores: NDArray[np.float64],
        ids: NDArray[Any],
        whole: NDArray[np.bool_],
        numbers: Rows,
    ) -> None:
        """Compares with class ids 0 .. classes: one more than there are, for 1-based ones."""
        num_classes = scores.shape[1]
        judged = is_whole(ids) & (ids >= 0) & (ids <= num_classes)
        index = ids[judged].astype(np.int64)
        rows = scores[judged]
        inside = index < num_classes
        at_label = rows[np.flatnonzero(inside), index[inside]]
        self.minus_inf_at_label.add(at_label == -np.inf, at_label, numbers[judged][inside])
        index, rows = index[whole[judged]], rows[whole[judged]]
        best = rows.argmax(axis=1)
        self.judged += int(np.count_nonzero(index < num_classes))
        self.right += int(np.count_nonzero(best == index))
        either = (index >= 1) & (index < num_classes)
        self.shift_judged += int(np.count_nonzero(either))
        self.right_as_is += int(np.count_nonzero(either & (best == index)))
        self.right_shifted += int(np.count_nonzero(either & (best == index - 1)))
        from_2 = either & (index >= 2)
        self.right_as_is_from_2 += int(np.count_nonzero(from_2 & (best == index)))
        self.right_shifted_from_2 += int(np.count_nonzero(from_2 & (best == index - 1)))

    def judge_chances(
        self,
        scores: NDArray[np.float64],
        chances: NDArray[Any],
        is_chance: NDArray[np.bool_],
        whole: NDArray[np.bool_],
        numbers: Rows,
    ) -> None:
        """Compares with labels in [0, 1] of the scores' shape, (rows, columns)."""
        negative = is_chance & (chances < 1) & (scores == np.inf)
        positive = is_chance & (chances > 0) & (scores == -np.inf)
        self.minus_inf_at_label.add(positive, scores, numbers)
        self.wrong_inf.add(negative | positive, scores, numbers)
        rows = whole & is_chance.all(axis=1)
        scores, chances = scores[rows], chances[rows]
        self.judged += len(scores)
        if scores.shape[1] > 1:
            best = scores.argmax(axis=1) == chances.argmax(axis=1)
            self.right += int(np.count_nonzero(best))
            return
        yes = chances > 0.5
        self.right += int(np.count_nonzero((scores > 0) == yes))
        self.right_at_half += int(np.count_nonzero((scores > 0.5) == yes))
