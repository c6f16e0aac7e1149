"""Entropy, cross-entropy and KL divergence per row; softmax, sigmoid, their logs and inverses.

The measures give one number per row and reduce nothing. They take what the losses take
(`help(crossent.losses)`), and integer scores and lists as float64.
"""

import math
from collections.abc import Callable
from typing import Any

from crossent import _checks
from crossent._arrays import library_of
from crossent._row_stats import RowOptions, statistics_of_probs, surprisal
from crossent.errors import OptionError
from crossent.losses import check_probabilities, softmax_target


def entropy(
    *,
    logits: Any = None,
    probs: Any = None,
    log_probs: Any = None,
    axis: int = -1,
    unit: str = "nats",
) -> Any:
    r"""Entropy of each row's distribution.

    .. math:: H(p) = -\sum_j p_j \log p_j

    Use it for how undecided a prediction is, or how much a label distribution leaves open. To
    compare a prediction with a label use `cross_entropy`: entropy does not know what is true.

    Args:
        logits, probs, log_probs: exactly one; a class of probability 0 adds 0.
        axis: the class axis.
        unit: "nats" or "bits".

    Shape:
        scores (*batch, classes) -> (*batch,).

    Raises:
        ShapeError, DTypeError, ScoreError, OptionError, ArgumentError.

    Source:
        Shannon 1948, section 6.

    Example:
        >>> import numpy as np, crossent as xe
        >>> float(xe.entropy(probs=np.full(32, 1 / 32), unit="bits"))
        5.0
    """
    kind, scores = _checks.one_of(logits=logits, probs=probs, log_probs=log_probs)
    library, scores, axis = _scores(kind, scores, axis)
    check_probabilities(library, kind, scores, axis)
    xp = library.namespace(scores)
    with library.quiet():
        rows = xp.moveaxis(scores, axis, -1)
        n, p = _surprisal_and_probability(xp, kind, rows)
        absent = n == xp.inf
        value = xp.sum(xp.where(absent, 0.0, p) * xp.where(absent, 0.0, n), axis=-1)
        return xp.returned(value / _nats_per(unit), library.result_dtype(scores))


def cross_entropy(
    *,
    labels: Any,
    logits: Any = None,
    probs: Any = None,
    log_probs: Any = None,
    axis: int = -1,
    unit: str = "nats",
) -> Any:
    r"""Cross-entropy of each row: the cost of coding the label with the prediction.

    .. math:: H(q, p) = -\sum_j q_j \log p_j

    Use it as a measure, in nats or bits. To train, use `softmax_cross_entropy`, which has weights,
    masks and reductions.

    Args:
        labels: class ids or distributions.
        logits, probs, log_probs: exactly one.
        axis: the class axis.
        unit: "nats" or "bits".

    Shape:
        scores (*batch, classes), labels (*batch,) or (*batch, classes) -> (*batch,).

    Raises:
        ShapeError, DTypeError, LabelError, ScoreError, OptionError, ArgumentError.

    Source:
        Good 1952; Cover and Thomas 2006, section 5.4.

    Example:
        >>> import crossent as xe
        >>> float(xe.cross_entropy(labels=[0.5, 0.5], probs=[0.25, 0.75], unit="bits").round(6))
        1.207519
    """
    return _compared(labels, logits, probs, log_probs, axis, unit, less_entropy=False)


def kl_divergence(
    *,
    labels: Any,
    logits: Any = None,
    probs: Any = None,
    log_probs: Any = None,
    axis: int = -1,
    unit: str = "nats",
) -> Any:
    r"""Kullback-Leibler divergence of each row's scores from its label.

    .. math:: D(q \| p) = \sum_j q_j (\log q_j - \log p_j) = H(q, p) - H(q)

    Use it to compare models on soft labels: it reaches 0, which the cross-entropy cannot. Its
    gradient in the scores is the cross-entropy's, so for training there is no reason to prefer it.
    It is not symmetric: the label comes first.

    Args:
        labels: distributions, or class ids (then it is the cross-entropy).
        logits, probs, log_probs: exactly one.
        axis: the class axis.
        unit: "nats" or "bits".

    Shape:
        scores (*batch, classes), labels (*batch,) or (*batch, classes) -> (*batch,), >= 0.

    Raises:
        ShapeError, DTypeError, LabelError, ScoreError, OptionError, ArgumentError.

    Source:
        Kullback and Leibler 1951, eq. 2.4.

    Example:
        >>> import crossent as xe
        >>> float(xe.kl_divergence(labels=[0.5, 0.5], probs=[0.25, 0.75], unit="bits").round(6))
        0.207519
    """
    return _compared(labels, logits, probs, log_probs, axis, unit, less_entropy=True)


