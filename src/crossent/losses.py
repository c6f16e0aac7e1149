"""Every loss, once: arithmetic on row statistics (softmax family) or on elements (sigmoid family).

Read this file first. It knows no library: `_arrays.library_of` names the module that owns the
caller's arrays, and that module's `namespace` holds the functions written here as `xp`.

Arguments that all losses share (all by keyword; nothing is guessed from values):

labels: for softmax losses class ids (any integer dtype, shape of the scores without the class axis,
    or with a 1 there) or a distribution (shape of the scores; entries in [0, 1] that sum to 1). For
    sigmoid losses one number in [0, 1] per score.
logits | probs | log_probs: exactly one. Logits may be -inf (a masked class). Probabilities are
    taken as they are: never clipped, never normalised; probability 0 at the label costs +inf.
axis: the class axis.
class_weight: one weight >= 0 per class. A row's weight is w = sum_j w_j q_j, with q the unsmoothed
    label.
sample_weight: one weight per row, broadcast from the leading axes; may be negative. Weight 0 adds
    nothing, whatever the scores.
label_smoothing: s moves the label to (1 - s) q + s u, with u uniform over the row's unmasked
    classes (sigmoid: 1/2).
ignore_index: label value that is skipped: nothing in value, gradient or denominator, whatever the
    scores hold. With None nothing is skipped, and -100 or 255 is an error like any label out of
    range.
softcap, temperature: logits become softcap * tanh(logits / softcap), then logits / temperature. No
    T^2 factor is applied.
z_loss: adds w * z_loss * lse^2 to each row, lse the log-sum-exp of the transformed logits.
reduction: "none" returns the row losses; "sum" adds them; "mean" divides the sum by the sum of
    sample_weight * w over the kept rows; "mean_all" by the number of kept rows. Where nothing is
    kept the result is 0, with gradient 0.
normalizer: divides the sum instead, in every reduction but "none"; it gets no gradient. See
    `label_weight`.

Losses are in nats. Half precision and float32 are returned as float32, float64 as float64. A row of
logits that is all -inf, or holds NaN or +inf, is NaN in value and gradient.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from crossent import _checks
from crossent._arrays import fusing_library, library_of
from crossent._row_stats import (
    RowOptions,
    RowStatistics,
    mean_share,
    row_poison,
    statistics_of_probs,
    surprisal,
)
from crossent.errors import OptionError, ShapeError


def softmax_cross_entropy(
    *,
    labels: Any,
    logits: Any = None,
    probs: Any = None,
    log_probs: Any = None,
    axis: int = -1,
    class_weight: Any = None,
    sample_weight: Any = None,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
    temperature: float = 1.0,
    softcap: float | None = None,
    z_loss: float = 0.0,
    reduction: str = "mean",
    normalizer: Any = None,
) -> Any:
    r"""Cross-entropy of exactly one true class per row (or of a distribution over the classes).

    .. math:: \ell = \sum_j w_j q'_j (-\log p_j) + w \, z \, \mathrm{lse}^2

    Use it when one of K classes is true, or when a row's label is a distribution (teacher, mixup,
    votes). Do not use it for several independent yes/no labels (`sigmoid_cross_entropy`), nor on
    the output of a softmax as `logits=`: that is `probs=`.

    Args:
        labels, logits, probs, log_probs, axis, class_weight, sample_weight, label_smoothing,
            ignore_index, temperature, softcap, z_loss, reduction, normalizer: as in every loss, see
            `help(crossent.losses)`.

    Shape:
        logits (*batch, classes), labels (*batch,) or (*batch, classes) -> () or, for reduction
        "none", (*batch,).

    Raises:
        ShapeError, DTypeError, LabelError, ScoreError, OptionError, ArgumentError.

    Source:
        Bridle 1990; smoothing: Szegedy et al. 2016, eq. 3 of section 7; z-loss: Chowdhery et al.
        2022, section 5;
        softcap: Bello et al. 2016, Gemma 2 2024.

    Example:
        >>> import numpy as np, crossent as xe
        >>> logits = np.array([[2.0, 0.0, -1.0], [0.0, 3.0, 0.0]])
        >>> float(xe.softmax_cross_entropy(labels=[0, 1], logits=logits).round(6))
        0.132384
    """
    return _softmax_loss(
        None,
        labels,
        logits,
        probs,
        log_probs,
        axis,
        class_weight,
        sample_weight,
        label_smoothing,
        ignore_index,
        temperature,
        softcap,
        z_loss,
        reduction,
        normalizer,
    )


def focal_loss(
    *,
    labels: Any,
    logits: Any = None,
    probs: Any = None,
    log_probs: Any = None,
    gamma: float = 2.0,
    axis: int = -1,
    class_weight: Any = None,
    sample_weight: Any = None,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
    temperature: float = 1.0,
    softcap: float | None = None,
    z_loss: float = 0.0,
    reduction: str = "mean",
    normalizer: Any = None,
) -> Any:
    r"""Cross-entropy that turns down the rows which the model already gets right.

    .. math:: \ell = \sum_j w_j q'_j (1 - p_j)^\gamma (-\log p_j)

    Use it where easy rows swamp the loss (dense detection). Not a proper scoring rule: do not
    calibrate or compare models with it. The paper's alpha per class is `class_weight`.

    Args:
        gamma: strength, >= 0; 0 gives `softmax_cross_entropy`.
        labels, logits, probs, log_probs, axis, class_weight, sample_weight, label_smoothing,
            ignore_index, temperature, softcap, z_loss, reduction, normalizer: as in every loss, see
            `help(crossent.losses)`.

    Shape:
        logits (*batch, classes), labels (*batch,) or (*batch, classes) -> () or, for reduction
        "none", (*batch,).

    Raises:
        ShapeError, DTypeError, LabelError, ScoreError, OptionError, ArgumentError.

    Source:
        Lin et al. 2017, eq. 4.

    Example:
        >>> import numpy as np, crossent as xe
        >>> float(xe.focal_loss(labels=[0], logits=np.array([[2.0, 0.0]])).round(6))
        0.001804
    """
    gamma = _checks.number("gamma", gamma, 0.0)
    return _softmax_loss(
        None if gamma == 0 else lambda xp, n, p: _focal(xp, n, gamma),
        labels,
        logits,
        probs,
        log_probs,
        axis,
        class_weight,
        sample_weight,
        label_smoothing,
        ignore_index,
        temperature,
        softcap,
        z_loss,
        reduction,
        normalizer,
    )


def generalized_cross_entropy(
    *,
    labels: Any,
    logits: Any = None,
    probs: Any = None,
    log_probs: Any = None,
    q: float = 0.7,
    axis: int = -1,
    class_weight: Any = None,
    sample_weight: Any = None,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
    temperature: float = 1.0,
    softcap: float | None = None,
    z_loss: float = 0.0,
    reduction: str = "mean",
    normalizer: Any = None,
) -> Any:
    r"""Bounded cross-entropy for unreliable labels.

    .. math:: \ell = \sum_j w_j q'_j (1 - p_j^q) / q

    Use it where a part of the labels is wrong: a row costs at most 1/q. Do not use it to report or
    compare models, nor with clean labels, where it learns more slowly than cross-entropy.

    Args:
        q: in [0, 1]; 0 gives `softmax_cross_entropy`, 1 the mean absolute error 1 - p.
        labels, logits, probs, log_probs, axis, class_weight, sample_weight, label_smoothing,
            ignore_index, temperature, softcap, z_loss, reduction, normalizer: as in every loss, see
            `help(crossent.losses)`.

    Shape:
        logits (*batch, classes), labels (*batch,) or (*batch, classes) -> () or, for reduction
        "none", (*batch,).

    Raises:
        ShapeError, DTypeError, LabelError, ScoreError, OptionError, ArgumentError.

    Source:
        Zhang and Sabuncu 2018, eq. 6.

    Example:
        >>> import numpy as np, crossent as xe
        >>> float(xe.generalized_cross_entropy(labels=[1], logits=np.array([[2.0, 0.0]])).round(6))
        1.10624
    """
    q = _checks.number("q", q, 0.0, 1.0)
    return _softmax_loss(
        None if q == 0 else lambda xp, n, p: _generalized(xp, n, p, q),
        labels,
        logits,
        probs,
        log_probs,
        axis,
        class_weight,
        sample_weight,
        label_smoothing,
        ignore_index,
        temperature,
        softcap,
        z_loss,
        reduction,
        normalizer,
    )


def poly_loss(
    *,
    labels: Any,
    logits: Any = None,
    probs: Any = None,
    log_probs: Any = None,
    epsilon: float = 1.0,
    axis: int = -1,
    class_weight: Any = None,
    sample_weight: Any = None,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
    temperature: float = 1.0,
    softcap: float | None = None,
    z_loss: float = 0.0,
    reduction: str = "mean",
    normalizer: Any = None,
) -> Any:
    r"""Cross-entropy with the first term of its expansion in 1 - p reweighted (Poly-1).

    .. math:: \ell = \sum_j w_j q'_j \left( -\log p_j + \epsilon (1 - p_j) \right)

    Use it to tune image classifiers, with `epsilon` chosen on validation data. Not a
    log-likelihood: do not report it.

    Args:
        epsilon: weight of 1 - p, >= -1; 0 gives `softmax_cross_entropy`.
        labels, logits, probs, log_probs, axis, class_weight, sample_weight, label_smoothing,
            ignore_index, temperature, softcap, z_loss, reduction, normalizer: as in every loss, see
            `help(crossent.losses)`.

    Shape:
        logits (*batch, classes), labels (*batch,) or (*batch, classes) -> () or, for reduction
        "none", (*batch,).

    Raises:
        ShapeError, DTypeError, LabelError, ScoreError, OptionError, ArgumentError.

    Source:
        Leng et al. 2022, eq. 7.

    Example:
        >>> import numpy as np, crossent as xe
        >>> float(xe.poly_loss(labels=[0], logits=np.array([[2.0, 0.0]])).round(6))
        0.246131
    """
    epsilon = _checks.number("epsilon", epsilon, -1.0)
    return _softmax_loss(
        None if epsilon == 0 else lambda xp, n, p: _poly(xp, n, epsilon),
        labels,
        logits,
        probs,
        log_probs,
        axis,
        class_weight,
        sample_weight,
        label_smoothing,
        ignore_index,
        temperature,
        softcap,
        z_loss,
        reduction,
        normalizer,
    )


def sigmoid_cross_entropy(
    *,
    labels: Any,
    logits: Any = None,
    probs: Any = None,
    log_probs: Any = None,
    pos_weight: Any = None,
    sample_weight: Any = None,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
    reduction: str = "mean",
    normalizer: Any = None,
) -> Any:
    r"""Cross-entropy of independent yes/no labels, one per element.

    .. math:: \ell = -\left( r z \log \sigma(x) + (1 - z) \log(1 - \sigma(x)) \right)

    with r = `pos_weight`. Use it for one yes/no answer per row, or for any number of true labels
    per row. Do not use it where exactly one of K classes is true (`softmax_cross_entropy`).

    Every element counts as a row: "mean" divides by the sum of `sample_weight` over the kept
    elements, never by `pos_weight`. One infinite logit on the side of its label costs 0.

    Args:
        pos_weight: factor on the positive term, >= 0: a number, or one per label along the last
            axis. It moves the optimal logit by ln(pos_weight): subtract that again before reading
            probabilities.
        labels, logits, probs, log_probs, sample_weight, label_smoothing, ignore_index, reduction,
            normalizer: as in every loss, see `help(crossent.losses)`.

    Shape:
        logits (*any,), labels the same (but for a trailing 1) -> () or, for reduction "none", the
        shape of the logits.

    Raises:
        ShapeError, DTypeError, LabelError, ScoreError, OptionError, ArgumentError.

    Source:
        Cox 1958; the stable form is TensorFlow's documented max(x, 0) - x z + log(1 + exp(-|x|)).

    Example:
        >>> import numpy as np, crossent as xe
        >>> losses = xe.sigmoid_cross_entropy(
        ...     labels=[1, 0], logits=np.array([5.0, 5.0]), reduction="none")
        >>> losses.round(6).tolist()
        [0.006715, 5.006715]
    """
    return _sigmoid_loss(
        None,
        labels,
        logits,
        probs,
        log_probs,
        pos_weight,
        sample_weight,
        label_smoothing,
        ignore_index,
        reduction,
        normalizer,
    )


def binary_focal_loss(
    *,
    labels: Any,
    logits: Any = None,
    probs: Any = None,
    log_probs: Any = None,
    gamma: float = 2.0,
    alpha: float | None = None,
    pos_weight: Any = None,
    sample_weight: Any = None,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
    reduction: str = "mean",
    normalizer: Any = None,
) -> Any:
    r"""Sigmoid cross-entropy that turns down the elements which the model already gets right.

    .. math::
        \ell = -\left( r \alpha z (1 - p)^\gamma \log p
        + (1 - \alpha) (1 - z) p^\gamma \log(1 - p) \right)

    Use it for dense detection with rare positives. Not a proper scoring rule: do not calibrate or
    compare models with it.

    Args:
        gamma: strength, >= 0; 0 gives `sigmoid_cross_entropy`.
        alpha: balance in [0, 1] of positives against negatives; None leaves both at 1.
        labels, logits, probs, log_probs, pos_weight, sample_weight, label_smoothing, ignore_index,
            reduction, normalizer: as in `sigmoid_cross_entropy`.

    Shape:
        logits (*any,), labels the same (but for a trailing 1) -> () or, for reduction "none", the
        shape of the logits.

    Raises:
        ShapeError, DTypeError, LabelError, ScoreError, OptionError, ArgumentError.

    Source:
        Lin et al. 2017, eq. 5.

    Example:
        >>> import numpy as np, crossent as xe
        >>> float(xe.binary_focal_loss(labels=[1], logits=np.array([2.0]), alpha=0.25).round(6))
        0.000451
    """
    gamma = _checks.number("gamma", gamma, 0.0)
    share = None if alpha is None else _checks.number("alpha", alpha, 0.0, 1.0)
    return _sigmoid_loss(
        None if gamma == 0 and share is None else (gamma, share),
        labels,
        logits,
        probs,
        log_probs,
        pos_weight,
        sample_weight,
        label_smoothing,
        ignore_index,
        reduction,
        normalizer,
    )


def mean_squared_error(
    *,
    labels: Any,
    predictions: Any,
    sample_weight: Any = None,
    reduction: str = "mean",
    normalizer: Any = None,
) -> Any:
    r"""Squared error (predictions - labels)^2, one per element.

    Use it to regress real numbers. Do not put it on a sigmoid or softmax: its gradient vanishes
    where the model is confidently wrong (at logit -10 and label 1 it is -9.1e-5, that of the
    cross-entropy -0.99995).

    Args:
        labels, predictions: real numbers, equal shapes (but for a trailing 1).
        sample_weight, reduction, normalizer: as in every loss, see `help(crossent.losses)`. Every
            element is a row.

    Shape:
        labels (*any,), predictions (*any,) -> () or, for reduction "none", (*any,).

    Raises:
        ShapeError, DTypeError, OptionError, ArgumentError.

    Source:
        Gauss 1809; against its use on a sigmoid: Glorot and Bengio 2010, section 4.2.

    Example:
        >>> import crossent as xe
        >>> float(xe.mean_squared_error(labels=[1.0, 2.0], predictions=[0.0, 4.0]))
        2.5
    """
    _checks.reduction(reduction, normalizer)
    library = library_of(
        labels=labels, predictions=predictions, sample_weight=sample_weight, normalizer=normalizer
    )
    predictions = library.as_floats(_numeric(library, "predictions", predictions))
    labels = _numeric(library, "labels", labels)
    rows, dtype = library.shape(predictions), library.result_dtype(predictions)
    _checks.elementwise(library.shape(labels), rows, "predictions")
    weight = _row_weight(library, sample_weight, rows)
    xp = library.namespace(predictions, labels, weight)
    with library.quiet():
        labels = _of_rank(labels, len(rows))
        error = xp.widen(predictions) - xp.widen(labels)
        if weight is not None:  # NaN that does not count must not reach the derivative
            error = xp.where((weight == 0) & ~xp.isfinite(error), 0.0, error)
        poison = _told(library, labels, predictions, None, None)
        return _reduced(
            xp,
            _scaled(xp, _poisoned(xp, error * error, poison, weight), weight),
            None,
            weight,
            None,
            dtype,
            reduction,
            _divisor(library, normalizer),
        )


def label_weight(
    *,
    labels: Any,
    class_weight: Any = None,
    sample_weight: Any = None,
    ignore_index: int | None = None,
    axis: int = -1,
    num_classes: int | None = None,
    reduction: str = "mean",
) -> Any:
    """The denominator that `reduction` would use, from the labels alone.

    For gradient accumulation and data parallel: add it up over all micro-batches and ranks first,
    then give every micro-batch `reduction="sum", normalizer=total`; any split then yields the
    one-shot value and gradients.

    Without `num_classes` and `class_weight` every element of `labels` is a row: class ids, or
    labels of a sigmoid loss. With one of them, floats and bools whose class axis has that many
    entries are distributions, integers are class ids.

    Args:
        num_classes: number of classes; taken from `class_weight` if that is given.
        reduction: "mean" (sum of sample_weight * w over the kept rows) or "mean_all" (number of
            kept rows).
        labels, class_weight, sample_weight, ignore_index, axis: as in every loss, see
            `help(crossent.losses)`.

    Shape:
        labels (*batch,) or (*batch, classes) -> (), float64.

    Raises:
        ShapeError, DTypeError, LabelError, OptionError.

    Source:
        The definition of "mean" at the top of this module.

    Example:
        >>> import crossent as xe
        >>> float(xe.label_weight(labels=[3, -100, 1], ignore_index=-100))
        2.0
    """
    if reduction not in ("mean", "mean_all"):
        raise OptionError(
            f'reduction must be "mean" or "mean_all"; got {reduction!r}. Other reductions do not '
            "divide."
        )
    library = library_of(labels=labels, class_weight=class_weight, sample_weight=sample_weight)
    labels = _numeric(library, "labels", labels)
    shape, kind = library.shape(labels), library.dtype_name(labels)
    if num_classes is not None:
        _checks.num_classes(num_classes)
    elif class_weight is not None:
        weights = _numeric(library, "class_weight", class_weight)
        num_classes = _checks.class_weight(library.shape(weights), None)
    if num_classes is None:
        _checks.ignore_index(ignore_index, False)
        xp = library.namespace(labels)
        kept = None if ignore_index is None else _kept(xp, labels, ignore_index)
        weight = _row_weight(library, sample_weight, shape)
        xp = library.namespace(labels, weight)
        return _denominator(xp, labels, None, weight, kept, reduction)
    if kind in _checks.INTEGERS:
        scores_shape, last = (*shape, num_classes), len(shape)
    else:
        scores_shape, last = shape, _checks.class_axis(axis, len(shape), "labels")
        if shape[last] != num_classes:
            raise ShapeError(
                f"labels must have {num_classes} entries on axis {axis}; got shape {shape}. "
                "Class ids are integers."
            )
    target = _softmax_target(library, labels, scores_shape, last, class_weight, ignore_index)
    rows = scores_shape[:last] + scores_shape[last + 1 :]
    weight = _row_weight(library, sample_weight, rows)
    xp = library.namespace(target.labels, target.class_weight, weight)
    with library.quiet():
        row_weight = _label_row_weight(xp, target)
        like = target.labels if target.is_ids else row_weight
        return _denominator(xp, like, row_weight, weight, target.kept, reduction)


# ---- the softmax family


class _Target(NamedTuple):
    """Labels as the kernels take them, with the class weights."""

    labels: Any  # class ids (valid, 0 where ignored), or a distribution with the class axis last
    is_ids: bool
    kept: Any  # mask of the rows that count, or None for all
    class_weight: Any  # widened, (classes,), or None
    # 1, or NaN in rows whose label is invalid, where a program is compiled; None: all were checked.
    poison: Any


class _Rows(NamedTuple):
    """One softmax problem: scores and labels with the class axis last."""

    xp: Any
    kind: str  # logits, probs or log_probs
    scores: Any
    target: _Target
    smoothing: float
    options: RowOptions


def _softmax_loss(
    of_nll: Callable[[Any, Any, Any], Any] | None,
    labels: Any,
    logits: Any,
    probs: Any,
    log_probs: Any,
    axis: int,
    class_weight: Any,
    sample_weight: Any,
    label_smoothing: float,
    ignore_index: int | None,
    temperature: float,
    softcap: float | None,
    z_loss: float,
    reduction: str,
    normalizer: Any,
    request: Any = None,
    fuse: bool = True,
) -> Any:
    """Sum of w_j q'_j f(-log p_j), plus z-loss, reduced; f is `of_nll`, None the identity.

    With a `request` (see `_has_fused_form`) only the fused kernel is tried.
    """
    kind, scores = _checks.one_of(logits=logits, probs=probs, log_probs=log_probs)
    smoothing = _checks.number("label_smoothing", label_smoothing, 0.0, 1.0)
    temperature, softcap, z = _logit_options(kind, temperature, softcap, z_loss)
    _checks.reduction(reduction, normalizer)
    linear = fuse and of_nll is None and kind == "logits"
    fusing = fusing_library(logits) if linear else None
    if fusing is not None:
        result = fusing.fused_softmax_loss(
            labels,
            logits,
            axis,
            class_weight,
            sample_weight,
            smoothing,
            ignore_index,
            temperature,
            softcap,
            z,
            reduction,
            normalizer,
            request,
        )
        if result is not None:
            return result
    if request is not None:
        return None
    library = library_of(
        labels=labels,
        **{kind: scores},
        class_weight=class_weight,
        sample_weight=sample_weight,
        normalizer=normalizer,
    )
    scores = library.as_scores(kind, scores)
    shape = library.shape(scores)
    _checks.scores(kind, library.dtype_name(scores), shape)
    axis = _checks.class_axis(axis, len(shape))
    rows = shape[:axis] + shape[axis + 1 :]
    target = softmax_target(library, kind, scores, labels, axis, class_weight, ignore_index)
    weight = _row_weight(library, sample_weight, rows)
    xp = library.namespace(scores, target.labels, target.class_weight, weight)
    with library.quiet():
        problem = _Rows(
            xp,
            kind,
            _without_idle(xp, kind, xp.moveaxis(scores, axis, -1), target.kept, weight),
            target,
            smoothing,
            RowOptions(softcap, temperature, with_mean=smoothing > 0),
        )
        losses, row_weight = _row_losses(of_nll, problem, z)
        losses = _poisoned(xp, losses, target.poison, weight)
        return _reduced(
            xp,
            _scaled(xp, losses, weight),
            row_weight,
            weight,
            target.kept,
            library.result_dtype(scores),
            reduction,
            _divisor(library, normalizer),
        )


def _logit_options(
    kind: str, temperature: float, softcap: float | None, z_loss: float
) -> tuple[float, float | None, float]:
    temperature = _checks.number("temperature", temperature, 0.0, open_low=True)
    if softcap is not None:
        softcap = _checks.number("softcap", softcap, 0.0, open_low=True)
    z = _checks.number("z_loss", z_loss, 0.0)
    if kind != "logits" and (temperature != 1 or softcap is not None or z != 0):
        raise OptionError(
            f"temperature, softcap and z_loss must be left alone with {kind}=; got "
            f"temperature={temperature:g}, softcap={softcap}, z_loss={z:g}. "
            "They act on logits: pass logits=."
        )
    return temperature, softcap, z


def softmax_target(
    library: Any,
    kind: str,
    scores: Any,
    labels: Any,
    axis: int,
    class_weight: Any,
    ignore_index: int | None,
) -> _Target:
    """Checked labels for scores of one kind; the scores' own values are checked too."""
    shape = library.shape(scores)
    _checks.classes(kind, shape, axis)
    labels = library.as_array("labels", labels)
    target = _softmax_target(library, labels, shape, axis, class_weight, ignore_index)
    check_probabilities(library, kind, scores, axis, target.kept)
    # Not _replace, which the compiler of PyTorch before 2.9 does not follow.
    of_labels, is_ids, kept, weights, poison = target
    poison = _told(library, labels, scores, axis, poison)
    return _Target(of_labels, is_ids, kept, weights, poison)


