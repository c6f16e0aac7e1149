"""TensorFlow's rules for arguments: conversion, dtypes and shapes, on any library's arrays.

Lists of Python ints become int32 (int64 where they do not fit), lists with floats float32; arrays
keep their dtype. Dtypes are not promoted: two float dtypes in one operation are an error. A list,
or number, of floats beside a float array takes the array's dtype, where TensorFlow would refuse a
float64 array: a list says nothing about its precision.
"""

from typing import Any

import numpy as np

from crossent import _checks
from crossent._arrays import library_of
from crossent.errors import OptionError, ShapeError
from crossent.tf_compat.errors import InvalidArgumentError


def tensors(**arguments: Any) -> tuple[Any, ...]:
    """The library of the arguments and each of them as an array, in order."""
    library = library_of(**arguments)
    arrays = {name: tensor(name, value) for name, value in arguments.items()}
    for name, value in arguments.items():
        if library.is_own(value) and is_float(arrays[name]):
            like = arrays[name]
            return library, *(beside(n, v, like) for n, v in arguments.items())
    return library, *arrays.values()


def beside(name: str, value: Any, like: Any) -> Any:
    """An array, a list of floats in the dtype of `like` (see the top of this module)."""
    array = tensor(name, value)
    if library_of(**{name: value}).is_own(value) or not is_float(array) or not is_float(like):
        return array
    return tensor(name, value, like.dtype)


def tensor(name: str, value: Any, dtype: Any = None) -> Any:
    """One argument as an array, in `dtype` if given: lists then go there without a detour."""
    if value is None:
        raise OptionError(f"{name} must be an array or a list of numbers; got None. Pass {name}=.")
    library = library_of(**{name: value})
    array = library.as_array(name, value)
    if dtype is None and not library.is_own(value):
        array = _by_tensorflows_rules(value, array)
    kind = library.dtype_name(array)
    if kind not in (*_checks.FLOATS, *_checks.INTEGERS, "bool"):
        raise InvalidArgumentError(
            f"{name} must hold real numbers; got {kind} of shape {array.shape}. "
            "Convert it to a float dtype first."
        )
    return array if dtype is None else cast(array, dtype)


def cast(array: Any, dtype: Any) -> Any:
    """The array in another dtype; derivatives pass between float dtypes and stop at integers."""
    if array.dtype == dtype:
        return array
    library = library_of(array=array)
    xp = library.namespace(array)
    if not (is_float(array) and _is_float_dtype(np.dtype(dtype))):
        array = xp.stop_gradient(array)
    with library.quiet():  # a number beyond the narrower range becomes inf
        return xp.returned(array, dtype)


def is_float(array: Any) -> bool:
    return _is_float_dtype(array.dtype)


def check_float(name: str, array: Any) -> None:
    """TensorFlow's kernels take floating point only."""
    if not is_float(array):
        raise InvalidArgumentError(
            f"{name} must be floating point; got {array.dtype.name} of shape {array.shape}. "
            f"Convert it with tf.cast({name}, tf.float32)."
        )


def check_same_dtype(**arrays: Any) -> None:
    """All arguments have the dtype of the last."""
    *others, (last, like) = arrays.items()
    for name, array in others:
        if array.dtype != like.dtype:
            raise InvalidArgumentError(
                f"{name} must have the dtype of {last}, {like.dtype.name}; got {array.dtype.name}. "
                f"Convert it with tf.cast({name}, {last}.dtype)."
            )


def check_same_shape(**arrays: Any) -> None:
    """Both arguments have the same shape: nothing is broadcast."""
    (name, array), (other, like) = arrays.items()
    if array.shape != like.shape:
        raise ShapeError(
            f"{name} must have the shape of {other}, {like.shape}; got {array.shape}. "
            "Every element needs its own label: nothing is broadcast."
        )


def _is_float_dtype(dtype: Any) -> bool:
    return str(dtype.name) in _checks.FLOATS


def _by_tensorflows_rules(value: Any, array: Any) -> Any:
    """What NumPy made of a list or number, in the dtype that TensorFlow would give it."""
    if array.dtype == np.float64 and not _holds_numpy(value, np.float64):
        return array.astype(np.float32)
    if array.dtype == np.int64 and not _holds_numpy(value, np.int64):
        narrow = np.iinfo(np.int32)
        fits = array.size == 0 or (array.min() >= narrow.min and array.max() <= narrow.max)
        return array.astype(np.int32) if fits else array
    return array


def _holds_numpy(value: Any, dtype: Any) -> bool:
    """Whether a nested list holds NumPy's own arrays or numbers of this dtype, which keep it."""
    if isinstance(value, list | tuple):
        return any(_holds_numpy(item, dtype) for item in value)
    return bool(getattr(value, "dtype", None) == dtype)
