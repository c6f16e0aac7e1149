"""Keras 2's loss classes: the loss functions with their options and a reduction.

Called as `loss(y_true, y_pred, sample_weight=None, mask=None)`; the result has the dtype of
`y_pred`. Arguments that all constructors share:

from_logits, label_smoothing, axis: as in the loss function of the same name.
reduction: a value of `Reduction`: "auto" and "sum_over_batch_size" are the mean of the row losses
    (refused inside of a distribution scope), "sum", "none".
name: a label.
"""

from typing import Any

from crossent._checks import Shape
from crossent.tf_compat.keras._row_losses import kept_rows
from crossent.tf_compat.tf_keras import _functions
from crossent.tf_compat.tf_keras._loss import Loss


class BinaryCrossentropy(Loss):
    """Cross-entropy of yes/no labels: `binary_crossentropy`, reduced. Not for exclusive classes.

    Args:
        from_logits, label_smoothing, axis, reduction, name: see the top of this module.

    Shape:
        y_true (*batch, labels), y_pred the same -> () or, for reduction "none", (*batch,).

    Raises:
        ValueError: a reduction that Keras 2 does not have; at the call, shapes that differ.

    Source:
        tf_keras.losses.BinaryCrossentropy, tf_keras 2.21.

    Example:
        >>> import crossent.tf_compat as tf
        >>> loss = tf.tf_keras.losses.BinaryCrossentropy(from_logits=True)
        >>> float(loss([[0.0, 1.0]], [[-18.6, 2.94]]).round(6))
        0.02575...
    """

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int | tuple[int, ...] | None = -1,
        reduction: str = "auto",
        name: str | None = "binary_crossentropy",
    ):
        super().__init__(reduction, name)
        self._score_with(
            _functions.binary_crossentropy,
            from_logits=from_logits,
            label_smoothing=label_smoothing,
            axis=axis,
        )


class BinaryFocalCrossentropy(Loss):
    """Binary cross-entropy that turns down what is already right.

    `binary_focal_crossentropy`, reduced. Not a proper scoring rule: do not calibrate or compare
    models with it.

    Args:
        apply_class_balancing, alpha, gamma: as in `binary_focal_crossentropy`.
        from_logits, label_smoothing, axis, reduction, name: see the top of this module.

    Shape:
        y_true (*batch, labels), y_pred the same -> () or, for reduction "none", (*batch,).

    Raises:
        ValueError: a reduction that Keras 2 does not have; at the call, shapes that differ.

    Source:
        tf_keras.losses.BinaryFocalCrossentropy, tf_keras 2.21.

    Example:
        >>> import crossent.tf_compat as tf
        >>> float(tf.tf_keras.losses.BinaryFocalCrossentropy()([[0.0, 1.0]], [[0.5, 0.5]]).round(6))
        0.17328...
    """

    def __init__(
        self,
        apply_class_balancing: bool = False,
        alpha: float = 0.25,
        gamma: float = 2.0,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int | tuple[int, ...] | None = -1,
        reduction: str = "auto",
        name: str | None = "binary_focal_crossentropy",
    ):
        super().__init__(reduction, name)
        self._score_with(
            _functions.binary_focal_crossentropy,
            apply_class_balancing=apply_class_balancing,
            alpha=alpha,
            gamma=gamma,
            from_logits=from_logits,
            label_smoothing=label_smoothing,
            axis=axis,
        )


class CategoricalCrossentropy(Loss):
    """Cross-entropy of one-hot labels or distributions: `categorical_crossentropy`, reduced.

    Not for class ids: `SparseCategoricalCrossentropy`.

    Args:
        from_logits, label_smoothing, axis, reduction, name: see the top of this module.

    Shape:
        y_true (*batch, classes), y_pred the same -> () or, for reduction "none", (*batch,).

    Raises:
        ValueError: a reduction that Keras 2 does not have; at the call, shapes that differ.

    Source:
        tf_keras.losses.CategoricalCrossentropy, tf_keras 2.21.

    Example:
        >>> import crossent.tf_compat as tf
        >>> y_true = [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
        >>> y_pred = [[0.05, 0.95, 0.0], [0.1, 0.8, 0.1]]
        >>> float(tf.tf_keras.losses.CategoricalCrossentropy()(y_true, y_pred).round(6))
        1.176939...
    """

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str = "auto",
        name: str | None = "categorical_crossentropy",
    ):
        super().__init__(reduction, name)
        self._score_with(
            _functions.categorical_crossentropy,
            from_logits=from_logits,
            label_smoothing=label_smoothing,
            axis=axis,
        )


