"""What stands around losses in TensorFlow code: means, sums, one-hot labels, constants, casts."""

import math
from typing import Any

import numpy as np

from crossent._arrays import library_of
from crossent._checks import FLOATS, INTEGERS
from crossent.errors import DTypeError, OptionError
from crossent.tf_compat import _dtypes, _tensors
from crossent.tf_compat._tensors import (
    check_same_shape,
    dtype_name,
    is_float,
    shape_of,
    tensor,
    tensors,
)
from crossent.tf_compat._weighted import mean
from crossent.tf_compat.errors import InvalidArgumentError


def reduce_sum(
    input_tensor: Any, axis: Any = None, keepdims: bool = False, name: str | None = None
) -> Any:
    """Sum over all axes, or over some; in the dtype of the argument.

    Args:
        input_tensor: numbers.
        axis: None (all), an axis or several.
        keepdims: leave axes of length 1.
        name: ignored.

    Shape:
        (*any,) -> () or the shape without `axis`.

    Raises:
        InvalidArgumentError: an axis does not exist.

    Source:
        tf.reduce_sum, TensorFlow 2.21.

    Example:
        >>> import crossent.tf_compat as tf
        >>> tf.reduce_sum([[1, 2], [3, 4]], axis=1).tolist()
        [3, 7]
    """
    x, xp, axes = _reducible(input_tensor, axis)
    if not is_float(x):
        return _integer_sum(xp, x, axes, keepdims)
    return _returned(x, lambda: xp.sum(xp.widen(x), axis=axes, keepdims=keepdims))


def reduce_mean(
    input_tensor: Any, axis: Any = None, keepdims: bool = False, name: str | None = None
) -> Any:
    """Mean over all axes, or over some; in the argument's dtype: the mean of integers is truncated.

    Args:
        input_tensor: numbers.
        axis: None (all), an axis or several.
        keepdims: leave axes of length 1.
        name: ignored.

    Shape:
        (*any,) -> () or the shape without `axis`; NaN over nothing.

    Raises:
        InvalidArgumentError: an axis does not exist.

    Source:
        tf.reduce_mean, TensorFlow 2.21.

    Example:
        >>> import crossent.tf_compat as tf
        >>> float(tf.reduce_mean([1.0, 2.0])), int(tf.reduce_mean([1, 2]))
        (1.5, 1)
    """
    x, xp, axes = _reducible(input_tensor, axis)
    if is_float(x):
        return _returned(x, lambda: mean(xp, xp.widen(x), axes, keepdims))
    total = _integer_sum(xp, x, axes, keepdims)
    shape = shape_of(x)
    count = math.prod(shape if axes is None else (shape[a] for a in axes))
    if count == 0:  # nothing to average is 0 here, NaN among floats
        return total
    floor = total // count
    return xp.returned(xp.where((total < 0) & (floor * count != total), floor + 1, floor), x.dtype)


def add_n(inputs: Any, name: str | None = None) -> Any:
    """Sum of arrays of one shape and dtype, in that dtype.

    Args:
        inputs: a list or tuple of at least one array.
        name: ignored.

    Shape:
        each (*any,) -> (*any,).

    Raises:
        ValueError: no list of arrays, or shapes that differ.
        InvalidArgumentError: dtypes that differ.

    Source:
        tf.add_n, TensorFlow 2.21.

    Example:
        >>> import crossent.tf_compat as tf
        >>> tf.add_n([[1.0, 2.0], [3.0, 4.0]]).tolist()
        [4.0, 6.0]
    """
    if not isinstance(inputs, (list, tuple)) or not inputs:
        raise OptionError(
            f"inputs must be a list of at least one array; got {type(inputs).__name__}. "
            "tf.reduce_sum adds up the elements of one array."
        )
    library = library_of(**{f"inputs[{i}]": array for i, array in enumerate(inputs)})
    arrays = [tensor("inputs", array, library) for array in inputs]
    first = arrays[0]
    for array in arrays:
        check_same_shape(inputs=array, first=first)
        if dtype_name(array) != dtype_name(first):
            raise InvalidArgumentError(
                f"inputs must have one dtype; got {dtype_name(first)} and {dtype_name(array)}. "
                "Convert them with tf.cast."
            )
    if not is_float(first):
        return sum(arrays[1:], first)
    xp = library.namespace(*arrays)
    with library.quiet():
        return xp.returned(sum((xp.widen(a) for a in arrays[1:]), xp.widen(first)), first.dtype)