def _told(library: Any, labels: Any, scores: Any, axis: int | None, poison: Any) -> Any:
    """The poison, also of labels that would be broadcast.

    Only a graph of TensorFlow's has lengths that it knows no sooner than it runs.
    """
    if None not in (*library.shape(labels), *library.shape(scores)):
        return poison
    xp = library.namespace(labels)
    fit = xp.where(library.same_lengths(labels, scores, axis), xp.widen(1.0), xp.nan)
    return fit if poison is None else fit * poison


def check_probabilities(
    library: Any, kind: str, scores: Any, axis: int | None, kept: Any = None
) -> None:
    """Checks the values of probabilities or their logs; ignored rows may hold anything."""
    if kind == "probs":
        library.check_values(_checks.probability_values, kind, scores, axis, kept)
    elif kind == "log_probs":
        library.check_values(_checks.log_probability_values, kind, scores, axis, kept)


def _softmax_target(
    library: Any,
    labels: Any,
    scores_shape: tuple[int, ...],
    axis: int,
    class_weight: Any,
    ignore_index: int | None,
) -> _Target:
    num_classes = scores_shape[axis]
    dtype, shape = library.dtype_name(labels), library.shape(labels)
    distribution = _checks.is_distribution(shape, dtype, scores_shape, axis)
    _checks.ignore_index(ignore_index, distribution)
    weights = _class_weight(library, class_weight, num_classes)
    xp = library.namespace(labels)
    if distribution:
        checked = library.check_values(_checks.distribution_values, labels, axis)
        rows = xp.moveaxis(labels, axis, -1)
        if checked:
            return _Target(rows, False, None, weights, None)
        poison = _distribution_poison(xp, rows, dtype, num_classes)
        # What a weight of 0 hides must not be NaN or infinite itself; nor may the weights add up to
        # 0, and the loss be 0 with them, where no row is a distribution.
        rows = xp.where(xp.isnan(poison)[..., None], 1 / num_classes, xp.widen(rows))
        return _Target(rows, False, None, weights, poison)
    _checks.id_dtype(dtype, shape, num_classes)
    checked = library.check_values(_checks.id_values, labels, num_classes, ignore_index)
    if len(shape) == len(scores_shape):  # a 1 at the class axis
        labels = xp.moveaxis(labels, axis, -1)[..., 0]
    ids, kept = library.class_ids(labels, ignore_index)
    if checked:
        return _Target(ids, True, kept, weights, None)
    inside = (ids >= 0) & (ids < num_classes)
    poison = xp.where(inside, xp.widen(1.0), xp.nan)
    return _Target(xp.where(inside, ids, 0), True, kept, weights, poison)


