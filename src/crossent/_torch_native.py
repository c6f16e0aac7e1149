"""PyTorch's routes to the native kernels: the linear losses of logits on a CPU.

Which one runs depends on who asks:

    nobody differentiates        the bare call
    autograd, in eager           value and gradient from one call, kept for `backward`
    torch.compile, torch.export  custom operators, which the compiler leaves alone
    anybody else                 None: the losses' general way runs on the formula

"Anybody else" are the transforms of torch.func, forward mode, modes that watch every operation and
subclasses of tensors: a call that reads memory by address would be invisible to them. Inside
torch.compile a custom operator under torch.func.grad gives zeros for a gradient, without a word
(`test_torch_func_inside_compile`).

In eager nothing is checked before the call: where it finds labels or weights that are not allowed
it says so, and the general way raises. A compiled program cannot raise: there an invalid label
makes its row NaN.
"""

import math
import os
from itertools import count
from typing import Any

import torch
from torch.autograd import forward_ad

from crossent import _numpy_native as native
from crossent import _torch_formula
from crossent._row_stats import RowOptions, RowStatistics
from crossent.errors import ArgumentError

_C = torch._C
_STRIDED = torch.strided
_CPU = torch.device("cpu")
# By the numbers of crossent::Number in native/arrays.h.
_NUMBERS = {
    dtype: number
    for number, dtype in enumerate(
        (
            *(torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.bool),
            *(torch.int8, torch.int16, torch.int32, torch.int64),
            *(torch.uint8, torch.uint16, torch.uint32, torch.uint64),
        )
    )
}
_MOST_AXES = 31  # of logits in the row statistics
_PLAIN_TYPES = (torch.Tensor, torch.nn.Parameter)

# What a loss was asked for, beside its tensors: whether softmax, axis, label_smoothing,
# ignore_index, temperature, softcap, z_loss, reduction. A tuple, because operators take no more.
_Options = tuple[bool, int, float, int | None, float, float | None, float, str]

# Read once: torch.compile would look at the whole environment before each call.
_IS_CHECKED = os.environ.get("CROSSENT_CHECK") == "1"

# How the call reads tensors; None in PyTorch before 2.10: there it gets their places.
_EXCHANGE = native.core and native.core.tensor_exchange(torch.Tensor)

_MOST_AXES = 32  # of the native core, which leaves out others by itself where it reads tensors

# PyTorch before 2.7 does not tell: there all that is compiled can be differentiated later.
_is_exporting: Any = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)

# By the dtype of the logits. Made when they are needed: whoever imports may fake all tensors.
_number_like: dict[Any, Any] = {}


def fused_softmax_loss(
    labels: Any,
    logits: Any,
    axis: Any,
    class_weight: Any,
    sample_weight: Any,
    label_smoothing: float,
    ignore_index: Any,
    temperature: float,
    softcap: float | None,
    z_loss: float,
    reduction: str,
    normalizer: Any,
    request: Any,
) -> Any:
    """The linear softmax loss; None: go the general way. Request "inplace" as in `_fused`."""
    return _fused(
        logits,
        labels,
        class_weight,
        sample_weight,
        normalizer,
        (True, axis, label_smoothing, ignore_index, temperature, softcap, z_loss, reduction),
        request,
    )


def fused_sigmoid_loss(
    labels: Any,
    logits: Any,
    pos_weight: Any,
    sample_weight: Any,
    label_smoothing: float,
    ignore_index: Any,
    reduction: str,
    normalizer: Any,
    request: Any,
) -> Any:
    """The same for the sigmoid loss, where every element is a row."""
    return _fused(
        logits,
        labels,
        pos_weight,
        sample_weight,
        normalizer,
        (False, -1, label_smoothing, ignore_index, 1.0, None, 0.0, reduction),
        request,
    )


