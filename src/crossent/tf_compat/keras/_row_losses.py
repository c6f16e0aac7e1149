"""The seven losses of both Keras generations, one number per row, before any weight or reduction.

Keras 2 and Keras 3 share each loss; where they differ stands in `Generation`. From logits the
losses are TensorFlow's ops (`tf_compat.nn`), from probabilities the clipped forms of `_formulas`.
Results have the dtype of `y_pred`; integers count as the generation's `floatx`.
"""

import math
import warnings
from typing import Any, NamedTuple

import numpy as np

from crossent import _checks
from crossent._checks import Shape
from crossent.errors import ArgumentError, OptionError, ShapeError
from crossent.information import sigmoid
from crossent.tf_compat import nn
from crossent.tf_compat._tensors import (
    cast,
    check_same_shape,
    is_float,
    shape_of,
    tensors,
)
from crossent.tf_compat._weighted import mean
from crossent.tf_compat.errors import InvalidArgumentError
from crossent.tf_compat.keras import _formulas
from crossent.tf_compat.keras._formulas import Clip
from crossent.tf_compat.keras._settings import Settings
from crossent.tf_compat.keras._shapes import axes_of, broadcast, squeezed_or_expanded


class Generation(NamedTuple):
    """What differs between Keras 2 and Keras 3 inside the losses."""

    settings: Settings
    # binary: epsilon is added in both logarithms once more, after clipping
    offset: bool
    # binary from probabilities, and categorical focal: labels and predictions are broadcast
    binary_broadcasts: bool
    focal_broadcasts: bool
    # mean squared error: the plain function, too, takes a trailing 1 away
    squares_fix_ranks: bool
    # categorical: the classes that share the smoothing are counted on the last axis, not on `axis`
    smooths_over_last: bool
    # sparse: any class axis; labels of another rank count in row-major order
    sparse_is_lenient: bool


class _Pair(NamedTuple):
    """Labels and predictions as floats; the predictions' dtype is the result's."""

    library: Any
    xp: Any
    y_true: Any  # widened
    y_pred: Any
    clip: Clip


def binary(
    generation: Generation,
    y_true: Any,
    y_pred: Any,
    *,
    from_logits: bool,
    label_smoothing: float,
    axis: Any,
    gamma: float | None = None,
    alpha: float | None = None,
) -> Any:
    """Binary cross-entropy averaged over `axis`; the focal one with gamma, balanced with alpha."""
    library, xp, z, y_pred, clip = _pair(generation, y_true, y_pred)
    if from_logits or not generation.binary_broadcasts:
        check_same_shape(y_true=z, y_pred=y_pred)
    shape = broadcast(y_true=z, y_pred=y_pred)
    axes = axes_of(axis, len(shape))
    with library.quiet():
        p = xp.widen(y_pred)
        if len(shape_of(p)) < len(shape):
            p = p + xp.zeros_like(z)
        z = _formulas.smoothed(z, _number("label_smoothing", label_smoothing), 0.5)
        if from_logits:
            losses = nn.sigmoid_cross_entropy_with_logits(labels=z, logits=p)
        else:
            losses = _formulas.binary_cross_entropy(xp, z, p, clip, offset=generation.offset)
        if gamma is not None:
            # From logits Keras scores the logits themselves here, not the clipped sigmoid.
            p, not_p = (sigmoid(p), sigmoid(-p)) if from_logits else (p, 1 - p)
            balance = None if alpha is None else _number("alpha", alpha)
            factor = _formulas.binary_focal_factor(z, p, not_p, _number("gamma", gamma), balance)
            losses = losses * factor
        return xp.returned(mean(xp, losses, axes), y_pred.dtype)


def categorical(
    generation: Generation,
    y_true: Any,
    y_pred: Any,
    *,
    from_logits: bool,
    label_smoothing: float,
    axis: Any,
) -> Any:
    """Cross-entropy of distributions. Probabilities are divided by their sum, then clipped."""
    library, xp, z, y_pred, clip = _pair(generation, y_true, y_pred)
    check_same_shape(y_true=z, y_pred=y_pred)
    shape = shape_of(y_pred)
    axes = _class_axes("categorical_crossentropy", axis, shape)
    counted = (len(shape) - 1,) if generation.smooths_over_last else axes
    with library.quiet():
        share = _uniform(shape, counted)
        z = _formulas.smoothed(z, _number("label_smoothing", label_smoothing), share)
        if from_logits:
            return nn.softmax_cross_entropy_with_logits(labels=z, logits=y_pred, axis=axis)
        q = _formulas.normalised(xp, xp.widen(y_pred), clip, axes)
        return xp.returned(_formulas.categorical_cross_entropy(xp, z, q, axes), y_pred.dtype)


