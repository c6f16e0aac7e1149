"""The losses on TensorFlow: eager and compiled, derivatives, saved models, replicas, bad arguments.

References are our NumPy results: the same kernels, so the same bits, where a kernel runs.
"""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import crossent as xe
from crossent import _numpy_native, errors

tf = pytest.importorskip("tensorflow")

from crossent import _tensorflow_native  # noqa: E402
from crossent import tensorflow as door  # noqa: E402

RNG = np.random.default_rng(5)
X = RNG.normal(size=(6, 5)).astype(np.float32) * 4
Y = RNG.integers(0, 5, 6)
Q = RNG.dirichlet(np.ones(5), 6)
W = np.array([0.5, 1.0, 2.0, 0.0, 3.0])
ROW_WEIGHT = np.array([1.0, 0.0, 2.0, -1.0, 0.5, 4.0])
Z = (RNG.random((6, 5)) < 0.4).astype(np.float32)

native = pytest.mark.skipif(_numpy_native.core is None, reason="no native kernels here")

SOFTMAX = {
    "plain": {"labels": Y},
    "int32": {"labels": Y.astype(np.int32)},
    "trailing one": {"labels": Y[:, None]},
    "distribution": {"labels": Q},
    "one-hot bools": {"labels": np.eye(5, dtype=bool)[Y]},
    "sum": {"labels": Y, "reduction": "sum"},
    "mean_all": {"labels": Y, "reduction": "mean_all", "sample_weight": ROW_WEIGHT},
    "none": {"labels": Y, "reduction": "none"},
    "normalizer": {"labels": Y, "reduction": "sum", "normalizer": 7.0},
    "class_weight": {"labels": Y, "class_weight": W},
    "sample_weight": {"labels": Y, "sample_weight": ROW_WEIGHT},
    "smoothing": {"labels": Y, "label_smoothing": 0.1},
    "ignored": {"labels": np.where(Y[0] == Y, -100, Y), "ignore_index": -100},
    "temperature": {"labels": Y, "temperature": 1.7},
    "softcap": {"labels": Y, "softcap": 3.1},
    "z_loss": {"labels": Y, "z_loss": 1e-3},
    "all": {
        "labels": Q,
        "class_weight": W,
        "sample_weight": ROW_WEIGHT,
        "label_smoothing": 0.1,
        "temperature": 1.7,
        "softcap": 3.1,
        "z_loss": 1e-3,
    },
}
SIGMOID = {
    "plain": {"labels": Z},
    "none": {"labels": Z, "reduction": "none"},
    "pos_weight": {"labels": Z, "pos_weight": 2.5},
    "pos_weight each": {"labels": Z, "pos_weight": W},
    "sample_weight": {"labels": Z, "sample_weight": ROW_WEIGHT},
    "smoothing": {"labels": Z, "label_smoothing": 0.1},
    "ignored": {"labels": np.where(Z[0] == Z, -1, Z), "ignore_index": -1},
    "sum": {"labels": Z, "reduction": "sum", "normalizer": 3.0},
}
CALLS = [(xe.softmax_cross_entropy, name) for name in SOFTMAX]
CALLS += [(xe.sigmoid_cross_entropy, name) for name in SIGMOID]


def run(mode, loss, x, monkeypatch, **options):
    """Value and gradient in one of MODES."""
    if mode == "formula":
        monkeypatch.setattr(_tensorflow_native, "ops", None)
    if mode in ("eager", "formula"):
        return value_and_gradient(loss, x, **tensors(options))
    if mode == "XLA formula":
        monkeypatch.setattr(_tensorflow_native, "xla_calls", False)
    return compiled(loss, options, "known shapes", jit_compile=mode.startswith("XLA"))(x)[1]


def case(loss, name):
    return (SOFTMAX if loss is xe.softmax_cross_entropy else SIGMOID)[name]


