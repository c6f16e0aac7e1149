"""The two linear losses on JAX: native on CPUs, with derivatives of every order.

They are one primitive, so that every transformation of JAX knows it by a rule, through loops too:

`_linear_loss`: the value, or value and gradient together. The reduction is in it: outside, XLA
    would keep a full-size multiplication by the upstream gradient.
its derivative: first ones in the logits are native, all others those of the formula.
its batching: jax.vmap puts an axis in front, and the call goes through it; see native/xla_ffi.cpp.
its lowering: for CPUs one XLA FFI call, for other platforms the formula.
`_partitioned`: under a sharded jit every device calls on its own rows, and values are added up.
    Left alone, XLA would gather all logits on every device first.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.ffi
import jax.numpy as jnp
import numpy as np
from jax.experimental.custom_partitioning import custom_partitioning
from jax.extend.core import Primitive, jaxpr_as_fun
from jax.interpreters import ad, batching, mlir
from jax.sharding import NamedSharding, PartitionSpec

from crossent import _numpy_native
from crossent._jax_formula import differs, namespace, result_dtype


class Options(NamedTuple):
    """What a compiled program knows of a loss."""

    is_softmax: bool
    axis: int  # of the classes, >= 0; for the sigmoid loss none
    reduction: str
    own_normalizer: bool  # the caller's own; else it is what the reduction divides by
    label_smoothing: float = 0.0
    ignore_index: int | None = None
    temperature: float = 1.0
    softcap: float | None = None
    z_loss: float = 0.0

    @property
    def reduced(self) -> bool:
        return self.reduction != "none"


class Operands(NamedTuple):
    """Its arrays; absent ones are None."""

    logits: Any
    labels: Any  # ids of the rows' shape, or of the shape of the logits
    weight: Any = None  # class_weight, or pos_weight of shape () or (last axis,)
    sample_weight: Any = None  # of the first axes of the rows
    normalizer: Any = None  # float, or a count in int32; nothing is differentiated by it


# ---- the losses' general way, for what is not native


def formula(options: Options, given: Operands) -> Any:
    """The loss in array code; what it divides by is counted here, and so differentiated too."""
    # Upwards, against the order of the layers: the only definition of a loss is there.
    from crossent import losses

    common = {
        "labels": given.labels,
        "logits": given.logits,
        "sample_weight": given.sample_weight,
        "label_smoothing": options.label_smoothing,
        "ignore_index": options.ignore_index,
        "reduction": options.reduction,
        "normalizer": given.normalizer if options.own_normalizer else None,
    }
    if not options.is_softmax:
        return losses.linear_loss_unfused("sigmoid", **common, pos_weight=given.weight)
    return losses.linear_loss_unfused(
        "softmax",
        **common,
        axis=options.axis,
        class_weight=given.weight,
        temperature=options.temperature,
        softcap=options.softcap,
        z_loss=options.z_loss,
    )


def formula_and_gradient(options: Options, given: Operands) -> tuple[Any, Any]:
    """The same, and its gradient in the logits (of each row's own loss, where there is no sum)."""

    def of_logits(logits: Any) -> tuple[Any, Any]:
        losses = formula(options, given._replace(logits=logits))
        return jnp.sum(losses), losses

    gradient, value = jax.grad(of_logits, has_aux=True)(given.logits)
    return value, gradient


def denominator(options: Options, given: Operands) -> Any:
    """What "mean" or "mean_all" divides by: of all rows, whatever the sharding."""
    from crossent import losses

    logits, labels = given.logits, given.labels
    by_class = options.is_softmax and (labels.ndim == logits.ndim or given.weight is not None)
    if options.reduction == "mean_all" or not (by_class or given.sample_weight is not None):
        rows = logits.size // (logits.shape[options.axis] if options.is_softmax else 1)
        # A count in float32 would be rounded; a longer one cannot but be. In jax.export it may be
        # unknown.
        is_long = isinstance(rows, int) and rows >= 2**31
        dtype = jnp.float32 if is_long else jnp.int32
        if options.ignore_index is None:
            return jnp.asarray(rows, dtype)
        return jnp.sum(differs(labels, options.ignore_index), dtype=dtype)
    if labels.ndim == logits.ndim and options.is_softmax:
        # Integers would count as ids. What is no number makes its own row NaN, not all of them.
        labels = namespace(*given).widen(labels)
        labels = jnp.where(jnp.isfinite(labels), labels, 0)
    return losses.label_weight(
        labels=labels,
        class_weight=given.weight if options.is_softmax else None,
        sample_weight=given.sample_weight,
        ignore_index=options.ignore_index,
        axis=options.axis if options.is_softmax else -1,
        num_classes=logits.shape[options.axis] if options.is_softmax else None,
    )


# ---- one native call


# Now and not at the first loss: a program that jax.export wrote calls them with none before.
if _numpy_native.core is not None:
    for _name, _handler in _numpy_native.core.xla_ffi_handlers().items():
        jax.ffi.register_ffi_target(_name, _handler, platform="cpu")


def runs_here() -> bool:
    """Whether there is a CPU with kernels for it."""
    return _numpy_native.core is not None


class _Form(NamedTuple):
    """What a call knows of its operands."""

    groups: int  # how many axes jax.vmap has put in front
    with_gradient: bool
    names: tuple[str, ...]  # of the operands that are present
    operands: tuple[tuple[str, ...], ...]  # and their axes, by names of axes of the logits

    def results(self, options: Options) -> tuple[tuple[str, ...], ...]:
        logits = self.operands[0]
        value = logits[: self.groups]
        if not options.reduced:
            value = tuple(axis for axis in logits if axis != "c")
        return (value, logits) if self.with_gradient else (value,)


def _form_of(options: Options, groups: int, with_gradient: bool, given: Operands) -> _Form:
    rank = given.logits.ndim - groups
    grouped = tuple(f"g{k}" for k in range(groups))
    logits = [f"r{k}" for k in range(rank)]
    if options.is_softmax:
        logits[options.axis] = "c"
    rows = [axis for axis in logits if axis != "c"]
    labels = logits if given.labels.ndim == given.logits.ndim else rows
    axes: dict[str, Sequence[str]] = {"logits": logits, "labels": labels}
    if given.weight is not None:
        of_weight = ["c"] if options.is_softmax else rows[-1:]
        axes["weight"] = of_weight[: given.weight.ndim - groups]
    if given.sample_weight is not None:
        axes["sample_weight"] = rows[: given.sample_weight.ndim - groups]
    if given.normalizer is not None:
        axes["normalizer"] = []
    by_axes = tuple((*grouped, *a) for a in axes.values())
    return _Form(groups, with_gradient, tuple(axes), by_axes)


def _call(options: Options, form: _Form, *operands: Any) -> tuple[Any, ...]:
    results = jax.eval_shape(partial(_alike, options, form), _plain(operands[0]))
    present = [name in form.names for name in Operands._fields[2:]]  # bits as in xla_ffi.cpp
    name = "crossent_softmax_loss" if options.is_softmax else "crossent_sigmoid_loss"
    attributes: dict[str, Any] = {
        "groups": np.int64(form.groups),
        "axis": np.int64(options.axis),
        "reduction": np.int64(options.reduced),  # a sum, or none
        "operands": np.int64(sum(is_there << k for k, is_there in enumerate(present))),
        "has_ignored": np.int64(options.ignore_index is not None),
        "ignored": np.int64(options.ignore_index or 0),
        "label_smoothing": np.float64(options.label_smoothing),
        "temperature": np.float64(options.temperature),
        "softcap": np.float64(options.softcap or 0.0),
        "z_loss": np.float64(options.z_loss),
    }
    return tuple(jax.ffi.ffi_call(name, results)(*operands, **attributes))


def _plain(array: Any) -> Any:
    """Its type without a mesh and axes of a shard_map, which are no concern of a native call."""
    return jax.ShapeDtypeStruct(array.shape, array.dtype)


def _varying_over(array: Any) -> frozenset[str]:
    """The axes of a shard_map along which an array differs."""
    kind: Any = jax.typeof(array)
    kind = getattr(kind, "manual_axis_type", kind)  # since jax 0.10
    axes: frozenset[str] = getattr(kind, "varying", getattr(kind, "vma", frozenset()))
    return axes


def aligned(given: Operands) -> Operands:
    """Operands that all differ along the same axes of a shard_map, as a native call asks for.

    JAX's own functions do that by themselves, and so the gradient of an operand that is the same
    everywhere is added up over those axes.
    """
    axes = frozenset[str]().union(*(_varying_over(a) for a in given if a is not None))
    return Operands(
        *(None if a is None else _varying(a, tuple(axes - _varying_over(a))) for a in given)
    )


def _varying(array: Any, axes: tuple[str, ...]) -> Any:
    lax: Any = jax.lax
    if not axes:
        return array
    if hasattr(lax, "pcast"):
        return lax.pcast(array, axes, to="varying")
    return lax.pvary(array, axes)  # as it was called up to JAX 0.8


# ---- on the rows of each device


def _no_mesh() -> AbstractContextManager[Any]:
    """Since JAX 0.12 a sum over a mesh of explicit axes, in a program for a part of it, fails."""
    use_mesh: Any = getattr(jax.sharding, "use_abstract_mesh", None)
    return nullcontext() if use_mesh is None else use_mesh(jax.sharding.AbstractMesh((), ()))


@lru_cache(maxsize=256)
def _partitioned(options: Options, form: _Form) -> Callable[..., Any]:
    """The call under a sharded jit: the classes whole on every device, the rows where they are."""
    call = custom_partitioning(partial(_call, options, form))

    def shardings(mesh: Any, arguments: Any) -> tuple[tuple[Any, ...], tuple[Any, ...], list[str]]:
        logits = arguments[0].sharding
        spec = () if logits is None else logits.spec
        placed: dict[str, Any] = dict.fromkeys((*form.operands[0], "c"))
        placed.update(zip(form.operands[0], spec, strict=False))
        placed["c"] = None
        # Where devices do not have as many rows each, XLA fills up, and the sum would have those.
        for axis, size in zip(form.operands[0], arguments[0].shape, strict=True):
            names = (placed[axis],) if isinstance(placed[axis], str) else placed[axis] or ()
            if size % math.prod(mesh.shape[name] for name in names):
                placed[axis] = None

        def of(axes: tuple[str, ...]) -> Any:
            return NamedSharding(mesh, PartitionSpec(*(placed[axis] for axis in axes)))

        rows: list[Any] = [placed[axis] for axis in form.operands[0][form.groups :]]
        over = [n for axes in rows for n in ((axes,) if isinstance(axes, str) else axes or ())]
        return tuple(map(of, form.operands)), tuple(map(of, form.results(options))), over

    def infer(mesh: Any, arguments: Any, _results: Any) -> Any:
        return shardings(mesh, arguments)[1]

    def partition(mesh: Any, arguments: Any, _results: Any) -> Any:
        of_operands, of_results, over = shardings(mesh, arguments)

        def local(*operands: Any) -> Any:
            with _no_mesh():
                value, *gradient = _call(options, form, *operands)
                if options.reduced and over:
                    value = jax.lax.psum(value, tuple(over))
                return value, *gradient

        return mesh, local, of_results, of_operands

    sides = (form.operands, form.results(options))
    rule = " -> ".join(", ".join(" ".join(axes) for axes in side) for side in sides)
    call.def_partition(partition=partition, infer_sharding_from_operands=infer, sharding_rule=rule)
    return call


# ---- the primitive


_linear_loss: Any = Primitive("crossent_linear_loss")
_linear_loss.multiple_results = True


def _bind(options: Options, given: Operands, groups: int, with_gradient: bool) -> tuple[Any, ...]:
    operands = [jnp.asarray(operand) for operand in given if operand is not None]
    form = _form_of(options, groups, with_gradient, given)
    # Here and not when it is lowered: JAX looks into the parameters for what must be told of the
    # devices, which custom_partitioning must.
    kernel = jax.make_jaxpr(_partitioned(options, form))(*map(_plain, operands))
    return tuple(_linear_loss.bind(*operands, options=options, form=form, kernel=kernel))


def _operands(form: _Form, present: Sequence[Any]) -> Operands:
    absent: dict[str, Any] = dict.fromkeys(Operands._fields)
    return Operands(**(absent | dict(zip(form.names, present, strict=True))))


def loss(options: Options, given: Operands) -> Any:
    """The value, or the losses of the rows."""
    return _bind(options, given, 0, False)[0]


def loss_and_gradient(options: Options, given: Operands) -> tuple[Any, ...]:
    """The same, and its gradient in the logits (of each row's own loss, where there is no sum)."""
    return _bind(options, given, 0, True)


def _executed(*operands: Any, **parameters: Any) -> Any:
    with jax.disable_jit(False):  # without it there would be nothing to execute
        return jax.jit(partial(_linear_loss.bind, **parameters))(*operands)


_linear_loss.def_impl(_executed)


def _types(logits: Any, *_: Any, options: Options, form: _Form, **_kernel: Any) -> Any:
    # As JAX's own functions have them: the types also tell meshes, and axes of a shard_map.
    return jax.make_jaxpr(partial(_alike, options, form))(logits).out_avals


_linear_loss.def_abstract_eval(_types)


def _alike(options: Options, form: _Form, logits: Any) -> tuple[Any, ...]:
    """What has the types of the results."""
    value, *gradient = form.results(options)
    gone = tuple(k for k, axis in enumerate(form.operands[0]) if axis not in value)
    return jnp.sum(logits, axis=gone).astype(result_dtype(logits)), *(logits for _ in gradient)


def _in_groups(of: Callable[..., Any], groups: int) -> Callable[..., Any]:
    for _ in range(groups):
        of = jax.vmap(of)
    return of


def _batched(
    operands: Sequence[Any], axes: Sequence[Any], *, options: Options, form: _Form, **_kernel: Any
) -> Any:
    size = next(a.shape[axis] for a, axis in zip(operands, axes, strict=True) if axis is not None)
    spread = [
        jnp.broadcast_to(a, (size, *a.shape)) if axis is None else jnp.moveaxis(a, axis, 0)
        for a, axis in zip(operands, axes, strict=True)
    ]
    results = _bind(options, _operands(form, spread), form.groups + 1, form.with_gradient)
    return results, [0] * len(results)


batching.primitive_batchers[_linear_loss] = _batched


def _derivative(
    operands: Sequence[Any],
    tangents: Sequence[Any],
    *,
    options: Options,
    form: _Form,
    **_kernel: Any,
) -> Any:
    given = _operands(form, operands)
    moved = _operands(form, [None if type(t) is ad.Zero else t for t in tangents])
    rule = _gradient_moves if form.with_gradient else _loss_moves
    return _in_groups(partial(rule, options), form.groups)(given, moved)


ad.primitive_jvps[_linear_loss] = _derivative


def _by_formula(*operands: Any, options: Options, form: _Form) -> tuple[Any, ...]:
    def of_group(given: Operands) -> tuple[Any, ...]:
        if form.with_gradient:
            return formula_and_gradient(options, given)
        return (formula(options, given),)

    results: tuple[Any, ...] = _in_groups(of_group, form.groups)(_operands(form, operands))
    return results


def _lowered(context: Any, *operands: Any, options: Options, form: _Form, **_kernel: Any) -> Any:
    by_formula = partial(_by_formula, options=options, form=form)
    return mlir.lower_fun(by_formula)(context, *operands)


def _lowered_on_cpu(context: Any, *operands: Any, kernel: Any, **parameters: Any) -> Any:
    # Where only some axes of the mesh are a shard_map's, custom_partitioning knows no way.
    axes = context.module_context.axis_context
    manual: frozenset[str] = getattr(axes, "manual_axes", frozenset())
    if manual and manual != set(axes.mesh.axis_names):
        return _lowered(context, *operands, **parameters)
    return mlir.lower_fun(jaxpr_as_fun(kernel))(context, *operands)


mlir.register_lowering(_linear_loss, _lowered)
mlir.register_lowering(_linear_loss, _lowered_on_cpu, platform="cpu")


# ---- how it moves with its operands


def _loss_moves(options: Options, given: Operands, moved: Operands) -> Any:
    if moved.logits is None:
        value = loss(options, given)
        return (value,), (_moved_value(options, given, None, moved),)
    if given.logits.dtype == jnp.float16:
        # In float16 entries vanish or overflow before upstream scales them.
        given = given._replace(logits=given.logits.astype(jnp.float32))
        moved = moved._replace(logits=moved.logits.astype(jnp.float32))
    value, gradient = loss_and_gradient(options, given)
    return (value,), (_moved_value(options, given, gradient, moved),)


def _gradient_moves(options: Options, given: Operands, moved: Operands) -> Any:
    value, gradient = loss_and_gradient(options, given)

    def of_moving(given: Operands) -> Any:
        return formula_and_gradient(options, given)[1]

    by_formula = _jvp(of_moving, given, moved)
    return (value, gradient), (_moved_value(options, given, gradient, moved), by_formula)


def _moved_value(options: Options, given: Operands, gradient: Any, moved: Operands) -> Any:
    """How the value moves: with the logits by the native gradient, with others by the formula."""
    others = _jvp(partial(formula, options), given, moved._replace(logits=None))
    if moved.logits is None:
        return others
    dtype = result_dtype(given.logits)
    flow = gradient.astype(dtype) * moved.logits.astype(dtype)
    if options.reduced:
        flow = jnp.sum(flow)
    elif options.is_softmax:
        flow = jnp.sum(flow, axis=options.axis)
    return flow if others is None else flow + others


def _jvp(of: Callable[[Operands], Any], given: Operands, moved: Operands) -> Any:
    """The tangent of a function of the operands that move; None where none does."""
    names = [name for name in Operands._fields[:-1] if getattr(moved, name) is not None]
    if not names:
        return None

    def of_moving(*values: Any) -> Any:
        return of(given._replace(**dict(zip(names, values, strict=True))))

    primals = [getattr(given, name) for name in names]
    return jax.jvp(of_moving, primals, [getattr(moved, name) for name in names])[1]