def one_hot(
    indices: Any,
    depth: int,
    on_value: Any = None,
    off_value: Any = None,
    axis: int | None = None,
    dtype: Any = None,
    name: str | None = None,
) -> Any:
    """Labels with `on_value` at each index and `off_value` elsewhere.

    An index that is no class becomes a row of `off_value`: the sparse losses check what this hides.

    Args:
        indices: integers.
        depth: number of classes.
        on_value: 1 if None.
        off_value: 0 if None.
        axis: where the new axis goes; the last if None.
        dtype: float32 if neither it nor a value is given.
        name: ignored.

    Shape:
        (*any,) -> (*any, depth).

    Raises:
        TypeError: the dtypes of on_value, off_value and dtype differ.
        InvalidArgumentError: indices are not integers, or depth < 0.

    Source:
        tf.one_hot, TensorFlow 2.21.

    Example:
        >>> import crossent.tf_compat as tf
        >>> tf.one_hot([1, -1], 3).tolist()
        [[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    """
    library = library_of(indices=indices, on_value=on_value, off_value=off_value)
    ids = tensor("indices", indices, library)
    if dtype_name(ids) not in INTEGERS:
        raise InvalidArgumentError(
            f"indices must be integers; got {dtype_name(ids)}. Convert them with tf.cast(indices, "
            "tf.int32)."
        )
    if depth < 0:
        raise InvalidArgumentError(f"depth must be >= 0; got {depth}. It is the number of classes.")
    on, off = _one_hot_values(library, on_value, off_value, dtype)
    ids, _ = library.class_ids(ids, None)
    xp = library.namespace(ids)
    hot = xp.moveaxis(ids[..., None] == xp.arange(depth), -1, -1 if axis is None else axis)
    return xp.where(hot, on, off)


def stop_gradient(input: Any, name: str | None = None) -> Any:
    """The argument as a constant: no derivative passes.

    Shape:
        (*any,) -> (*any,).

    Raises:
        ValueError: the argument is None.

    Source:
        tf.stop_gradient, TensorFlow 2.21.

    Example:
        >>> import numpy as np, crossent as xe, crossent.tf_compat as tf
        >>> square = lambda x: x * tf.stop_gradient(x)
        >>> print(*xe.numpy.value_and_grad(square, wrt="x", x=np.array(3.0)))
        9.0 3.0
    """
    x = tensor("input", input)
    return library_of(input=x).namespace(x).stop_gradient(x)


def constant(value: Any, dtype: Any = None, shape: Any = None, name: str | None = None) -> Any:
    """An array by TensorFlow's rules: ints are int32, floats float32, unless `dtype` is given.

    Args:
        value: numbers, nested lists of them, or an array.
        dtype: the dtype; Python floats are refused for an integer one.
        shape: the shape; a single value fills it.
        name: ignored.

    Shape:
        as given.

    Raises:
        TypeError: floats for an integer dtype, or a value that does not fill the shape.

    Source:
        tf.constant, TensorFlow 2.21.

    Example:
        >>> import crossent.tf_compat as tf
        >>> tf.constant([1, 2]).dtype.name, tf.constant([1.0]).dtype.name
        ('int32', 'float32')
        >>> tf.constant(0.5, shape=[2]).tolist()
        [0.5, 0.5]
    """
    x = convert_to_tensor(value, dtype)
    if shape is None:
        return x
    wanted = tuple(int(n) for n in shape)
    xp, size = library_of(value=x).namespace(x), math.prod(shape_of(x))
    if size == 1:
        return xp.returned(xp.broadcast_to(xp.reshape(x, ()), wanted), x.dtype)
    if size != math.prod(wanted):
        raise DTypeError(
            f"value must fill the shape {wanted}; got {size} numbers. A single one fills any shape."
        )
    return xp.reshape(x, wanted)


