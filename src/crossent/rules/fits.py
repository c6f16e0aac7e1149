"""Small fits to a sample of rows, for rules about the kind of scores. Knows no rule."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossent.profile import Family, Profile

# Fits look at no more numbers than this: two digits are all that the rules read.
_FIT_NUMBERS = 500_000
# Half of 25, five standard errors: weaker bounds fire on noise once in a few dozen files.
_HALF_CHI2 = 12.5
_LOWEST, _HIGHEST = -6.0, 10.0


@dataclass(frozen=True)
class Multiplier:
    """The factor on the logits that fits best, the lower end of its 5 s.e. interval, the rows."""

    best: float
    low: float
    rows: int


def sampled_rows(profile: Profile) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Labels and scores of the sample; empty if no row was usable."""
    sample = profile.sample.rows()
    if not sample:
        return np.empty((0,)), np.empty((0, max(profile.columns, 1)))
    labels, scores = sample
    rows = max(1, _FIT_NUMBERS // scores.shape[1])
    return labels[:rows], scores[:rows]


def fitted_multiplier(profile: Profile, family: Family) -> Multiplier:
    """Fits the factor a that makes the mean loss of a * logits smallest; the loss is convex in a.

    1 for calibrated logits. Scores squeezed into a narrow range need a large one. (Guo et al. 2017
    fit 1 / a, the temperature.)
    """
    labels, scores = sampled_rows(profile)
    if not len(scores):
        return Multiplier(1.0, 1.0, 0)
    loss = _softmax_loss(labels, scores) if family == "softmax" else _sigmoid_loss(labels, scores)
    best = 2 ** _lowest_point(loss)
    floor = loss(best) + _HALF_CHI2 / len(scores)
    low, high = 2**_LOWEST, best
    for _ in range(40):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if loss(middle) > floor else (low, middle)
    return Multiplier(best, high, len(scores))


def _lowest_point(loss: Callable[[float], float]) -> float:
    """Where a function of 2**x, unimodal in x, is smallest: golden section."""
    golden = (math.sqrt(5) - 1) / 2
    low, high = _LOWEST, _HIGHEST
    left, right = high - golden * (high - low), low + golden * (high - low)
    at_left, at_right = loss(2**left), loss(2**right)
    for _ in range(40):
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - golden * (high - low)
            at_left = loss(2**left)
        else:
            low, left, at_left = left, right, at_right
            right = low + golden * (high - low)
            at_right = loss(2**right)
    return (low + high) / 2


def _softmax_loss(
    labels: NDArray[np.float64], scores: NDArray[np.float64]
) -> Callable[[float], float]:
    if labels.ndim == 1:
        at_label = scores[np.arange(len(scores)), labels.astype(np.int64)]
    else:
        at_label = (labels * scores).sum(axis=1)
    peaks = scores.max(axis=1)

    def mean_loss(a: float) -> float:
        log_sums = np.log(np.exp(a * (scores - peaks[:, None])).sum(axis=1))
        return float((log_sums + a * (peaks - at_label)).mean())

    return mean_loss


def _sigmoid_loss(
    labels: NDArray[np.float64], scores: NDArray[np.float64]
) -> Callable[[float], float]:
    return lambda a: float(_sigmoid_losses(labels, a * scores).mean())


def _sigmoid_losses(labels: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
    losses: NDArray[np.float64] = np.maximum(x, 0) - x * labels + np.log1p(np.exp(-np.abs(x)))
    means: NDArray[np.float64] = losses.mean(axis=1)
    return means


@dataclass(frozen=True)
class Comparison:
    """Two readings of numbers in [0, 1]: by how much, per row, they fit worse as logits."""

    excess: float
    error: float
    as_logits: float
    as_probs: float
    mean_score: float
    mean_label: float
    rows: int

    @property
    def z(self) -> float:
        return self.excess / self.error if self.error > 0 else 0.0


def as_probs_or_logits(profile: Profile) -> Comparison:
    """Compares the sigmoid losses of the scores read as logits and read as probabilities.

    A probability of 0 at a yes would decide everything; it counts as 1e-6 here.
    """
    labels, scores = sampled_rows(profile)
    if not len(scores):
        return Comparison(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0)
    clipped = np.clip(scores, 1e-6, 1 - 1e-6)
    as_logits = _sigmoid_losses(labels, scores)
    as_probs = -(labels * np.log(clipped) + (1 - labels) * np.log1p(-clipped)).mean(axis=1)
    excess = as_logits - as_probs
    return Comparison(
        excess=float(excess.mean()),
        error=float(excess.std() / math.sqrt(len(excess))),
        as_logits=float(as_logits.mean()),
        as_probs=float(as_probs.mean()),
        mean_score=float(scores.mean()),
        mean_label=float(labels.mean()),
        rows=len(scores),
    )


def commonest_label(profile: Profile) -> int:
    """How often the commonest label occurs in the sample."""
    sample: tuple[NDArray[Any], ...] = profile.sample.rows()
    if not sample or not len(sample[0]):
        return 0
    return int(np.unique(sample[0], axis=0, return_counts=True)[1].max())


def commonest_row(profile: Profile) -> tuple[int, int]:
    """How often the commonest row of scores occurs in the sample, and the sample's rows."""
    sample: tuple[NDArray[Any], ...] = profile.sample.rows()
    if not sample or not len(sample[1]):
        return 0, 0
    _, counts = np.unique(sample[1], axis=0, return_counts=True)
    return int(counts.max()), len(sample[1])
