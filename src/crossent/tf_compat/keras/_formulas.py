"""Keras' own arithmetic on probabilities: clipped first, then the logarithm.

Everything is as wide as the arithmetic (float64 on a CPU). Only the bounds of the clipping are
rounded to the dtype that Keras would compute in, since they decide the value. Losses from logits
are not here: they are TensorFlow's ops, which clip nothing.
"""

from typing import Any, NamedTuple


class Clip(NamedTuple):
    """Probabilities are clipped to [epsilon, 1 - epsilon], as the working dtype holds them.

    In float32 1 - 1e-7 is 1 - 2^-23, so that p = 0 under a label costs 16.118095 and p = 1 beside
    it 15.942385. In half precision it is 1: nothing is clipped at the top.
    """

    epsilon: float
    dtype: Any  # the library's

    def between(self, xp: Any, p: Any) -> Any:
        """Clip to [epsilon, 1 - epsilon]."""
        return _clipped(xp, p, self.rounded(xp, self.epsilon), self.rounded(xp, 1 - self.epsilon))

    def above(self, xp: Any, p: Any) -> Any:
        """Clip to [epsilon, 1]."""
        return _clipped(xp, p, self.rounded(xp, self.epsilon), 1.0)

    def rounded(self, xp: Any, value: Any) -> Any:
        """The value as the working dtype holds it."""
        return xp.widen(xp.returned(xp.widen(value), self.dtype))


def binary_cross_entropy(xp: Any, z: Any, p: Any, clip: Clip, *, offset: bool) -> Any:
    """-(z log q + (1 - z) log(1 - q)), q the clipped p.

    Keras 2 adds epsilon in both logarithms once more (`offset`).
    """
    q = clip.between(xp, p)
    more = clip.rounded(xp, clip.epsilon) if offset else 0.0
    # In half precision q can be 1. A label that says so too costs 0; in Keras it is 0 * log(0).
    no_positive, no_negative = (z == 0) & (q == 0), (z == 1) & (q == 1)
    positive = xp.log(xp.where(no_positive, 1.0, q + more))
    # Near 1 only 1 - q is exact, where the arithmetic is float32 too. The choice keeps XLA from
    # adding up the constants first.
    near = q > 0.5
    beyond = xp.where(near, 1 - q, xp.ones_like(q))
    rest = xp.log(xp.where(near & ~no_negative, beyond + more, xp.ones_like(q)))
    negative = xp.where(near, rest, xp.log1p(xp.where(near, xp.zeros_like(q), more - q)))
    return -(z * positive + (1 - z) * negative)


def binary_focal_factor(z: Any, p: Any, not_p: Any, gamma: float, alpha: float | None) -> Any:
    """(1 - p_t)^gamma with the unclipped p, times the class balance where alpha is given.

    1 - p_t is written z (1 - p) + (1 - z) p: the same number without the cancellation.
    """
    factor = (z * not_p + (1 - z) * p) ** gamma if gamma else 1.0
    return factor if alpha is None else factor * (z * alpha + (1 - z) * (1 - alpha))


def normalised(xp: Any, p: Any, clip: Clip, axes: tuple[int, ...]) -> Any:
    """Clipped probabilities that sum to 1 over the axes; a row of zeros is NaN."""
    return clip.between(xp, p / xp.sum(p, axis=axes, keepdims=True))


def categorical_cross_entropy(xp: Any, z: Any, q: Any, axes: tuple[int, ...]) -> Any:
    """-sum z log q over the axes, q from `normalised`."""
    return -xp.sum(z * xp.log(q), axis=axes)


def categorical_focal_cross_entropy(
    xp: Any, z: Any, q: Any, axes: tuple[int, ...], gamma: float, alpha: Any
) -> Any:
    """Sum of alpha (1 - q)^gamma (-z log q) over the axes, q from `normalised`."""
    turned_down = (1 - q) ** gamma if gamma else 1.0
    return -xp.sum(alpha * turned_down * (z * xp.log(q)), axis=axes)


def kl_divergence(xp: Any, z: Any, p: Any, clip: Clip) -> Any:
    """Sum of z log(z / p) over the last axis, both clipped to [epsilon, 1], not normalised."""
    z, p = clip.above(xp, z), clip.above(xp, p)
    return xp.sum(z * xp.log(z / p), axis=-1)


def smoothed(z: Any, smoothing: float, share: float) -> Any:
    """z (1 - s) + s * share, for any s but 0: Keras checks no range."""
    return z * (1 - smoothing) + smoothing * share if smoothing else z


def _clipped(xp: Any, p: Any, low: Any, high: Any) -> Any:
    """NaN stays NaN; the derivative is 0 outside the bounds and 1 on them."""
    return xp.where(p < low, low, xp.where(p > high, high, p))
