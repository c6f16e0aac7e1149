"""TensorFlow's functions in NumPy's names: what the losses run on where no kernel does."""

from functools import cache
from typing import Any

import tensorflow as tf

from crossent._formula import Formula


@cache
def has_accelerators() -> bool:
    """Whether TensorFlow sees a device that is no CPU."""
    return any(device.device_type != "CPU" for device in tf.config.list_logical_devices())


def on_cpu(*tensors: Any) -> bool:
    """Whether these tensors lie on the CPU; the nodes of a graph may be put anywhere."""
    if not has_accelerators():
        return True
    return all(is_eager(t) and "CPU" in t.device for t in tensors if tf.is_tensor(t))


def is_eager(tensor: Any) -> bool:
    """Whether a tensor has its values, and is no node of a graph."""
    return hasattr(tensor, "_numpy")


def result_dtype(array: Any) -> Any:
    """float64 stays; everything narrower is returned as float32."""
    return tf.float64 if array.dtype == tf.float64 else tf.float32


def namespace(*arrays: Any) -> Any:
    """The functions that losses are written in; on a CPU they compute in float64."""
    is_wide = any(a.dtype == tf.float64 for a in arrays if a is not None)
    return _Functions(tf.float64 if is_wide or on_cpu(*arrays) else tf.float32)


class _Functions(Formula):
    """The primitive functions, computing in one dtype. Nothing is promoted by TensorFlow itself."""

    def __init__(self, wide: Any) -> None:
        self.wide = wide

    abs = staticmethod(tf.abs)
    exp = staticmethod(tf.exp)
    expm1 = staticmethod(tf.math.expm1)
    isfinite = staticmethod(tf.math.is_finite)
    isnan = staticmethod(tf.math.is_nan)
    ones_like = staticmethod(tf.ones_like)
    plain = tf.math
    result_dtype = staticmethod(result_dtype)
    stop_gradient = staticmethod(tf.stop_gradient)
    tanh = staticmethod(tf.tanh)
    zeros_like = staticmethod(tf.zeros_like)

    def arange(self, n: int) -> Any:
        return tf.range(n, dtype=tf.int64)

    def argmax(self, x: Any, axis: int) -> Any:
        return tf.argmax(x, axis=axis)

    def broadcast_to(self, x: Any, shape: Any) -> Any:
        return tf.broadcast_to(x, shape)

    def count(self, x: Any) -> Any:
        return self.widen(tf.size(x, out_type=tf.int64))

    def greatest(self, x: Any) -> float:
        return float(x.dtype.max)

    def integer(self, x: Any) -> bool:
        return bool(x.dtype.is_integer)

    def as_wide(self, x: Any) -> bool:
        return bool(x.dtype == self.wide)

    def max(self, x: Any, axis: int) -> Any:
        return tf.reduce_max(x, axis=axis)

    def moveaxis(self, x: Any, source: Any, destination: Any) -> Any:
        rank = x.shape.rank
        sources = source if isinstance(source, tuple) else (source,)
        destinations = destination if isinstance(destination, tuple) else (destination,)
        moved = {d % rank: s % rank for s, d in zip(sources, destinations, strict=True)}
        order = [axis for axis in range(rank) if axis not in moved.values()]
        for to in sorted(moved):
            order.insert(to, moved[to])
        return x if order == list(range(rank)) else tf.transpose(x, order)

    # One more axis before: along the first one the gradient of `gather` would be IndexedSlices.

    def pick(self, values: Any, ids: Any) -> Any:
        rows, of_rows = tf.expand_dims(values, 0), tf.expand_dims(ids, 0)
        return tf.squeeze(tf.gather(rows, of_rows, axis=-1, batch_dims=ids.shape.rank + 1), 0)

    def take(self, table: Any, ids: Any) -> Any:
        return tf.squeeze(tf.gather(tf.expand_dims(table, 0), ids, axis=1), 0)

    def reshape(self, x: Any, shape: Any) -> Any:
        return tf.reshape(x, [-1 if length is None else length for length in shape])

    def returned(self, x: Any, dtype: Any) -> Any:
        return tf.cast(x, dtype)

    def sum(self, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
        return tf.reduce_sum(x, axis=axis, keepdims=keepdims)

    def widen(self, x: Any) -> Any:
        return tf.cast(x, self.wide) if tf.is_tensor(x) else tf.constant(x, self.wide)

    def where(self, condition: Any, x: Any, y: Any) -> Any:
        """A choice; a Python number takes the dtype of the other side."""
        if not tf.is_tensor(x):
            x = tf.constant(x, y.dtype if tf.is_tensor(y) else self.wide)
        if not tf.is_tensor(y):
            y = tf.constant(y, x.dtype)
        return tf.where(condition, x, y)

    def total(self, values: Any, divisor: Any = None, dtype: Any = None) -> Any:
        """The sum of the values in `dtype`, over a divisor; 0 where the divisor is 0."""
        values = values if dtype is None else tf.cast(values, dtype)
        result = tf.reduce_sum(self.widen(values))
        if divisor is not None:
            result = tf.math.divide_no_nan(result, self.widen(divisor))
        return result if dtype is None else tf.cast(result, dtype)
