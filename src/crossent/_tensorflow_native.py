"""The native losses as TensorFlow ops: loading them, calling them, and their derivatives.

Each loss has three ops, see native/tensorflow_op.cpp. `Loss` and `LossGradient` are differentiated:
in the logits by `LossGradient`, natively; in distributions and weights, and a second time, by the
loss's general way on the formula. `LossWithGradient` computes the gradient beside the loss while a
tape records; then `Loss` only passes the loss on, and `LossGradient` the gradient, unless what
flows back is not 1.

XLA has none of these ops. A function that it compiles gets foreign calls in their place, with the
same derivatives.
"""

import ctypes
import operator
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow.python.eager import record
from tensorflow.python.framework import ops as tf_ops
from tensorflow.python.ops import control_flow_util

from crossent import _checks, _numpy_native, _tensorflow_xla
from crossent._tensorflow_formula import on_cpu
from crossent._threads import register_with_threadpoolctl
from crossent.errors import ShapeError

# The dtype of a loss by that of its logits.
_RESULTS = {
    tf.float16: tf.float32,
    tf.bfloat16: tf.float32,
    tf.float32: tf.float32,
    tf.float64: tf.float64,
}
_INTEGERS = {tf.as_dtype(name) for name in _checks.INTEGERS}
_NUMBERS = {*_RESULTS, *_INTEGERS, tf.bool}
_KNOWN = {dtype.name for dtype in _NUMBERS}
_WIDE = (tf.float32, tf.float64)  # of the normalizer in the ops


def _ops_file() -> Path:
    return Path(_numpy_native.core.__file__).with_name("_tensorflow_op.so")


def _open() -> tuple[Any, str]:
    """The ops, where there are some for this processor; what runs, as `kernel_for` says."""
    if _numpy_native.core is None:
        return None, _numpy_native.kernel
    file = _ops_file()
    if not file.exists():
        return None, "formula: the native TensorFlow ops are missing"
    try:
        return _load(file), _numpy_native.kernel
    except (OSError, tf.errors.OpError) as error:
        return None, f"formula: the native TensorFlow ops do not load, {error}"


def _load(file: Path) -> Any:
    try:
        return tf.load_op_library(str(file))
    except tf.errors.NotFoundError:
        # Up to TensorFlow 2.18 its symbols are not shown to other libraries.
        framework = Path(tf.sysconfig.get_lib()) / "libtensorflow_framework.so.2"
        ctypes.CDLL(str(framework), ctypes.RTLD_GLOBAL)
        return tf.load_op_library(str(file))


# Without ops the formula runs; tests put None here.
ops, kernel = _open()
# Whether XLA can call the kernels; tests put False here.
xla_calls = ops is not None and _tensorflow_xla.register(_ops_file())


class _Family(NamedTuple):
    """The ops of one loss."""

    name: str
    word: str
    factor: str  # the weights of the classes, or of the positive labels
    numbers: tuple[str, ...]  # options that are floats: attributes hold their bits
    attributes: tuple[str, ...]

    def op(self, form: str) -> Any:
        """One of the three: "", "_with_gradient", "_gradient"."""
        return getattr(ops, f"crossent_{self.word}_loss{form}")


_ATTRIBUTES = ("has_ignored", "ignored", "reduction", "invalid_is_nan")
SOFTMAX = _Family(
    "CrossentSoftmaxLoss",
    "softmax",
    "class_weight",
    ("label_smoothing", "temperature", "softcap", "z_loss"),
    ("axis", *_ATTRIBUTES),
)
_MOST_AXES = 31  # the ops take no more, nor do those of TensorFlow that the formula needs
_REDUCTIONS = ("none", "sum", "mean", "mean_all")  # as the native core counts them
SIGMOID = _Family("CrossentSigmoidLoss", "sigmoid", "pos_weight", ("label_smoothing",), _ATTRIBUTES)


# ---- calls


class _UnusualError(Exception):
    """An argument is in a form that only the general way takes."""


