"""`tf.compat.v1.nn`: TensorFlow 1's forms, where they differ from `crossent.tf_compat.nn`."""

from typing import Any

from crossent import information
from crossent.errors import OptionError
from crossent.tf_compat import _activations, _cross_entropy
from crossent.tf_compat._absent import absent, public_names
from crossent.tf_compat._deprecation import deprecated
from crossent.tf_compat.nn import (
    sigmoid,
    sigmoid_cross_entropy_with_logits,
    softmax_cross_entropy_with_logits_v2,
)

__all__ = [
    "log_softmax",
    "sigmoid",
    "sigmoid_cross_entropy_with_logits",
    "softmax",
    "softmax_cross_entropy_with_logits",
    "softmax_cross_entropy_with_logits_v2",
    "sparse_softmax_cross_entropy_with_logits",
    "weighted_cross_entropy_with_logits",
]


def weighted_cross_entropy_with_logits(
    labels: Any = None,
    logits: Any = None,
    pos_weight: Any = None,
    name: str | None = None,
    targets: Any = None,
) -> Any:
    """`tf.nn.weighted_cross_entropy_with_logits` whose labels may go by their old name `targets`.

    Shape:
        (*any,) -> the shape that logits and pos_weight broadcast to.

    Raises:
        ValueError: labels and targets are both given, labels or logits are missing, or their shapes
            differ.
        TypeError: pos_weight is None.
        InvalidArgumentError: dtypes differ, or pos_weight does not broadcast.

    Source:
        tf.compat.v1.nn.weighted_cross_entropy_with_logits, TensorFlow 2.21.

    Example:
        >>> import crossent.tf_compat.compat.v1 as tf
        >>> float(tf.nn.weighted_cross_entropy_with_logits(1.0, 2.0, pos_weight=2.0).round(6))
        0.253856...
    """
    if targets is not None:
        deprecated("targets", "labels")
        if labels is not None:
            raise OptionError(
                "labels must be given without targets; got both. targets is their old name: leave "
                "it out."
            )
        labels = targets
    _cross_entropy.both_given(labels, logits)
    return _cross_entropy.weighted_losses(labels, logits, pos_weight)


def softmax_cross_entropy_with_logits(
    labels: Any = None,
    logits: Any = None,
    dim: int | None = -1,
    name: str | None = None,
    axis: int | None = None,
) -> Any:
    """The first softmax cross-entropy: labels are constants, `dim` is the class axis. Deprecated.

    `axis=` alone conflicts with dim's own default, as in TensorFlow: pass `dim=None` beside it.

    Shape:
        (*batch, classes) -> (*batch,).

    Raises:
        ValueError: both dim and axis are given, or labels or logits are missing.
        InvalidArgumentError: as in `tf.nn.softmax_cross_entropy_with_logits`.

    Source:
        tf.compat.v1.nn.softmax_cross_entropy_with_logits, TensorFlow 2.21.
    """
    deprecated(
        "softmax_cross_entropy_with_logits of TensorFlow 1",
        "softmax_cross_entropy_with_logits_v2, with tf.stop_gradient(labels) if labels are "
        "constants",
    )
    _cross_entropy.both_given(labels, logits)
    return _cross_entropy.softmax_losses(
        labels, logits, _cross_entropy.one_axis(axis, dim), stop_labels=True
    )


def sparse_softmax_cross_entropy_with_logits(
    labels: Any = None, logits: Any = None, name: str | None = None
) -> Any:
    """`tf.nn.sparse_softmax_cross_entropy_with_logits`; a missing argument is a ValueError.

    Shape:
        labels (*batch,), logits (*batch, classes) -> (*batch,).

    Raises:
        ValueError: ranks or shapes do not fit, or labels or logits are missing.
        InvalidArgumentError: an id outside [0, classes), a dtype that the op does not take, or no
            classes.

    Source:
        tf.compat.v1.nn.sparse_softmax_cross_entropy_with_logits, TensorFlow 2.21.

    Example:
        >>> import crossent.tf_compat.compat.v1 as tf
        >>> tf.nn.sparse_softmax_cross_entropy_with_logits([1], [[10.0, -10.0]]).tolist()
        [20.0]
    """
    _cross_entropy.both_given(labels, logits)
    return _cross_entropy.sparse_losses(labels, logits)


def softmax(
    logits: Any, axis: int | None = None, name: str | None = None, dim: int | None = None
) -> Any:
    """`tf.nn.softmax`, whose axis may go by its old name `dim`.

    Shape:
        (*any,) -> (*any,).

    Raises:
        ValueError: both dim and axis are given.
        InvalidArgumentError: as in `tf.nn.softmax`.

    Source:
        tf.compat.v1.nn.softmax, TensorFlow 2.21.

    Example:
        >>> import crossent.tf_compat.compat.v1 as tf
        >>> tf.nn.softmax([[0.0], [0.0]], axis=0).tolist()
        [[0.5], [0.5]]
    """
    if dim is not None:
        deprecated("dim", "axis")
    return _activations.along_axis(information.softmax, logits, _cross_entropy.one_axis(axis, dim))


def log_softmax(
    logits: Any, axis: int | None = None, name: str | None = None, dim: int | None = None
) -> Any:
    """`tf.nn.log_softmax`, whose axis may go by its old name `dim`.

    Shape:
        (*any,) -> (*any,).

    Raises:
        ValueError: both dim and axis are given.
        InvalidArgumentError: as in `tf.nn.log_softmax`.

    Source:
        tf.compat.v1.nn.log_softmax, TensorFlow 2.21.

    Example:
        >>> import crossent.tf_compat.compat.v1 as tf
        >>> tf.nn.log_softmax([[1000.0], [0.0]], axis=0).tolist()
        [[0.0], [-1000.0]]
    """
    if dim is not None:
        deprecated("dim", "axis")
    return _activations.along_axis(
        information.log_softmax, logits, _cross_entropy.one_axis(axis, dim)
    )


__getattr__ = absent("tf.nn", __name__)
__dir__ = public_names(__name__)