def _fused(
    logits: Any,
    labels: Any,
    weight: Any,
    sample_weight: Any,
    normalizer: Any,
    options: _Options,
    request: Any,
) -> Any:
    """The loss, or None; with the request "inplace" the logits become their gradient."""
    if is_traced():
        return _compiled(logits, labels, weight, sample_weight, normalizer, options)
    tensors = logits, labels, weight, sample_weight
    if native.core is None or is_watched() or not _takes(tensors, options[1]):
        return None
    normalizer = None if normalizer is None else _number(normalizer)
    differentiate = _C.is_grad_enabled() and _differentiate(*tensors)
    if differentiate is None:
        return None
    gradient: Any = None
    if options[-1] == "none":
        result = _new_losses(logits, options)
    else:
        result = _new_number(logits.dtype)
        if differentiate:
            if logits.layout is not _STRIDED:
                return None
            gradient = torch.empty_like(logits) if request is None else _overwritten(logits)
    if not _call(tensors, normalizer, options, 1.0, result, gradient):
        return None
    if not differentiate:
        return result
    if gradient is logits:  # autograd will tell whoever needs them as they were
        torch.autograd.graph.increment_version(logits)
    return _apply(logits, (tensors, normalizer, options, result, gradient))


def _number(normalizer: Any) -> float:
    """As a Python number; NaN, which no loss takes, for what is none."""
    if type(normalizer) is torch.Tensor and normalizer.ndim == 0 and normalizer.is_cpu:
        normalizer = normalizer.item()
    if type(normalizer) is int and not _fits_int64(normalizer):
        return math.nan
    return float(normalizer) if type(normalizer) in (float, int) else math.nan


def _takes(tensors: tuple[Any, Any, Any, Any], axis: Any) -> bool:
    """Whether the call may look at these; it sees by itself whether they fit."""
    logits, labels, weight, sample_weight = tensors
    if labels is None:
        return False
    # Absent weights, which are usual, are not looped over.
    for tensor in (logits, labels) if weight is None and sample_weight is None else tensors:
        if tensor is not None and (type(tensor) not in _PLAIN_TYPES or tensor.is_neg()):
            return False
    if type(axis) is not int or (axis != -1 and not -logits.ndim <= axis < logits.ndim):
        return False
    return bool(logits.is_cpu)


def _differentiate(logits: Any, *others: Any) -> bool | None:
    """Whether in the logits; None: in something else too."""
    for other in others:
        if other is not None and other.requires_grad:
            return None
    return bool(logits.requires_grad)


class _FusedLoss(torch.autograd.Function):
    """A loss that is computed already, and its gradient too unless it depends on upstream."""

    @staticmethod
    def forward(ctx: Any, logits: Any, computed: Any) -> Any:
        tensors, ctx.normalizer, ctx.options, result, gradient = computed
        # The gradient too, so that checkpointing can drop it and offloading can move it.
        ctx.save_for_backward(*tensors, gradient)
        ctx.uses = count()  # a flag could be read by two threads before one of them sets it
        ctx.is_inplace = gradient is logits
        return result

    @staticmethod
    def backward(ctx: Any, upstream: Any) -> Any:
        *tensors, gradient = ctx.saved_tensors
        if ctx.is_inplace:
            return _written_over(ctx, gradient, upstream), None
        if is_traced() and not _C.is_grad_enabled():  # compiled autograd
            arguments = *tensors, _as_tensor(ctx.normalizer), *ctx.options
            return torch.ops.crossent.linear_loss_gradient(upstream, *arguments), None
        if _C.is_grad_enabled() or is_watched() or not _is_plain_upstream(upstream):
            return _differentiable_gradient(tensors, ctx.normalizer, ctx.options, upstream), None
        # Given away once; whoever got it may write to it, and a second backward computes anew. So
        # nobody else sees it yet, and with another upstream it is computed again where it is.
        into = gradient.data if gradient is not None and next(ctx.uses) == 0 else None
        if into is not None and upstream.item() == 1:
            return into, None
        gradient = _gradient(tensors, ctx.normalizer, ctx.options, upstream, into)
        if gradient is None:
            raise ArgumentError(
                "labels must stay as they are until backward is done; got others, that are not "
                "allowed. Pass a copy of an array that is written to again."
            )
        return gradient, None


# Function.apply without its own lines, a third of its time: they are for torch.func.
_apply: Any = super(torch.autograd.Function, _FusedLoss).apply