def in_xla() -> bool:
    """Whether the function that is being traced will be compiled by XLA, which has none of our ops.

    `jit_compile=True` enters this context before it traces, and TensorFlow's own ops ask the same.
    """
    return bool(control_flow_util.GraphOrParentsInXlaContext(tf_ops.get_default_graph()))


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
    _request: Any,
) -> Any:
    """The linear softmax loss; None: go the general way."""
    if type(axis) is not int:
        return None
    options = {
        "axis": axis,
        "temperature_bits": _bits(temperature),
        "softcap_bits": 0 if softcap is None else _bits(softcap),
        "z_loss_bits": _bits(z_loss),
    }
    weights = class_weight, sample_weight, normalizer
    shared = label_smoothing, ignore_index, reduction
    return _fused(SOFTMAX, labels, logits, weights, shared, options)


def fused_sigmoid_loss(
    labels: Any,
    logits: Any,
    pos_weight: Any,
    sample_weight: Any,
    label_smoothing: float,
    ignore_index: Any,
    reduction: str,
    normalizer: Any,
    _request: Any,
) -> Any:
    """The same for the sigmoid loss, where every element is a row."""
    if ignore_index is not None and abs(operator.index(ignore_index)) >= 2**53:
        return None  # labels are compared as doubles there, and a graph could not turn back
    weights = pos_weight, sample_weight, normalizer
    shared = label_smoothing, ignore_index, reduction
    return _fused(SIGMOID, labels, logits, weights, shared, {})


def _fused(
    family: _Family,
    labels: Any,
    logits: Any,
    weights: tuple[Any, Any, Any],
    shared: tuple[float, Any, str],
    options: dict[str, Any],
) -> Any:
    if ops is None:
        return None
    register_with_threadpoolctl()
    smoothing, ignore_index, reduction = shared
    eager = tf.executing_eagerly()
    rows = None
    try:
        x, z = _tensor(logits), _tensor(labels)
        wide = _RESULTS.get(x.dtype)
        if wide is None or z.dtype not in _NUMBERS or not on_cpu(x):
            return None
        if x.shape.rank is not None and x.shape.rank > _MOST_AXES:
            raise ShapeError(
                f"logits must have at most {_MOST_AXES} axes; got {x.shape.rank}. "
                "Join axes of the batch with tf.reshape."
            )
        lists = [[] if w is None else [_weight(w)] for w in weights]
        lists[2] = [w if w.dtype in _WIDE else tf.cast(w, tf.float64) for w in lists[2]]
        if not eager:
            if os.environ.get("CROSSENT_CHECK") == "1":
                return None
            if in_xla() and not (xla_calls and all(map(_has_length, (x, z)))):
                return None
            rows = _rows_of_node(x, z, options.get("axis"), ignore_index, lists)
        options |= {
            family.factor: lists[0],
            "sample_weight": lists[1],
            "normalizer": lists[2],
            "label_smoothing_bits": _bits(smoothing),
            "has_ignored": ignore_index is not None,
            "ignored": _index(ignore_index),
            "reduction": reduction,
            "invalid_is_nan": not eager,
        }
        if not eager and in_xla():
            names = (family.factor, "sample_weight", "normalizer")
            given = {name: options.pop(name)[0] for name in names if options[name]}
            loss = _called_in_xla(family, {"logits": x, "labels": z, **given}, options)
        else:
            loss = _called(family, x, z, wide, reduction, options)
    except (_UnusualError, tf.errors.InvalidArgumentError):
        return None  # the general way says what is wrong
    if not eager:
        loss.set_shape(rows if reduction == "none" else ())
    return loss


def _called(
    family: _Family, x: Any, z: Any, wide: Any, reduction: str, options: dict[str, Any]
) -> Any:
    computed = []
    if _saves_gradient(x, reduction):
        computed = list(family.op("_with_gradient")(logits=x, labels=z, R=wide, **options))
    return family.op("")(logits=x, labels=z, computed=computed, R=wide, **options)


def _saves_gradient(x: Any, reduction: str) -> bool:
    """Whether the gradient is computed beside the loss.

    Row losses are mostly reduced by the caller, and then what flows back is not 1. Nor is it in
    float16, where losses are scaled so that the gradient does not vanish before it is rounded.
    """
    saves = reduction != "none" and x.dtype != tf.float16
    return saves and bool(record.could_possibly_record())