def _distribution_poison(xp: Any, labels: Any, dtype: str, num_classes: int) -> Any:
    """1, or NaN in rows that are no distributions, as `_checks.distribution_values` has it."""
    q = xp.stop_gradient(xp.widen(labels))
    outside = xp.sum(xp.where((q >= 0) & (q <= 1), xp.zeros_like(q), 1.0), axis=-1)
    off = xp.abs(xp.sum(q, axis=-1) - 1)
    tolerance = _checks.sum_tolerance(dtype, num_classes)
    return xp.where((outside == 0) & (off <= tolerance), xp.widen(1.0), xp.nan)


def _class_weight(library: Any, class_weight: Any, num_classes: int) -> Any:
    if class_weight is None:
        return None
    weights = _numeric(library, "class_weight", class_weight)
    _checks.class_weight(library.shape(weights), num_classes)
    library.check_values(_checks.class_weight_values, weights)
    return library.namespace(weights).widen(weights)


def _label_row_weight(xp: Any, target: _Target) -> Any:
    """w = sum_j w_j q_j of each row, or None where all are 1."""
    if target.is_ids:
        return None if target.class_weight is None else xp.take(target.class_weight, target.labels)
    labels = xp.widen(target.labels)
    return xp.sum(labels if target.class_weight is None else labels * target.class_weight, axis=-1)


