"""Weights, reductions and label smoothing of TensorFlow 1's losses."""

from typing import Any

from crossent._arrays import library_of
from crossent._checks import Shape
from crossent.errors import OptionError, ShapeError
from crossent.tf_compat._tensors import cast, check_same_shape, numbers


class Reduction:
    """How weighted losses become the result.

    Not Keras' class of the same name: its values are `keras.losses.Reduction`'s.

    Example:
        >>> import crossent.tf_compat.compat.v1 as tf
        >>> tf.losses.Reduction.SUM_BY_NONZERO_WEIGHTS
        'weighted_sum_by_nonzero_weights'
    """

    NONE = "none"
    SUM = "weighted_sum"
    SUM_OVER_BATCH_SIZE = "weighted_sum_over_batch_size"
    MEAN = "weighted_mean"
    SUM_BY_NONZERO_WEIGHTS = "weighted_sum_by_nonzero_weights"
    SUM_OVER_NONZERO_WEIGHTS = SUM_BY_NONZERO_WEIGHTS

    @classmethod
    def all(cls) -> tuple[str, ...]:
        """Every value; the last goes by two names and comes twice."""
        return (
            cls.NONE,
            cls.SUM,
            cls.MEAN,
            cls.SUM_OVER_BATCH_SIZE,
            cls.SUM_OVER_NONZERO_WEIGHTS,
            cls.SUM_BY_NONZERO_WEIGHTS,
        )

    @classmethod
    def validate(cls, key: Any) -> None:
        """Refuse anything else."""
        if key not in cls.all():
            raise OptionError(
                f"reduction must be one of {', '.join(sorted(set(cls.all())))}; got {key!r}. "
                "Keras' names, such as 'sum', belong to tf.keras.losses."
            )


def smoothed(labels: Any, smoothing: float, classes: int, dtype: str | None = None) -> Any:
    """(1 - s) z + s / classes where s > 0, in `dtype` or as wide as the arithmetic."""
    xp = library_of(labels=labels).namespace(labels)
    if smoothing > 0:
        labels = xp.widen(labels) * (1 - smoothing) + smoothing / classes
    return labels if dtype is None else cast(labels, dtype)


def squared_errors(labels: Any, predictions: Any) -> Any:
    """(prediction - label)^2 of each element, float32."""
    library = library_of(labels=labels, predictions=predictions)
    labels = numbers("labels", labels, library)
    predictions = numbers("predictions", predictions, library)
    check_same_shape(labels=labels, predictions=predictions)
    xp = library.namespace(labels, predictions)
    with library.quiet():
        difference = xp.widen(predictions) - xp.widen(labels)
        return xp.returned(difference * difference, library.dtype("float32"))


def check_weights(weights: Shape, losses: Shape) -> None:
    if not weights:
        return
    fit = len(weights) == len(losses) and all(
        w in (1, None, n) or n is None for w, n in zip(weights, losses, strict=True)
    )
    if not fit:
        raise ShapeError(
            f"weights must be a number or have the rank of the losses, shape {losses}, with axes "
            f"of 1 or the same length; got {weights}. "
            f"One weight per row has shape {losses[:1] + (1,) * (len(losses) - 1)}."
        )


def reduced(xp: Any, losses: Any, weights: Any, reduction: str) -> Any:
    weighted = losses * weights
    if reduction == Reduction.NONE:
        return weighted
    total = xp.sum(weighted)
    if reduction == Reduction.SUM:
        return total
    if reduction == Reduction.SUM_OVER_BATCH_SIZE:
        return safe_ratio(xp, total, xp.count(losses))
    spread = weights + xp.zeros_like(losses)
    if reduction == Reduction.MEAN:
        return safe_ratio(xp, total, xp.sum(spread))
    present = xp.where(spread == 0, xp.zeros_like(spread), 1.0)
    return safe_ratio(xp, total, xp.sum(present))


def safe_ratio(xp: Any, total: Any, divisor: Any) -> Any:
    """total / divisor, and 0 with derivative 0 where the divisor is 0."""
    empty = divisor == 0
    return xp.where(empty, 0.0, total / xp.where(empty, 1.0, divisor))


def mean(xp: Any, values: Any, axes: tuple[int, ...] | None, keepdims: bool = False) -> Any:
    """Mean over some axes (None: all); over no elements it is 0/0 = NaN, as in TensorFlow."""
    count = xp.count(values)
    if axes is not None:
        count = xp.sum(xp.ones_like(values), axis=axes, keepdims=keepdims)
    return xp.sum(values, axis=axes, keepdims=keepdims) / count