def _called_in_xla(family: _Family, arrays: dict[str, Any], attributes: dict[str, Any]) -> Any:
    saves = _saves_gradient(arrays["logits"], attributes["reduction"])

    def loss(*values: Any) -> Any:
        node = _Node(family, attributes, dict(zip(arrays, values, strict=True))).here()
        value, *computed = node.foreign_call(saves)
        # Its derivatives are those of `_gradient_in_xla`; the call by itself has none.
        computed = [tf.stop_gradient(gradient) for gradient in computed]

        def derivatives(upstream: Any) -> list[Any]:
            upstream = tf.convert_to_tensor(upstream)  # IndexedSlices where `gather` follows
            return node.in_order(
                {"logits": _gradient_in_xla(node, upstream, computed)} | node.by_formula(upstream)
            )

        return value, derivatives

    return tf.custom_gradient(loss)(*arrays.values())


def _gradient_in_xla(of: "_Node", upstream: Any, computed: list[Any]) -> Any:
    def gradient(upstream: Any, *values: Any) -> Any:
        node = _Node(of.family, of.attributes, dict(zip(of.arrays, values, strict=True))).here()
        upstream = tf.identity(upstream)
        if computed:
            found = tf.cast(tf.cast(computed[0], upstream.dtype) * upstream, computed[0].dtype)
        else:
            _, found = node.foreign_call(True, upstream)

        def derivatives(again: Any) -> list[Any]:
            again = tf.convert_to_tensor(again)
            below, gradients = node.second_by_formula(upstream, again)
            return [below, *node.in_order(gradients)]

        return found, derivatives

    return tf.custom_gradient(gradient)(upstream, *of.arrays.values())


# Their results are as long as the data has it. XLA fills them up and counts; a foreign call it
# gives no such array.
_OF_LENGTHS_IN_DATA = {"DynamicPartition", "Unique", "UniqueV2", "Where"}


def _has_length(tensor: Any) -> bool:
    """Whether XLA knows a tensor's length when it compiles, as far as this graph can tell."""
    if tensor.shape.is_fully_defined():
        return True
    seen, waiting = set(), [tensor]
    while waiting:
        tensor = waiting.pop()
        if isinstance(tensor, tf_ops.EagerTensor) or tensor.op in seen:
            continue
        seen.add(tensor.op)
        if tensor.op.type in _OF_LENGTHS_IN_DATA:
            return False
        waiting += tensor.op.inputs
        if tensor.op.type == "Placeholder":  # a branch's, of the graph around it
            captured = getattr(tensor.graph, "captures", ())
            waiting += [outer for outer, inner in captured if inner is tensor]
    return True


def _tensor(value: Any) -> Any:
    if isinstance(value, tf.Tensor):
        return value
    if isinstance(value, tf.Variable):
        return tf.convert_to_tensor(value)
    if isinstance(value, (int, float, np.generic)):
        try:
            value = np.asarray(value)
        except OverflowError:
            raise _UnusualError from None
    # NumPy's subclasses have rules of their own: a masked array, a matrix. Lists may hold tensors.
    if type(value) is np.ndarray and value.dtype.name in _KNOWN:
        return tf.convert_to_tensor(value)
    raise _UnusualError


def _weight(value: Any) -> Any:
    tensor = _tensor(value)
    if tensor.dtype not in _NUMBERS:
        raise _UnusualError
    return tensor


def _rows_of_node(
    x: Any, z: Any, axis: int | None, ignore_index: Any, lists: list[list[Any]]
) -> Any:
    """The shape of the row losses of a graph's node, from shapes that fit as far as is known.

    What turns out not to fit when the graph runs is an error then, without our words for it.
    """
    tensors = [x, z, *(w for weight in lists for w in weight)]
    if any(t.shape.rank is None for t in tensors):
        raise _UnusualError
    shape, of_labels = tuple(x.shape), tuple(z.shape)
    factor, sample_weight, normalizer = (tuple(w[0].shape) if w else None for w in lists)
    if normalizer not in (None, ()):
        raise _UnusualError
    if axis is None:
        _checks.elementwise(of_labels, shape)
        if factor is not None:
            _checks.pos_weight(factor, shape)
        rows = shape
    else:
        last = _checks.class_axis(axis, len(shape))
        _checks.classes("logits", shape, last)
        classes = shape[last]
        is_soft = _checks.is_distribution(of_labels, z.dtype.name, shape, last)
        _checks.ignore_index(ignore_index, is_soft)
        one_class = classes == 1 and len(of_labels) == len(shape)  # ids or a distribution?
        if one_class or (not is_soft and z.dtype not in _INTEGERS):
            raise _UnusualError
        if factor is not None:
            _checks.class_weight(factor, classes)
        rows = shape[:last] + shape[last + 1 :]
    if sample_weight is not None:
        _checks.row_weight_shape(sample_weight, rows)
    return rows


