"""What the sample weights are: signs and exact sums. Knows nothing of labels or scores."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossent.profile.tallies import Facts, Hits, Rows

# Squares beyond this overflow; no honest weight comes near.
_HUGE = 1e150


class WeightFacts(Facts):
    """Tallies over sample weights, one per row or one per score."""

    def __init__(self) -> None:
        self.count = 0
        self.zeros = 0
        self.not_finite = Hits()
        self.negative = Hits()
        self.total = Fraction(0)
        self.total_squares = Fraction(0)

    def see(self, weights: NDArray[Any], numbers: Rows) -> NDArray[np.bool_]:
        """Tallies weights, shape (rows, columns); tells which rows have a weight other than 0."""
        usable = np.abs(np.nan_to_num(weights, nan=np.inf)) < _HUGE
        self.not_finite.add(~usable, weights, numbers)
        self.negative.add(usable & (weights < 0), weights, numbers)
        self.count += weights.size
        self.zeros += int(np.count_nonzero(weights == 0))
        self.total += _exact_sum(weights[usable])
        self.total_squares += _exact_sum(weights[usable] ** 2)
        weighted: NDArray[np.bool_] = (weights != 0).any(axis=1)
        return weighted

    @property
    def effective_size(self) -> float:
        """How many equal weights estimate a mean as well: (sum w)^2 / sum w^2 (Kish 1965)."""
        return float(self.total**2 / self.total_squares) if self.total_squares else 0.0


def _exact_sum(values: NDArray[Any]) -> Fraction:
    """The exact sum, which does not depend on batches: what fsum rounds off is summed again."""
    terms = values.reshape(-1).tolist()
    total = Fraction(0)
    while part := math.fsum(terms):
        total += Fraction(part)
        terms.append(-part)
    return total
