"""Arithmetic with 60 digits, and the exact softmax and sigmoid; what both oracles stand on."""

from typing import NamedTuple

import mpmath
import numpy as np

mp = mpmath.MPContext()
mp.dps = 60
ZERO, ONE, INF, NAN = mp.mpf(0), mp.mpf(1), mp.mpf("inf"), mp.mpf("nan")


class Exact(NamedTuple):
    value: np.ndarray
    gradient: np.ndarray
    value_scale: np.ndarray  # the largest term of each value
    gradient_scale: np.ndarray  # the largest term of each entry of the gradient


def exact(values):
    """The numbers of an array, without rounding, as an object array of the same shape."""
    array = np.asarray(values)
    if array.dtype.kind not in "iubO":
        array = array.astype(np.float64)  # exact for float16, bfloat16 and float32
    out = np.empty(array.shape, dtype=object)
    out.ravel()[:] = [mp.mpf(v) for v in array.ravel().tolist()]
    return out


def filled(shape, number=ZERO):
    out = np.empty(shape, dtype=object)
    out[...] = number
    return out


def times(a, b):
    """a * b with 0 * inf = 0 * NaN = 0: a weight of 0 removes what it weighs."""
    return ZERO if a == 0 or b == 0 else a * b


def magnitude(array):
    return np.asarray(abs(array), dtype=object)


def per(a, p):
    """a / p in the limit of p -> 0 from above."""
    return a / p if p else INF * mp.sign(a)


def largest(terms):
    return max((abs(term) for term in terms), default=ZERO)


def is_broken(logits):
    """A row without a softmax: NaN or +inf somewhere, or nothing but -inf."""
    return any(mp.isnan(v) or v == INF for v in logits) or all(v == -INF for v in logits)


def log_softmax_row(logits):
    """-log p, p, 1 - p of each class, and log(sum(exp(logits))).

    With S the sum of exp(x_j - peak) over all classes but one that has the peak, the sum of all is
    1 + S, so that -log p_k = (peak - x_k) + log1p(S): two terms that are both >= 0.
    """
    top = max(range(len(logits)), key=logits.__getitem__)
    peak = logits[top]
    exponential = {x: mp.exp(x - peak) for x in set(logits)}  # classes that tie share one
    e = [exponential[x] for x in logits]
    s = mp.fsum(e[:top] + e[top + 1 :])
    log_sum = mp.log1p(s)
    nll = [peak - x + log_sum for x in logits]
    p = [v / (1 + s) for v in e]
    rest = [(1 + (s - v)) / (1 + s) for v in e]
    rest[top] = s / (1 + s)
    return nll, p, rest, peak + log_sum


def softplus(x):
    """log(1 + exp(x)) = -log sigmoid_of(-x)."""
    return mp.log1p(mp.exp(x)) if x < 0 else x + mp.log1p(mp.exp(-x))


def sigmoid_of(x):
    return 1 / (1 + mp.exp(-x))


def leading(weight, shape):
    """A sample weight as an array of `shape`: its axes are the leading ones."""
    w = np.ones(()) if weight is None else np.asarray(weight)
    return np.broadcast_to(exact(w).reshape(w.shape + (1,) * (len(shape) - w.ndim)), shape)


def score_kind(logits, probs, log_probs):
    given = {"logits": logits, "probs": probs, "log_probs": log_probs}
    ((kind, scores),) = ((k, v) for k, v in given.items() if v is not None)
    return kind, np.asarray(scores)