def sigmoid(x: Any) -> Any:
    r"""Probability of a logit, 1 / (1 + exp(-x)), with full relative precision in both tails.

    Do not feed the result to a loss as logits; keep the logits.

    Args:
        x: real numbers of any shape.

    Shape:
        x (*any,) -> (*any,).

    Raises:
        DTypeError.

    Source:
        Verhulst 1845.

    Example:
        >>> import crossent as xe
        >>> float(xe.sigmoid(0.0)), float(xe.sigmoid(-745.0)) > 0
        (0.5, True)
    """
    return _activation("sigmoid", x)


def log_sigmoid(x: Any) -> Any:
    r"""Logarithm of the sigmoid, -log(1 + exp(-x)); never the logarithm of a rounded 0.

    Args:
        x: real numbers of any shape.

    Shape:
        x (*any,) -> (*any,).

    Raises:
        DTypeError.

    Source:
        Maechler 2012, Accurately computing log(1 - exp(-|a|)).

    Example:
        >>> import crossent as xe
        >>> float(xe.log_sigmoid(-1000.0))
        -1000.0
    """
    return _activation("log_sigmoid", x)


def softplus(x: Any) -> Any:
    r"""log(1 + exp(x)), the smooth form of max(x, 0); with full relative precision for x << 0.

    The sigmoid cross-entropy of a logit x is softplus(-x) for label 1, and softplus(x) for label 0;
    to train on labels use `sigmoid_cross_entropy`.

    Args:
        x: real numbers of any shape.

    Shape:
        x (*any,) -> (*any,).

    Raises:
        DTypeError.

    Source:
        Dugas et al. 2001, Incorporating second-order functional knowledge; stable form: Maechler
        2012.

    Example:
        >>> import crossent as xe
        >>> float(xe.softplus(1000.0)), float(xe.softplus(-745.0)) > 0
        (1000.0, True)
    """
    return _activation("softplus", x)


def logit(p: Any) -> Any:
    r"""Inverse of the sigmoid, log(p / (1 - p)); -inf at 0 and +inf at 1.

    Do not use it to turn a softmax's probabilities into logits: their logarithms are.

    Args:
        p: probabilities in [0, 1], any shape.

    Shape:
        p (*any,) -> (*any,).

    Raises:
        DTypeError, ScoreError.

    Source:
        Berkson 1944.

    Example:
        >>> import crossent as xe
        >>> float(xe.logit(0.75).round(6))
        1.098612
    """

    def of(xp: Any, v: Any) -> Any:
        # Near 1/2 both logarithms are almost equal; 2 p - 1 is exact there and log1p keeps its
        # digits.
        s = 2 * v - 1
        middle = xp.where(s >= 0, s, -s) < 0.5
        near = xp.where(middle, s, 0.0)
        far = xp.where(middle, 0.5, v)
        return xp.where(middle, xp.log1p(near) - xp.log1p(-near), xp.log(far) - xp.log1p(-far))

    return _of_probability(p, of)


def odds(p: Any) -> Any:
    r"""Odds of a probability, p / (1 - p); +inf at 1.

    Args:
        p: probabilities in [0, 1], any shape.

    Shape:
        p (*any,) -> (*any,).

    Raises:
        DTypeError, ScoreError.

    Source:
        Cardano 1564; the exponential of `logit`.

    Example:
        >>> import crossent as xe
        >>> float(xe.odds(0.75))
        3.0
    """
    return _of_probability(p, lambda xp, v: v / (1 - v))


def softmax(x: Any, axis: int = -1) -> Any:
    r"""Probabilities of logits, exp(x_j) / sum_k exp(x_k).

    Do not feed the result to a loss as logits; keep the logits, or pass it as `probs=`.

    Args:
        x: logits; -inf is a masked class. Rows that are all -inf, or hold NaN or +inf, are NaN.
        axis: the class axis.

    Shape:
        x (*batch, classes) -> the same.

    Raises:
        ShapeError, DTypeError.

    Source:
        Bridle 1990.

    Example:
        >>> import crossent as xe
        >>> xe.softmax([123, 456, 789]).round(6).tolist()
        [0.0, 0.0, 1.0]
    """
    return _rowwise(x, axis, lambda xp, rows: xp.softmax(rows))


def log_softmax(x: Any, axis: int = -1) -> Any:
    r"""Logarithms of the softmax, x_j - log sum_k exp(x_k), never of a rounded 0.

    Args:
        x: logits; -inf is a masked class. Rows that are all -inf, or hold NaN or +inf, are NaN.
        axis: the class axis.

    Shape:
        x (*batch, classes) -> the same.

    Raises:
        ShapeError, DTypeError.

    Source:
        Bridle 1990.

    Example:
        >>> import crossent as xe
        >>> xe.log_softmax([123, 456, 789]).round(6).tolist()
        [-666.0, -333.0, -0.0]
    """
    return _rowwise(x, axis, lambda xp, rows: xp.log_softmax(rows))


