"""JAX's functions in NumPy's names: what the losses run on where no kernel does."""

from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from crossent._formula import Formula


def has_float64() -> bool:
    """Whether JAX is told to keep float64, as by default it is not."""
    return bool(jax.dtypes.canonicalize_dtype(np.float64) == np.float64)


def result_dtype(array: Any) -> Any:
    """float64 stays where JAX has it; everything narrower is returned as float32."""
    return jnp.float64 if array.dtype == np.float64 and has_float64() else jnp.float32


def differs(labels: Any, number: int) -> Any:
    """Which labels are not this number: JAX would wrap it around to fit the labels' dtype."""
    if jnp.issubdtype(labels.dtype, jnp.integer):
        bounds = np.iinfo(labels.dtype)
        if not bounds.min <= number <= bounds.max:
            return jnp.ones(labels.shape, bool)
    elif labels.dtype == bool:
        labels = labels.astype(np.int32)
    return jnp.asarray(labels != number)


def class_ids(labels: Any, ignored: int | None) -> tuple[Any, Any]:
    """Class ids, 0 where ignored, -1 where they are fractions; and the kept rows.

    At least 32 bits wide, for the same reason: the classes may be more than the dtype can count.
    """
    kept = None if ignored is None else differs(labels, ignored)
    ids = jnp.asarray(labels)
    if jnp.issubdtype(ids.dtype, jnp.floating):
        ids = jnp.where(ids == jnp.floor(ids), ids, -1)
    ids = ids.astype(np.int64 if has_float64() else np.int32)
    return ids if kept is None else jnp.where(kept, ids, 0), kept


def _placed_like(array: Any) -> dict[str, Any]:
    """How to tell JAX where the results of a lookup go, if a mesh of explicit axes asks for it."""
    sharding = getattr(jax.typeof(array), "sharding", None)
    is_explicit = sharding is not None and any(axis is not None for axis in sharding.spec)
    return {"out_sharding": sharding} if is_explicit else {}


def namespace(*arrays: Any) -> Any:
    """The functions that losses are written in.

    They compute in float64 where JAX has it and it is cheap, which is on CPUs.
    """
    is_wide = has_float64() and (
        jax.default_backend() == "cpu" or any(_is_float64(array) for array in arrays)
    )
    return _functions("float64" if is_wide else "float32")


def _is_float64(array: Any) -> bool:
    return array is not None and array.dtype == np.float64


@jax.custom_jvp
def log(x: Any) -> Any:
    """log x, with the derivative 0 at x = 0 where nothing flows back, and else infinite."""
    return jnp.log(x)


@log.defjvp
def _log_by_x(primals: Any, tangents: Any) -> Any:
    (x,), (moved,) = primals, tangents
    return log(x), _flow(moved, x)


@jax.custom_jvp
def log1p(x: Any) -> Any:
    """log(1 + x), with the same rule at x = -1."""
    return jnp.log1p(x)


@log1p.defjvp
def _log1p_by_x(primals: Any, tangents: Any) -> Any:
    (x,), (moved,) = primals, tangents
    return log1p(x), _flow(moved, 1 + x)


def _flow(moved: Any, over: Any) -> Any:
    """moved / over; where `over` is 0, 0 for 0 and else infinite.

    It must be linear in `moved`, so it cannot ask whether that is 0. Two large factors, one after
    the other, overflow for everything but 0. (As constants XLA would multiply them first.)
    """
    zero = over == 0
    huge = jnp.asarray(np.finfo(over.dtype).max, over.dtype)
    return moved * jnp.where(zero, huge, 1 / jnp.where(zero, 1.0, over)) * jnp.where(zero, huge, 1)


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def power(x: Any, q: float) -> Any:
    """x^q, 0 < q <= 1, with the same rule at x = 0."""
    return x**q


@power.defjvp
def _power_by_x(q: float, primals: Any, tangents: Any) -> Any:
    (x,), (moved,) = primals, tangents
    return power(x, q), _flow(q * moved, x ** (1 - q))


@cache
def _functions(wide: str) -> "_Functions":
    return _Functions(wide)


class _Functions(Formula):
    """The primitive functions, computing in one dtype."""

    def __init__(self, wide: str) -> None:
        self.wide = jnp.dtype(wide)

    abs = staticmethod(jnp.abs)
    arange = staticmethod(jnp.arange)
    argmax = staticmethod(jnp.argmax)
    broadcast_to = staticmethod(jnp.broadcast_to)
    exp = staticmethod(jnp.exp)
    expm1 = staticmethod(jnp.expm1)
    isfinite = staticmethod(jnp.isfinite)
    isnan = staticmethod(jnp.isnan)
    log = staticmethod(log)
    log1p = staticmethod(log1p)
    max = staticmethod(jnp.max)
    moveaxis = staticmethod(jnp.moveaxis)
    ones_like = staticmethod(jnp.ones_like)
    power = staticmethod(power)
    reshape = staticmethod(jnp.reshape)
    result_dtype = staticmethod(result_dtype)
    stop_gradient = staticmethod(jax.lax.stop_gradient)
    sum = staticmethod(jnp.sum)
    tanh = staticmethod(jnp.tanh)
    where = staticmethod(jnp.where)
    zeros_like = staticmethod(jnp.zeros_like)

    def pick(self, values: Any, ids: Any) -> Any:
        return jnp.take_along_axis(values, ids[..., None], axis=-1)[..., 0]

    def take(self, table: Any, ids: Any) -> Any:
        return jnp.asarray(table).at[ids].get(**_placed_like(ids), mode="fill")

    def count(self, x: Any) -> Any:
        return self.widen(x.size)

    def widen(self, x: Any) -> Any:
        return jnp.asarray(x, self.wide)

    def returned(self, x: Any, dtype: Any) -> Any:
        # NumPy's float64 beside JAX's arrays is float32, unless 64-bit numbers are enabled.
        return jnp.asarray(x, jax.dtypes.canonicalize_dtype(dtype))

    def integer(self, x: Any) -> bool:
        return bool(jnp.issubdtype(x.dtype, jnp.integer))

    def as_wide(self, x: Any) -> bool:
        return bool(x.dtype == self.wide)

    def total(self, values: Any, divisor: Any = None, dtype: Any = None) -> Any:
        """The sum of the values in `dtype`, over a divisor; 0 where the divisor is 0."""
        values = values if dtype is None else values.astype(dtype)
        result = jnp.sum(values.astype(self.wide))
        if divisor is not None:
            empty = divisor == 0
            result = jnp.where(empty, 0.0, result / jnp.where(empty, 1.0, divisor))
        return result if dtype is None else result.astype(dtype)
