"""How finely numbers were written, and how far from 1 a sum of them may therefore lie.

Probabilities reach us rounded: to printed decimals, to significant digits, to half precision and
back. A check of their sums that does not know this cries wolf on sound files. Everything here
merges; knows nothing of losses.
"""

import math

import numpy as np
from numpy.typing import NDArray

from crossent.profile.tallies import Hits, Rows

MAX_DECIMALS = 6
MAX_DIGITS = 6
# A decimal is off by half an epsilon of its dtype; float64 gets float32's, being mostly widened.
_ON_GRID = {"float16": 2.0**-11, "bfloat16": 2.0**-8}
_ON_GRID_AT_LEAST = 2.0**-24 * 1.01
_PEEK = 2048


class Precision:
    """The coarsest grid that all finite numbers seen lie on; None if it is none we look for."""

    def __init__(self) -> None:
        self.decimals: int | None = 0
        self.digits: int | None = 2
        self.is_float16 = True
        self.is_bfloat16 = True

    def see(self, numbers: NDArray[np.float64], dtype: str) -> None:
        near = _ON_GRID.get(dtype, _ON_GRID_AT_LEAST)
        # The head decides most cases: unrounded numbers fall off every grid at once.
        head = numbers.reshape(-1)[:_PEEK]
        for part in (head, numbers.reshape(-1)[_PEEK:]):
            finite = part[np.isfinite(part)]
            if finite.size:
                self._see(finite, near)

    def _see(self, x: NDArray[np.float64], near: float) -> None:
        while self.decimals is not None and not _on_grid(x, 10.0**self.decimals, near):
            self.decimals = self.decimals + 1 if self.decimals < MAX_DECIMALS else None
        size = np.abs(x[x != 0]) if self.digits is not None else x
        while self.digits is not None and not _on_grid(size, _digit_scale(size, self.digits), near):
            self.digits = self.digits + 1 if self.digits < MAX_DIGITS else None
        if self.is_float16:
            with np.errstate(over="ignore"):
                self.is_float16 = bool((x.astype(np.float16) == x).all())
        if self.is_bfloat16:
            with np.errstate(over="ignore"):
                single = x.astype(np.float32)
            low_bits = single.view(np.uint32) & np.uint32(0xFFFF)
            self.is_bfloat16 = bool(((single == x) & (low_bits == 0)).all())

    def merge(self, other: "Precision") -> None:
        self.decimals = _coarsest_for_both(self.decimals, other.decimals)
        self.digits = _coarsest_for_both(self.digits, other.digits)
        self.is_float16 &= other.is_float16
        self.is_bfloat16 &= other.is_bfloat16

    def level(self, thresholds: dict[str, float]) -> str:
        """The name of the largest threshold that the way these numbers were written justifies."""
        if self.decimals == 0:
            # Whole numbers are exact, unless they are whole percentages.
            return "d0" if "d0" in thresholds else "float"
        names = ["float"]
        names += ["float16"] if self.is_float16 else []
        names += ["bfloat16"] if self.is_bfloat16 else []
        names += [f"d{self.decimals}"] if self.decimals is not None else []
        # Numbers with d decimals have at most d digits: only fewer digits than decimals are news.
        if self.digits is not None and (self.decimals is None or self.digits < self.decimals):
            names.append(f"s{self.digits}")
        return max(
            (name for name in names if name in thresholds), key=lambda name: thresholds[name]
        )


def _on_grid(x: NDArray[np.float64], scale: float | NDArray[np.float64], near: float) -> bool:
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = x * scale
        return bool((np.abs(scaled - np.rint(scaled)) <= near * np.abs(scaled)).all())


def _digit_scale(size: NDArray[np.float64], digits: int) -> NDArray[np.float64]:
    exponents: NDArray[np.float64] = np.clip(np.floor(np.log10(size)), -290, 290)
    scale: NDArray[np.float64] = 10.0 ** (digits - 1 - exponents)
    return scale


def _coarsest_for_both(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else max(one, other)


def sum_thresholds(num_classes: int, most: float) -> dict[str, float]:
    """How far from 1 a row of probabilities may sum, by the way it was written.

    float: 1e-6 per class, at most 0.01. d decimals: each entry off by half a unit, K/2 * 10^-d in
    the worst case, but never more than `most`. s digits: half a unit of the last digit, relative.
    Half precision: two epsilons, and its smallest number per class.
    """
    k = num_classes
    base = min(1e-6 * k, 0.01)
    levels = {
        "float": base,
        "float16": base + 2 * 2.0**-10 + k * 2.0**-24,
        "bfloat16": base + 2 * 2.0**-7,
    }
    for d in range(1, MAX_DECIMALS + 1):
        # The millionth on top: 0.3 + 0.8 is a rounding error further from 1 than 0.1.
        levels[f"d{d}"] = max(base, min(k / 2 * 1.000001 * 10.0**-d, most))
    for s in range(2, MAX_DIGITS + 1):
        levels[f"s{s}"] = max(base, 0.5 * 10.0 ** (1 - s))
    return levels


def log_sum_thresholds(num_classes: int) -> dict[str, float]:
    """How far from 0 the log-sum-exp of log-probabilities may lie, by the way they were written.

    A relative error r of log p moves the sum by at most r times the entropy, so by r ln K; an
    absolute one moves it by as much as itself.
    """
    spread = 1 + math.log(num_classes)
    base = 1e-4 + min(1e-6 * num_classes, 0.01)
    levels = {
        "float": base,
        "float16": base + 2.0**-10 * spread,
        "bfloat16": base + 2.0**-7 * spread,
    }
    for d in range(1, MAX_DECIMALS + 1):
        levels[f"d{d}"] = max(base, 0.5 * 10.0**-d)
    for s in range(2, MAX_DIGITS + 1):
        levels[f"s{s}"] = max(base, 0.5 * 10.0 ** (1 - s) * spread)
    return levels


def percent_thresholds(num_classes: int) -> dict[str, float]:
    """How far from 1 a hundredth of a row of percentages may sum: half a percent, or rounding."""
    levels = {"float": 0.005}
    for d in range(MAX_DECIMALS + 1):
        levels[f"d{d}"] = max(0.005, min(num_classes / 2 * 10.0 ** -(d + 2), 0.25))
    return levels


class Sums:
    """How many rows sum to something further from what is expected than each threshold."""

    def __init__(self, thresholds: dict[str, float], expected: float) -> None:
        self.thresholds = thresholds
        self.expected = expected
        self.off = {name: Hits() for name in thresholds}
        self.rows = 0
        self.low = math.inf
        self.high = -math.inf

    def add(self, sums: NDArray[np.float64], numbers: Rows) -> None:
        if not len(sums):
            return
        self.rows += len(sums)
        self.low = min(self.low, float(sums.min()))
        self.high = max(self.high, float(sums.max()))
        distance = np.abs(sums - self.expected)
        worst = float(distance.max())
        for name, threshold in self.thresholds.items():
            if worst > threshold:
                self.off[name].add(distance > threshold, sums, numbers)

    def merge(self, other: "Sums") -> None:
        self.rows += other.rows
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        for name, hits in other.off.items():
            self.off[name].merge(hits)

    def beyond(self, precision: Precision) -> tuple[float, Hits]:
        """The threshold that fits the way the numbers were written, and the rows beyond it."""
        level = precision.level(self.thresholds)
        return self.thresholds[level], self.off[level]
