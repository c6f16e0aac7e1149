"""How far float32 losses and gradients are from the exact ones, regime by regime.

The exact ones come from float64, which is enough to judge float32. With d_j = x_j - peak, which
float64 holds to a relative 2^-53, and terms e_j = exp(d_j) of at most 4 ulp, S = sum of e_j over
all classes but one at the peak is a sum of positive terms, rounded once (math.fsum). A term that
counts has |d_j| < 100, so its relative error is below 100 * 2^-53 + 4 * 2^-52 < 1.3e-14. The loss
log1p(S) - d_y adds numbers >= 0, and both forms of the gradient that are used multiply or divide
only. So the error stays below 2e-14, 4e-7 ulp of float32. tests/test_bench.py compares with mpmath.
"""

import math
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
from cases import make_confident
from ours import OURS

import crossent as xe

SMALLEST_NORMAL = float(np.finfo(np.float32).tiny)


class Exact(NamedTuple):
    loss: Any  # (rows,)
    gradient: Any  # (rows, classes): p_j - [j is the label]


# ---- logits and labels


def normal(rng: Any, rows: int, classes: int) -> tuple[Any, Any]:
    x = rng.standard_normal((rows, classes), np.float32) * np.float32(3)
    return x, rng.integers(0, classes, rows)


def confident(rng: Any, rows: int, least: float, most: float) -> tuple[Any, Any]:
    x, y = normal(rng, rows, 100)
    make_confident(x, y, rng, least=least, most=most)
    return x, y


def offset(rng: Any, rows: int) -> tuple[Any, Any]:
    """+-1e8, and below it a few of the spacings that float32 has there, 8; the label is right."""
    steps, y = rng.integers(-6, 0, (rows, 100)), rng.integers(0, 100, rows)
    steps[np.arange(rows), y] = 0
    return (rng.choice([-1e8, 1e8], (rows, 1)) + 8 * steps).astype(np.float32), y


def near_uniform(rng: Any, rows: int) -> tuple[Any, Any]:
    x = 1 + np.finfo(np.float32).eps * rng.integers(0, 16, (rows, 100)).astype(np.float32)
    return x, rng.integers(0, 100, rows)


def far_wrong(rng: Any, rows: int) -> tuple[Any, Any]:
    """The label below the peak by 40 to 1e8."""
    x, y = normal(rng, rows, 100)
    x[np.arange(rows), y] = -(10 ** rng.uniform(np.log10(40), 8, rows))
    return x, y


def ties(rng: Any, rows: int) -> tuple[Any, Any]:
    return rng.integers(-3, 3, (rows, 100)).astype(np.float32), rng.integers(0, 100, rows)


def masked(rng: Any, rows: int) -> tuple[Any, Any]:
    x, y = normal(rng, rows, 100)
    label = x[np.arange(rows), y]
    x[rng.random(x.shape) < rng.random((rows, 1))] = -np.inf
    x[np.arange(rows), y] = label
    return x, y


def subnormal(rng: Any, rows: int) -> tuple[Any, Any]:
    tiny = np.finfo(np.float32).smallest_subnormal
    return tiny * rng.integers(-9, 10, (rows, 100)).astype(np.float32), rng.integers(0, 100, rows)