def _index(ignore_index: Any) -> int:
    if ignore_index is None:
        return 0
    if isinstance(ignore_index, (int, np.integer)) and not isinstance(ignore_index, bool):
        index = operator.index(ignore_index)
        if abs(index) < 2**63:
            return index
    raise _UnusualError


def _bits(number: float) -> int:
    """A float64 as an integer: TensorFlow's float attributes are float32."""
    return int(struct.unpack("<q", struct.pack("<d", number))[0])


def _number(bits: int) -> float:
    return float(struct.unpack("<d", struct.pack("<q", bits))[0])


# ---- derivatives


def _derivatives(of: Callable[[], Any], sources: list[Any], upstream: Any) -> list[Any]:
    """The derivatives in tensors that are at hand here, of what is computed from them."""
    found: list[Any]
    if tf.executing_eagerly():
        with tf.GradientTape() as tape:
            tape.watch(sources)
            value = of()
        found = tape.gradient(value, sources, upstream)
    else:  # not by a tape: forward mode, which is this gradient's gradient, gets lost in one
        found = tf.gradients(of(), sources, upstream)
    return found


class _Node:
    """Inputs and attributes of an op, or of a foreign call, where they are differentiated."""

    def __init__(
        self,
        family: _Family,
        attributes: dict[str, Any],
        arrays: dict[str, Any],
        behind: tuple[Any, ...] = (),
        skipped: frozenset[int] = frozenset(),
    ) -> None:
        self.family, self.attributes = family, attributes
        self.arrays, self.behind = arrays, behind
        self.lists = (family.factor, "sample_weight", "normalizer")
        self.wanted = [
            name
            for index, name in enumerate(arrays)
            if index not in skipped and name != "normalizer" and arrays[name].dtype.is_floating
        ]

    @classmethod
    def of(cls, family: _Family, op: Any) -> "_Node":
        """As an op's gradient function gets it."""
        names = (*family.attributes, *(f"{name}_bits" for name in family.numbers))
        attributes = {name: op.get_attr(name) for name in names}
        attributes["reduction"] = tf.compat.as_str(attributes["reduction"])
        lists = (family.factor, "sample_weight", "normalizer")
        given = [name for name in lists if len(op.get_attr(f"T{name}"))]
        names = ("logits", "labels", *given)
        arrays = dict(zip(names, op.inputs, strict=False))
        # In eager mode it is known which derivatives nobody asks for; a graph drops them later.
        skipped = frozenset(getattr(op, "skip_input_indices", None) or ())
        return cls(family, attributes, arrays, tuple(op.inputs[len(names) :]), skipped)

    def foreign_call(self, with_gradient: bool, upstream: Any = None) -> list[Any]:
        """The loss, and its gradient in the logits, by XLA's handler of native/xla_ffi.cpp.

        With an upstream gradient only the second counts.
        """
        x, attributes = self.arrays["logits"], self.attributes
        rank, axis = x.shape.rank, attributes.get("axis", 0)
        every = tuple(range(rank))
        rows = every[: axis % rank] + every[axis % rank + 1 :] if self.family is SOFTMAX else every
        is_reduced = attributes["reduction"] != "none" or upstream is not None
        results = [_tensorflow_xla.Result(_RESULTS[x.dtype], () if is_reduced else rows)]
        if with_gradient:
            results.append(_tensorflow_xla.Result(x.dtype, every))
        operands = [x, self.arrays["labels"]]
        present = 0
        for bit, array in enumerate([*(self.arrays.get(name) for name in self.lists), upstream]):
            if array is not None:
                operands.append(array)
                present |= 1 << bit
        return _tensorflow_xla.call(
            f"crossent_{self.family.word}_loss",
            operands,
            results,
            {
                "groups": 0,
                "axis": axis % rank,
                "reduction": max(_REDUCTIONS.index(attributes["reduction"]), int(is_reduced)),
                "operands": present,
                "has_ignored": int(attributes["has_ignored"]),
                "ignored": attributes["ignored"],
            },
            {name: attributes.get(f"{name}_bits", _bits(1.0)) for name in SOFTMAX.numbers},
        )

    def gradient(self, upstream: Any, computed: list[Any]) -> Any:
        """The derivative in the logits, by the native op."""
        weights = {name: [self.arrays[name]] if name in self.arrays else [] for name in self.lists}
        return self.family.op("_gradient")(
            logits=self.arrays["logits"],
            labels=self.arrays["labels"],
            **weights,
            upstream=upstream,
            computed=computed,
            **self.attributes,
        )

    def loss(self) -> Any:
        """The loss again, by its general way on the formula, which TensorFlow differentiates."""
        # The one import upwards: nobody's hot path comes here.
        from crossent import losses

        options: dict[str, Any] = {
            name: _number(self.attributes[f"{name}_bits"]) for name in self.family.numbers
        }
        if self.family is SOFTMAX:
            options["softcap"] = options["softcap"] or None
            options["axis"] = self.attributes["axis"]
        ignored = self.attributes["ignored"] if self.attributes["has_ignored"] else None
        weights = {name: self.arrays.get(name) for name in self.lists}
        return losses.linear_loss_unfused(
            self.family.word,
            labels=self.arrays["labels"],
            logits=self.arrays["logits"],
            **weights,
            **options,
            ignore_index=ignored,
            reduction=self.attributes["reduction"],
        )

    def here(self) -> "_Node":
        """The node with copies of its inputs, made in the graph that is being built.

        The gradients of a loop, a branch and an inner function are built in graphs of their own.
        Those take the tensors of another graph as constants, which have no derivatives, or they
        refuse tensors from further out.
        """
        arrays = {name: tf.identity(array) for name, array in self.arrays.items()}
        node = _Node(self.family, self.attributes, arrays)
        node.wanted = self.wanted
        return node

    def by_formula(self, upstream: Any) -> dict[str, Any]:
        """The derivatives in distributions and weights."""
        names = [name for name in self.wanted if name != "logits"]
        if not names:
            return {}
        node = self.here()
        sources = [node.arrays[name] for name in names]
        return dict(zip(names, _derivatives(node.loss, sources, upstream), strict=True))

    def second_by_formula(self, below: Any, upstream: Any) -> tuple[Any, dict[str, Any]]:
        """Those of the gradient in the logits: in its upstream gradient `below`, and by name."""
        node, below = self.here(), tf.identity(below)

        def gradient() -> Any:
            return _derivatives(node.loss, [node.arrays["logits"]], below)[0]

        sources = [below, *(node.arrays[name] for name in self.wanted)]
        of_below, *others = _derivatives(gradient, sources, upstream)
        return of_below, dict(zip(self.wanted, others, strict=True))

    def in_order(self, gradients: dict[str, Any], behind: Any = None) -> list[Any]:
        """Derivatives by name as the list that TensorFlow expects."""
        others = [behind, *([None] * len(self.behind))]
        return [*(gradients.get(name) for name in self.arrays), *others[: len(self.behind)]]


def _register(family: _Family) -> None:
    def of_loss(op: Any, upstream: Any) -> list[Any]:
        node, upstream = _Node.of(family, op), tf.convert_to_tensor(upstream)
        gradients = {}
        if "logits" in node.wanted:
            gradients["logits"] = node.gradient(upstream, list(node.behind[1:]))
        return node.in_order(gradients | node.by_formula(upstream))

    def of_gradient(op: Any, upstream: Any) -> list[Any]:
        node, upstream = _Node.of(family, op), tf.convert_to_tensor(upstream)
        below, gradients = node.second_by_formula(node.behind[0], upstream)
        return node.in_order(gradients, below)

    tf.RegisterGradient(family.name)(of_loss)
    tf.RegisterGradient(f"{family.name}Gradient")(of_gradient)
    tf.no_gradient(f"{family.name}WithGradient")


_register(SOFTMAX)
_register(SIGMOID)