def _row_losses(
    of_nll: Callable[[Any, Any, Any], Any] | None, problem: _Rows, z: float
) -> tuple[Any, Any]:
    """Row losses without sample weights, and the row weights w (None: all 1)."""
    xp, target, s = problem.xp, problem.target, problem.smoothing
    if of_nll is None:
        statistics = _statistics(problem, target.class_weight)
        losses, lse = statistics.nll, statistics.peak + statistics.log_sum
        if s:
            uniform = statistics.mean_weight * statistics.log_sum - statistics.mean_gap
            losses = xp.times(1 - s, losses) + s * uniform
        plain = target.is_ids and target.class_weight is None
        row_weight = None if plain else statistics.target_sum
    else:
        row_weight = _label_row_weight(xp, target)
        if target.is_ids and not s:
            statistics = _statistics(problem, None)
            losses = _of_label(of_nll, problem, statistics.nll, row_weight)
            lse = statistics.peak + statistics.log_sum
        else:
            losses, lse = _sum_over_classes(of_nll, problem)
    if z:
        # NaN is in the losses already; here its coefficient of 0 would become NaN.
        lse = xp.where(xp.isnan(lse), 0.0, lse)
        losses = losses + _scaled(xp, z * lse * lse, row_weight)
    return losses, row_weight