def tensors(options):
    return {k: tf.constant(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}


def value_and_gradient(loss, x, upstream=None, **options):
    x = tf.convert_to_tensor(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = loss(logits=x, **options)
    return value, tape.gradient(value, x, upstream)


def assert_same_bits(actual, expected):
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    assert actual.tobytes() == expected.tobytes(), (actual, expected)


def assert_close(actual, expected, digits=1e-12):
    """Relative to the largest entry: what two ways of float64 arithmetic differ by."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert actual.shape == expected.shape
    scale = np.abs(expected[np.isfinite(expected)]).max(initial=1e-300)
    np.testing.assert_allclose(actual, expected, rtol=digits, atol=digits * scale)


def compiled(loss, options, signature, **function):
    """Value and gradient as one tf.function of the arrays among the options."""
    arrays = {k: v for k, v in options.items() if isinstance(v, np.ndarray)}
    others = {k: v for k, v in options.items() if k not in arrays}

    @tf.function(**function)
    def both(x, given):
        return value_and_gradient(loss, x, **given, **others)

    def spec(array):
        shape = (None, *array.shape[1:]) if signature == "unknown batch" else array.shape
        return tf.TensorSpec(shape, array.dtype)

    def call(x):
        weights = {"class_weight", "pos_weight"}
        specs = {
            k: tf.TensorSpec(v.shape, v.dtype) if k in weights else spec(v)
            for k, v in arrays.items()
        }
        graph = both.get_concrete_function(spec(x), specs)
        return graph, both(tf.constant(x), tensors(arrays))

    return call


def op_types(graph):
    return {node.type for node in graph.graph.get_operations()}


# ---- the native ops


@native
def test_the_ops_are_loaded():
    assert door.kernel_for(tf.zeros((2, 3))) == xe.kernel_for(np.zeros((2, 3)))
    assert door.kernel_for(tf.zeros((2, 3))).startswith("native ")


@native
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize(("loss", "name"), CALLS)
def test_eager_has_the_bits_of_numpy(loss, name, dtype):
    x = tf.cast(X, dtype)
    options = case(loss, name)
    value, gradient = xe.numpy.value_and_grad(loss, logits=x.numpy(), **options)
    assert_same_bits(loss(logits=x, **tensors(options)), value)
    ours = value_and_gradient(loss, x, **tensors(options))
    assert_same_bits(ours[0], value)
    assert_same_bits(ours[1], gradient)


@native
@pytest.mark.parametrize("signature", ["known shapes", "unknown batch"])
@pytest.mark.parametrize(("loss", "name"), CALLS)
def test_a_function_has_the_bits_of_numpy_and_lists_the_op(loss, name, signature):
    options = case(loss, name)
    graph, ours = compiled(loss, options, signature)(X)
    value, gradient = xe.numpy.value_and_grad(loss, logits=X, **options)
    assert_same_bits(ours[0], value)
    assert_same_bits(ours[1], gradient)
    word = "Softmax" if loss is xe.softmax_cross_entropy else "Sigmoid"
    assert {f"Crossent{word}Loss", f"Crossent{word}LossGradient"} <= op_types(graph)
    rows = (None if signature == "unknown batch" else 6, *value.shape[1:])
    assert tuple(graph.outputs[0].shape) == (rows if value.ndim else ())
    assert not {"Exp", "Log1p", "ZerosLike"} & op_types(graph)


@native
@pytest.mark.parametrize("axis", [0, 1, 2, -2])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_any_class_axis(axis, reduction):
    x = RNG.normal(size=(3, 4, 5)).astype(np.float32)
    y = RNG.integers(0, 3, np.delete(x.shape, axis))
    options = {"labels": y, "axis": axis, "reduction": reduction}
    value, gradient = xe.numpy.value_and_grad(xe.softmax_cross_entropy, logits=x, **options)
    for ours in (
        value_and_gradient(xe.softmax_cross_entropy, x, **options),
        compiled(xe.softmax_cross_entropy, options, "known shapes")(x)[1],
    ):
        assert_same_bits(ours[0], value)
        assert_same_bits(ours[1], gradient)


@pytest.mark.parametrize("mode", ["eager", "function", "XLA"])
@pytest.mark.parametrize(
    ("x", "y"), [(X[0], Y[0]), (X[:, :1], Y[:, None] * 0), (X[:, :2], Y[:, None] % 2)]
)
def test_one_row_one_class_and_two_classes_for_two_axes(x, y, mode, monkeypatch):
    for reduction in ("mean", "none"):
        options = {"labels": y, "reduction": reduction}
        value, gradient = xe.numpy.value_and_grad(xe.softmax_cross_entropy, logits=x, **options)
        ours = run(mode, xe.softmax_cross_entropy, x, monkeypatch, **options)
        assert_close(ours[0], value, 1e-6)
        assert_close(ours[1], gradient, 1e-6)


@native
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("upstream", [2.0, 0.3])
@pytest.mark.parametrize("loss", [xe.softmax_cross_entropy, xe.sigmoid_cross_entropy])
def test_upstream_of_a_reduced_loss(loss, upstream, dtype):
    x, labels = tf.cast(X, dtype), case(loss, "plain")["labels"]
    _, gradient = xe.numpy.value_and_grad(loss, labels=labels, logits=x.numpy(), upstream=upstream)
    _, ours = value_and_gradient(
        loss, x, tf.constant(upstream, door.result_dtype(x)), labels=labels
    )
    assert ours.dtype == x.dtype
    if dtype in ("float16", "bfloat16"):  # rounded once: one pass with the upstream in it
        assert_same_bits(ours, gradient)
    else:
        assert_close(ours, gradient, np.finfo(dtype).eps)


def test_a_scaled_float16_loss_does_not_lose_small_gradients():
    x = tf.constant([[20.0, 0.0]], tf.float16)  # the gradient, 2e-9, is 0 in float16
    _, gradient = value_and_gradient(xe.softmax_cross_entropy, x, tf.constant(2.0**15), labels=[0])
    np.testing.assert_allclose(gradient[0, 1], 2.0**15 * np.exp(-20.0), rtol=2**-10)


@native
@pytest.mark.parametrize("loss", [xe.softmax_cross_entropy, xe.sigmoid_cross_entropy])
def test_upstream_of_every_row(loss):
    options = case(loss, "none")
    value, _ = xe.numpy.value_and_grad(loss, logits=X, **options)
    upstream = RNG.normal(size=value.shape).astype(np.float32)
    _, gradient = xe.numpy.value_and_grad(loss, logits=X, upstream=upstream, **options)
    _, ours = value_and_gradient(loss, X, tf.constant(upstream), **options)
    assert_same_bits(ours, gradient)


@pytest.mark.parametrize("jit", [None, False, True])
def test_upstream_of_a_few_rows(jit):
    """What flows back from `gather` is no dense tensor."""

    def gradients(x, q):
        with tf.GradientTape() as tape:
            tape.watch([x, q])
            losses = xe.softmax_cross_entropy(labels=q, logits=x, reduction="none")
            value = tf.reduce_sum(tf.gather(losses, [0, 2]))
        return tape.gradient(value, [x, q])

    x, q = tf.constant(X), tf.constant(Q)
    of = gradients if jit is None else tf.function(gradients, jit_compile=jit)
    upstream = np.array([1, 0, 1, 0, 0, 0], np.float32)
    options = {"labels": Q, "logits": X, "reduction": "none", "upstream": upstream}
    for name, ours in zip(("logits", "labels"), of(x, q), strict=True):
        _, expected = xe.numpy.value_and_grad(xe.softmax_cross_entropy, wrt=name, **options)
        assert_close(ours, expected, 1e-6)


def test_a_persistent_tape_gives_the_gradient_again():
    x = tf.constant(X)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        value = xe.softmax_cross_entropy(labels=Y, logits=x)
        twice = 2 * value
    one = tape.gradient(value, x).numpy()
    assert_close(tape.gradient(twice, x), 2 * one, 1e-7)
    assert_same_bits(tape.gradient(value, x), one)

    @tf.function
    def in_a_graph(x):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            value = xe.softmax_cross_entropy(labels=Y, logits=x)
            thrice = 3 * value
        return tape.gradient(thrice, x), tape.gradient(value, x), tape.gradient(thrice, x)

    first, plain, again = in_a_graph(x)
    assert_same_bits(plain, one)
    assert_same_bits(first, again)
    assert_close(first, 3 * one, 1e-7)


@native
def test_no_zeros_of_the_size_of_the_gradient_are_made():
    x = tf.constant(RNG.normal(size=(7, 11)).astype(np.float32))
    value_and_gradient(xe.softmax_cross_entropy, x, labels=np.zeros(7, int))
    from tensorflow.python.eager import context

    cached = context.context().zeros_cache()._data
    assert not any(zeros.shape == x.shape for zeros in cached.values())


@native
def test_a_loss_traced_without_a_tape_is_differentiated_from_outside():
    loss = tf.function(lambda x: xe.softmax_cross_entropy(labels=Y, logits=x))
    loss(tf.constant(X))
    graph = loss.get_concrete_function(tf.constant(X))
    assert "CrossentSoftmaxLossWithGradient" not in op_types(graph)
    x = tf.constant(X)
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = loss(x)
    _, gradient = xe.numpy.value_and_grad(xe.softmax_cross_entropy, labels=Y, logits=X)
    assert_same_bits(tape.gradient(value, x), gradient)


def test_a_branch_that_xla_compiles_is_differentiated_from_outside():
    @tf.function(jit_compile=True)
    def loss(x):
        def of(x):
            return xe.softmax_cross_entropy(labels=Y, logits=x)

        return tf.cond(tf.reduce_sum(x) < 1e9, lambda: of(x), lambda: of(2 * x))

    x = tf.constant(X)
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = loss(x)
    _, gradient = xe.numpy.value_and_grad(xe.softmax_cross_entropy, labels=Y, logits=X)
    assert_close(tape.gradient(value, x), gradient, 1e-6)


@native
@pytest.mark.parametrize("reduction", ["none", "sum"])
def test_subnormal_losses_survive_in_tensorflows_threads(reduction):
    """Its threads flush them to zero; so the op sets the processor's mode for itself."""
    x = np.array([[95.0, 0.0]] * 4, np.float32)
    options = {"labels": np.zeros(4, int), "reduction": reduction}
    value, gradient = xe.numpy.value_and_grad(xe.softmax_cross_entropy, logits=x, **options)
    assert 0 < np.min(value) < np.finfo(np.float32).smallest_normal
    _, ours = compiled(xe.softmax_cross_entropy, options, "known shapes")(x)
    assert_same_bits(ours[0], value)
    assert_same_bits(ours[1], gradient)


@native
def test_threadpoolctl_limits_the_threads_of_the_ops():
    threadpoolctl = pytest.importorskip("threadpoolctl")
    xe.softmax_cross_entropy(labels=tf.constant(Y), logits=tf.constant(X))
    with threadpoolctl.threadpool_limits(3, user_api="crossent"):
        found = threadpoolctl.threadpool_info()
    ours = [pool["num_threads"] for pool in found if pool["prefix"] == "_tensorflow_op"]
    assert ours == [3]


# ---- derivatives that no kernel has


WEIGHTED = {
    "labels": Q,
    "class_weight": W,
    "sample_weight": ROW_WEIGHT,
    "label_smoothing": 0.1,
    "temperature": 1.7,
    "z_loss": 1e-3,
}


@pytest.mark.parametrize("mode", ["eager", "function"])
@pytest.mark.parametrize(
    ("loss", "options"),
    [
        (xe.softmax_cross_entropy, WEIGHTED),
        (xe.sigmoid_cross_entropy, {"labels": Z.astype(np.float64), "pos_weight": W}),
        (xe.softmax_cross_entropy, {"labels": Y, "class_weight": W, "reduction": "sum"}),
        (xe.focal_loss, {"labels": Q, "class_weight": W}),
        (xe.binary_focal_loss, {"labels": Z.astype(np.float64), "sample_weight": ROW_WEIGHT}),
    ],
)
def test_gradients_of_labels_and_weights(loss, options, mode):
    arrays = {k: tf.constant(v) for k, v in options.items() if isinstance(v, np.ndarray)}
    arrays["logits"] = tf.constant(X, tf.float64)
    others = {k: v for k, v in options.items() if k not in arrays}

    def gradients(arrays):
        with tf.GradientTape() as tape:
            tape.watch(arrays)
            value = loss(**arrays, **others)
        return tape.gradient(value, arrays)

    ours = (tf.function(gradients) if mode == "function" else gradients)(arrays)
    for name, array in arrays.items():
        if not array.dtype.is_floating:
            assert ours[name] is None
            continue
        assert isinstance(ours[name], tf.Tensor)  # no IndexedSlices
        given = {k: v.numpy() for k, v in arrays.items()}
        _, expected = xe.numpy.value_and_grad(loss, wrt=name, **given, **others)
        assert ours[name].dtype == array.dtype
        assert_close(ours[name], expected, 1e-11)


@pytest.mark.parametrize("mode", ["eager", "function"])
def test_gradient_of_the_probabilities_of_one_row(mode):
    p = tf.constant([0.2, 0.5, 0.3])

    def gradient(p):
        with tf.GradientTape() as tape:
            tape.watch(p)
            value = xe.softmax_cross_entropy(labels=1, probs=p)
        return tape.gradient(value, p)

    ours = (tf.function(gradient) if mode == "function" else gradient)(p)
    assert isinstance(ours, tf.Tensor)
    np.testing.assert_allclose(ours, [0, -2, 0], rtol=1e-6)


def test_class_ids_and_normalizer_have_no_gradient():
    y, n, x = tf.constant(Y), tf.constant(2.0), tf.constant(X)
    with tf.GradientTape() as tape:
        tape.watch([y, n, x])
        value = xe.softmax_cross_entropy(labels=y, logits=x, normalizer=n)
    of_y, of_n, of_x = tape.gradient(value, [y, n, x])
    assert of_y is None
    assert of_n is None
    assert np.abs(of_x).max() > 0


def hessian(loss, x, **options):
    with tf.GradientTape() as outer:
        outer.watch(x)
        _, gradient = value_and_gradient(loss, x, **options)
    return outer.jacobian(gradient, x)


@pytest.mark.parametrize("mode", ["eager", "function"])
@pytest.mark.parametrize(
    ("loss", "options"),
    [
        (xe.softmax_cross_entropy, {"labels": Y[:2], "class_weight": W, "z_loss": 0.1}),
        (xe.sigmoid_cross_entropy, {"labels": Z[:2].astype(np.float64), "pos_weight": 2.0}),
        (xe.poly_loss, {"labels": Y[:2]}),
    ],
)
def test_second_derivatives(loss, options, mode):
    x = tf.constant(X[:2], tf.float64)
    of = tf.function(lambda x: hessian(loss, x, **options))
    ours = of(x) if mode == "function" else hessian(loss, x, **options)
    step = 1e-5
    for i, j in ((0, 1), (1, 4)):
        moved = np.zeros((2, 5))
        moved[i, j] = step
        up = xe.numpy.value_and_grad(loss, logits=x.numpy() + moved, **options)[1]
        down = xe.numpy.value_and_grad(loss, logits=x.numpy() - moved, **options)[1]
        np.testing.assert_allclose(ours[i, j], (up - down) / (2 * step), atol=1e-8)


def test_second_derivatives_with_any_upstream():
    x = tf.constant(X[:2], tf.float64)
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            value = tf.square(xe.softmax_cross_entropy(labels=Y[:2], logits=x))
        squared = tf.reduce_sum(inner.gradient(value, x) ** 2)
    ours = outer.gradient(squared, x)

    def by_hand(x):
        value, gradient = xe.numpy.value_and_grad(xe.softmax_cross_entropy, labels=Y[:2], logits=x)
        return ((2 * value * gradient) ** 2).sum()

    for i, j in ((0, 0), (1, 3)):
        moved = np.zeros((2, 5))
        moved[i, j] = 1e-5
        slope = (by_hand(x.numpy() + moved) - by_hand(x.numpy() - moved)) / 2e-5
        np.testing.assert_allclose(ours[i, j], slope, rtol=1e-6, atol=1e-8)


LOOPS = [
    # The loss, what each turn of the loop takes a row of, what all turns share, other options.
    (xe.softmax_cross_entropy, {"labels": Q}, {"class_weight": 1 + W}, {"reduction": "sum"}),
    (xe.softmax_cross_entropy, {"labels": Y}, {"class_weight": 1 + W}, {"reduction": "none"}),
    (xe.sigmoid_cross_entropy, {"labels": Z.astype(np.float64)}, {"pos_weight": W}, {}),
]


def row_by_row(loss, rows, shared, options):
    """The sum of the losses of two rows: one in a loop, one in a `map_fn`."""

    def of_row(row):
        return tf.reduce_sum(loss(**row, **shared, **options))

    value = tf.constant(0.0, tf.float64)
    for k in tf.range(1):
        value += of_row({name: array[k] for name, array in rows.items()})
    rest = {name: array[1:2] for name, array in rows.items()}
    return value + tf.reduce_sum(tf.map_fn(of_row, rest, fn_output_signature=tf.float64))


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize(("loss", "rows", "shared", "options"), LOOPS)
def test_derivatives_of_labels_and_weights_in_a_loop(loss, rows, shared, options, jit):
    rows = {"logits": tf.constant(X[:2], tf.float64)} | tensors({k: v[:2] for k, v in rows.items()})

    def gradients(rows, shared):
        sources = [t for t in [*rows.values(), *shared.values()] if t.dtype.is_floating]
        with tf.GradientTape() as tape:
            tape.watch(sources)
            value = row_by_row(loss, rows, shared, options)
        return tape.gradient(value, sources)

    expected = gradients(rows, tensors(shared))
    ours = tf.function(gradients, jit_compile=jit)(rows, tensors(shared))
    for one, other in zip(ours, expected, strict=True):
        assert np.any(other)
        assert_close(one, tf.convert_to_tensor(other))


@pytest.mark.parametrize("jit", [False, True])
def test_second_derivatives_in_a_loop(jit):
    x, q = tf.constant(X[:2], tf.float64), tf.constant(Q[:2])

    def derivatives(x, q):
        with tf.GradientTape() as outer:
            outer.watch([x, q])
            with tf.GradientTape() as inner:
                inner.watch(x)
                rows = {"logits": x, "labels": q}
                value = row_by_row(xe.softmax_cross_entropy, rows, {}, {})
            gradient = inner.gradient(value, x)
            squares = tf.reduce_sum(tf.convert_to_tensor(gradient) ** 2)
        return [tf.convert_to_tensor(g) for g in outer.gradient(squares, [x, q])]

    ours = tf.function(derivatives, jit_compile=jit)(x, q)
    for one, other in zip(ours, derivatives(x, q), strict=True):
        assert np.any(other)
        assert_close(one, other)


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("loss", [xe.softmax_cross_entropy, xe.sigmoid_cross_entropy])
def test_forward_mode(loss, reduction):
    options = {**case(loss, "plain"), "reduction": reduction}
    x, tangent = tf.constant(X, tf.float64), RNG.normal(size=X.shape)
    with tf.autodiff.ForwardAccumulator(x, tf.constant(tangent)) as accumulator:
        value = loss(logits=x, **options)
    step = 1e-6
    up, down = (loss(logits=x.numpy() + s * tangent, **options) for s in (step, -step))
    np.testing.assert_allclose(accumulator.jvp(value), (up - down) / (2 * step), atol=1e-8)


@pytest.mark.parametrize("jit", [False, True])
def test_forward_mode_around_a_function(jit):
    x, w = tf.constant(X, tf.float64), tf.constant(ROW_WEIGHT)
    tangents = [tf.constant(RNG.normal(size=t.shape)) for t in (x, w)]
    loss = lambda x, w: xe.softmax_cross_entropy(labels=Y, logits=x, sample_weight=w)  # noqa: E731
    with tf.GradientTape() as tape:
        tape.watch([x, w])
        value = loss(x, w)
    slopes = tape.gradient(value, [x, w])
    with tf.autodiff.ForwardAccumulator([x, w], tangents) as accumulator:
        value = tf.function(loss, jit_compile=jit)(x, w)
    expected = sum(tf.reduce_sum(a * b) for a, b in zip(slopes, tangents, strict=True))
    assert_close(accumulator.jvp(value), expected)


def test_jacobian_of_the_row_losses():
    x = tf.constant(X, tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = xe.softmax_cross_entropy(labels=Y, logits=x, reduction="none")
    jacobian = tape.jacobian(value, x).numpy()
    _, gradient = xe.numpy.value_and_grad(
        xe.softmax_cross_entropy, labels=Y, logits=x.numpy(), reduction="sum"
    )
    rows = np.arange(6)
    assert_close(jacobian[rows, rows], gradient)
    jacobian[rows, rows] = 0
    assert not jacobian.any()


# ---- where no op can run


EVERY_LOSS = [
    (xe.softmax_cross_entropy, SOFTMAX["all"]),
    (xe.softmax_cross_entropy, SOFTMAX["ignored"]),
    (xe.focal_loss, {"labels": Y}),
    (xe.generalized_cross_entropy, {"labels": Y, "label_smoothing": 0.1}),
    (xe.poly_loss, {"labels": Q}),
    (xe.sigmoid_cross_entropy, SIGMOID["pos_weight each"]),
    (xe.sigmoid_cross_entropy, SIGMOID["ignored"]),
    (xe.binary_focal_loss, {"labels": Z, "alpha": 0.25}),
]


@pytest.mark.parametrize("mode", ["eager", "function", "unknown batch", "XLA"])
@pytest.mark.parametrize(("loss", "options"), EVERY_LOSS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_formula_everywhere(loss, options, mode, dtype, monkeypatch):
    x = X.astype(dtype)
    value, gradient = xe.numpy.value_and_grad(loss, logits=x, **options)
    if mode == "eager":
        monkeypatch.setattr(_tensorflow_native, "ops", None)
        ours = value_and_gradient(loss, x, **tensors(options))
    elif mode == "XLA":
        monkeypatch.setattr(_tensorflow_native, "xla_calls", False)
        graph, ours = compiled(loss, options, "known shapes", jit_compile=True)(x)
        assert not {name for name in op_types(graph) if name.startswith(("Crossent", "Xla"))}
    else:
        monkeypatch.setattr(_tensorflow_native, "ops", None)
        _, ours = compiled(loss, options, mode)(x)
    # The documented bound of the formula's value; the gradient's terms of opposite sign cancel.
    digits = 128 * np.finfo(dtype).eps
    assert ours[0].dtype == ours[1].dtype == dtype
    assert_close(ours[0], value, digits)
    assert_close(ours[1], gradient, digits)


def test_a_function_inside_a_function_that_xla_compiles():
    plain = tf.function(lambda x: xe.softmax_cross_entropy(labels=Y, logits=x))
    compiled = tf.function(lambda x: plain(x), jit_compile=True)
    assert_close(compiled(tf.constant(X)), xe.softmax_cross_entropy(labels=Y, logits=X), 1e-6)


@native
def test_a_function_that_was_traced_before_xla_met_it_is_an_error():
    """TensorFlow hands its first trace on, with our op in it: that is an error, no wrong value."""
    plain = tf.function(lambda x: xe.softmax_cross_entropy(labels=Y, logits=x))
    plain(tf.constant(X))
    compiled = tf.function(lambda x: plain(x), jit_compile=True)
    with pytest.raises(tf.errors.InvalidArgumentError, match="CrossentSoftmaxLoss"):
        compiled(tf.constant(X))


def test_xla_is_said_by_kernel_for(monkeypatch):
    said = []
    monkeypatch.setattr(_tensorflow_native, "xla_calls", False)

    @tf.function(jit_compile=True)
    def ask(x):
        said.append(xe.kernel_for(x))
        return x

    ask(tf.zeros((2, 3)))
    assert said == ["formula: this TensorFlow's XLA takes no foreign calls"]


# ---- foreign calls of XLA


xla_native = pytest.mark.skipif(
    not _tensorflow_native.xla_calls, reason="this TensorFlow's XLA takes no foreign calls"
)
XLA_CALLS = [(*call, "float32", "known shapes") for call in CALLS]
XLA_CALLS += [(*call, "bfloat16", "unknown batch") for call in CALLS[::6]]
XLA_CALLS += [
    (*call, dtype, "known shapes") for call in CALLS[::20] for dtype in ("float64", "float16")
]


@xla_native
@pytest.mark.parametrize(("loss", "name", "dtype", "signature"), XLA_CALLS)
def test_xla_has_the_bits_of_numpy(loss, name, dtype, signature):
    x, options = tf.cast(X, dtype), case(loss, name)
    value, gradient = xe.numpy.value_and_grad(loss, logits=x.numpy(), **options)
    graph, ours = compiled(loss, options, signature, jit_compile=True)(x.numpy())
    # Of row losses the gradient is a call of its own, and so it is in float16.
    calls = 2 if options.get("reduction") == "none" or dtype == "float16" else 1
    listed = [node.type for node in graph.graph.get_operations()]
    assert listed.count("XlaCallModule") == calls
    assert_same_bits(ours[0], value)
    assert_same_bits(ours[1], gradient)


@pytest.mark.parametrize("way", ["mask", "branch", "unique", "partition"])
def test_a_batch_as_long_as_its_data_has_it(way):
    """XLA's foreign calls get no array whose length the data has."""
    kept = tf.constant(Y > 1)

    def chosen(x):
        if way == "unique":
            rows = tf.unique(tf.constant(Y)).y
            return tf.gather(x, rows), rows
        if way == "partition":
            halves = tf.cast(kept, tf.int32)
            return [tf.dynamic_partition(part, halves, 2)[1] for part in (x, tf.constant(Y))]
        return tf.boolean_mask(x, kept), tf.boolean_mask(tf.constant(Y), kept)

    def loss(x):
        logits, labels = chosen(x)
        if way == "branch":
            there = tf.reduce_sum(x) < 1e9

            def of_kept():
                return xe.softmax_cross_entropy(labels=labels + 0, logits=2 * logits)

            return tf.cond(there, of_kept, lambda: tf.reduce_sum(logits))
        return xe.softmax_cross_entropy(labels=labels, logits=logits)

    def both(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = loss(x)
        return value, tf.convert_to_tensor(tape.gradient(value, x))

    x = tf.constant(X)
    for ours, expected in zip(tf.function(both, jit_compile=True)(x), both(x), strict=True):
        assert_close(ours, expected, 1e-6)


@xla_native
@pytest.mark.parametrize(("loss", "name"), [CALLS[0], CALLS[3], CALLS[-4]])
def test_xla_differentiates_in_everything_twice(loss, name):
    given = {k: v for k, v in case(loss, name).items() if np.asarray(v).dtype.kind == "f"}
    given = {k: tf.constant(v) for k, v in given.items() if np.ndim(v)}
    others = {k: v for k, v in case(loss, name).items() if k not in given}

    def derivatives(x, given):
        sources = [x, *given.values()]
        with tf.GradientTape() as outer:
            outer.watch(sources)
            with tf.GradientTape() as inner:
                inner.watch(sources)
                value = 3 * loss(logits=x, **given, **others)
            first = inner.gradient(value, sources)
            norm = tf.add_n([tf.cast(tf.reduce_sum(g * g), x.dtype) for g in first])
        return value, first, outer.gradient(norm, sources)

    x = tf.constant(X, tf.float64)
    expected = tf.nest.flatten(derivatives(x, given))
    ours = tf.nest.flatten(tf.function(derivatives, jit_compile=True)(x, given))
    for one, other in zip(ours, expected, strict=True):
        assert_close(one, other, 1e-6 if one.dtype == tf.float32 else 1e-12)


@xla_native
def test_xla_differentiates_an_inner_function_twice():
    x = tf.constant(X[:2], tf.float64)
    inner = tf.function(lambda x: xe.softmax_cross_entropy(labels=Y[:2], logits=x))

    def second(loss):
        def of(x):
            with tf.GradientTape() as outer:
                outer.watch(x)
                with tf.GradientTape() as tape:
                    tape.watch(x)
                    value = loss(x)
                squares = tf.reduce_sum(tape.gradient(value, x) ** 2)
            return outer.gradient(squares, x)

        return of

    expected = second(inner.python_function)(x)
    assert_close(tf.function(second(inner), jit_compile=True)(x), expected)


@xla_native
def test_a_tape_around_what_xla_compiled():
    x = tf.constant(X)
    loss = tf.function(
        lambda x: xe.softmax_cross_entropy(labels=tf.constant(Y), logits=x), jit_compile=True
    )
    loss(x)  # traced while no tape records
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = loss(x)
    expected = value_and_gradient(xe.softmax_cross_entropy, x, labels=Y)
    assert_same_bits(value, expected[0])
    assert_same_bits(tape.gradient(value, x), expected[1])


def test_confident_rows_keep_their_digits_in_the_formula(monkeypatch):
    x = np.array([[60.0, 0.0, 0.0]], np.float32)
    value, gradient = xe.numpy.value_and_grad(xe.softmax_cross_entropy, labels=[0], logits=x)
    monkeypatch.setattr(_tensorflow_native, "ops", None)
    ours = value_and_gradient(xe.softmax_cross_entropy, x, labels=[0])
    assert_close(ours[0], value, 1e-6)
    np.testing.assert_allclose(ours[1], gradient, rtol=1e-6)


# ---- rows that do not count, rows that are no rows


MODES = ["eager", "function", "XLA", "XLA formula", "formula"]


@pytest.mark.parametrize("mode", MODES)
def test_ignored_rows_may_hold_nan(mode, monkeypatch):
    x, y = X.copy(), Y.copy()
    x[1], y[1] = np.nan, -100
    value, gradient = run(
        mode, xe.softmax_cross_entropy, x, monkeypatch, labels=y, ignore_index=-100
    )
    expected = xe.numpy.value_and_grad(
        xe.softmax_cross_entropy, labels=np.delete(y, 1), logits=np.delete(x, 1, 0)
    )
    assert_close(value, expected[0], 1e-6)
    assert not np.asarray(gradient)[1].any()
    assert_close(np.delete(gradient, 1, 0), expected[1], 1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_weight_0_hides_nan(mode, monkeypatch):
    x = X.copy()
    x[2] = np.nan
    weight = np.ones(6)
    weight[2] = 0
    for loss, labels in ((xe.softmax_cross_entropy, Y), (xe.sigmoid_cross_entropy, Z)):
        value, gradient = run(mode, loss, x, monkeypatch, labels=labels, sample_weight=weight)
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()
        assert not np.asarray(gradient)[2].any()


@pytest.mark.parametrize("mode", MODES)
def test_nothing_kept(mode, monkeypatch):
    value, gradient = run(
        mode,
        xe.softmax_cross_entropy,
        X,
        monkeypatch,
        labels=np.full(6, -100),
        ignore_index=-100,
    )
    assert value == 0
    assert not np.asarray(gradient).any()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_empty_batch(mode, reduction, monkeypatch):
    value, gradient = run(
        mode, xe.softmax_cross_entropy, X[:0], monkeypatch, labels=Y[:0], reduction=reduction
    )
    assert value.shape == ((0,) if reduction == "none" else ())
    assert not np.asarray(value).any()
    assert gradient.shape == (0, 5)


@pytest.mark.parametrize("mode", MODES)
def test_masked_classes_and_rows_without_a_softmax(mode, monkeypatch):
    x = np.array([[-np.inf, 1, 2], [-np.inf] * 3, [np.inf, 0, 0], [np.nan, 0, 0]], np.float32)
    value, gradient = run(
        mode,
        xe.softmax_cross_entropy,
        x,
        monkeypatch,
        labels=np.array([1, 0, 0, 1]),
        reduction="none",
    )
    np.testing.assert_allclose(value, [np.log1p(np.e), np.nan, np.nan, np.nan], rtol=1e-6)
    assert np.asarray(gradient)[0, 0] == 0
    assert np.isfinite(gradient[0]).all()
    assert np.isnan(gradient[1:]).all()


@pytest.mark.parametrize("mode", ["eager", "formula"])
def test_invalid_labels_are_an_error_in_eager_mode(mode, monkeypatch):
    y = Y.copy()
    y[3] = 5
    with pytest.raises(errors.LabelError, match=r"labels must lie in \[0, 5\); got 5 at row 3"):
        run(mode, xe.softmax_cross_entropy, X, monkeypatch, labels=y)
    with pytest.raises(errors.LabelError, match=r"labels must lie in \[0, 1\]; got 3"):
        run(mode, xe.sigmoid_cross_entropy, X, monkeypatch, labels=np.full_like(X, 3))
    with pytest.raises(errors.LabelError, match="ignore_index=-100"):
        run(mode, xe.softmax_cross_entropy, X, monkeypatch, labels=np.full(6, -100))


@pytest.mark.parametrize("mode", ["function", "XLA"])
@pytest.mark.parametrize("bad", [5, -1, -100, 2**40])
def test_invalid_labels_are_nan_rows_in_a_function(mode, bad, monkeypatch):
    y = Y.copy()
    y[3] = bad
    value, gradient = run(
        mode, xe.softmax_cross_entropy, X, monkeypatch, labels=y, reduction="none"
    )
    good = xe.softmax_cross_entropy(
        labels=np.delete(y, 3), logits=np.delete(X, 3, 0), reduction="none"
    )
    assert np.isnan(value[3])
    assert np.isnan(gradient[3]).all()
    assert_close(np.delete(value, 3), good, 1e-6)
    assert np.isfinite(np.delete(gradient, 3, 0)).all()
    value, _ = run(mode, xe.softmax_cross_entropy, X, monkeypatch, labels=y)
    assert np.isnan(value)

    def masked(*, labels, logits):  # nothing flows back to row 3, and still it says what it is
        losses = xe.softmax_cross_entropy(labels=labels, logits=logits, reduction="none")
        return tf.reduce_sum(tf.where(np.arange(6) == 3, tf.zeros_like(losses), losses))

    _, gradient = run(mode, masked, X, monkeypatch, labels=y)
    assert np.isnan(gradient).any(1).tolist() == (np.arange(6) == 3).tolist()


@pytest.mark.parametrize("mode", ["function", "XLA"])
@pytest.mark.parametrize(
    ("loss", "bad"),
    [(xe.softmax_cross_entropy, 9), (xe.focal_loss, 9), (xe.sigmoid_cross_entropy, 1.5)],
)
def test_an_invalid_label_of_weight_0_does_nothing_in_a_function(mode, loss, bad, monkeypatch):
    y = (Z if bad == 1.5 else Y).copy()
    y[3], weight = bad, (np.arange(6) != 3).astype(np.float32)
    value, gradient = run(mode, loss, X, monkeypatch, labels=y, sample_weight=weight)
    expected, slope = value_and_gradient(
        loss, np.delete(X, 3, 0), labels=tf.constant(np.delete(y, 3, 0))
    )
    assert_close(value, expected, 1e-6)
    assert_close(np.delete(gradient, 3, 0), slope, 1e-5)
    assert not np.any(gradient[3])


@pytest.mark.parametrize("labels", [Z[:, 0], (Z[:, 0] > 0.5).astype(np.int64)])
@pytest.mark.parametrize("ignored", [2**53, -(2**62), 2**70])
def test_ignored_labels_of_the_sigmoid_that_no_double_tells_apart(labels, ignored):
    options = {"labels": tf.constant(labels), "ignore_index": ignored}
    loss = tf.function(lambda x: xe.sigmoid_cross_entropy(logits=x, **options))
    expected = xe.sigmoid_cross_entropy(logits=X[:, 0], labels=labels)
    assert_close(loss(tf.constant(X[:, 0])), expected, 1e-6)


@pytest.mark.parametrize("mode", ["function", "XLA"])
def test_invalid_distributions_are_nan_rows_in_a_function(mode, monkeypatch):
    q, z = Q.copy(), Z.copy()
    q[1] *= 2
    z[2, 3] = 1.5
    value, gradient = run(
        mode, xe.softmax_cross_entropy, X, monkeypatch, labels=q, reduction="none"
    )
    assert np.isnan(value).tolist() == [False, True, False, False, False, False]
    assert np.isnan(gradient).all(axis=1).tolist() == np.isnan(value).tolist()
    value, gradient = run(
        mode, xe.sigmoid_cross_entropy, X, monkeypatch, labels=z, reduction="none"
    )
    assert np.argwhere(np.isnan(value)).tolist() == [[2, 3]]
    assert np.argwhere(np.isnan(gradient)).tolist() == [[2, 3]]


def test_checks_in_a_function_on_request(monkeypatch):
    monkeypatch.setenv("CROSSENT_CHECK", "1")
    loss = tf.function(lambda y, x: xe.softmax_cross_entropy(labels=y, logits=x))
    assert_close(
        loss(tf.constant(Y), tf.constant(X)), xe.softmax_cross_entropy(labels=Y, logits=X), 1e-6
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"LabelError: labels must lie in"):
        loss(tf.constant(Y + 5), tf.constant(X))
    with pytest.raises(errors.LabelError):
        xe.softmax_cross_entropy(labels=tf.constant(Y + 5), logits=tf.constant(X))


# ---- arguments


def test_variables_lists_and_numpy_arrays():
    x = tf.Variable(X)
    expected = xe.softmax_cross_entropy(labels=Y, logits=X, sample_weight=ROW_WEIGHT)
    for labels in (Y, Y.tolist(), tf.Variable(Y)):
        with tf.GradientTape() as tape:
            value = xe.softmax_cross_entropy(
                labels=labels, logits=x, sample_weight=ROW_WEIGHT.tolist()
            )
        assert_close(value, expected, 1e-6)
        assert tape.gradient(value, x) is not None
    listed = [tf.constant(row) for row in X]
    assert_close(
        xe.softmax_cross_entropy(labels=tf.constant(Y), logits=listed, sample_weight=ROW_WEIGHT),
        expected,
        1e-6,
    )


def test_weights_in_lists_keep_their_digits():
    weights = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    ours = xe.softmax_cross_entropy(
        labels=Y, logits=tf.constant(X, tf.float64), sample_weight=weights, reduction="none"
    )
    theirs = xe.softmax_cross_entropy(
        labels=Y, logits=X.astype(np.float64), sample_weight=weights, reduction="none"
    )
    assert_close(ours, theirs, 1e-15)


def test_tensors_that_are_not_dense():
    ragged = tf.ragged.constant([[0.0, 1.0], [2.0]])
    with pytest.raises(errors.DTypeError, match=r"logits must be a dense tensor; got .*Ragged"):
        xe.softmax_cross_entropy(labels=[0, 1], logits=ragged)
    sparse = tf.sparse.from_dense([[0.0, 1.0]])
    with pytest.raises(errors.DTypeError, match=r"logits must be a dense tensor; got Sparse"):
        xe.softmax_cross_entropy(labels=[0], logits=sparse)


@pytest.mark.parametrize("mode", ["eager", "function"])
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"labels": Y[:5]}, errors.ShapeError, r"labels must have shape \(6,\)"),
        ({"labels": Y, "class_weight": W[:4]}, errors.ShapeError, "class_weight must have one"),
        ({"labels": Y, "sample_weight": W}, errors.ShapeError, "sample_weight must match"),
        ({"labels": Y, "axis": 2}, errors.ShapeError, "axis must lie in"),
        ({"labels": Y.astype(bool)}, errors.DTypeError, "two classes only"),
        ({"labels": Q, "ignore_index": 1}, errors.OptionError, "ignore_index must be None"),
        ({"labels": Y, "normalizer": W}, errors.ShapeError, "normalizer must be one number"),
    ],
)
def test_arguments_that_do_not_fit(options, error, message, mode):
    loss = lambda: xe.softmax_cross_entropy(logits=tf.constant(X), **tensors(options))  # noqa: E731
    with pytest.raises(error, match=message):
        (tf.function(loss) if mode == "function" else loss)()


def test_shapes_that_turn_out_not_to_fit():
    spec = [tf.TensorSpec((None,), tf.int64), tf.TensorSpec((None, 5), tf.float32)]
    loss = tf.function(
        lambda y, x: xe.softmax_cross_entropy(labels=y, logits=x), input_signature=spec
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match="not what the loss allows"):
        loss(tf.constant(Y[:4]), tf.constant(X))


P = (np.exp(X) / np.exp(X).sum(1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize(
    ("loss", "labels", "shape", "options"),
    [
        (xe.focal_loss, Q[:1], (None, 5), {"logits": X}),
        (xe.focal_loss, Y[:1], (None,), {"logits": X, "label_smoothing": 0.1}),
        (xe.softmax_cross_entropy, Q[:1], (None, 5), {"probs": P, "reduction": "none"}),
        (xe.focal_loss, Y[:, None], (None, None), {"logits": X}),  # read as a distribution
        (xe.binary_focal_loss, Z[:, :1], (None, None), {"logits": X}),
        (xe.mean_squared_error, Z[:1], (None, 5), {"predictions": X, "sample_weight": ROW_WEIGHT}),
    ],
)
def test_labels_that_turn_out_to_be_broadcast(loss, labels, shape, options, jit):
    """An error where a graph can raise one; XLA can not, and gives NaN."""
    kind = next(iter(options))
    spec = [tf.TensorSpec(shape, labels.dtype), tf.TensorSpec((None, 5), tf.float32)]
    function = tf.function(
        lambda y, x: loss(labels=y, **{**options, kind: x}), input_signature=spec, jit_compile=jit
    )
    if jit:
        assert np.isnan(function(labels, options[kind])).all()
    else:
        with pytest.raises(tf.errors.InvalidArgumentError, match="must have the lengths of the"):
            function(labels, options[kind])


@pytest.mark.parametrize("jit", [False, True])
def test_distributions_over_a_number_of_classes_that_is_not_known(jit):
    spec = [tf.TensorSpec((None, None), tf.float32), tf.TensorSpec((None, 5), tf.float32)]

    @tf.function(input_signature=spec, jit_compile=jit)
    def gradients(q, x):
        with tf.GradientTape() as tape:
            tape.watch(q)
            value = xe.focal_loss(labels=q, logits=x)
            value += xe.softmax_cross_entropy(labels=q, logits=x)
        return value, tape.gradient(value, q)

    losses = (xe.focal_loss, xe.softmax_cross_entropy)
    each = [xe.numpy.value_and_grad(f, wrt="labels", labels=P, logits=X) for f in losses]
    value, gradient = gradients(P, X)
    assert_close(value, sum(v for v, _ in each), 1e-5)
    assert_close(gradient, sum(g for _, g in each), 1e-5)


def test_an_unknown_class_count_is_an_error():
    spec = [tf.TensorSpec((None,), tf.int64), tf.TensorSpec((None, None), tf.float32)]
    loss = tf.function(
        lambda y, x: xe.softmax_cross_entropy(labels=y, logits=x), input_signature=spec
    )
    with pytest.raises(errors.ShapeError, match="known number of classes"):
        loss(tf.constant(Y), tf.constant(X))


def test_label_weight():
    y = np.where(Y[0] == Y, -100, Y)
    expected = xe.label_weight(labels=y, class_weight=W, ignore_index=-100)
    for of in (lambda f: f, tf.function):
        ours = of(lambda y: xe.label_weight(labels=y, class_weight=W, ignore_index=-100))
        assert_close(ours(tf.constant(y)), expected)


@pytest.mark.parametrize("mode", ["eager", "function"])
def test_information_measures_and_activations(mode):
    x, p = tf.constant(X, tf.float64), tf.constant(Q)
    wrap = tf.function if mode == "function" else lambda f: f
    for of in (xe.softmax, xe.log_softmax, xe.sigmoid, xe.log_sigmoid):
        assert_close(wrap(of)(x), of(x.numpy()))
    assert_close(wrap(lambda: xe.entropy(logits=x))(), xe.entropy(logits=x.numpy()))
    ours = wrap(lambda: xe.kl_divergence(labels=p, logits=x))()
    assert_close(ours, xe.kl_divergence(labels=Q, logits=x.numpy()))
    ours = wrap(lambda: xe.softmax_cross_entropy(labels=Y, probs=p))()
    assert_close(ours, xe.softmax_cross_entropy(labels=Y, probs=Q))


# ---- programs


def program(text, *arguments, **environment):
    """Runs a program of its own, which asserts something, and returns what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(text), *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


SAVED = """
    import sys
    import numpy as np, tensorflow as tf

    class Model(tf.Module):
        @tf.function(input_signature=[
            tf.TensorSpec((None,), tf.int64), tf.TensorSpec((None, 3), tf.float32)])
        def step(self, y, x):
            import crossent as xe
            with tf.GradientTape() as tape:
                tape.watch(x)
                value = xe.softmax_cross_entropy(labels=y, logits=x, label_smoothing=0.1)
            return value, tape.gradient(value, x)

    tf.saved_model.save(Model(), sys.argv[1])
"""

LOADED = """
    import sys
    import numpy as np, tensorflow as tf
    import crossent as xe, crossent.tensorflow

    model = tf.saved_model.load(sys.argv[1])
    x, y = np.array([[1, 2, 3], [3, 2, -1]], np.float32), np.array([0, 1])
    value, gradient = model.step(tf.constant(y), tf.constant(x))
    expected = xe.numpy.value_and_grad(
        xe.softmax_cross_entropy, labels=y, logits=x, label_smoothing=0.1)
    assert np.array_equal(value, expected[0]) and np.array_equal(gradient, expected[1])
    x = tf.constant(x)
    with tf.GradientTape() as tape:  # a gradient through the loaded function
        tape.watch(x)
        value, _ = model.step(tf.constant(y), x)
    assert np.allclose(tape.gradient(value, x), expected[1], rtol=1e-6)
"""

UNPREPARED = """
    import sys
    import tensorflow as tf
    try:
        tf.saved_model.load(sys.argv[1])
    except Exception as error:
        assert "CrossentSoftmaxLoss" in str(error), error
        print(type(error).__name__)
"""


@native
@pytest.mark.slow
def test_a_saved_model_in_a_new_process(tmp_path):
    program(SAVED, tmp_path / "model")
    program(LOADED, tmp_path / "model")
    # Without the import TensorFlow itself names the op that is missing.
    assert program(UNPREPARED, tmp_path / "model").strip()


REPLICAS = """
    import numpy as np, tensorflow as tf, crossent as xe

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(8, 5)), rng.integers(0, 5, 8)
    Y[[0, 1, 2, 6]] = -100  # the replicas keep different numbers of rows
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    assert strategy.num_replicas_in_sync == 2
    with strategy.scope():
        shift = tf.Variable(np.zeros(5))
    total = xe.label_weight(labels=Y, ignore_index=-100)
    batches = iter(strategy.experimental_distribute_dataset(
        tf.data.Dataset.from_tensor_slices((X, Y)).batch(8)))

    def step(x, y):
        with tf.GradientTape() as tape:
            value = xe.softmax_cross_entropy(
                labels=y, logits=x + shift, ignore_index=-100, reduction="sum", normalizer=total)
        replica = tf.distribute.get_replica_context()
        return (replica.all_reduce("SUM", value),
                replica.all_reduce("SUM", tape.gradient(value, shift)))

    @tf.function
    def both(x, y):
        return strategy.run(step, (x, y))

    x, y = next(batches)
    assert [len(part) for part in strategy.experimental_local_results(x)] == [4, 4]
    value, gradient = (strategy.experimental_local_results(r)[0] for r in both(x, y))
    one, of_logits = xe.numpy.value_and_grad(
        xe.softmax_cross_entropy, labels=Y, logits=X, ignore_index=-100)
    assert abs(value - one) <= 1e-12 * one, (value, one)
    assert np.allclose(gradient, of_logits.sum(0), rtol=1e-12, atol=1e-14)
    types = {node.type for node in both.get_concrete_function(x, y).graph.get_operations()}
    print(sorted(types & {"CrossentSoftmaxLoss", "CrossentSoftmaxLossGradient"}))
"""


@native
@pytest.mark.slow
def test_two_replicas_with_the_denominator_of_the_whole_batch():
    assert "CrossentSoftmaxLossGradient" in program(REPLICAS)


COMPAT_REPLICAS = """
    import os
    os.environ["KERAS_BACKEND"] = "tensorflow"
    import numpy as np, pytest, tensorflow as tf, keras
    from crossent.tf_compat import keras as ours, tf_keras

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    X, Y = tf.constant([[2.0, 0.0], [1.0, 3.0]]), tf.constant([0, 0])

    def value(of, **options):
        return of.losses.SparseCategoricalCrossentropy(from_logits=True, **options)(Y, X)

    def compare():
        for reduction in ("sum", "sum_over_batch_size"):
            np.testing.assert_allclose(
                value(ours, reduction=reduction), value(keras, reduction=reduction), rtol=1e-6)
        with pytest.raises(ValueError, match="with 2 replicas"):
            value(tf_keras)
        return value(tf_keras, reduction="sum")

    outside = value(ours)
    value(tf_keras)
    with strategy.scope():
        compare()
        np.testing.assert_allclose(value(ours), outside / 2, rtol=1e-6)
    strategy.run(compare)
"""


@pytest.mark.slow
def test_keras_of_tf_compat_in_a_scope_of_tensorflow():
    program(COMPAT_REPLICAS)


FITTED = """
    import os
    os.environ["KERAS_BACKEND"] = "tensorflow"
    import numpy as np, tensorflow as tf, keras, crossent as xe

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(64, 4)).astype(np.float32), rng.integers(0, 3, 64)

    def fitted(loss, **options):
        keras.utils.set_random_seed(1)
        model = keras.Sequential([keras.layers.Dense(3)])
        model.compile(optimizer="sgd", loss=loss, **options)
        return model.fit(x, y, epochs=2, batch_size=16, verbose=0).history["loss"]

    def ours(y_true, y_pred):
        return xe.softmax_cross_entropy(
            labels=tf.cast(tf.reshape(y_true, [-1]), tf.int64), logits=y_pred, reduction="none")

    builtin = fitted(keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    for jit in (False, True):
        assert np.allclose(fitted(ours, jit_compile=jit), builtin, rtol=1e-5), jit
"""


@pytest.mark.slow
def test_fit_of_keras():
    program(FITTED)


WITHOUT_THE_CORE = """
    import sys
    sys.modules["crossent._native"] = None
    import numpy as np, tensorflow as tf, crossent as xe
    x = tf.constant(np.array([[1, 2, 3], [3, 2, -1]], np.float32))
    assert xe.kernel_for(x).startswith("formula: the native core is missing"), xe.kernel_for(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = xe.softmax_cross_entropy(labels=[0, 1], logits=x)
    print(float(value), tape.gradient(value, x).numpy().ravel().tolist())
"""


@pytest.mark.slow
def test_without_the_native_library():
    numbers = [float(n) for n in re.findall(r"-?\d[-\d.e]*", program(WITHOUT_THE_CORE))]
    x = np.array([[1, 2, 3], [3, 2, -1]], np.float32)
    value, gradient = xe.numpy.value_and_grad(xe.softmax_cross_entropy, labels=[0, 1], logits=x)
    np.testing.assert_allclose(numbers, [value, *gradient.ravel()], rtol=1e-6)


# ---- our declarations of TensorFlow's C API


def declarations(text):
    """Functions by name, as the types of result and parameters without their names."""
    text = re.sub(r"//[^\n]*|/\*.*?\*/|^#[^\n]*(\\\n[^\n]*)*", " ", text, flags=re.S | re.M)
    found = {}
    for result, name, rest in re.findall(
        r"([\w*\s]+?[\s*])(TF_\w+)\s*\(((?:[^()]|\([^()]*\))*)\)\s*;", text
    ):
        result = re.sub(r"\b(TF_CAPI_EXPORT|extern)\b", "", result)
        found[name] = (normal(result), [normal(part) for part in split(rest)])
    return found


def split(parameters):
    depth, parts = 0, [""]
    for character in parameters:
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part for part in parts if part.strip() not in ("", "void")]


def normal(declared):
    """A type without the name of the parameter."""
    declared = declared.replace("TF_Bool", "unsigned char").replace("std::", "")
    if "(" in declared:  # a callback: only its parameters' types
        result, inner = re.match(r"(.*?)\(\s*\*\s*\w*\s*\)\s*\((.*)\)", declared, re.S).groups()
        return normal(result + " _"), [normal(part) for part in split(inner)]
    words = re.findall(r"\w+|\*", declared)
    types = {"const", "unsigned", "char", "int", "int32_t", "int64_t", "size_t", "void"}
    if (
        len(words) > 1
        and words[-1] not in types
        and not words[-1].startswith("TF_")
        and words[-1] != "*"
    ):
        words.pop()
    return " ".join(words)


def test_our_declarations_are_those_of_tensorflow():
    ours = (Path(__file__).parents[1] / "native" / "tensorflow_c_api.h").read_text()
    include = Path(tf.sysconfig.get_include())
    files = [
        include / "tensorflow" / "c" / f"{name}.h"
        for name in ("kernels", "ops", "tf_tensor", "tf_status", "tf_datatype")
    ]
    theirs = "".join(file.read_text() for file in files)
    known = declarations(theirs)
    declared = declarations(ours)
    assert len(declared) > 30
    for name, signature in declared.items():
        assert signature == known[name], name
    codes = "".join(file.read_text() for file in include.glob("**/tsl_status.h")) + theirs
    for name, value in re.findall(r"(TF_[A-Z0-9_]+) = (\d+)", ours):
        assert re.search(
            rf"\b{name} = {value}\b|\b{name.replace('TF_', 'TSL_')} = {value}\b", codes
        ), name


@native
def test_every_function_that_the_library_lacks_is_tensorflows():
    """Undefined names begin with TF_ and are declared above, or are of the C and C++ libraries."""
    library = Path(_numpy_native.core.__file__).with_name("_tensorflow_op.so")
    names = subprocess.run(["nm", "-D", "-u", library], capture_output=True, text=True, check=True)
    used = set(re.findall(r"\bTF_\w+", names.stdout))
    header = (Path(__file__).parents[1] / "native" / "tensorflow_c_api.h").read_text()
    assert used
    assert used <= set(declarations(header))
    needed = subprocess.run(["readelf", "-d", library], capture_output=True, text=True, check=True)
    assert "tensorflow" not in "".join(re.findall(r"NEEDED.*", needed.stdout))


@pytest.mark.parametrize("normalizer", [4, np.int64(4), np.float16(4)])
def test_a_normalizer_of_any_dtype_in_a_function(normalizer):
    logits, labels = tf.ones((3, 4)), tf.constant([0, 1, 2])

    @tf.function
    def loss(divisor):
        return xe.softmax_cross_entropy(
            labels=labels, logits=logits, reduction="sum", normalizer=divisor
        )

    expected = np.float32(3 * np.log(4) / 4)
    assert loss(normalizer) == expected
    assert loss(tf.constant(normalizer)) == expected


def test_a_list_may_hold_tensors():
    weights = [tf.Variable(1.0), tf.Variable(2.0), tf.Variable(3.0)]
    logits, labels = tf.ones((3, 4)), tf.constant([0, 1, 2])
    with tf.GradientTape() as tape:
        loss = xe.softmax_cross_entropy(
            labels=labels, logits=logits, sample_weight=weights, reduction="sum"
        )
    np.testing.assert_allclose(tape.gradient(loss, weights), [np.log(4)] * 3, rtol=1e-6)


def test_a_dtype_that_tensorflow_lacks():
    with pytest.raises(xe.DTypeError, match="sample_weight must hold real numbers; got "):
        xe.softmax_cross_entropy(
            labels=tf.constant([0, 1, 2]),
            logits=tf.ones((3, 4)),
            sample_weight=np.ones(3, np.longdouble),
        )


@pytest.mark.parametrize("name", ["labels", "sample_weight"])
def test_arrays_with_masked_entries(name):
    arrays = {"labels": Y, "sample_weight": np.ones(6), "logits": tf.constant(X)}
    mask = [0, 0, 0, 1, 1, 1]
    with pytest.raises(xe.DTypeError, match=f"{name} must be a plain array; got one with 3 masked"):
        xe.softmax_cross_entropy(**{**arrays, name: np.ma.array(arrays[name], mask=mask)})
    unmasked = np.ma.array(arrays[name], mask=False)
    value = xe.softmax_cross_entropy(**{**arrays, name: unmasked})
    assert_close(value, xe.softmax_cross_entropy(labels=Y, logits=X), 1e-6)


@native
@pytest.mark.parametrize(
    ("loss", "labels", "index"),
    [
        (xe.softmax_cross_entropy, np.where(Y[0] == Y, -100, Y), np.int64(-100)),
        (xe.softmax_cross_entropy, Y, np.uint8(1)),
        (xe.sigmoid_cross_entropy, Z, np.int32(0)),
    ],
)
def test_an_ignored_label_as_an_integer_of_numpy_goes_to_the_kernel(loss, labels, index):
    function = tf.function(lambda x: loss(labels=labels, logits=x, ignore_index=index))
    x = tf.constant(X)
    assert any("Crossent" in op for op in op_types(function.get_concrete_function(x)))
    for ours in (function(x), loss(labels=tf.constant(labels), logits=x, ignore_index=index)):
        assert_same_bits(ours, loss(labels=labels, logits=X, ignore_index=int(index)))


@native
@pytest.mark.parametrize("mode", ["eager", "function"])
@pytest.mark.parametrize("loss", [xe.softmax_cross_entropy, xe.sigmoid_cross_entropy])
def test_more_axes_than_the_kernels_take(loss, mode):
    x = tf.zeros([1] * 31 + [2])
    of = (tf.function if mode == "function" else lambda f: f)(lambda: loss(labels=x, logits=x))
    with pytest.raises(xe.ShapeError, match="logits must have at most 31 axes; got 32"):
        of()