REGIMES: dict[str, Callable[[Any, int], tuple[Any, Any]]] = {
    "1 class": lambda rng, rows: normal(rng, rows, 1),
    "2 classes": lambda rng, rows: normal(rng, 25 * rows, 2),
    "10 classes": lambda rng, rows: normal(rng, 10 * rows, 10),
    "1,000 classes": lambda rng, rows: normal(rng, rows, 1000),
    "32,000 classes": lambda rng, rows: normal(rng, max(1, rows // 32), 32000),
    "150,000 classes": lambda rng, rows: normal(rng, max(1, rows // 128), 150000),
    "confident, loss 1e-3 to 1e-9": lambda rng, rows: confident(rng, 10 * rows, 1e-9, 1e-3),
    "confident, loss 1e-9 to 1e-30": lambda rng, rows: confident(rng, 10 * rows, 1e-30, 1e-9),
    "offset of +-1e8": offset,
    "near-uniform": near_uniform,
    "far wrong, to 1e8": far_wrong,
    "ties at the peak": ties,
    "-inf masks": masked,
    "subnormal logits": subnormal,
}
# Of these the gradient too: of the label, and of the other classes where they are normal numbers.
GRADIENT_REGIMES = (
    "1,000 classes",
    "confident, loss 1e-3 to 1e-9",
    "confident, loss 1e-9 to 1e-30",
)


def exact(x: Any, y: Any, gradient: bool) -> Exact:
    wide = x.astype(np.float64)
    rows, top = np.arange(len(x)), wide.argmax(axis=1)
    gap = wide - wide[rows, top, None]
    exp = np.exp(gap)
    exp[rows, top] = 0.0
    rest = np.array([math.fsum(row) for row in exp.tolist()])
    loss = np.log1p(rest) - gap[rows, y]
    if not gradient:
        return Exact(loss, None)
    exp[rows, top] = 1.0
    slope = exp / (1 + rest)[:, None]
    at_peak = gap[rows, y] == 0  # another class may share the peak: the same number by symmetry
    slope[rows, y] = np.where(at_peak, -rest / (1 + rest), np.expm1(-loss))
    return Exact(loss, slope)


# ---- who takes part: unreduced losses, and the gradient of their sum


def losses_of(x: Any, y: Any) -> dict[str, Callable[[], Any]]:
    rows = np.arange(len(x))

    def written(logits: Any) -> Any:
        peak = logits.max(axis=1, keepdims=True)
        return np.log(np.exp(logits - peak).sum(axis=1)) + peak[:, 0] - logits[rows, y]

    calls: dict[str, Callable[[], Any]] = {
        OURS: lambda: xe.softmax_cross_entropy(labels=y, logits=x, reduction="none"),
        "NumPy": lambda: written(x),
        "NumPy float64": lambda: written(x.astype(np.float64)),
    }
    if find_spec("scipy"):
        from scipy.special import log_softmax

        calls["SciPy"] = lambda: -log_softmax(x, axis=1)[rows, y]
    return calls | {who: (lambda c=call: c(False)) for who, call in library_calls(x, y).items()}


def gradients_of(x: Any, y: Any) -> dict[str, Callable[[], Any]]:
    rows = np.arange(len(x))

    def written(logits: Any) -> Any:
        exp = np.exp(logits - logits.max(axis=1, keepdims=True))
        exp /= exp.sum(axis=1, keepdims=True)
        exp[rows, y] -= 1
        return exp

    def ours() -> Any:
        loss = xe.softmax_cross_entropy
        return xe.numpy.value_and_grad(loss, labels=y, logits=x, reduction="sum")[1]

    calls: dict[str, Callable[[], Any]] = {
        OURS: ours,
        "NumPy": lambda: written(x),
        "NumPy float64": lambda: written(x.astype(np.float64)),
    }
    return calls | {who: (lambda c=call: c(True)) for who, call in library_calls(x, y).items()}


def library_calls(x: Any, y: Any) -> dict[str, Callable[[bool], Any]]:
    """Losses of the rows, or with True the gradient of their sum, as NumPy arrays."""
    calls: dict[str, Callable[[bool], Any]] = {}
    if find_spec("torch"):
        import torch

        def by_torch(gradient: bool) -> Any:
            logits = torch.from_numpy(x).requires_grad_(gradient)
            cross_entropy = torch.nn.functional.cross_entropy
            losses = cross_entropy(logits, torch.from_numpy(y), reduction="none")
            if not gradient:
                return losses.numpy()
            losses.sum().backward()
            return logits.grad.numpy()

        calls["torch"] = by_torch
    if find_spec("jax") and find_spec("optax"):
        import jax
        import optax

        def by_jax(gradient: bool) -> Any:
            row_losses = optax.softmax_cross_entropy_with_integer_labels
            summed = jax.grad(lambda *arrays: row_losses(*arrays).sum())
            return np.asarray(jax.jit(summed if gradient else row_losses)(x, y.astype(np.int32)))

        calls["JAX jit"] = by_jax
    if find_spec("tensorflow"):
        import tensorflow as tf

        def by_tensorflow(gradient: bool) -> Any:
            logits = tf.constant(x)
            with tf.GradientTape() as tape:
                tape.watch(logits)
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits)
            return (tape.gradient(losses, logits) if gradient else losses).numpy()

        calls["TensorFlow"] = by_tensorflow
    return calls


# ---- rows of the result


def ulp_errors(actual: Any, high: Any) -> Any:
    """In spacings of float32 at the exact number."""
    # All are judged as the float32 that the logits are: a float64 result is rounded to it.
    actual = np.asarray(actual).astype(np.float32).astype(np.float64)
    unit = np.spacing(np.abs(high).astype(np.float32)).astype(np.float64)
    return np.abs(actual - high) / unit


def worst(errors: Any) -> float | None:
    """Three digits of the largest; None where a result is NaN or infinite and should not be."""
    largest = float(np.max(errors))
    return float(f"{largest:.3g}") if np.isfinite(largest) else None


def accuracy_rows(regime: str, rows: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(1)
    x, y = REGIMES[regime](rng, rows)
    wants_gradient = regime in GRADIENT_REGIMES
    high = exact(x, y, wants_gradient)
    of_label = np.zeros(x.shape, bool)
    of_label[np.arange(len(x)), y] = True
    judged = [("loss", losses_of(x, y), high.loss, slice(None))]
    if wants_gradient:
        normal_others = ~of_label & (np.abs(high.gradient) >= SMALLEST_NORMAL)
        gradients = {who: call() for who, call in gradients_of(x, y).items()}
        calls = {who: (lambda g=g: g) for who, g in gradients.items()}
        judged += [
            ("gradient of the label", calls, high.gradient, of_label),
            ("gradient of the others", calls, high.gradient, normal_others),
        ]
    return [
        {
            "kind": "accuracy",
            "what": what,
            "problem": regime,
            "who": who,
            "max_ulp": worst(ulp_errors(call(), expected)[chosen]),
            "numbers": int(np.size(expected[chosen])),
        }
        for what, calls, expected, chosen in judged
        for who, call in calls.items()
    ]