def _of_label(
    of_nll: Callable[[Any, Any, Any], Any], problem: _Rows, nll: Any, row_weight: Any
) -> Any:
    xp = problem.xp
    p = None
    if problem.kind == "probs":
        p = xp.pick(xp.widen(problem.scores), problem.target.labels)
    # NaN goes round f: f'(NaN) would turn a coefficient of 0 into NaN.
    nan = xp.isnan(nll)
    losses = of_nll(xp, xp.where(nan, 0.0, nll), p)
    return _scaled(xp, losses, row_weight) + xp.where(nan, nll, 0.0)


def _statistics(problem: _Rows, class_weight: Any) -> RowStatistics:
    xp, target = problem.xp, problem.target
    if problem.kind == "logits":
        statistics: RowStatistics = xp.row_statistics(
            problem.scores, target.labels, class_weight, problem.options
        )
        return statistics
    labels = target.labels if target.is_ids else xp.widen(target.labels)
    return statistics_of_probs(
        xp,
        xp.widen(problem.scores),
        labels,
        class_weight,
        log=problem.kind == "log_probs",
        with_mean=problem.options.with_mean,
    )


def _sum_over_classes(of_nll: Callable[[Any, Any, Any], Any], problem: _Rows) -> tuple[Any, Any]:
    """Sum of w_j q'_j f(-log p_j) where it is not linear in the statistics; and log-sum-exp."""
    xp, target, s = problem.xp, problem.target, problem.smoothing
    lse: Any = 0.0
    if problem.kind == "logits":
        scores, lse = xp.neg_log_probs(problem.scores, problem.options)
        absent, certain = xp.inf, 0.0
    else:
        scores = xp.widen(problem.scores)
        absent, certain = (0.0, 1.0) if problem.kind == "probs" else (-xp.inf, 0.0)
    if target.is_ids:
        q = xp.where(xp.arange(scores.shape[-1]) == target.labels[..., None], 1.0, 0.0)
    else:
        q = xp.widen(target.labels)
    if s:
        q = (1 - s) * q + s * mean_share(xp, scores == absent, None)
    share = q if target.class_weight is None else xp.times(q, target.class_weight)
    # NaN leaves through the poison, so that it cannot reach rows whose coefficient is 0.
    nan = xp.isnan(scores)
    used = xp.where(nan, certain, scores)
    n = used if problem.kind == "logits" else surprisal(xp, used, log=problem.kind == "log_probs")
    poison = row_poison(xp, scores)
    p = used if problem.kind == "probs" else None
    return xp.sum(xp.times(share, of_nll(xp, n, p)), axis=-1) + poison, lse


