"""Sums of float64 numbers that are exact, so that no split into batches can change them.

Knows numbers and keys only; what is summed is the tally's business.
"""

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import numpy.typing as npt

# Every finite float64 is a whole number of 2**-1074. np.frexp returns even the smallest of them
# with a 53-bit mantissa, so the whole numbers below count 2**-1126.
_UNIT_EXPONENT = 1126
_UNIT = Fraction(1, 1 << _UNIT_EXPONENT)

# np.bincount adds 27-bit halves of mantissas in float64, which is exact up to 2**53 / 2**27 terms.
_EXACT_TERMS = 1 << 25


class ExactSums:
    """One exact sum per integer key, in any order and from any number of parts.

    A sum is kept as a Python integer, a superaccumulator as wide as it needs to be, and rounded
    once, when a quotient is read. Infinities and NaN are counted beside it.
    """

    def __init__(self) -> None:
        self._units: dict[int, int] = {}
        self._special: dict[int, float] = {}

    def add(self, keys: npt.ArrayLike, values: npt.NDArray[np.float64]) -> None:
        """Add each value to the sum of its key; one key for all of them may be a plain integer."""
        numbers = np.asarray(values, np.float64).ravel()
        owners = np.broadcast_to(np.asarray(keys, np.int64).ravel(), numbers.shape)
        finite = np.isfinite(numbers)
        if not finite.all():
            for key, value in zip(owners[~finite].tolist(), numbers[~finite].tolist(), strict=True):
                self._special[key] = self._special.get(key, 0.0) + value
            owners, numbers = owners[finite], numbers[finite]
        for start in range(0, len(numbers), _EXACT_TERMS):
            part = slice(start, start + _EXACT_TERMS)
            self._add_finite(owners[part], numbers[part])

    def _add_finite(self, keys: npt.NDArray[np.int64], values: npt.NDArray[np.float64]) -> None:
        """Add the mantissas of one exponent, in halves of 26 and 27 bits, and shift their sum."""
        mantissa, exponent = np.frexp(values)
        scaled = mantissa * 2.0**26
        high = np.trunc(scaled)
        low = (scaled - high) * 2.0**27
        shift = exponent.astype(np.int64) - 53 + _UNIT_EXPONENT
        groups, group_of = np.unique(keys * 4096 + shift, return_inverse=True)
        highs = np.bincount(group_of.ravel(), weights=high, minlength=len(groups)).tolist()
        lows = np.bincount(group_of.ravel(), weights=low, minlength=len(groups)).tolist()
        for group, high_sum, low_sum in zip(groups.tolist(), highs, lows, strict=True):
            key, bits = divmod(group, 4096)
            units = ((int(high_sum) << 27) + int(low_sum)) << bits
            self._units[key] = self._units.get(key, 0) + units

    def merge(self, other: "ExactSums") -> None:
        """Add the sums of another part of the same data."""
        for key, units in other._units.items():
            self._units[key] = self._units.get(key, 0) + units
        for key, value in other._special.items():
            self._special[key] = self._special.get(key, 0.0) + value

    def __iter__(self) -> Iterator[int]:
        """The keys that were given any value, in rising order."""
        return iter(sorted(self._units.keys() | self._special.keys()))

    def finite(self, key: int | None = None) -> Fraction:
        """The exact sum of the finite values of one key, or of all keys."""
        units = sum(self._units.values()) if key is None else self._units.get(key, 0)
        return units * _UNIT

    def special(self, key: int | None = None) -> float:
        """The sum of the values that are not finite: 0, inf, -inf or NaN."""
        if key is not None:
            return self._special.get(key, 0.0)
        return sum(self._special.values())

    def mean(self, divisor: Fraction, key: int | None = None) -> float | None:
        """The sum divided by `divisor`, rounded once; None if there is nothing to divide by."""
        if not divisor:
            return None
        special = self.special(key)
        return special if special else as_float(self.finite(key) / divisor)


def as_float(value: Fraction) -> float:
    """The nearest float64; infinite where the fraction is beyond the largest."""
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")
