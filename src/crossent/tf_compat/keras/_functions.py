"""Keras 3's loss functions: one loss per row, nothing reduced over the batch.

Arguments that several of them share:

y_true: labels. They are not checked: distributions need not sum to 1 nor lie in [0, 1].
y_pred: probabilities, clipped to [1e-7, 1 - 1e-7] (`keras.backend.set_epsilon` changes 1e-7), so
    that no loss is infinite and a wrong certain prediction has no gradient; with `from_logits`,
    what goes into the sigmoid or softmax. The result has its dtype. Integers count as
    `keras.backend.floatx()`.
from_logits: whether `y_pred` are logits. That is better: nothing is clipped.
label_smoothing: s moves labels to (1 - s) y + s / 2 (binary) or (1 - s) y + s / classes.
axis: the class axis, or what is averaged over.
"""

from typing import Any

from crossent.tf_compat.keras import _row_losses
from crossent.tf_compat.keras._loss import SETTINGS
from crossent.tf_compat.keras._row_losses import Generation

KERAS_3 = Generation(
    settings=SETTINGS,
    offset=False,
    binary_broadcasts=False,
    focal_broadcasts=True,
    squares_fix_ranks=True,
    smooths_over_last=True,
    sparse_is_lenient=False,
)


def binary_crossentropy(
    y_true: Any,
    y_pred: Any,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int | tuple[int, ...] | None = -1,
) -> Any:
    r"""Cross-entropy of yes/no labels, averaged over an axis.

    .. math:: \ell = -\mathrm{mean}\left( z \log q + (1 - z) \log(1 - q) \right)

    with q the clipped prediction. Not for exclusive classes: `categorical_crossentropy`.

    Args:
        y_true, y_pred, from_logits, label_smoothing: see the top of this module.
        axis: an axis, a tuple of them, or None for all.

    Shape:
        y_true (*batch, labels), y_pred the same -> (*batch,).

    Raises:
        ValueError: shapes differ.
        InvalidArgumentError: the axis does not exist.

    Source:
        keras.losses.binary_crossentropy, Keras 3.15.

    Example:
        >>> import crossent.tf_compat as tf
        >>> tf.keras.losses.binary_crossentropy([[0.0, 1.0]], [[0.5, 0.5]]).round(6).tolist()
        [0.693147...]
    """
    return _row_losses.binary(
        KERAS_3,
        y_true,
        y_pred,
        from_logits=from_logits,
        label_smoothing=label_smoothing,
        axis=axis,
    )


def binary_focal_crossentropy(
    y_true: Any,
    y_pred: Any,
    apply_class_balancing: bool = False,
    alpha: float = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int | tuple[int, ...] | None = -1,
) -> Any:
    r"""Binary cross-entropy times (1 - p_t)^gamma.

    The factor turns down what the model already gets right. Not a proper scoring rule: do not
    calibrate or compare models with it.

    Args:
        apply_class_balancing: weigh positives with alpha and negatives with 1 - alpha.
        alpha: see there.
        gamma: strength; 0 gives `binary_crossentropy`.
        y_true, y_pred, from_logits, label_smoothing, axis: as in `binary_crossentropy`. The factor
            uses the prediction as it is; from logits the cross-entropy in it is not clipped.

    Shape:
        y_true (*batch, labels), y_pred the same -> (*batch,).

    Raises:
        ValueError: shapes differ.
        InvalidArgumentError: the axis does not exist.

    Source:
        keras.losses.binary_focal_crossentropy, Keras 3.15; Lin et al. 2017, eq. 5.

    Example:
        >>> import crossent.tf_compat as tf
        >>> tf.keras.losses.binary_focal_crossentropy([[0.0, 1.0]], [[0.5, 0.5]]).round(6).tolist()
        [0.173287...]
    """
    return _row_losses.binary(
        KERAS_3,
        y_true,
        y_pred,
        from_logits=from_logits,
        label_smoothing=label_smoothing,
        axis=axis,
        gamma=gamma,
        alpha=alpha if apply_class_balancing else None,
    )