# From here on exp(-n) is 0 in float64, and 1 - exp(-n) is 1.
_ENDLESS = 800.0


def _focal(xp: Any, n: Any, gamma: float) -> Any:
    """(1 - exp(-n))^gamma * n.

    At both ends the derivative is not left to the chain rule, which meets 0 * inf: it is 0 at n = 0
    and 1 far out.
    """
    far, none = n > _ENDLESS, n == 0
    inner = xp.where(far | none, 1.0, n)
    turned_down = _one_minus_exp(xp, inner) ** gamma * inner
    return xp.where(far, n, xp.where(none, 0.0, turned_down))


def _generalized(xp: Any, n: Any, p: Any, q: float) -> Any:
    """(1 - p^q) / q, from n = -log p; from p itself where it is given and small.

    There the derivative -p^(q - 1) is infinite at p = 0, and by way of n it would be 0 * inf.
    """
    if p is None:
        return _one_minus_exp(xp, q * n) / q
    small = p <= math.exp(-1 / q)  # there p^q <= 1/e, and 1 - p^q cancels nothing
    from_p = (1 - xp.power(xp.where(small, p, 1.0), q)) / q
    return xp.where(small, from_p, _one_minus_exp(xp, q * xp.where(small, 1.0, n)) / q)


def _poly(xp: Any, n: Any, epsilon: float) -> Any:
    """n + epsilon (1 - exp(-n)), as a sum of terms >= 0 also where epsilon is negative."""
    if epsilon > 0:
        return n + epsilon * _one_minus_exp(xp, n)
    # n - (1 - exp(-n)) = n^2/2 - n^3/6 + ...; 18 terms reach float64's last digit at n = 1/2.
    near = n < 0.5
    small, series = xp.where(near, n, 0.0), 1.0
    for k in range(18, 2, -1):
        series = 1 - small / k * series
    large = xp.where(near, 1.0, n)
    curved = xp.where(near, small * small / 2 * series, large - _one_minus_exp(xp, large))
    return xp.times(1 + epsilon, n) - epsilon * curved


def _one_minus_exp(xp: Any, n: Any) -> Any:
    """1 - exp(-n), n >= 0; in two forms, as expm1(a) is differentiated as expm1(a) + 1."""
    near, far = n < 1, n > _ENDLESS
    close = 0.0 - xp.expm1(-xp.where(near, n, 0.0))
    return xp.where(near, close, 1 - xp.where(far, 0.0, xp.exp(-xp.where(near | far, 1.0, n))))


def _log_one_minus_exp(xp: Any, n: Any) -> Any:
    """log(1 - exp(-n)), n >= 0 (Maechler 2012)."""
    near = n < math.log(2)
    close = xp.log(0.0 - xp.expm1(-xp.where(near, n, 1.0)))
    return xp.where(near, close, xp.log1p(-xp.exp(-xp.where(near, 1.0, n))))


