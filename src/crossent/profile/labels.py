"""What the labels are: their range, their sums, what is no label. Knows nothing of scores."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossent.profile.pairing import Layout
from crossent.profile.precision import Precision, Sums, sum_thresholds
from crossent.profile.tallies import Extent, Facts, Hits, Rows, ValueCounts
from crossent.profile.text_numbers import FORMS

# Labels may miss [0, 1] by four ulp of float32: averages of votes do.
_SLACK = 4 * 2.0**-23
# The zeros of a label are zeros, not rounded chances, so its sum is closer than that of scores.
_LABEL_ROUNDING = 0.25


def is_whole(ids: NDArray[Any]) -> NDArray[np.bool_]:
    """Which class ids are whole; large integers must not pass through a float to find out."""
    if ids.dtype.kind in "iub":
        return np.ones(ids.shape, np.bool_)
    whole: NDArray[np.bool_] = np.isfinite(ids) & (ids == np.rint(ids))
    return whole


class LabelFacts(Facts):
    """Tallies over the labels of the rows that are kept."""

    def __init__(self, layout: Layout, columns: int) -> None:
        self.dtypes: set[str] = set()
        self.rows = 0
        self.values = 0
        self.forms = {form: Hits() for form in FORMS}
        self.not_finite = Hits()
        self.fractional = Hits()
        self.outside = Hits()
        self.outside_values = ValueCounts()
        self.extent = Extent()
        self.zeros = 0
        self.ones = 0
        self.between = 0
        self.single_positive_rows = 0
        self.class_counts = np.zeros(columns if layout == "ids" else 0, np.int64)
        self.written = Precision()
        self.sums = Sums(sum_thresholds(columns, most=_LABEL_ROUNDING), expected=1.0)

    def see_forms(self, raw: NDArray[Any], forms: NDArray[np.int8], numbers: Rows) -> None:
        for form, hits in self.forms.items():
            hits.add(forms == form, raw, numbers)

    def see_ids(self, ids: NDArray[Any], numbers: Rows) -> NDArray[np.bool_]:
        """Tallies class ids; tells which of them are classes."""
        num_classes = len(self.class_counts)
        finite = np.isfinite(ids)
        whole = is_whole(ids)
        is_class = whole & (ids >= 0) & (ids < num_classes)
        self._see(ids, finite, whole & ~is_class, numbers)
        self.fractional.add(finite & ~whole, ids, numbers)
        counts = np.bincount(ids[is_class].astype(np.int64), minlength=num_classes)
        self.class_counts = self.class_counts + counts
        self.zeros += int(np.count_nonzero(ids == 0))
        self.ones += int(np.count_nonzero(ids == 1))
        return is_class

    def see_chances(
        self, chances: NDArray[Any], seen: NDArray[np.bool_], dtype: str, numbers: Rows
    ) -> NDArray[np.bool_]:
        """Tallies labels of shape (rows, columns) where `seen`; tells which lie in [0, 1]."""
        finite = np.isfinite(chances) & seen
        is_chance: NDArray[np.bool_] = finite & (chances >= -_SLACK) & (chances <= 1 + _SLACK)
        self._see(chances, finite, finite & ~is_chance, numbers, seen)
        self.zeros += int(np.count_nonzero(finite & (chances == 0)))
        self.ones += int(np.count_nonzero(finite & (chances == 1)))
        self.between += int(np.count_nonzero(is_chance & (chances != 0) & (chances != 1)))
        positives = np.count_nonzero(finite & (chances > 0), axis=1)
        self.single_positive_rows += int(np.count_nonzero(positives == 1))
        summed = finite.all(axis=1)
        self.sums.add(chances[summed].sum(axis=1, dtype=np.float64), numbers[summed])
        self.written.see(chances[finite].astype(np.float64), dtype)
        return is_chance

    def _see(
        self,
        labels: NDArray[Any],
        finite: NDArray[np.bool_],
        outside: NDArray[np.bool_],
        numbers: Rows,
        seen: NDArray[np.bool_] | None = None,
    ) -> None:
        self.rows += len(labels)
        self.values += int(np.count_nonzero(finite))
        missing = ~finite if seen is None else seen & ~finite
        self.not_finite.add(missing, labels, numbers)
        self.outside.add(outside, labels, numbers)
        if outside.any():
            self.outside_values.add(labels[outside])
        self.extent.add(labels[finite])