def _written_over(ctx: Any, gradient: Any, upstream: Any) -> Any:
    """The gradient that the logits have become: there is no other, and no way back to them."""
    if _C.is_grad_enabled() or next(ctx.uses) > 0:
        raise ArgumentError(
            "inplace must be False where backward runs twice or is itself differentiated; got "
            "logits that are overwritten. Leave inplace away."
        )
    gradient, by = gradient.data, upstream.item()
    if by == 1:
        return gradient
    if by == 0:  # not 0 times NaN
        return gradient.zero_()
    if not math.isfinite(by):  # nor infinity times 0, in rows that do not count
        return gradient.copy_(torch.where(gradient == 0, gradient, gradient * by))
    return gradient.mul_(upstream)


def is_traced() -> bool:
    """Whether this thread records a program; PyTorch's own flag is one for all threads."""
    if torch.compiler.is_dynamo_compiling():
        return True
    return torch.compiler.is_compiling() and _C._len_torch_dispatch_stack() > 0


def is_watched() -> bool:
    """Whether more than autograd wants to see each operation."""
    return (
        _C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
        or _C._len_torch_dispatch_stack() > 0
        or _C._get_tracing_state() is not None
    )


def is_plain(tensor: Any) -> bool:
    """Whether a value lies in memory as it says, and in a dtype that the kernels read."""
    return (
        type(tensor) in _PLAIN_TYPES
        and tensor.is_cpu
        and tensor.layout is _STRIDED
        and tensor.dtype in _NUMBERS
        and not tensor.is_neg()
        and not tensor._is_zerotensor()  # zeros without memory
    )


def _is_plain_upstream(tensor: Any) -> bool:
    # is_grads_batched=True hands a batch to backward of which torch.func knows nothing.
    return is_plain(tensor) and not _C._functorch.is_legacy_batchedtensor(tensor)


def _rows(shape: Any, options: _Options) -> Any:
    """The shape of the losses; anything for an axis that does not exist, which the call sees."""
    is_softmax, axis, *_ = options
    if not is_softmax:
        return shape
    return shape[:-1] if axis == -1 else (*shape[:axis], *shape[axis % len(shape) + 1 :])


def _call(
    tensors: tuple[Any, Any, Any, Any],
    normalizer: float | None,
    options: _Options,
    upstream: Any,
    result: Any,
    gradient: Any,
    *,
    invalid_is_nan: bool = False,
) -> bool:
    """The native call, which writes to result and gradient where they are wanted.

    False where an argument is not what the loss allows.
    """
    ignore_index = options[3]
    if ignore_index is not None and not (type(ignore_index) is int and _fits_int64(ignore_index)):
        return False
    value, losses, rows = result, None, None
    if options[-1] == "none":
        value, losses = None, result
    if type(upstream) is not float:
        if losses is None:
            upstream = upstream.item()
        else:
            upstream, rows = 1.0, upstream
    arrays: tuple[Any, ...] = (*tensors, rows, value, losses, gradient)
    if _EXCHANGE is None:
        if not all(array is None or _has_place(array) for array in arrays):
            return False
        arrays = tuple(None if array is None else _place(array) for array in arrays)
    threads = torch.get_num_threads()
    answer = native.core.linear_loss_at(
        _EXCHANGE, *arrays, *options, normalizer, upstream, invalid_is_nan, threads
    )
    return answer is not None


def _has_place(tensor: Any) -> bool:
    return is_plain(tensor) and not tensor.is_nested and tensor.ndim <= _MOST_AXES


def _place(tensor: Any) -> tuple[int, int, Any, Any]:
    return tensor.data_ptr(), _NUMBERS[tensor.dtype], tensor.shape, tensor.stride()


def _fits_int64(number: int) -> bool:
    return -(2**63) <= number < 2**63


def _follow_threads() -> None:
    native.core.follow_threads(torch.get_num_threads())


