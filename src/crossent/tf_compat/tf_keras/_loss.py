"""The base of Keras 2's loss objects."""

from typing import Any

from crossent.errors import OptionError
from crossent.tf_compat._distribute import replica_count
from crossent.tf_compat._tensors import converted
from crossent.tf_compat.keras import _reduction
from crossent.tf_compat.keras._loss import BaseLoss
from crossent.tf_compat.keras._shapes import squeezed


class Loss(BaseLoss):
    """Base of Keras 2's losses.

    Subclass it and write `call(y_true, y_pred)`, which returns one loss per row.

    Args:
        reduction: a value of `Reduction`: "auto" or "sum_over_batch_size" (the mean of the row
            losses; an error inside of a distribution scope, where each replica would divide by its
            own part of the batch), "sum", or "none".
        name: a label.

    Raises:
        OptionError: a reduction that Keras 2 does not have, such as "mean".

    Source:
        tf_keras.losses.Loss, tf_keras 2.21.

    Example:
        >>> import crossent.tf_compat as tf
        >>> class AbsoluteError(tf.tf_keras.losses.Loss):
        ...     def call(self, y_true, y_pred):
        ...         return abs(y_true - y_pred).mean(axis=-1)
        >>> float(AbsoluteError()([[1.0, 2.0]], [[1.0, 4.0]]))
        1.0
    """

    def __init__(self, reduction: str = "auto", name: str | None = None):
        self.name = name
        self.reduction = _reduction.checked_reduction(reduction, _reduction.Reduction.all())

    def _converted(self, library: Any, y_true: Any, y_pred: Any) -> tuple[Any, Any]:
        y_true, y_pred = converted(library, y_true=y_true, y_pred=y_pred)
        return y_true, y_pred

    def _of_one_rank(self, y_true: Any, y_pred: Any) -> tuple[Any, Any]:
        return squeezed(y_true, y_pred)

    def _reduced(self, xp: Any, losses: Any, weight: Any, mask: Any) -> Any:
        replicas = replica_count(losses)
        if replicas is not None and self.reduction in _reduction.MEANS:
            raise OptionError(
                "reduction must be Reduction.SUM or Reduction.NONE inside of a distribution scope; "
                f"got {self.reduction!r} with {replicas} replicas. "
                "Divide the sum by the global batch size: loss(y_true, y_pred) / global_batch_size."
            )
        return _reduction.reduced_by_keras_2(xp, losses, weight, mask, str(self.reduction))