# ---- the sigmoid family


def _sigmoid_loss(
    focal: tuple[float, float | None] | None,
    labels: Any,
    logits: Any,
    probs: Any,
    log_probs: Any,
    pos_weight: Any,
    sample_weight: Any,
    label_smoothing: float,
    ignore_index: int | None,
    reduction: str,
    normalizer: Any,
    request: Any = None,
    fuse: bool = True,
) -> Any:
    kind, scores = _checks.one_of(logits=logits, probs=probs, log_probs=log_probs)
    s = _checks.number("label_smoothing", label_smoothing, 0.0, 1.0)
    _checks.reduction(reduction, normalizer)
    _checks.ignore_index(ignore_index, False)
    linear = fuse and focal is None and kind == "logits"
    fusing = fusing_library(logits) if linear else None
    if fusing is not None:
        result = fusing.fused_sigmoid_loss(
            labels,
            logits,
            pos_weight,
            sample_weight,
            s,
            ignore_index,
            reduction,
            normalizer,
            request,
        )
        if result is not None:
            return result
    if request is not None:
        return None
    library = library_of(
        labels=labels,
        **{kind: scores},
        pos_weight=pos_weight,
        sample_weight=sample_weight,
        normalizer=normalizer,
    )
    scores = library.as_scores(kind, scores)
    rows = library.shape(scores)
    _checks.scores(kind, library.dtype_name(scores), rows)
    labels, kept, poison = _sigmoid_labels(library, kind, scores, labels, ignore_index)
    positive = _pos_weight(library, pos_weight, rows)
    weight = _row_weight(library, sample_weight, rows)
    xp = library.namespace(scores, labels, positive, weight)
    with library.quiet():
        x, z = scores, labels
        if kept is not None:
            z = xp.where(kept, xp.widen(z), 0.0)
        if s:
            z = xp.widen(z) * (1 - s) + s / 2
        hidden = _idle_nan(xp, x, kept, weight)
        if hidden is not None:
            x = xp.where(hidden, xp.ones_like(x) / 2, x)
        if focal is None and kind == "logits":
            losses = xp.sigmoid_loss(x, z, positive, weight)
        else:
            losses = _binary_terms(
                xp, kind, xp.widen(x), xp.widen(z), positive, focal or (0.0, None)
            )
            losses = _scaled(xp, losses, weight)
        if hidden is not None:
            losses = xp.where(hidden, 0.0, losses)
        losses = _poisoned(xp, losses, poison, weight)
        return _reduced(
            xp,
            losses,
            None,
            weight,
            kept,
            library.result_dtype(scores),
            reduction,
            _divisor(library, normalizer),
        )


def _idle(kept: Any, weight: Any) -> Any:
    """Rows that do not count, or None if all may."""
    idle = None if kept is None else ~kept
    if weight is None:
        return idle
    return weight == 0 if idle is None else idle | (weight == 0)


def _without_idle(xp: Any, kind: str, rows: Any, kept: Any, weight: Any) -> Any:
    """The scores, where a row that does not count cannot bring NaN into an automatic derivative."""
    idle = _idle(kept, weight)
    return rows if idle is None else xp.hide(rows, idle, 1.0 if kind == "probs" else 0.0)


def _idle_nan(xp: Any, x: Any, kept: Any, weight: Any) -> Any:
    """Elements that are NaN and do not count: a coefficient of 0 would become NaN in them."""
    idle = _idle(kept, weight)
    return None if idle is None else idle & xp.isnan(x)


def _poisoned(xp: Any, losses: Any, poison: Any, weight: Any) -> Any:
    """The losses, NaN where a label is invalid and its weight is not 0."""
    if poison is None:
        return losses
    return losses * (poison if weight is None else xp.where(weight == 0, 1.0, poison))


def _sigmoid_labels(
    library: Any, kind: str, scores: Any, labels: Any, ignore_index: int | None
) -> tuple[Any, Any, Any]:
    """Checked labels, the mask of the elements that count (None: all), and the poison."""
    labels = _numeric(library, "labels", labels)
    rows = library.shape(scores)
    _checks.elementwise(library.shape(labels), rows, kind)
    checked = library.check_values(_checks.sigmoid_label_values, labels, ignore_index)
    check_probabilities(library, kind, scores, None)
    xp = library.namespace(labels)
    labels = _of_rank(labels, len(rows))
    kept = None if ignore_index is None else _kept(xp, labels, ignore_index)
    if checked:
        return labels, kept, _told(library, labels, scores, None, None)
    z = xp.stop_gradient(xp.widen(labels))
    allowed = (z >= 0) & (z <= 1)
    if kept is not None:
        allowed = allowed | ~kept
    poison = _told(library, labels, scores, None, xp.where(allowed, xp.widen(1.0), xp.nan))
    labels = xp.where(allowed, xp.widen(labels), 0.0)  # as in _softmax_target
    return labels, kept, poison


def _kept(xp: Any, labels: Any, ignore_index: int) -> Any:
    # Compared as floats: torch would wrap -100 around to fit unsigned labels.
    return xp.stop_gradient(xp.widen(labels)) != _checks.as_float(ignore_index)


def _of_rank(x: Any, rank: int) -> Any:
    """The array with a 1 behind added, or taken away."""
    if x.ndim == rank:
        return x
    return x[..., None] if x.ndim < rank else x[..., 0]


def _pos_weight(library: Any, pos_weight: Any, rows: tuple[int, ...]) -> Any:
    if pos_weight is None:
        return None
    weights = _numeric(library, "pos_weight", pos_weight)
    _checks.pos_weight(library.shape(weights), rows)
    library.check_values(_checks.pos_weight_values, weights)
    return library.namespace(weights).widen(weights)


