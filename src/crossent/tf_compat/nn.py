"""`tf.nn` of TensorFlow 2: the four cross-entropies from logits, sigmoid, softmax and log-softmax.

They reduce nothing and return the dtype of the logits. TensorFlow 1's forms are in
`crossent.tf_compat.compat.v1.nn`.
"""

from typing import Any

from crossent import information
from crossent.tf_compat import _activations, _cross_entropy
from crossent.tf_compat._absent import absent, public_names
from crossent.tf_compat._deprecation import deprecated

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


def sigmoid_cross_entropy_with_logits(
    labels: Any = None, logits: Any = None, name: str | None = None
) -> Any:
    r"""Cross-entropy of independent yes/no labels, one loss per element.

    .. math:: \ell = \max(x, 0) - x z + \log(1 + e^{-|x|})

    Not for exclusive classes, and not for the output of a sigmoid: pass what goes into it.

    Args:
        labels: numbers of the shape and dtype of the logits; their range is not checked.
        logits: floating point, any shape.
        name: ignored, as everywhere here: TensorFlow's name scopes change no value.

    Shape:
        (*any,) -> (*any,).

    Raises:
        ValueError: shapes differ, or one argument is missing.
        InvalidArgumentError: dtypes differ, or are not floating point.

    Source:
        tf.nn.sigmoid_cross_entropy_with_logits, TensorFlow 2.21.

    Example:
        >>> import crossent.tf_compat as tf
        >>> tf.nn.sigmoid_cross_entropy_with_logits(labels=[1.0, 0.0], logits=[0.0, 50.0]).tolist()
        [0.693147..., 50.0]
    """
    _cross_entropy.both_given(labels, logits)
    return _cross_entropy.sigmoid_losses(labels, logits)


def weighted_cross_entropy_with_logits(
    labels: Any, logits: Any, pos_weight: Any, name: str | None = None
) -> Any:
    r"""Sigmoid cross-entropy with the positive labels' term times `pos_weight`.

    .. math:: \ell = q z (-\log \sigma(x)) + (1 - z) (-\log(1 - \sigma(x)))

    A weight above 1 trades precision for recall; the sigmoid is then no longer a calibrated
    probability.

    Args:
        labels: numbers of the shape and dtype of the logits.
        logits: floating point, any shape.
        pos_weight: a number, or an array that broadcasts with the logits; it may enlarge the
            result.
        name: ignored.

    Shape:
        (*any,) -> the shape that logits and pos_weight broadcast to.

    Raises:
        ValueError: shapes of labels and logits differ.
        TypeError: pos_weight is None.
        InvalidArgumentError: dtypes differ, or pos_weight does not broadcast.

    Source:
        tf.nn.weighted_cross_entropy_with_logits, TensorFlow 2.21; its gradient at x = 0 is right
        here.

    Example:
        >>> import crossent.tf_compat as tf
        >>> tf.nn.weighted_cross_entropy_with_logits([1.0], [2.0], pos_weight=2.0).round(6).tolist()
        [0.253856...]
    """
    return _cross_entropy.weighted_losses(labels, logits, pos_weight)


def softmax_cross_entropy_with_logits(
    labels: Any, logits: Any, axis: int = -1, name: str | None = None
) -> Any:
    r"""Cross-entropy of label distributions, one loss per row; labels receive a gradient.

    .. math:: \ell = -\sum_j z_j \log \mathrm{softmax}(x)_j

    Not for the output of a softmax, which would be normalised twice. For class ids use the sparse
    form.

    Args:
        labels: any dtype, the shape of the logits (or one row for all). They are not checked: rows
            that do not sum to 1 have TensorFlow's gradient softmax - labels, which is then not the
            derivative of the value.
        logits: floating point.
        axis: the class axis, -1 or counted from the front.
        name: ignored.

    Shape:
        (*batch, classes) -> (*batch,).

    Raises:
        ValueError: an argument is None.
        InvalidArgumentError: shapes do not fit, the axis does not exist, or logits are not floating
            point.

    Source:
        tf.nn.softmax_cross_entropy_with_logits, TensorFlow 2.21.

    Example:
        >>> import crossent.tf_compat as tf
        >>> tf.nn.softmax_cross_entropy_with_logits([[1.0, -1.0]], [[-1.0, 1.0]]).tolist()
        [2.0]
    """
    return _cross_entropy.softmax_losses(labels, logits, axis)


