"""TensorFlow 1's forms of what stands around losses: older names of the same arguments."""

from typing import Any

from crossent.errors import OptionError
from crossent.tf_compat import _array_ops
from crossent.tf_compat._deprecation import deprecated


def reduce_sum(
    input_tensor: Any,
    axis: Any = None,
    keepdims: bool | None = None,
    name: str | None = None,
    reduction_indices: Any = None,
    keep_dims: bool | None = None,
) -> Any:
    """`tf.reduce_sum`, with the old names `reduction_indices` of axis and `keep_dims` of keepdims.

    Shape:
        (*any,) -> () or the shape without `axis`.

    Raises:
        ValueError: an argument is given under both names.

    Source:
        tf.compat.v1.reduce_sum, TensorFlow 2.21.

    Example:
        >>> import crossent.tf_compat.compat.v1 as tf
        >>> float(tf.reduce_sum([1.0, 2.0]))
        3.0
    """
    if reduction_indices is not None:
        deprecated("reduction_indices", "axis")
    if keep_dims is not None:
        deprecated("keep_dims", "keepdims")
    axis = _either("axis", axis, "reduction_indices", reduction_indices)
    keepdims = _either("keepdims", keepdims, "keep_dims", keep_dims)
    return _array_ops.reduce_sum(input_tensor, axis, bool(keepdims))


def reduce_mean(
    input_tensor: Any,
    axis: Any = None,
    keepdims: bool | None = None,
    name: str | None = None,
    reduction_indices: Any = None,
    keep_dims: bool | None = None,
) -> Any:
    """`tf.reduce_mean`, with the old names `reduction_indices` of axis and `keep_dims` of keepdims.

    Shape:
        (*any,) -> () or the shape without `axis`.

    Raises:
        ValueError: an argument is given under both names.

    Source:
        tf.compat.v1.reduce_mean, TensorFlow 2.21.

    Example:
        >>> import crossent.tf_compat.compat.v1 as tf
        >>> float(tf.reduce_mean([1.0, 2.0]))
        1.5
    """
    if reduction_indices is not None:
        deprecated("reduction_indices", "axis")
    if keep_dims is not None:
        deprecated("keep_dims", "keepdims")
    axis = _either("axis", axis, "reduction_indices", reduction_indices)
    keepdims = _either("keepdims", keepdims, "keep_dims", keep_dims)
    return _array_ops.reduce_mean(input_tensor, axis, bool(keepdims))


def convert_to_tensor(
    value: Any,
    dtype: Any = None,
    name: str | None = None,
    preferred_dtype: Any = None,
    dtype_hint: Any = None,
) -> Any:
    """`tf.convert_to_tensor`, with the old name `preferred_dtype` of dtype_hint.

    Shape:
        (*any,) -> (*any,).

    Raises:
        TypeError: floats for an integer dtype.
        ValueError: None, or both names given.

    Source:
        tf.compat.v1.convert_to_tensor, TensorFlow 2.21.

    Example:
        >>> import crossent.tf_compat.compat.v1 as tf
        >>> tf.convert_to_tensor([1, 2]).dtype.name
        'int32'
    """
    if preferred_dtype is not None:
        deprecated("preferred_dtype", "dtype_hint")
    hint = _either("dtype_hint", dtype_hint, "preferred_dtype", preferred_dtype)
    return _array_ops.convert_to_tensor(value, dtype, hint)


def _either(name: str, value: Any, old_name: str, old: Any) -> Any:
    if value is not None and old is not None:
        raise OptionError(
            f"{name} must be given without {old_name}; got both. {old_name} is its old name: leave "
            "it out."
        )
    return old if value is None else value