def _binary_terms(
    xp: Any, kind: str, x: Any, z: Any, r: Any, focal: tuple[float, float | None]
) -> Any:
    """r a z (1 - p)^gamma (-log p) + (1 - a)(1 - z) p^gamma (-log(1 - p)), any kind of score."""
    gamma, alpha = focal
    a, b = (1.0, 1.0) if alpha is None else (alpha, 1 - alpha)
    n1, n0 = _binary_surprisals(xp, kind, x)
    m1, m0 = n1, n0
    if gamma:
        m1, m0 = _turned_down(xp, n1, n0, gamma), _turned_down(xp, n0, n1, gamma)
    return xp.times(a * (z if r is None else r * z), m1) + xp.times(b * (1 - z), m0)


def _turned_down(xp: Any, n: Any, other: Any, gamma: float) -> Any:
    """(1 - p)^gamma * n as exp(-gamma * other) * n, with other = -log(1 - p).

    So no power of a rounded 1 - p is taken. Far out the derivative is n's own, and 0 where the
    other side is certain: the chain rule alone would give inf * 0.
    """
    endless, certain = n > _ENDLESS, other > _ENDLESS / gamma
    inner, outer = xp.where(endless | certain, 0.0, n), xp.where(endless | certain, 0.0, other)
    turned_down = xp.exp(-gamma * outer) * inner
    return xp.where(endless, n, turned_down)


def _binary_surprisals(xp: Any, kind: str, x: Any) -> tuple[Any, Any]:
    """-log p and -log(1 - p)."""
    if kind == "logits":
        tail = xp.log1p(xp.exp(-xp.where(x >= 0, x, -x)))
        return xp.where(x >= 0, 0.0, -x) + tail, xp.where(x >= 0, x, 0.0) + tail
    if kind == "probs":
        return 0.0 - xp.log(x), 0.0 - xp.log1p(-x)
    return 0.0 - x, 0.0 - _log_one_minus_exp(xp, 0.0 - x)


# ---- weights and reduction


def _numeric(library: Any, name: str, value: Any) -> Any:
    array = library.as_array(name, value)
    _checks.numeric(name, library.dtype_name(array), library.shape(array))
    return array


def _row_weight(library: Any, sample_weight: Any, rows: tuple[int, ...]) -> Any:
    if sample_weight is None:
        return None
    weight = _numeric(library, "sample_weight", sample_weight)
    _checks.row_weight_shape(library.shape(weight), rows)
    library.check_values(_checks.sample_weight_values, weight)
    weight = library.namespace(weight).widen(weight)
    return weight[(..., *[None] * (len(rows) - weight.ndim))]


def _divisor(library: Any, normalizer: Any) -> Any:
    if normalizer is None:
        return None
    value = _numeric(library, "normalizer", normalizer)
    if library.shape(value) != ():
        raise ShapeError(
            f"normalizer must be one number; got shape {library.shape(value)}. "
            "Add it up first, e.g. with label_weight(...)."
        )
    library.check_values(_checks.normalizer_value, value)
    xp = library.namespace(value)
    return xp.stop_gradient(xp.widen(value))


def _scaled(xp: Any, losses: Any, weight: Any) -> Any:
    return losses if weight is None else xp.times(weight, losses)


def _reduced(
    xp: Any,
    losses: Any,
    row_weight: Any,
    sample_weight: Any,
    kept: Any,
    dtype: Any,
    reduction: str,
    normalizer: Any,
) -> Any:
    """Weighted row losses to the result; sums run over them as they are returned, in `dtype`."""
    if kept is not None:
        losses = xp.where(kept, losses, 0.0)
    if reduction == "none":
        return xp.returned(losses, dtype)
    if normalizer is None and reduction != "sum":
        normalizer = _denominator(xp, losses, row_weight, sample_weight, kept, reduction)
    return xp.total(losses, normalizer, dtype)


def _denominator(
    xp: Any, like: Any, row_weight: Any, sample_weight: Any, kept: Any, reduction: str
) -> Any:
    """What "mean" or "mean_all" divides by, widened; `like` has the shape of the rows."""
    if reduction == "mean_all" or (row_weight is None and sample_weight is None):
        return xp.count(like) if kept is None else xp.sum(xp.widen(kept))
    weight: Any = xp.widen(xp.zeros_like(like)) + 1
    for part in (row_weight, sample_weight):
        weight = weight if part is None else weight * part
    return xp.total(weight if kept is None else xp.where(kept, weight, 0.0))


# ---- value and gradient in one kernel call


def _has_fused_form(loss: Any, of: Callable[..., Any], identity: str | None = None) -> None:
    """Marks a loss that a kernel can compute together with its gradient in the logits.

    `loss.fused_form` is the loss itself and a function for front ends. That takes a request, which
    goes unread to the front end's own fused kernel, and the arguments of the loss; it returns what
    the kernel returns, or None where only the general way will do. So it is where the parameter
    `identity` is not 0.
    """
    defaults = {"labels": None, **loss.__kwdefaults__}

    def fused_form(request: Any, options: dict[str, Any]) -> Any:
        given = {**defaults, **options}
        if len(given) > len(defaults):
            return None  # an argument that the loss does not know, as it will say itself
        if identity is not None:
            parameter = given.pop(identity)
            if type(parameter) not in (int, float) or parameter != 0:
                return None
        return of(None, request=request, **given)

    loss.fused_form = loss, fused_form


_has_fused_form(softmax_cross_entropy, _softmax_loss)
_has_fused_form(focal_loss, _softmax_loss, "gamma")
_has_fused_form(generalized_cross_entropy, _softmax_loss, "q")
_has_fused_form(poly_loss, _softmax_loss, "epsilon")
_has_fused_form(sigmoid_cross_entropy, _sigmoid_loss)


def linear_loss_unfused(of: str, **options: Any) -> Any:
    """The linear "softmax" or "sigmoid" loss of logits by the general way alone.

    For front ends: what a fused loss cannot do, such as a derivative of a derivative, is asked of
    this.
    """
    loss = _softmax_loss if of == "softmax" else _sigmoid_loss
    return loss(None, probs=None, log_probs=None, fuse=False, **options)