def categorical_crossentropy(
    y_true: Any,
    y_pred: Any,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Any:
    r"""Cross-entropy of one-hot labels or distributions over the classes.

    .. math:: \ell = -\sum_j z_j \log q_j

    with q the predictions divided by their sum, then clipped; a row of zeros is NaN. For class ids
    use `sparse_categorical_crossentropy`, for several independent labels `binary_crossentropy`.

    Args:
        y_true, y_pred, from_logits: see the top of this module.
        label_smoothing: the classes that share it are counted on the last axis, whichever the class
            axis is.
        axis: the class axis; of the negative ones only -1 with `from_logits`.

    Shape:
        y_true (*batch, classes), y_pred the same -> (*batch,).

    Raises:
        ValueError: shapes differ, or axis is a bool.
        InvalidArgumentError: the axis does not exist.

    Source:
        keras.losses.categorical_crossentropy, Keras 3.15.

    Example:
        >>> import crossent.tf_compat as tf
        >>> y_true = [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
        >>> y_pred = [[0.05, 0.95, 0.0], [0.1, 0.8, 0.1]]
        >>> tf.keras.losses.categorical_crossentropy(y_true, y_pred).tolist()
        [0.05129..., 2.30258...]
    """
    return _row_losses.categorical(
        KERAS_3,
        y_true,
        y_pred,
        from_logits=from_logits,
        label_smoothing=label_smoothing,
        axis=axis,
    )


def categorical_focal_crossentropy(
    y_true: Any,
    y_pred: Any,
    alpha: Any = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Any:
    r"""Categorical cross-entropy times alpha (1 - q)^gamma, summed over the classes.

    Logits become probabilities and are clipped like them: a loss stays below 16.2 alpha. Not a
        proper scoring rule: do not
    calibrate or compare models with it.

    Args:
        alpha: a number, or one per class.
        gamma: strength; 0 leaves alpha times the cross-entropy.
        y_true, y_pred, from_logits, label_smoothing, axis: as in `categorical_crossentropy`.

    Shape:
        y_true (*batch, classes), y_pred the same, or both broadcast -> (*batch,).

    Raises:
        ValueError: axis is a bool.
        InvalidArgumentError: shapes do not broadcast, or the axis does not exist.

    Source:
        keras.losses.categorical_focal_crossentropy, Keras 3.15; Lin et al. 2017, eq. 4.

    Example:
        >>> import crossent.tf_compat as tf
        >>> y_true, y_pred = [[0.0, 1.0]], [[0.5, 0.5]]
        >>> tf.keras.losses.categorical_focal_crossentropy(y_true, y_pred).tolist()
        [0.04332...]
    """
    return _row_losses.categorical_focal(
        KERAS_3,
        y_true,
        y_pred,
        gamma=gamma,
        alpha=alpha,
        from_logits=from_logits,
        label_smoothing=label_smoothing,
        axis=axis,
    )


def sparse_categorical_crossentropy(
    y_true: Any,
    y_pred: Any,
    from_logits: bool = False,
    ignore_class: int | None = None,
    axis: int = -1,
) -> Any:
    r"""Cross-entropy of one class id per row.

    .. math:: \ell = -\log \frac{q_y}{\sum_j q_j}

    with q the clipped predictions: here they are clipped first and divided by their sum after. A
        row of zeros costs
    ln(classes), and predictions that do not sum to 1 cost something else than in
    `categorical_crossentropy`.

    Args:
        y_true: class ids of any numeric dtype, compared as integers; fractions are cut off.
        y_pred, from_logits: see the top of this module.
        ignore_class: the label of rows that cost 0, whatever their predictions are (NaN too).
        axis: -1; the classes are the last axis.

    Shape:
        y_true (*batch,) or (*batch, 1), y_pred (*batch, classes) -> (*batch,).

    Raises:
        ValueError: ranks or shapes do not fit, or axis is not the last.
        InvalidArgumentError: a label outside [0, classes).

    Source:
        keras.losses.sparse_categorical_crossentropy, Keras 3.15 on TensorFlow.

    Example:
        >>> import crossent.tf_compat as tf
        >>> y_true, y_pred = [1, -1], [[0.5, 0.5], [0.9, 0.1]]
        >>> tf.keras.losses.sparse_categorical_crossentropy(
        ...     y_true, y_pred, ignore_class=-1
        ... ).tolist()
        [0.693147..., 0.0]
    """
    return _row_losses.sparse(
        KERAS_3, y_true, y_pred, from_logits=from_logits, ignore_class=ignore_class, axis=axis
    )


def kl_divergence(y_true: Any, y_pred: Any) -> Any:
    r"""Kullback-Leibler divergence of distributions, over the last axis.

    .. math:: \ell = \sum_j z_j \log(z_j / p_j)

    Both are clipped to [1e-7, 1] and neither is normalised, so that rows which do not sum to 1 can
    come out negative. For training with one-hot labels it is `categorical_crossentropy`.

    Args:
        y_true, y_pred: distributions over the last axis.

    Shape:
        y_true (*batch, classes), y_pred the same, or both broadcast -> (*batch,).

    Raises:
        InvalidArgumentError: shapes do not broadcast, or are scalars.

    Source:
        keras.losses.kl_divergence, Keras 3.15.

    Example:
        >>> import crossent.tf_compat as tf
        >>> tf.keras.losses.kld([[0.5, 0.5]], [[0.25, 0.75]]).round(6).tolist()
        [0.14384...]
    """
    return _row_losses.kl_divergence(KERAS_3, y_true, y_pred)


def mean_squared_error(y_true: Any, y_pred: Any) -> Any:
    """Mean of (y_true - y_pred)^2 over the last axis.

    Not for the output of a sigmoid or softmax: the gradient vanishes where the model is confidently
        wrong.

    Args:
        y_true, y_pred: real numbers; a trailing 1 that only one of them has is taken away.

    Shape:
        y_true (*batch, values), y_pred the same, or both broadcast -> (*batch,).

    Raises:
        InvalidArgumentError: shapes do not broadcast, or are scalars.

    Source:
        keras.losses.mean_squared_error, Keras 3.15.

    Example:
        >>> import crossent.tf_compat as tf
        >>> tf.keras.losses.mse([[1.0, 2.0]], [[0.0, 4.0]]).tolist()
        [2.5]
    """
    return _row_losses.mean_squared_error(KERAS_3, y_true, y_pred)