def _gradient(
    tensors: tuple[Any, Any, Any, Any],
    normalizer: float | None,
    options: _Options,
    upstream: Any,
    into: Any = None,
    *,
    invalid_is_nan: bool = False,
) -> Any:
    """The gradient in the logits, in new memory unless some is given; None as in `_call`."""
    logits = tensors[0]
    gradient = torch.empty_like(logits) if into is None else into
    # The kernel wants a place for the losses.
    result = _new_losses(logits, options) if options[-1] == "none" else None
    is_done = _call(
        tensors, normalizer, options, upstream, result, gradient, invalid_is_nan=invalid_is_nan
    )
    return gradient if is_done else None


def _result_dtype(dtype: Any) -> Any:
    return torch.float64 if dtype is torch.float64 else torch.float32


def _new_losses(logits: Any, options: _Options) -> Any:
    shape = _rows(logits.shape, options)
    return torch.empty(shape, dtype=_result_dtype(logits.dtype), device=_CPU)


def _new_number(dtype: Any) -> Any:
    """A tensor for the value of a loss of logits of that dtype."""
    like = _number_like.get(dtype)
    if like is None:
        like = _number_like[dtype] = torch.zeros((), dtype=_result_dtype(dtype), device=_CPU)
    return torch.empty_like(like)  # half the time of torch.empty


def _overwritten(logits: Any) -> Any:
    """The memory for a gradient in place of the logits."""
    base = logits._base
    if logits.is_leaf or (base is not None and base.is_leaf and base.requires_grad):
        raise ArgumentError(
            "inplace must be False for logits that are a leaf, or a view of one; got a tensor that "
            "gradients are collected for. Leave inplace away."
        )
    # A float16 gradient that is rounded before upstream scales it may vanish.
    if logits.dtype is torch.float16:
        return torch.empty_like(logits)
    # Elements that share memory, as expand() makes them, have a gradient each.
    dense = logits.is_contiguous() or torch.empty_like(logits).stride() == logits.stride()
    return logits if dense else torch.empty_like(logits)


def _differentiable_gradient(tensors: Any, normalizer: Any, options: Any, upstream: Any) -> Any:
    """The gradient as something that can be differentiated: that of the losses' general way."""
    create_graph = _C.is_grad_enabled()
    with torch.enable_grad():
        logits = tensors[0].view_as(tensors[0])  # without the hooks of the caller's tensor
        value = _general_loss((logits, *tensors[1:]), normalizer, options)
        (gradient,) = torch.autograd.grad(value, logits, upstream, create_graph=create_graph)
    return gradient


def _general_loss(tensors: Any, normalizer: Any, options: _Options) -> Any:
    """The same loss from the formula, which checks values where they are at hand."""
    # The one import upwards: nobody's hot path comes here.
    from crossent import losses

    logits, labels, weight, sample_weight = tensors
    is_softmax, axis, smoothing, ignore_index, temperature, softcap, z_loss, reduction = options
    common = {
        "labels": labels,
        "logits": logits,
        "sample_weight": sample_weight,
        "label_smoothing": smoothing,
        "ignore_index": ignore_index,
        "reduction": reduction,
        "normalizer": normalizer,
    }
    if not is_softmax:
        return losses.linear_loss_unfused("sigmoid", **common, pos_weight=weight)
    return losses.linear_loss_unfused(
        "softmax",
        **common,
        axis=axis,
        class_weight=weight,
        temperature=temperature,
        softcap=softcap,
        z_loss=z_loss,
    )


# ---- row statistics, for the losses that are no linear ones


def namespace(*arrays: Any) -> Any:
    """The functions that losses are written in: with native row statistics where they can be."""
    if (
        is_traced()
        or native.core is None
        or is_watched()
        or not all(is_plain(a) for a in arrays if isinstance(a, torch.Tensor))
    ):
        return _torch_formula.namespace(*arrays)
    return _NativeFunctions(_CPU, torch.float64)