def categorical_focal(
    generation: Generation,
    y_true: Any,
    y_pred: Any,
    *,
    gamma: float,
    alpha: Any,
    from_logits: bool,
    label_smoothing: float,
    axis: Any,
) -> Any:
    """Categorical cross-entropy times alpha (1 - q)^gamma; logits become probabilities first."""
    library, xp, z, y_pred, clip = _pair(generation, y_true, y_pred)
    if not generation.focal_broadcasts:
        check_same_shape(y_true=z, y_pred=y_pred)
    # -1 names the last axis of the predictions, and after them that of the broadcast result.
    result_axes = axes_of(axis, len(broadcast(y_true=z, y_pred=y_pred)))
    axes = _class_axes("categorical_focal_crossentropy", axis, shape_of(y_pred))
    alpha = library.as_array("alpha", alpha)
    _checks.numeric("alpha", library.dtype_name(alpha), library.shape(alpha))
    broadcast(alpha=alpha, y_pred=y_pred)
    gamma = _number("gamma", gamma)
    with library.quiet():
        if label_smoothing:
            of_true = shape_of(z)
            share = _uniform(of_true, axes_of(-1, len(of_true), of="y_true"))
            z = _formulas.smoothed(z, _number("label_smoothing", label_smoothing), share)
        p = xp.widen(y_pred)
        if from_logits:
            p = nn.softmax(p, axis=_one(axes))
        q = _formulas.normalised(xp, p, clip, axes)
        losses = _formulas.categorical_focal_cross_entropy(
            xp, z, q, result_axes, gamma, xp.widen(alpha)
        )
        return xp.returned(losses, y_pred.dtype)


def sparse(
    generation: Generation,
    y_true: Any,
    y_pred: Any,
    *,
    from_logits: bool,
    ignore_class: int | None,
    axis: int,
) -> Any:
    """Cross-entropy of class ids. Probabilities are clipped, then divided by their sum."""
    library, labels, y_pred = tensors(y_true=y_true, y_pred=y_pred)
    y_pred = _floats(generation, y_pred)
    last = _sparse_axis(generation, axis, len(shape_of(y_pred)))
    xp = library.namespace(y_pred)
    with library.quiet():
        scores = xp.moveaxis(y_pred, last, -1)
        if generation.sparse_is_lenient and len(shape_of(scores)) == 1 and shape_of(labels):
            scores = scores[None]
        shape = shape_of(scores)
        _check_label_shape(generation, shape_of(labels), shape)
        labels = _of_rows(xp, labels, shape[:-1])
        library.check_values(_check_ids, labels, ignore_class, shape[-1])
        kept = kept_rows(labels, ignore_class, shape[:-1])
        ids = cast(labels, "int64")  # fractions are cut off
        if kept is not None:  # ignored rows may hold NaN
            ids = xp.where(kept, ids, xp.zeros_like(ids))
            scores = xp.hide(scores, ~kept, 1.0)
        if not from_logits:
            clip = Clip(generation.settings.epsilon(), y_pred.dtype)
            scores = xp.log(clip.between(xp, xp.widen(scores)))
        losses = nn.sparse_softmax_cross_entropy_with_logits(labels=ids, logits=scores)
        if kept is not None:
            losses = xp.where(kept, losses, xp.zeros_like(losses))
        return xp.returned(losses, y_pred.dtype)


def kept_rows(y_true: Any, ignore_class: int | None, rows: Shape) -> Any:
    """The mask that `sparse` produces: the rows that are not ignored; None for all."""
    if ignore_class is None:
        return None
    if not isinstance(ignore_class, int | np.integer):
        raise OptionError(
            f"ignore_class must be an int or None; got {ignore_class!r}. "
            "Pass the label of the rows to skip, e.g. -1."
        )
    library, labels = tensors(y_true=y_true)
    xp = library.namespace(labels)
    with library.quiet():
        return xp.widen(_of_rows(xp, labels, rows)) != float(ignore_class)


def _of_rows(xp: Any, labels: Any, rows: Shape) -> Any:
    """Labels in the shape of the rows: without a trailing 1, or in row-major order."""
    shape = shape_of(labels)
    if _checks.fits(shape, rows):
        return labels
    return labels[..., 0] if _checks.fits(shape, (*rows, 1)) else xp.reshape(labels, rows)


