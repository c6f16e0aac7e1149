"""`tf.contrib.losses` of TensorFlow 1: logits come first, weights align with the leading axes.

What differs from `tf.losses`: `weights` of shape (batch,) stand for whole rows of any losses, a
trailing axis of 1 is dropped, and the denominator counts the weights that are not 0 *before*
broadcasting, times the elements behind them. So weights of shape (1,) on B losses give a result B
times that of `tf.losses`. There is no reduction and no loss_collection. All of it is
deprecated.

    >>> import warnings, crossent.tf_compat as tf
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore", DeprecationWarning)
    ...     float(tf.contrib.losses.mean_squared_error([[2.0, 0.0]], [[0.0, 0.0]], weights=[1.0]))
    2.0
"""

import math
from typing import Any

from crossent._arrays import library_of
from crossent._checks import Shape
from crossent.errors import ShapeError
from crossent.tf_compat import _cross_entropy, _weighted
from crossent.tf_compat._absent import absent, public_names
from crossent.tf_compat._deprecation import deprecated
from crossent.tf_compat._graphs import GraphKeys, collect
from crossent.tf_compat._tensors import (
    beside,
    check_same_shape,
    dtype_name,
    numbers,
    shape_of,
    tensor,
)
from crossent.tf_compat.compat.v1 import losses as v1
from crossent.tf_compat.errors import InvalidArgumentError

__all__ = [
    "add_loss",
    "compute_weighted_loss",
    "get_losses",
    "get_regularization_losses",
    "get_total_loss",
    "mean_squared_error",
    "sigmoid_cross_entropy",
    "softmax_cross_entropy",
    "sparse_softmax_cross_entropy",
]


def softmax_cross_entropy(
    logits: Any,
    onehot_labels: Any,
    weights: Any = 1.0,
    label_smoothing: float = 0,
    scope: str | None = None,
) -> Any:
    """Cross-entropy of constant label distributions; use `tf.losses.softmax_cross_entropy`.

    Shape:
        (batch, classes) -> ().

    Raises:
        ValueError: shapes or weights do not fit, or an argument is None.

    Source:
        tf.contrib.losses.softmax_cross_entropy, TensorFlow 1.15.
    """
    deprecated(
        "contrib.losses.softmax_cross_entropy", "tf.losses.softmax_cross_entropy, labels first"
    )
    library = library_of(logits=logits, onehot_labels=onehot_labels, weights=weights)
    logits = tensor("logits", logits, library)
    labels = beside("onehot_labels", onehot_labels, logits, library)
    check_same_shape(onehot_labels=labels, logits=logits)
    if label_smoothing > 0:
        shape = shape_of(labels)
        if len(shape) < 2:
            raise ShapeError(
                f"onehot_labels must have shape (batch, classes) to be smoothed; got "
                f"{shape}. Add a batch axis."
            )
        labels = _weighted.smoothed(labels, label_smoothing, shape[1])
    losses = _cross_entropy.softmax_losses(labels, logits, stop_labels=True)
    return _mean(losses, weights, scope or "softmax_cross_entropy_loss")


def sparse_softmax_cross_entropy(
    logits: Any, labels: Any, weights: Any = 1.0, scope: str | None = None
) -> Any:
    """Cross-entropy of one class id per row; use `tf.losses.sparse_softmax_cross_entropy`.

    Shape:
        logits (batch, classes), labels (batch,) or (batch, 1) -> ().

    Raises:
        ValueError: shapes or weights do not fit, or an argument is None.
        InvalidArgumentError: an id outside [0, classes).

    Source:
        tf.contrib.losses.sparse_softmax_cross_entropy, TensorFlow 1.15.
    """
    deprecated(
        "contrib.losses.sparse_softmax_cross_entropy",
        "tf.losses.sparse_softmax_cross_entropy, labels first",
    )
    library = library_of(logits=logits, labels=labels, weights=weights)
    logits, labels = tensor("logits", logits, library), tensor("labels", labels, library)
    shape = shape_of(labels)
    if not shape or any(n != 1 for n in shape[1:]):
        raise ShapeError(
            f"labels must have one id per row, shape (batch,) or (batch, 1); got {shape}. "
            "From one-hot labels: np.argmax(labels, axis=1)."
        )
    labels = labels[(slice(None), *[0] * (len(shape) - 1))]
    losses = _cross_entropy.sparse_losses(labels, logits)
    return _mean(losses, weights, scope or "sparse_softmax_cross_entropy_loss")


def sigmoid_cross_entropy(
    logits: Any,
    multi_class_labels: Any,
    weights: Any = 1.0,
    label_smoothing: float = 0,
    scope: str | None = None,
) -> Any:
    """Cross-entropy of independent yes/no labels; use `tf.losses.sigmoid_cross_entropy`.

    Shape:
        (*any,) -> ().

    Raises:
        ValueError: shapes or weights do not fit, or an argument is None.

    Source:
        tf.contrib.losses.sigmoid_cross_entropy, TensorFlow 1.15.
    """
    deprecated(
        "contrib.losses.sigmoid_cross_entropy", "tf.losses.sigmoid_cross_entropy, labels first"
    )
    library = library_of(logits=logits, multi_class_labels=multi_class_labels, weights=weights)
    logits = tensor("logits", logits, library)
    labels = tensor("multi_class_labels", multi_class_labels, library, dtype_name(logits))
    check_same_shape(multi_class_labels=labels, logits=logits)
    labels = _weighted.smoothed(labels, label_smoothing, 2, dtype_name(logits))
    losses = _cross_entropy.sigmoid_losses(labels, logits)
    return _mean(losses, weights, scope or "sigmoid_cross_entropy_loss")