def convert_to_tensor(
    value: Any, dtype: Any = None, dtype_hint: Any = None, name: str | None = None
) -> Any:
    """An array by TensorFlow's rules: lists of ints are int32, of floats float32; arrays stay.

    Args:
        value: numbers, nested lists of them, or an array.
        dtype: the dtype it takes; Python floats and float arrays are refused for an integer one.
        dtype_hint: like dtype, where it fits.
        name: ignored.

    Shape:
        (*any,) -> (*any,).

    Raises:
        TypeError: floats for an integer dtype.
        ValueError: None.

    Source:
        tf.convert_to_tensor, TensorFlow 2.21.

    Example:
        >>> import crossent.tf_compat as tf
        >>> tf.convert_to_tensor([1, 2], tf.float32).tolist()
        [1.0, 2.0]
    """
    x = tensor("value", value)
    if dtype is None:
        hinted = None if dtype_hint is None else _dtypes.name_of(dtype_hint)
        fits = hinted is not None and (hinted in FLOATS or not is_float(x))
        return tensor("value", value, dtype=hinted) if fits else x
    wanted = _dtypes.name_of(dtype)
    if is_float(x) and wanted not in FLOATS:
        raise DTypeError(
            f"value must be integers for dtype {wanted}; got {dtype_name(x)}. tf.cast(value, "
            "dtype) truncates."
        )
    return tensor("value", value, dtype=wanted)


def cast(x: Any, dtype: Any, name: str | None = None) -> Any:
    """The array in another dtype; the gradient passes between float dtypes only.

    Floats become integers by truncation.

    Args:
        x: numbers, nested lists of them, or an array.
        dtype: any library's dtype, or its name.
        name: ignored.

    Shape:
        (*any,) -> (*any,).

    Raises:
        ValueError: x is None.

    Source:
        tf.cast, TensorFlow 2.21.

    Example:
        >>> import crossent.tf_compat as tf
        >>> tf.cast([1.8, 2.2], tf.int32).tolist()
        [1, 2]
    """
    return _tensors.cast(tensor("x", x), _dtypes.name_of(dtype))


def _reducible(value: Any, axis: Any) -> tuple[Any, Any, tuple[int, ...] | None]:
    """The array, its namespace, and the axes as non-negative numbers (None: all)."""
    library, x = tensors(input_tensor=value)
    xp = library.namespace(x)
    if axis is None:
        return x, xp, None
    axes = tuple(np.atleast_1d(np.asarray(axis, np.int64)).tolist())
    shape = shape_of(x)
    rank = len(shape)
    for a in axes:
        if not -rank <= a < rank:
            raise InvalidArgumentError(
                f"axis must lie in [{-rank}, {rank}) for shape {shape}; got {a}. None "
                "reduces all axes."
            )
    return x, xp, tuple(a % rank for a in axes)


def _integer_sum(xp: Any, x: Any, axes: tuple[int, ...] | None, keepdims: Any) -> Any:
    """In the integers' own dtype, where it may wrap around."""
    if dtype_name(x) == "bool":
        raise InvalidArgumentError(
            f"input_tensor must hold numbers; got bool of shape {shape_of(x)}. "
            "Convert it with tf.cast(input_tensor, tf.float32)."
        )
    return xp.returned(xp.sum(x, axis=axes, keepdims=keepdims), x.dtype)


def _returned(x: Any, of: Any) -> Any:
    library = library_of(input_tensor=x)
    with library.quiet():
        return library.namespace(x).returned(of(), x.dtype)


def _one_hot_values(library: Any, on_value: Any, off_value: Any, dtype: Any) -> tuple[Any, Any]:
    values = {"on_value": on_value, "off_value": off_value}
    given = {dtype_name(tensor(k, v, library)) for k, v in values.items() if v is not None}
    if dtype is not None:
        given.add(_dtypes.name_of(dtype))
    if len(given) > 1:
        raise DTypeError(
            f"on_value, off_value and dtype must agree; got {sorted(given)}. "
            "Leave dtype out, or write the values in it."
        )
    result = given.pop() if given else "float32"
    on, off = 1 if on_value is None else on_value, 0 if off_value is None else off_value
    return tensor("on_value", on, library, result), tensor("off_value", off, library, result)
