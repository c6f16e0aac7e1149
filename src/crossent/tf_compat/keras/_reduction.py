"""From row losses to a loss object's result: masks, sample weights and reductions.

A weight of 0 does not hide a NaN: NaN * 0 = NaN, as in Keras. Sums are float64 and rounded once.
"""

import math
from typing import Any

from crossent.errors import OptionError
from crossent.tf_compat._tensors import shape_of
from crossent.tf_compat.keras._shapes import broadcast, squeezed_or_expanded, weight_of_rank

# None, too, returns the row losses in Keras 3.
UNREDUCED = ("none", None)
MEANS = ("sum_over_batch_size", "mean", "auto")
KERAS_3 = ("sum_over_batch_size", "mean", "mean_with_sample_weight", "sum", "none", None)


class Reduction:
    """Keras 2's names of the reductions; Keras 3 takes the same strings but for AUTO.

    Not TensorFlow 1's class of the same name: `compat.v1.losses.Reduction`.

    Example:
        >>> import crossent.tf_compat as tf
        >>> tf.keras.losses.Reduction.SUM
        'sum'
    """

    AUTO = "auto"
    NONE = "none"
    SUM = "sum"
    SUM_OVER_BATCH_SIZE = "sum_over_batch_size"

    @classmethod
    def all(cls) -> tuple[str, ...]:
        """Every value."""
        return cls.AUTO, cls.NONE, cls.SUM, cls.SUM_OVER_BATCH_SIZE

    @classmethod
    def validate(cls, key: Any) -> None:
        """Refuse anything else."""
        checked_reduction(key, cls.all())


def checked_reduction(reduction: Any, names: tuple[str | None, ...]) -> Any:
    """The reduction, if it is one of the generation's names."""
    if not isinstance(reduction, str | None) or reduction not in names:
        raise OptionError(
            f"reduction must be one of {', '.join(map(repr, names))}; got {reduction!r}. "
            f"{_reduction_hint(reduction, names)}"
        )
    return reduction


def _reduction_hint(reduction: Any, names: tuple[str | None, ...]) -> str:
    if reduction == "auto":
        return (
            "'auto' belongs to Keras 2, crossent.tf_compat.tf_keras.losses; "
            "here it is 'sum_over_batch_size'."
        )
    if isinstance(reduction, str) and reduction.lower() in names:
        return f"Write it {reduction.lower()!r}."
    if reduction in KERAS_3:
        return "That name belongs to Keras 3, crossent.tf_compat.keras.losses."
    return "'sum_over_batch_size' is the mean of the row losses."


def reduced(
    xp: Any, losses: Any, weight: Any, mask: Any, reduction: str | None, replicas: int | None
) -> Any:
    """Keras 3. Scalars and empty vectors are returned as they are, whatever the reduction."""
    if mask is not None:
        share = _mask_weight(xp, mask, reduction, empty=0.0)
        if weight is not None:
            share, weight = squeezed_or_expanded(share, weight)
            broadcast(sample_weight=weight, mask=share)
        weight = share if weight is None else weight * share
    if weight is not None:
        losses, weight = squeezed_or_expanded(losses, weight)
        losses = _weighted(losses, weight)
    if reduction in UNREDUCED or shape_of(losses) in ((), (0,)):
        return losses
    total = xp.sum(losses)
    if reduction == "sum":
        return total
    if reduction == "mean_with_sample_weight" and weight is not None:
        count = xp.sum(weight)
    else:
        count = xp.count(losses)
    return _divided(xp, total, count) / (replicas or 1)


def reduced_by_keras_2(xp: Any, losses: Any, weight: Any, mask: Any, reduction: str) -> Any:
    """Keras 2. A vector of weights stands for the leading axes; a mean over no kept row is NaN."""
    if mask is not None:
        share = _mask_weight(xp, mask, reduction, empty=math.nan)
        if weight is not None:
            weight = weight_of_rank(weight, len(shape_of(share)), "sample_weight")
            broadcast(sample_weight=weight, mask=share)
        weight = share if weight is None else weight * share
    if weight is not None:
        rank = len(shape_of(losses))
        losses = _weighted(losses, weight_of_rank(weight, rank, "sample_weight"))
    if reduction in UNREDUCED:
        return losses
    total = xp.sum(losses)
    if reduction == "sum":
        return total
    return _divided(xp, total, xp.count(losses))


def _mask_weight(xp: Any, mask: Any, reduction: str | None, *, empty: float) -> Any:
    """1 where kept and 0 elsewhere; for means total / kept, so that they run over the kept rows."""
    kept = xp.widen(mask)
    if reduction not in MEANS:
        return kept
    count = xp.sum(kept)
    none = count == 0
    return kept * xp.where(none, empty, xp.count(kept) / xp.where(none, 1.0, count))


def _weighted(losses: Any, weight: Any) -> Any:
    broadcast(sample_weight=weight, losses=losses)
    return losses * weight


def _divided(xp: Any, total: Any, count: Any) -> Any:
    """Total / count, 0 where the count is 0."""
    empty = count == 0
    return xp.where(empty, 0.0, total / xp.where(empty, 1.0, count))