class _NativeFunctions(_torch_formula.Functions):
    def row_statistics(
        self, logits: Any, labels: Any, class_weight: Any, options: RowOptions
    ) -> RowStatistics:
        if not (is_plain(logits) and is_plain(labels) and logits.ndim <= _MOST_AXES):
            return super().row_statistics(logits, labels, class_weight, options)
        apply: Any = _Statistics.apply
        stacked = apply(logits, labels, class_weight, options)
        return RowStatistics(*stacked.unbind())

    def hide(self, scores: Any, idle: Any, fill: float) -> Any:
        """As in the formula; rows are only copied where something is to be hidden."""
        values = scores.detach()[torch.broadcast_to(idle, scores.shape[:-1])]
        peak = torch.amax(values, dim=-1) if values.numel() else values
        return scores if torch.isfinite(peak).all() else super().hide(scores, idle, fill)


class _Statistics(torch.autograd.Function):
    """The seven statistics of each row, stacked on a new first axis, in float64."""

    @staticmethod
    def forward(ctx: Any, logits: Any, labels: Any, class_weight: Any, options: RowOptions) -> Any:
        _follow_threads()
        ctx.save_for_backward(logits, labels, class_weight)
        ctx.row_options = options
        shape = len(RowStatistics._fields), *logits.shape[:-1]
        statistics = torch.empty(shape, dtype=torch.float64, device=_CPU)
        native.core.row_statistics(
            *_handed(logits),
            *_handed(labels),
            _weights(class_weight),
            options.with_mean,
            options.temperature,
            options.softcap,
            statistics.numpy(),
        )
        return statistics

    @staticmethod
    def backward(ctx: Any, upstream: Any) -> Any:
        logits, labels, class_weight = arrays = ctx.saved_tensors
        options, wanted = ctx.row_options, ctx.needs_input_grad[:3]
        is_native = wanted == (True, False, False) and _is_plain_upstream(upstream)
        if is_native and not (_C.is_grad_enabled() or is_watched()):
            _follow_threads()
            gradient = torch.empty_like(logits)
            by = RowStatistics(*(_coefficients(of_rows) for of_rows in upstream))
            native.core.row_gradient(
                *(by.log_sum, by.label_gap, by.nll, by.mean_gap),
                *_handed(logits),
                *((None, False) if by.nll is None and by.label_gap is None else _handed(labels)),
                _weights(class_weight),
                options.temperature,
                options.softcap,
                _handed(gradient)[0],
            )
            return gradient, None, None, None
        create_graph = _C.is_grad_enabled()
        with torch.enable_grad():
            xp = _torch_formula.namespace(*arrays)
            # Without the hooks of the caller's tensors.
            arrays = [a.view_as(a) if w else a for a, w in zip(arrays, wanted, strict=True)]
            x, labels, class_weight = arrays
            # A batch of upstreams hides no rows that another one counts.
            is_batch = _C._functorch.is_legacy_batchedtensor(upstream)
            if not (is_batch or _C._are_functorch_transforms_active()):
                x = xp.hide(x, (upstream == 0).all(dim=0), 0.0)
            stacked = torch.stack(xp.row_statistics(x, labels, class_weight, options))
            inputs = [a for a, w in zip(arrays, wanted, strict=True) if w]
            gradients = iter(
                torch.autograd.grad(
                    stacked, inputs, upstream, create_graph=create_graph, allow_unused=True
                )
            )
        return *(next(gradients) if w else None for w in wanted), None


def _handed(tensor: Any) -> tuple[Any, bool]:
    """The same memory as NumPy sees it, and whether it is bfloat16, which NumPy does not know."""
    tensor = tensor.detach()
    if tensor.dtype is torch.bfloat16:
        return tensor.view(torch.uint16).numpy(), True
    return tensor.numpy(), False


def _weights(class_weight: Any) -> Any:
    if class_weight is None:
        return None
    return class_weight.detach().to(torch.float64).contiguous().numpy()


def _coefficients(of_rows: Any) -> Any:
    """One coefficient per row; one that is 0 everywhere is left out with its term."""
    return of_rows.contiguous().numpy() if of_rows.any() else None


# ---- compiled programs


