"""Keras 2's loss functions: one loss per row, nothing reduced over the batch.

Each is Keras 3's of the same name (`crossent.tf_compat.keras._functions` describes the arguments)
but for what its docstring says.
"""

from typing import Any

from crossent.tf_compat.keras import _row_losses
from crossent.tf_compat.keras._row_losses import Generation
from crossent.tf_compat.keras._settings import Settings

SETTINGS = Settings()

KERAS_2 = Generation(
    settings=SETTINGS,
    offset=True,
    binary_broadcasts=True,
    focal_broadcasts=False,
    squares_fix_ranks=False,
    smooths_over_last=False,
    sparse_is_lenient=True,
)


def binary_crossentropy(
    y_true: Any,
    y_pred: Any,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int | tuple[int, ...] | None = -1,
) -> Any:
    """Cross-entropy of yes/no labels; Keras 2 adds 1e-7 inside both logarithms, after clipping.

    So probability 0 under a label costs 15.424949 (Keras 3: 16.118095). Not for exclusive classes.

    Shape:
        y_true (*batch, labels), y_pred the same, or both broadcast unless `from_logits` ->
        (*batch,).

    Raises:
        ValueError: shapes differ, with `from_logits`.
        InvalidArgumentError: shapes do not broadcast, or the axis does not exist.

    Source:
        tf_keras.losses.binary_crossentropy, tf_keras 2.21.

    Example:
        >>> import crossent.tf_compat as tf
        >>> tf.tf_keras.losses.binary_crossentropy([[1.0]], [[0.0]]).tolist()
        [15.42494...]
    """
    return _row_losses.binary(
        KERAS_2,
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
    """Binary cross-entropy of Keras 2 times (1 - p_t)^gamma.

    Not a proper scoring rule: do not calibrate or compare models with it.

    Shape:
        y_true (*batch, labels), y_pred the same, or both broadcast unless `from_logits` ->
        (*batch,).

    Raises:
        ValueError: shapes differ, with `from_logits`.
        InvalidArgumentError: shapes do not broadcast, or the axis does not exist.

    Source:
        tf_keras.losses.binary_focal_crossentropy, tf_keras 2.21.

    Example:
        >>> import crossent.tf_compat as tf
        >>> tf.tf_keras.losses.binary_focal_crossentropy([[1.0]], [[0.0]]).tolist()
        [15.42494...]
    """
    return _row_losses.binary(
        KERAS_2,
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
    """Cross-entropy of one-hot labels or distributions.

    Keras 2 shares the smoothing among the classes of `axis`. Not for class ids.

    Shape:
        y_true (*batch, classes), y_pred the same -> (*batch,).

    Raises:
        ValueError: shapes differ, or axis is a bool.
        InvalidArgumentError: the axis does not exist.

    Source:
        tf_keras.losses.categorical_crossentropy, tf_keras 2.21.

    Example:
        >>> import crossent.tf_compat as tf
        >>> tf.tf_keras.losses.categorical_crossentropy([[0.0, 1.0]], [[0.5, 0.5]]).tolist()
        [0.69314...]
    """
    return _row_losses.categorical(
        KERAS_2,
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
    """Categorical cross-entropy times alpha (1 - q)^gamma; Keras 2 broadcasts nothing.

    Not a proper scoring rule: do not calibrate or compare models with it.

    Shape:
        y_true (*batch, classes), y_pred the same -> (*batch,).

    Raises:
        ValueError: shapes differ, or axis is a bool.
        InvalidArgumentError: the axis does not exist.

    Source:
        tf_keras.losses.categorical_focal_crossentropy, tf_keras 2.21.

    Example:
        >>> import crossent.tf_compat as tf
        >>> y_true, y_pred = [[0.0, 1.0]], [[0.5, 0.5]]
        >>> tf.tf_keras.losses.categorical_focal_crossentropy(y_true, y_pred).tolist()
        [0.04332...]
    """
    return _row_losses.categorical_focal(
        KERAS_2,
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
    axis: int = -1,
    ignore_class: int | None = None,
) -> Any:
    """Cross-entropy of one class id per row.

    Keras 2 takes any class axis, and labels of another rank in row-major order. Not for several
    true classes per row. `axis` comes before `ignore_class`, unlike in Keras 3: pass them by name.

    Shape:
        y_true (*batch,) or as many ids in another rank, y_pred (*batch, classes) -> (*batch,).

    Raises:
        ValueError: shapes do not fit.
        InvalidArgumentError: a label outside [0, classes), or the axis does not exist.

    Source:
        tf_keras.losses.sparse_categorical_crossentropy, tf_keras 2.21.

    Example:
        >>> import crossent.tf_compat as tf
        >>> tf.tf_keras.losses.sparse_categorical_crossentropy([[1]], [[0.5, 0.5]]).tolist()
        [0.69314...]
    """
    return _row_losses.sparse(
        KERAS_2, y_true, y_pred, from_logits=from_logits, ignore_class=ignore_class, axis=axis
    )


def kl_divergence(y_true: Any, y_pred: Any) -> Any:
    """Kullback-Leibler divergence over the last axis, as in Keras 3. Neither side is normalised.

    Shape:
        y_true (*batch, classes), y_pred the same, or both broadcast -> (*batch,).

    Raises:
        InvalidArgumentError: shapes do not broadcast, or are scalars.

    Source:
        tf_keras.losses.kl_divergence, tf_keras 2.21.

    Example:
        >>> import crossent.tf_compat as tf
        >>> tf.tf_keras.losses.kld([[0.5, 0.5]], [[0.25, 0.75]]).round(6).tolist()
        [0.14384...]
    """
    return _row_losses.kl_divergence(KERAS_2, y_true, y_pred)


def mean_squared_error(y_true: Any, y_pred: Any) -> Any:
    """Mean of (y_true - y_pred)^2 over the last axis; Keras 2's function takes no trailing 1 away.

    Labels (batch,) beside predictions (batch, 1) broadcast to (batch, batch) here: use the class.
    Not for the output of a sigmoid or softmax.

    Shape:
        y_true (*batch, values), y_pred the same, or both broadcast -> (*batch,).

    Raises:
        InvalidArgumentError: shapes do not broadcast, or are scalars.

    Source:
        tf_keras.losses.mean_squared_error, tf_keras 2.21.

    Example:
        >>> import crossent.tf_compat as tf
        >>> tf.tf_keras.losses.mse([[1.0, 2.0]], [[0.0, 4.0]]).tolist()
        [2.5]
    """
    return _row_losses.mean_squared_error(KERAS_2, y_true, y_pred)
