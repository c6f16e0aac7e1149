"""Keras' rules for ranks, axes and broadcasting."""

from typing import Any

import numpy as np

from crossent.errors import ArgumentError
from crossent.tf_compat.errors import InvalidArgumentError

Shape = tuple[int, ...]


def squeezed_or_expanded(xp: Any, first: Any, second: Any) -> tuple[Any, Any]:
    """Keras 3's rank fix: beside a trailing 1, a vector gets one too; else the longer loses it."""
    if first.ndim == second.ndim + 1 and first.shape[-1] == 1:
        if second.ndim == 1:
            return first, xp.reshape(second, (*second.shape, 1))
        return xp.reshape(first, first.shape[:-1]), second
    if second.ndim == first.ndim + 1:
        second, first = squeezed_or_expanded(xp, second, first)
    return first, second


def squeezed(xp: Any, first: Any, second: Any) -> tuple[Any, Any]:
    """Keras 2's rank fix for labels and predictions: the longer loses its trailing 1."""
    if first.ndim == second.ndim + 1 and first.shape[-1] == 1:
        return xp.reshape(first, first.shape[:-1]), second
    if second.ndim == first.ndim + 1 and second.shape[-1] == 1:
        return first, xp.reshape(second, second.shape[:-1])
    return first, second


def weight_of_rank(xp: Any, weight: Any, rank: int, name: str) -> Any:
    """Keras 2's rank fix for weights: a vector of them stands for the leading axes."""
    if weight.ndim == rank + 1:
        if weight.shape[-1] != 1:
            raise InvalidArgumentError(
                f"{name} must have rank {rank} like the row losses, or a trailing 1 beyond it; "
                f"got shape {weight.shape}. Pass one weight per row."
            )
        return xp.reshape(weight, weight.shape[:-1])
    if 0 < weight.ndim == rank - 1:
        return xp.reshape(weight, (*weight.shape, 1))
    return weight


def broadcast(**arrays: Any) -> Shape:
    """The shape that the arguments broadcast to by the ordinary rules."""
    try:
        return np.broadcast_shapes(*(array.shape for array in arrays.values()))
    except ValueError:
        (name, array), (other, like) = arrays.items()
        raise InvalidArgumentError(
            f"{name} must broadcast with {other} of shape {like.shape}; got {array.shape}. "
            "Give both the same shape."
        ) from None


def axes_of(axis: Any, rank: int, of: str = "y_pred") -> tuple[int, ...]:
    """The axes that `axis` names (an int, several, or None for all) as non-negative numbers."""
    if axis is None:
        return tuple(range(rank))
    several = tuple(axis) if isinstance(axis, list | tuple) else (axis,)
    for one in several:
        if not isinstance(one, int | np.integer):
            raise ArgumentError(
                f"axis must be an int, a tuple of ints, or None; got {axis!r}. -1 is the last axis."
            )
        if not -rank <= one < rank:
            raise InvalidArgumentError(
                f"axis must lie in [{-rank}, {rank}) for {of} of rank {rank}; got {axis!r}. "
                "-1 is the last axis; a scalar has none."
            )
    axes = tuple(int(one) % rank for one in several)
    if len(set(axes)) < len(axes):
        raise InvalidArgumentError(f"axis must name each axis once; got {axis!r}. Leave one out.")
    return axes
