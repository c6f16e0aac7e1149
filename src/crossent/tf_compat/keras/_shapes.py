"""Keras' rules for ranks, axes and broadcasting."""

from typing import Any

import numpy as np

from crossent._checks import Shape
from crossent.errors import ArgumentError
from crossent.tf_compat._tensors import broadcast_shape, shape_of
from crossent.tf_compat.errors import InvalidArgumentError


def squeezed_or_expanded(first: Any, second: Any) -> tuple[Any, Any]:
    """Keras 3's rank fix: beside a trailing 1, a vector gets one too; else the longer loses it."""
    of_first, of_second = shape_of(first), shape_of(second)
    if len(of_first) == len(of_second) + 1 and of_first[-1] == 1:
        if len(of_second) == 1:
            return first, second[..., None]
        return first[..., 0], second
    if len(of_second) == len(of_first) + 1:
        second, first = squeezed_or_expanded(second, first)
    return first, second


def squeezed(first: Any, second: Any) -> tuple[Any, Any]:
    """Keras 2's rank fix for labels and predictions: the longer loses its trailing 1."""
    of_first, of_second = shape_of(first), shape_of(second)
    if len(of_first) == len(of_second) + 1 and of_first[-1] == 1:
        return first[..., 0], second
    if len(of_second) == len(of_first) + 1 and of_second[-1] == 1:
        return first, second[..., 0]
    return first, second


def weight_of_rank(weight: Any, rank: int, name: str) -> Any:
    """Keras 2's rank fix for weights: a vector of them stands for the leading axes."""
    shape = shape_of(weight)
    if len(shape) == rank + 1:
        if shape[-1] != 1:
            raise InvalidArgumentError(
                f"{name} must have rank {rank} like the row losses, or a trailing 1 beyond it; "
                f"got shape {shape}. Pass one weight per row."
            )
        return weight[..., 0]
    if 0 < len(shape) == rank - 1:
        return weight[..., None]
    return weight


def broadcast(**arrays: Any) -> Shape:
    """The shape that two arguments broadcast to by the ordinary rules."""
    (name, shape), (other, like) = ((key, shape_of(array)) for key, array in arrays.items())
    both = broadcast_shape(shape, like)
    if both is None:
        raise InvalidArgumentError(
            f"{name} must broadcast with {other} of shape {like}; got {shape}. "
            "Give both the same shape."
        )
    return both


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