def _compiled(
    logits: Any, labels: Any, weight: Any, sample_weight: Any, normalizer: Any, options: _Options
) -> Any:
    """The custom operator, where its arguments fit by shape and kind."""
    # The operator would drop a tangent without a word, also one from outside of what is compiled.
    if _C._are_functorch_transforms_active() or forward_ad._current_level >= 0:
        return None
    if not _fits(logits, labels, weight, sample_weight, options):
        return None
    if type(normalizer) in (float, int):
        normalizer = _as_tensor(normalizer)
    elif normalizer is not None:
        if not (isinstance(normalizer, torch.Tensor) and normalizer.ndim == 0):
            return None
        normalizer = normalizer.detach()
    operators = torch.ops.crossent
    if _IS_CHECKED:
        checked = operators.checked_labels
        labels = checked(logits, labels, weight, sample_weight, normalizer, *options)
    # An exported program may be differentiated later.
    is_differentiable = _C.is_grad_enabled() or _is_exporting()
    operator = operators.linear_loss if is_differentiable else operators.linear_loss_value
    return operator(logits, labels, weight, sample_weight, normalizer, *options)


def _as_tensor(number: float | None) -> Any:
    return None if number is None else torch.full((), number, dtype=torch.float64, device=_CPU)


def _is_tensor(value: Any) -> bool:
    """A tensor on the CPU of a dtype that the kernels read, without a gradient of its own."""
    return (
        isinstance(value, torch.Tensor)
        and value.device.type == "cpu"
        and value.dtype in _NUMBERS
        and not (value.requires_grad and _C.is_grad_enabled())
    )


def _fits(logits: Any, labels: Any, weight: Any, sample_weight: Any, options: _Options) -> bool:
    """What `_call` finds out by itself in eager: shapes and kinds."""
    is_softmax, axis, _, ignore_index, *_ = options
    if native.core is None or not (
        isinstance(logits, torch.Tensor)
        and logits.device.type == "cpu"
        and logits.is_floating_point()
        and logits.dtype in _NUMBERS
        and _is_tensor(labels)
        and all(w is None or _is_tensor(w) for w in (weight, sample_weight))
        and (ignore_index is None or (type(ignore_index) is int and _fits_int64(ignore_index)))
    ):
        return False
    shape, rank = logits.shape, logits.ndim
    if not is_softmax:
        rows, last = shape, shape[-1:]
        # No `in`, by which torch.compile compares no sizes that it leaves open.
        fit = labels.shape == shape or labels.shape == (*shape, 1) or (*labels.shape, 1) == shape
        # A label is a double there.
        fit = fit and (ignore_index is None or -(2**53) < ignore_index < 2**53)
        one = weight is None or weight.shape in ((), (1,))
    else:
        if type(axis) is not int or not -rank <= axis < rank or shape[axis] == 0:
            return False
        rows, last = _rows(shape, options), shape[axis : axis % rank + 1]
        is_integer = not labels.is_floating_point() and labels.dtype is not torch.bool
        is_ids = labels.shape == rows and is_integer
        is_soft = labels.shape == shape and shape[axis] > 1 and ignore_index is None
        fit, one = is_ids or is_soft, weight is None
    return (
        fit
        and (one or weight.shape == last)
        and (sample_weight is None or _broadcasts(sample_weight.shape, rows))
    )


def _broadcasts(shape: Any, rows: Any) -> bool:
    """Whether weights go with the rows from the leading axes."""
    return len(shape) <= len(rows) and all(n in (1, m) for n, m in zip(shape, rows, strict=False))


# Of all operators. Without defaults, which Inductor would write out as keywords: they are slow.
_PARAMETERS = (
    "Tensor logits, Tensor labels, Tensor? weight, Tensor? sample_weight, Tensor? normalizer, "
    "bool is_softmax, SymInt axis, float label_smoothing, SymInt? ignore_index, "
    "float temperature, float? softcap, float z_loss, str reduction"
)


def _linear_loss(*arguments: Any) -> Any:
    tensors, normalizer, options = arguments[:4], arguments[4], arguments[5:]
    divisor = None if normalizer is None else normalizer.item()
    is_none = options[-1] == "none"
    logits = tensors[0]
    result = _new_losses(logits, options) if is_none else _new_number(logits.dtype)
    is_done = _call(tensors, divisor, options, 1.0, result, None, invalid_is_nan=True)
    return _answer(result if is_done else None)


