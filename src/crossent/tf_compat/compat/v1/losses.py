"""`tf.losses` of TensorFlow 1: losses with weights and a reduction, collected in the default graph.

Arguments that all of them share:

weights: a number, or an array of the rank of the losses whose axes are 1 or equal theirs. Weight 0
    does not hide a NaN.
scope: put before the loss's name in its collection.
loss_collection: the collection it goes to; None for none. Outside of
    `with tf.Graph().as_default():` nothing is collected.
reduction: a value of `Reduction`; by default the sum of weighted losses divided by the number of
    weights that are not 0, counted after broadcasting. A denominator of 0 gives 0.
"""

from typing import Any

from crossent._arrays import library_of
from crossent._checks import fits
from crossent.errors import OptionError, ShapeError
from crossent.tf_compat import _cross_entropy, _weighted
from crossent.tf_compat._absent import absent, public_names
from crossent.tf_compat._graphs import GraphKeys, collect, collected
from crossent.tf_compat._tensors import (
    beside,
    check_same_shape,
    dtype_name,
    numbers,
    shape_of,
    tensor,
)
from crossent.tf_compat._weighted import Reduction
from crossent.tf_compat.errors import InvalidArgumentError

__all__ = [
    "Reduction",
    "add_loss",
    "compute_weighted_loss",
    "get_losses",
    "get_regularization_loss",
    "get_regularization_losses",
    "get_total_loss",
    "mean_squared_error",
    "sigmoid_cross_entropy",
    "softmax_cross_entropy",
    "sparse_softmax_cross_entropy",
]