def softmax_cross_entropy_with_logits_v2(
    labels: Any, logits: Any, axis: int | None = None, name: str | None = None, dim: Any = None
) -> Any:
    """TensorFlow 1.5 to 1.15's name of `softmax_cross_entropy_with_logits`.

    `dim` is the old name of `axis`.

    Shape:
        (*batch, classes) -> (*batch,).

    Raises:
        ValueError: both dim and axis are given, or an argument is None.
        InvalidArgumentError: as in `softmax_cross_entropy_with_logits`.

    Source:
        tf.compat.v1.nn.softmax_cross_entropy_with_logits_v2, TensorFlow 2.21.

    Example:
        >>> import crossent.tf_compat as tf
        >>> tf.nn.softmax_cross_entropy_with_logits_v2([[0.0, 1.0]], [[10.0, -10.0]]).tolist()
        [20.0]
    """
    if dim is not None:
        deprecated("dim", "axis")
    return _cross_entropy.softmax_losses(labels, logits, _cross_entropy.one_axis(axis, dim))


def sparse_softmax_cross_entropy_with_logits(
    labels: Any, logits: Any, name: str | None = None
) -> Any:
    r"""Cross-entropy of one class id per row, classes on the last axis.

    .. math:: \ell = -\log \mathrm{softmax}(x)_y

    No label is ignored: an id outside the classes is an error, whatever it stands for.

    Args:
        labels: int32 or int64 ids, the shape of the logits without the last axis.
        logits: floating point.
        name: ignored.

    Shape:
        labels (*batch,), logits (*batch, classes) -> (*batch,).

    Raises:
        ValueError: ranks or shapes do not fit, or an argument is None.
        InvalidArgumentError: an id outside [0, classes), a dtype that the op does not take, or no
            classes.

    Source:
        tf.nn.sparse_softmax_cross_entropy_with_logits, TensorFlow 2.21 on a CPU.

    Example:
        >>> import crossent.tf_compat as tf
        >>> tf.nn.sparse_softmax_cross_entropy_with_logits([1], [[10.0, -10.0]]).tolist()
        [20.0]
    """
    return _cross_entropy.sparse_losses(labels, logits)


def sigmoid(x: Any, name: str | None = None) -> Any:
    """1 / (1 + exp(-x)).

    Do not feed the result to a loss as logits.

    Shape:
        (*any,) -> (*any,).

    Raises:
        InvalidArgumentError: x is not floating point.

    Source:
        tf.math.sigmoid, TensorFlow 2.21.

    Example:
        >>> import crossent.tf_compat as tf
        >>> float(tf.nn.sigmoid(0.0))
        0.5
    """
    return _activations.elementwise(information.sigmoid, x)


def softmax(logits: Any, axis: int | None = None, name: str | None = None) -> Any:
    """exp(x_j) / sum_k exp(x_k) along an axis, by default the last.

    Do not feed the result to a loss as logits.

    Shape:
        (*any,) -> (*any,).

    Raises:
        InvalidArgumentError: logits are a scalar or not floating point, or the axis does not exist.

    Source:
        tf.nn.softmax, TensorFlow 2.21.

    Example:
        >>> import crossent.tf_compat as tf
        >>> tf.nn.softmax([0.0, 0.0]).tolist()
        [0.5, 0.5]
    """
    return _activations.along_axis(information.softmax, logits, axis)


def log_softmax(logits: Any, axis: int | None = None, name: str | None = None) -> Any:
    """x_j - log sum_k exp(x_k) along an axis, by default the last; no logarithm of a rounded 0.

    Shape:
        (*any,) -> (*any,).

    Raises:
        InvalidArgumentError: logits are a scalar or not floating point, or the axis does not exist.

    Source:
        tf.nn.log_softmax, TensorFlow 2.21.

    Example:
        >>> import crossent.tf_compat as tf
        >>> tf.nn.log_softmax([1000.0, 0.0]).tolist()
        [0.0, -1000.0]
    """
    return _activations.along_axis(information.log_softmax, logits, axis)


__getattr__ = absent("tf.nn", __name__)
__dir__ = public_names(__name__)