def kl_divergence(generation: Generation, y_true: Any, y_pred: Any) -> Any:
    """Kullback-Leibler divergence over the last axis; neither side is normalised."""
    library, xp, z, y_pred, clip = _pair(generation, y_true, y_pred)
    axes_of(-1, len(broadcast(y_true=z, y_pred=y_pred)))
    with library.quiet():
        losses = _formulas.kl_divergence(xp, z, xp.widen(y_pred), clip)
        return xp.returned(losses, y_pred.dtype)


def mean_squared_error(generation: Generation, y_true: Any, y_pred: Any) -> Any:
    """Mean of (y_true - y_pred)^2 over the last axis."""
    library, xp, z, y_pred, _ = _pair(generation, y_true, y_pred)
    if generation.squares_fix_ranks:
        z, y_pred = squeezed_or_expanded(z, y_pred)
    axes = axes_of(-1, len(broadcast(y_true=z, y_pred=y_pred)))
    with library.quiet():
        error = z - xp.widen(y_pred)
        return xp.returned(mean(xp, error * error, axes), y_pred.dtype)


def _pair(generation: Generation, y_true: Any, y_pred: Any) -> _Pair:
    library, labels, predictions = tensors(y_true=y_true, y_pred=y_pred)
    predictions = _floats(generation, predictions)
    xp = library.namespace(labels, predictions)
    clip = Clip(generation.settings.epsilon(), predictions.dtype)
    return _Pair(library, xp, xp.widen(labels), predictions, clip)


def _floats(generation: Generation, array: Any) -> Any:
    return array if is_float(array) else cast(array, generation.settings.floatx())


def _number(name: str, value: Any) -> float:
    """Any finite number: Keras checks no range."""
    return _checks.number(name, value or 0.0, -math.inf)


def _uniform(shape: Shape, axes: tuple[int, ...]) -> float:
    """1 / number of classes."""
    return 1.0 / max(1, int(math.prod(shape[axis] for axis in axes)))


def _class_axes(name: str, axis: Any, shape: Shape) -> tuple[int, ...]:
    if isinstance(axis, bool):
        raise OptionError(f"axis must be an int; got {axis}. -1 is the last axis.")
    axes = axes_of(axis, len(shape))
    if all(shape[axis] == 1 for axis in axes):
        warnings.warn(
            f"{name} finds one class in y_pred of shape {shape}: its loss is always about 0. "
            "Use binary_crossentropy for one yes/no answer per row.",
            SyntaxWarning,
            stacklevel=4,
        )
    return axes


def _one(axes: tuple[int, ...]) -> int:
    if len(axes) != 1:
        raise ArgumentError(f"axis must be one int here; got axes {axes}. -1 is the last axis.")
    return axes[0]


def _sparse_axis(generation: Generation, axis: Any, rank: int) -> int:
    if rank == 0:
        raise ShapeError("y_pred must have a class axis; got a scalar. Pass (batch, classes).")
    if generation.sparse_is_lenient:
        return _one(axes_of(axis, rank))
    if axis not in (-1, rank - 1):
        raise OptionError(
            f"axis must be -1, the last axis; got {axis!r}. "
            f"Move the classes there with np.moveaxis(y_pred, {axis!r}, -1)."
        )
    return rank - 1


def _check_label_shape(generation: Generation, labels: Shape, scores: Shape) -> None:
    rows = scores[:-1]
    fits = _checks.fits(labels, rows) or _checks.fits(labels, (*rows, 1))
    if generation.sparse_is_lenient and len(labels) != len(rows):
        fits = None in (*labels, *rows) or math.prod(labels) == math.prod(rows)
    if not fits:
        raise ShapeError(
            f"y_true must have shape {rows} or {(*rows, 1)}, one class id per row of y_pred of "
            f"shape {scores}; got {labels}. One-hot labels go to categorical_crossentropy."
        )


def _check_ids(labels: np.ndarray, ignored: int | None, classes: int) -> None:
    """Every label that counts is a class. Fractions are cut off, as Keras does."""
    values = np.trunc(labels) if labels.dtype.kind not in "iub" else labels
    bad = ~((values >= 0) & (values < classes))
    bad = bad if ignored is None else bad & (labels != ignored)
    if bad.any():
        places = [tuple(map(int, place)) for place in np.argwhere(bad)[:3]]
        shown = ", ".join(f"{labels[place]} at {place}" for place in places)
        raise InvalidArgumentError(
            f"y_true must lie in [0, {classes}); got {shown}. "
            "Labels that mark rows to skip are ignore_class=."
        )