def compute_weighted_loss(
    losses: Any,
    weights: Any = 1.0,
    scope: str | None = None,
    loss_collection: str | None = GraphKeys.LOSSES,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Any:
    """Losses times weights, reduced; gradients reach both.

    Args:
        losses: numbers of any shape.
        weights, scope, loss_collection, reduction: see the top of this module.

    Shape:
        losses (*any,) -> () or, for Reduction.NONE, (*any,); in the dtype of the losses (integers
        are truncated).

    Raises:
        ValueError: weights that do not fit or are None, or an unknown reduction.

    Source:
        tf.compat.v1.losses.compute_weighted_loss, TensorFlow 2.21 (which rounds to float32 on the
        way; this does not).

    Example:
        >>> import crossent.tf_compat.compat.v1 as tf
        >>> float(tf.losses.compute_weighted_loss([1.0, 2.0, 4.0], weights=[1.0, 0.0, 2.0]))
        4.5
    """
    Reduction.validate(reduction)
    library = library_of(losses=losses, weights=weights)
    losses = tensor("losses", losses, library)
    weights = numbers("weights", weights, library)
    _weighted.check_weights(shape_of(weights), shape_of(losses))
    xp = library.namespace(losses, weights)
    with library.quiet():
        value = _weighted.reduced(xp, xp.widen(losses), xp.widen(weights), reduction)
        value = xp.returned(value, losses.dtype)
    collect(loss_collection, value, scope or "weighted_loss")
    return value


def softmax_cross_entropy(
    onehot_labels: Any,
    logits: Any,
    weights: Any = 1.0,
    label_smoothing: float = 0,
    scope: str | None = None,
    loss_collection: str | None = GraphKeys.LOSSES,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Any:
    """Cross-entropy of label distributions, weighted and reduced; labels are constants.

    Not for class ids: those are `sparse_softmax_cross_entropy`.

    Args:
        onehot_labels: any dtype, the shape of the logits.
        logits: floating point, classes on the last axis.
        label_smoothing: s > 0 moves the labels to (1 - s) z + s / classes; a negative one is not
            applied.
        weights, scope, loss_collection, reduction: see the top of this module; the losses have one
            axis fewer than the logits.

    Shape:
        (*batch, classes) -> () or, for Reduction.NONE, (*batch,).

    Raises:
        ValueError: shapes differ, weights do not fit, or an argument is None.
        InvalidArgumentError: logits are not floating point.

    Source:
        tf.compat.v1.losses.softmax_cross_entropy, TensorFlow 2.21.

    Example:
        >>> import crossent.tf_compat.compat.v1 as tf
        >>> labels, logits = [[0, 1, 0], [0, 0, 1]], [[0.05, 0.95, 0.0], [0.1, 0.8, 0.1]]
        >>> float(tf.losses.softmax_cross_entropy(labels, logits, weights=[0.3, 0.7]).round(6))
        0.57401...
    """
    library = library_of(onehot_labels=onehot_labels, logits=logits, weights=weights)
    logits = tensor("logits", logits, library)
    labels = beside("onehot_labels", onehot_labels, logits, library)
    check_same_shape(onehot_labels=labels, logits=logits)
    classes = (shape_of(labels) or (1,))[-1]
    labels = _weighted.smoothed(labels, label_smoothing, classes)
    losses = _cross_entropy.softmax_losses(labels, logits, stop_labels=True)
    name = scope or "softmax_cross_entropy_loss"
    return compute_weighted_loss(losses, weights, name, loss_collection, reduction)


def sparse_softmax_cross_entropy(
    labels: Any,
    logits: Any,
    weights: Any = 1.0,
    scope: str | None = None,
    loss_collection: str | None = GraphKeys.LOSSES,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Any:
    """Cross-entropy of one class id per row, weighted and reduced.

    A weight of 0 does not excuse a label outside the classes.

    Args:
        labels: int32 or int64 ids; a trailing axis of 1 is dropped.
        logits: floating point, classes on the last axis.
        weights, scope, loss_collection, reduction: see the top of this module; a trailing axis of 1
            in weights is dropped.

    Shape:
        labels (*batch,), logits (*batch, classes) -> () or, for Reduction.NONE, (*batch,).

    Raises:
        ValueError: shapes or weights do not fit, or an argument is None.
        InvalidArgumentError: an id outside [0, classes), or a dtype that the op does not take.

    Source:
        tf.compat.v1.losses.sparse_softmax_cross_entropy, TensorFlow 2.21.

    Example:
        >>> import crossent.tf_compat.compat.v1 as tf
        >>> float(tf.losses.sparse_softmax_cross_entropy([1], [[10.0, -10.0]]))
        20.0
    """
    library = library_of(labels=labels, logits=logits, weights=weights)
    labels, logits = tensor("labels", labels, library), tensor("logits", logits, library)
    of_labels, of_logits = shape_of(labels), shape_of(logits)
    more_axes = len(of_logits) - len(of_labels)
    if more_axes == 2 and of_logits[-1] == 1:
        logits = logits[..., 0]
    elif more_axes == 0 and of_labels[-1:] == (1,):
        labels, of_labels = labels[..., 0], of_labels[:-1]
    weights = numbers("weights", weights, library)
    of_weights = shape_of(weights)
    if len(of_weights) == len(of_labels) + 1:
        if of_weights[-1] != 1:
            raise InvalidArgumentError(
                f"weights must have one number per label, shape {of_labels}; got "
                f"{of_weights}. "
                "Only a trailing axis of 1 is dropped."
            )
        weights = weights[..., 0]
    losses = _cross_entropy.sparse_losses(labels, logits)
    name = scope or "sparse_softmax_cross_entropy_loss"
    return compute_weighted_loss(losses, weights, name, loss_collection, reduction)


def sigmoid_cross_entropy(
    multi_class_labels: Any,
    logits: Any,
    weights: Any = 1.0,
    label_smoothing: float = 0,
    scope: str | None = None,
    loss_collection: str | None = GraphKeys.LOSSES,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Any:
    """Cross-entropy of independent yes/no labels, weighted and reduced over all elements.

    Labels receive a gradient.

    Args:
        multi_class_labels: any dtype, the shape of the logits.
        logits: floating point, any shape.
        label_smoothing: s > 0 moves the labels to (1 - s) z + s / 2; a negative one is not applied.
        weights, scope, loss_collection, reduction: see the top of this module; one weight per row
            is (batch, 1).

    Shape:
        (*any,) -> () or, for Reduction.NONE, (*any,).

    Raises:
        ValueError: shapes differ, weights do not fit, or an argument is None.
        InvalidArgumentError: logits are not floating point.

    Source:
        tf.compat.v1.losses.sigmoid_cross_entropy, TensorFlow 2.21.

    Example:
        >>> import crossent.tf_compat.compat.v1 as tf
        >>> float(tf.losses.sigmoid_cross_entropy([1, 0], [0.0, 0.0]).round(6))
        0.693147...
    """
    library = library_of(multi_class_labels=multi_class_labels, logits=logits, weights=weights)
    logits = tensor("logits", logits, library)
    labels = tensor("multi_class_labels", multi_class_labels, library, dtype_name(logits))
    check_same_shape(multi_class_labels=labels, logits=logits)
    labels = _weighted.smoothed(labels, label_smoothing, 2, dtype_name(logits))
    losses = _cross_entropy.sigmoid_losses(labels, logits)
    name = scope or "sigmoid_cross_entropy_loss"
    return compute_weighted_loss(losses, weights, name, loss_collection, reduction)


def mean_squared_error(
    labels: Any,
    predictions: Any,
    weights: Any = 1.0,
    scope: str | None = None,
    loss_collection: str | None = GraphKeys.LOSSES,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Any:
    """(prediction - label)^2, weighted and reduced over all elements; always float32.

    Not on the output of a sigmoid or softmax: where the model is confidently wrong its gradient
    vanishes.

    Args:
        labels: numbers.
        predictions: numbers, of the same shape.
        weights, scope, loss_collection, reduction: see the top of this module; one weight per row
            is (batch, 1).

    Shape:
        (*any,) -> () or, for Reduction.NONE, (*any,).

    Raises:
        ValueError: shapes differ, weights do not fit, or an argument is None.

    Source:
        tf.compat.v1.losses.mean_squared_error, TensorFlow 2.21.

    Example:
        >>> import crossent.tf_compat.compat.v1 as tf
        >>> float(tf.losses.mean_squared_error(labels=[1, 2], predictions=[2, 4]))
        2.5
    """
    losses = _weighted.squared_errors(labels, predictions)
    name = scope or "mean_squared_error"
    return compute_weighted_loss(losses, weights, name, loss_collection, reduction)


def add_loss(loss: Any, loss_collection: str | None = GraphKeys.LOSSES) -> None:
    """Put a loss of one's own into a collection of the default graph; outside of one do nothing.

    Source:
        tf.compat.v1.losses.add_loss, TensorFlow 2.21.

    Example:
        >>> import crossent.tf_compat.compat.v1 as tf
        >>> with tf.Graph().as_default():
        ...     tf.losses.add_loss(0.5)
        ...     tf.losses.get_losses()
        [0.5]
    """
    collect(loss_collection, loss, "loss")


def get_losses(scope: str | None = None, loss_collection: str = GraphKeys.LOSSES) -> list[Any]:
    """The losses collected so far, those under a name scope if one is given.

    Source:
        tf.compat.v1.losses.get_losses, TensorFlow 2.21.

    Example:
        >>> import crossent.tf_compat.compat.v1 as tf
        >>> tf.losses.get_losses()
        []
    """
    return collected(loss_collection, scope)


def get_regularization_losses(scope: str | None = None) -> list[Any]:
    """What was added to the collection of regularization losses.

    Source:
        tf.compat.v1.losses.get_regularization_losses, TensorFlow 2.21.

    Example:
        >>> import crossent.tf_compat.compat.v1 as tf
        >>> tf.losses.get_regularization_losses()
        []
    """
    return collected(GraphKeys.REGULARIZATION_LOSSES, scope)


def get_regularization_loss(
    scope: str | None = None, name: str | None = "total_regularization_loss"
) -> Any:
    """The sum of the regularization losses, 0 if there are none.

    Raises:
        ValueError: their shapes differ.

    Source:
        tf.compat.v1.losses.get_regularization_loss, TensorFlow 2.21.

    Example:
        >>> import crossent.tf_compat.compat.v1 as tf
        >>> float(tf.losses.get_regularization_loss())
        0.0
    """
    losses = get_regularization_losses(scope)
    return _total(losses) if losses else tensor("loss", 0.0)


def get_total_loss(
    add_regularization_losses: bool = True,
    name: str | None = "total_loss",
    scope: str | None = None,
) -> Any:
    """The sum of the collected losses, and of the regularization losses unless told otherwise.

    Shape:
        the losses' own, mostly ().

    Raises:
        ValueError: there are no losses, or their shapes differ.

    Source:
        tf.compat.v1.losses.get_total_loss, TensorFlow 2.21.

    Example:
        >>> import crossent.tf_compat.compat.v1 as tf
        >>> with tf.Graph().as_default():
        ...     for label in (1.0, 2.0):
        ...         _ = tf.losses.mean_squared_error([label], [0.0])
        ...     float(tf.losses.get_total_loss())
        5.0
    """
    losses = get_losses(scope)
    if add_regularization_losses:
        losses = losses + get_regularization_losses(scope)
    if not losses:
        raise OptionError(
            "losses must have been collected to be added up; got none. "
            "Compute them inside `with tf.Graph().as_default():`."
        )
    return _total(losses)


def _total(losses: list[Any]) -> Any:
    """Their sum in the dtype of the first array; numbers take part in any."""
    library = library_of(**{f"losses[{i}]": loss for i, loss in enumerate(losses)})
    arrays = [tensor("loss", loss, library) for loss in losses]
    first = next(
        (a for a, loss in zip(arrays, losses, strict=True) if hasattr(loss, "dtype")), arrays[0]
    )
    for array in arrays:
        if not fits(shape_of(array), shape_of(first)):
            raise ShapeError(
                f"losses must have the same shape to be added up; got {shape_of(first)} and "
                f"{shape_of(array)}. "
                "Reduce them first, or collect them elsewhere: loss_collection=."
            )
    xp = library.namespace(*arrays)
    with library.quiet():
        return xp.returned(sum((xp.widen(a) for a in arrays[1:]), xp.widen(arrays[0])), first.dtype)


__getattr__ = absent("tf.losses", __name__)
__dir__ = public_names(__name__)