class CategoricalFocalCrossentropy(Loss):
    """Categorical cross-entropy that turns down what is already right.

    `categorical_focal_crossentropy`, reduced. Not a proper scoring rule: do not calibrate or
    compare models with it.

    Args:
        alpha, gamma: as in `categorical_focal_crossentropy`.
        from_logits, label_smoothing, axis, reduction, name: see the top of this module.

    Shape:
        y_true (*batch, classes), y_pred the same -> () or, for reduction "none", (*batch,).

    Raises:
        ValueError: a reduction that Keras 2 does not have; at the call, shapes that do not
            broadcast.

    Source:
        tf_keras.losses.CategoricalFocalCrossentropy, tf_keras 2.21.

    Example:
        >>> import crossent.tf_compat as tf
        >>> loss = tf.tf_keras.losses.CategoricalFocalCrossentropy()
        >>> float(loss([[0.0, 1.0]], [[0.5, 0.5]]).round(6))
        0.04332...
    """

    def __init__(
        self,
        alpha: Any = 0.25,
        gamma: float = 2.0,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str = "auto",
        name: str | None = "categorical_focal_crossentropy",
    ):
        super().__init__(reduction, name)
        self._score_with(
            _functions.categorical_focal_crossentropy,
            alpha=alpha,
            gamma=gamma,
            from_logits=from_logits,
            label_smoothing=label_smoothing,
            axis=axis,
        )


class SparseCategoricalCrossentropy(Loss):
    """Cross-entropy of one class id per row: `sparse_categorical_crossentropy`, reduced.

    Not for several true classes per row.

    Args:
        ignore_class: the label of rows that count in no mean; the mean over nothing is NaN.
        from_logits, reduction, name: see the top of this module.

    Shape:
        y_true (*batch,) or as many ids in another rank, y_pred (*batch, classes) -> () or, for
        reduction "none", (*batch,).

    Raises:
        ValueError: a reduction that Keras 2 does not have; at the call, shapes that do not fit.
        InvalidArgumentError: a label outside [0, classes).

    Source:
        tf_keras.losses.SparseCategoricalCrossentropy, tf_keras 2.21.

    Example:
        >>> import crossent.tf_compat as tf
        >>> loss = tf.tf_keras.losses.SparseCategoricalCrossentropy(ignore_class=-1)
        >>> float(loss([1, -1], [[0.5, 0.5], [0.9, 0.1]]).round(6))
        0.69314...
    """

    ignore_class: int | None

    def __init__(
        self,
        from_logits: bool = False,
        ignore_class: int | None = None,
        reduction: str = "auto",
        name: str | None = "sparse_categorical_crossentropy",
    ):
        super().__init__(reduction, name)
        self._score_with(
            _functions.sparse_categorical_crossentropy,
            from_logits=from_logits,
            ignore_class=ignore_class,
        )

    def _own_mask(self, y_true: Any, rows: Shape) -> Any:
        return kept_rows(y_true, self.ignore_class, rows)


class KLDivergence(Loss):
    """Kullback-Leibler divergence of distributions: `kl_divergence`, reduced.

    Neither side is normalised: not for scores that do not sum to 1.

    Args:
        reduction, name: see the top of this module.

    Shape:
        y_true (*batch, classes), y_pred the same -> () or, for reduction "none", (*batch,).

    Raises:
        ValueError: a reduction that Keras 2 does not have; at the call, shapes that do not
            broadcast.

    Source:
        tf_keras.losses.KLDivergence, tf_keras 2.21.

    Example:
        >>> import crossent.tf_compat as tf
        >>> float(tf.tf_keras.losses.KLDivergence()([[0.5, 0.5]], [[0.25, 0.75]]).round(6))
        0.14384...
    """

    def __init__(
        self,
        reduction: str = "auto",
        name: str | None = "kl_divergence",
    ):
        super().__init__(reduction, name)
        self._score_with(_functions.kl_divergence)


class MeanSquaredError(Loss):
    """Mean squared error: `mean_squared_error`, reduced.

    Not for the output of a sigmoid or softmax.

    Args:
        reduction, name: see the top of this module.

    Shape:
        y_true (*batch, values), y_pred the same -> () or, for reduction "none", (*batch,).

    Raises:
        ValueError: a reduction that Keras 2 does not have; at the call, shapes that do not
            broadcast.

    Source:
        tf_keras.losses.MeanSquaredError, tf_keras 2.21.

    Example:
        >>> import crossent.tf_compat as tf
        >>> float(tf.tf_keras.losses.MeanSquaredError()([[1.0, 2.0]], [[0.0, 4.0]]))
        2.5
    """

    def __init__(
        self,
        reduction: str = "auto",
        name: str | None = "mean_squared_error",
    ):
        super().__init__(reduction, name)
        self._score_with(_functions.mean_squared_error)