def mean_squared_error(
    predictions: Any, labels: Any = None, weights: Any = 1.0, scope: str | None = None
) -> Any:
    """(prediction - label)^2, float32; use `tf.losses.mean_squared_error`.

    Shape:
        (*any,) -> ().

    Raises:
        ValueError: shapes or weights do not fit, or an argument is None.

    Source:
        tf.contrib.losses.mean_squared_error, TensorFlow 1.15.
    """
    deprecated("contrib.losses.mean_squared_error", "tf.losses.mean_squared_error, labels first")
    losses = _weighted.squared_errors(labels, predictions)
    return _mean(losses, weights, scope or "mean_squared_error")


def compute_weighted_loss(losses: Any, weights: Any = 1.0, scope: str | None = None) -> Any:
    """Weighted losses over the count of weights != 0; use `tf.losses.compute_weighted_loss`.

    Shape:
        losses (*any,) of at least one axis, weights a prefix of its shape -> ().

    Raises:
        ValueError: weights do not fit, or an argument is None.
        InvalidArgumentError: losses are a scalar.

    Source:
        tf.contrib.losses.compute_weighted_loss, TensorFlow 1.15.
    """
    deprecated("contrib.losses.compute_weighted_loss", "tf.losses.compute_weighted_loss")
    library = library_of(losses=losses, weights=weights)
    return _mean(tensor("losses", losses, library), weights, scope or "weighted_loss")


def add_loss(loss: Any, loss_collection: str | None = GraphKeys.LOSSES) -> None:
    """Put a loss into the default graph's collection; use `tf.losses.add_loss`."""
    deprecated("contrib.losses.add_loss", "tf.losses.add_loss")
    v1.add_loss(loss, loss_collection)


def get_losses(scope: str | None = None, loss_collection: str = GraphKeys.LOSSES) -> list[Any]:
    """The losses collected so far; use `tf.losses.get_losses`."""
    deprecated("contrib.losses.get_losses", "tf.losses.get_losses")
    return v1.get_losses(scope, loss_collection)


def get_regularization_losses(scope: str | None = None) -> list[Any]:
    """The regularization losses collected so far; use `tf.losses.get_regularization_losses`."""
    deprecated("contrib.losses.get_regularization_losses", "tf.losses.get_regularization_losses")
    return v1.get_regularization_losses(scope)


def get_total_loss(add_regularization_losses: bool = True, name: str | None = "total_loss") -> Any:
    """The sum of the collected losses; use `tf.losses.get_total_loss`.

    Raises:
        ValueError: there are no losses, or their shapes differ.
    """
    deprecated("contrib.losses.get_total_loss", "tf.losses.get_total_loss")
    return v1.get_total_loss(add_regularization_losses, name)


def _mean(losses: Any, weights: Any, name: str) -> Any:
    library = library_of(losses=losses, weights=weights)
    weights, of_losses = numbers("weights", weights, library), shape_of(losses)
    if not of_losses:
        raise InvalidArgumentError(
            "losses must have at least one axis; got a scalar. Give it a batch axis: "
            "tf.constant(loss, shape=[1])."
        )
    xp, of_weights = library.namespace(losses, weights), shape_of(weights)
    if len(of_weights) > 1 and of_weights[-1] == 1:
        weights, of_weights = weights[..., 0], of_weights[:-1]
    behind = _checked_rest(of_weights, of_losses)
    with library.quiet():
        values, w = xp.widen(losses), xp.widen(weights)
        present = xp.sum(xp.where(w == 0, xp.zeros_like(w), 1.0))
        if behind:
            axes = tuple(range(len(of_weights), len(of_losses)))
            rows = xp.sum(values, axis=axes)
            known = None not in behind
            each = math.prod(behind) if known else xp.count(values) / xp.count(rows)
            values, present = rows, present * each
        value = _weighted.safe_ratio(xp, xp.sum(values * w), present)
        value = xp.returned(value, losses.dtype)
    collect(GraphKeys.LOSSES, value, name)
    return value


def _checked_rest(weights: Shape, losses: Shape) -> Shape:
    """The losses' axes behind those that the weights stand for."""
    front = losses[: len(weights)]
    if len(weights) > len(losses) or any(
        1 not in (w, n) and None not in (w, n) and w != n
        for w, n in zip(weights, front, strict=True)
    ):
        raise ShapeError(
            f"weights must match the leading axes of the losses, shape {losses}; got {weights}. "
            f"One weight per row has shape {losses[:1]}."
        )
    return losses[len(weights) :]


__getattr__ = absent("tf.contrib.losses", __name__)
__dir__ = public_names(__name__)