def _linear_loss_gradient(upstream: Any, *arguments: Any) -> Any:
    tensors, normalizer, options = arguments[:4], arguments[4], arguments[5:]
    divisor = None if normalizer is None else normalizer.item()
    return _answer(_gradient(tensors, divisor, options, upstream, invalid_is_nan=True))


def _checked_labels(*arguments: Any) -> Any:
    """The labels, once the general way has found nothing to say about any argument."""
    _general_loss(arguments[:4], arguments[4], arguments[5:])
    return arguments[1].clone()


def _answer(of_kernel: Any) -> Any:
    if of_kernel is None:
        raise RuntimeError("crossent: a kernel refuses what was compiled for it; please report it")
    return of_kernel


def _fake_loss(logits: Any, *arguments: Any) -> Any:
    options = arguments[4:]
    rows = _rows(logits.shape, options) if options[-1] == "none" else ()
    return logits.new_empty(rows, dtype=_result_dtype(logits.dtype))


def _fake_gradient(upstream: Any, logits: Any, *arguments: Any) -> Any:
    return torch.empty_like(logits)


def _fake_labels(logits: Any, labels: Any, *arguments: Any) -> Any:
    return torch.empty_like(labels)


class _OperatorLoss(torch.autograd.Function):
    """`linear_loss` for autograd, which a compiler follows down to the other two operators."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Any:
        ctx.save_for_backward(*arguments[:5])
        ctx.options = arguments[5:]
        # torch.compile differentiates what it records; whoever else records it cannot later.
        if is_traced() and not _is_exporting():
            return torch.ops.crossent.linear_loss_value(*arguments)
        with _C._AutoDispatchBelowAutograd():
            return torch.ops.crossent.linear_loss(*arguments)

    @staticmethod
    def backward(ctx: Any, upstream: Any) -> Any:
        if any(ctx.needs_input_grad[1:4]):
            raise ArgumentError(
                "labels and weights must need no gradient in a program that was exported without; "
                "got some that do. Export it with tensors that require one."
            )
        *tensors, normalizer = ctx.saved_tensors
        if _C.is_grad_enabled():
            gradient = _differentiable_gradient(tensors, normalizer, ctx.options, upstream)
        else:
            gradient = torch.ops.crossent.linear_loss_gradient(
                upstream, *tensors, normalizer, *ctx.options
            )
        return (gradient, *[None] * (4 + len(ctx.options)))


def _differentiable_loss(*arguments: Any) -> Any:
    # Transforms of an exported program, which a function would keep from it.
    if forward_ad._current_level >= 0 or _C._are_functorch_transforms_active():
        return _general_loss(arguments[:4], arguments[4], arguments[5:])
    apply: Any = _OperatorLoss.apply
    return apply(*arguments)


# Not torch.library.custom_op, which doubles what a call costs. And a kernel for autograd only where
# it is needed: a program that is compiled already goes through it at each call.
_make_library: Any = torch.library.Library
_library = _make_library("crossent", "DEF")
_GRADIENT_PARAMETERS = "Tensor upstream, " + _PARAMETERS
for _name, _parameters, _fake in (
    ("linear_loss", _PARAMETERS, _fake_loss),
    ("linear_loss_value", _PARAMETERS, _fake_loss),
    ("linear_loss_gradient", _GRADIENT_PARAMETERS, _fake_gradient),
    ("checked_labels", _PARAMETERS, _fake_labels),
):
    _library.define(f"{_name}({_parameters}) -> Tensor", tags=torch.Tag.pt2_compliant_tag)
    torch.library.register_fake(f"crossent::{_name}", _fake, lib=_library)
_library.impl("checked_labels", _checked_labels, "CPU")
_library.impl("linear_loss", _differentiable_loss, "Autograd")
# Kernels in Python where PyTorch, before 2.10, has no interface for those in C++.
if not (native.core and native.core.register_torch_operators(_C.__file__)):
    _library.impl("linear_loss", _linear_loss, "CPU")
    _library.impl("linear_loss_value", _linear_loss, "CPU")
    _library.impl("linear_loss_gradient", _linear_loss_gradient, "CPU")