def log_sum_exp(x: Any, axis: int = -1) -> Any:
    r"""log sum_k exp(x_k) over an axis, without overflow.

    -inf, with gradient 0, where all are -inf; NaN beside NaN or +inf.

    Args:
        x: real numbers.
        axis: the axis that is summed over.

    Shape:
        x (*batch, classes) -> (*batch,).

    Raises:
        ShapeError, DTypeError.

    Source:
        Blanchard, Higham and Higham 2021, eq. 1.3.

    Example:
        >>> import crossent as xe
        >>> float(xe.log_sum_exp([1000.0, 1000.0]).round(6))
        1000.693147
    """
    return _rowwise(x, axis, lambda xp, rows: xp.log_sum_exp(rows))


def _scores(kind: str, value: Any, axis: int) -> tuple[Any, Any, int]:
    """The scores as floats, their library, and the class axis."""
    library, scores = _reals(kind, value)
    shape = library.shape(scores)
    axis = _checks.class_axis(axis, len(shape))
    _checks.classes(kind, shape, axis)
    return library, scores, axis


def _surprisal_and_probability(xp: Any, kind: str, rows: Any) -> tuple[Any, Any]:
    """-log p and p; where p is 0, -log p is +inf and takes no part in derivatives."""
    if kind == "logits":
        return xp.neg_log_probs(rows, RowOptions())[0], xp.probabilities(rows)
    wide, log = xp.widen(rows), kind == "log_probs"
    absent = wide == (-xp.inf if log else 0)
    n = surprisal(xp, xp.where(absent, 0.0 if log else 1.0, wide), log=log)
    return xp.where(absent, xp.inf, n), xp.where(absent, 0.0, xp.exp(-n) if log else wide)


def _compared(
    labels: Any,
    logits: Any,
    probs: Any,
    log_probs: Any,
    axis: int,
    unit: str,
    *,
    less_entropy: bool,
) -> Any:
    """sum_j q_j (-log p_j), less the label's own entropy if asked."""
    kind, scores = _checks.one_of(logits=logits, probs=probs, log_probs=log_probs)
    library_of(labels=labels, **{kind: scores})
    library, scores, axis = _scores(kind, scores, axis)
    target = softmax_target(library, kind, scores, labels, axis, None, None)
    xp = library.namespace(scores, target.labels)
    with library.quiet():
        rows = xp.moveaxis(scores, axis, -1)
        if kind == "logits":
            value = xp.row_statistics(rows, target.labels, None, RowOptions()).nll
        else:
            of = target.labels if target.is_ids else xp.widen(target.labels)
            value = statistics_of_probs(
                xp, xp.widen(rows), of, None, log=kind == "log_probs", with_mean=False
            ).nll
        if target.poison is not None:
            value = value * target.poison
        if less_entropy and not target.is_ids:
            q = xp.widen(target.labels)
            value = value + xp.sum(q * xp.log(xp.where(q == 0, 1.0, q)), axis=-1)
            # Rounded labels sum to 1 only almost; what that takes below 0 is not a divergence. The
            # derivative stays.
            value = value + xp.stop_gradient(xp.where(value < 0, -value, 0.0))
        return xp.returned(value / _nats_per(unit), library.result_dtype(scores))


def _nats_per(unit: str) -> float:
    if unit not in ("nats", "bits"):
        raise OptionError(f'unit must be "nats" or "bits"; got {unit!r}. 1 bit is ln 2 nats.')
    return 1.0 if unit == "nats" else math.log(2)


def _activation(name: str, x: Any) -> Any:
    library, values = _reals("x", x)
    with library.quiet():
        return library.namespace(values).activation(name, values)


def _of_probability(p: Any, of: Callable[[Any, Any], Any]) -> Any:
    library, values = _reals("p", p)
    library.check_values(_checks.probability_values, "p", values, None)
    xp = library.namespace(values)
    with library.quiet():
        return xp.returned(of(xp, xp.widen(values)), library.result_dtype(values))


def _reals(name: str, value: Any) -> tuple[Any, Any]:
    """The values as floats (integers become float64), and their library."""
    library = library_of(**{name: value})
    values = library.as_array(name, value)
    _checks.numeric(name, library.dtype_name(values), library.shape(values))
    return library, library.as_floats(values)


def _rowwise(x: Any, axis: int, of: Callable[[Any, Any], Any]) -> Any:
    library, scores, axis = _scores("x", x, axis)
    xp = library.namespace(scores)
    with library.quiet():
        result = of(xp, xp.moveaxis(scores, axis, -1))
        return xp.moveaxis(result, -1, axis) if result.ndim == scores.ndim else result
