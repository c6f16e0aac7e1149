"""JAX: every transformation gives the native values, and their derivatives.

NumPy's door, which the contract judges against the oracle, is the reference; for what NumPy does
not do, the formula is.
"""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import crossent
from crossent import _numpy_native
from crossent.errors import DTypeError, LabelError, OptionError, ShapeError

jax = pytest.importorskip("jax", reason="JAX is not installed")
jnp = jax.numpy

ROOT = Path(__file__).parent.parent
INF, NAN = np.inf, np.nan

softmax_loss = crossent.softmax_cross_entropy
sigmoid_loss = crossent.sigmoid_cross_entropy


@pytest.fixture
def native():
    if _numpy_native.core is None:
        pytest.skip(_numpy_native.kernel)


@pytest.fixture
def x64():
    # Where it was before jax 0.8.
    enable = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64
    with enable(True):
        yield


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def data(rng, dtype="float32", rows=6, classes=5):
    logits = jnp.asarray(rng.normal(size=(rows, classes)) * 3, dtype)
    return logits, rng.integers(0, classes, rows)


def distribution(rng, rows=6, classes=5):
    q = rng.random((rows, classes))
    return (q / q.sum(-1, keepdims=True)).astype(np.float32)


def reference(loss, logits, **options):
    """Value and gradient of NumPy's door."""
    return crossent.numpy.value_and_grad(loss, logits=np.asarray(logits), **options)


def by_jax(loss, logits, upstream=None, transform=lambda f: f, **options):
    """The same by JAX; with reduction none the gradient of the losses' sum."""

    def of_logits(logits, options):
        losses = loss(logits=logits, **options, **static)
        return losses.sum(), losses

    static = {k: v for k, v in options.items() if not isinstance(v, (np.ndarray, jax.Array))}
    arrays = {k: v for k, v in options.items() if k not in static}
    (_, value), gradient = transform(jax.value_and_grad(of_logits, has_aux=True))(logits, arrays)
    return np.asarray(value), np.asarray(gradient)


def assert_close(actual, expected, ulps=4):
    """Within ulps of the largest entry of each array; infinities and NaN in the same places."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    wide, right = actual.astype(np.float64), expected.astype(np.float64)
    finite = np.isfinite(right)
    np.testing.assert_array_equal(np.where(finite, 0, wide), np.where(finite, 0, right))
    scale = np.abs(right[finite]).max(initial=1e-30)
    eps = float(jnp.finfo(actual.dtype).eps)
    assert np.abs(wide - right)[finite].max(initial=0) <= ulps * eps * scale


def cases(rng):
    w = rng.random(5).astype(np.float32)
    s = rng.normal(size=6).astype(np.float32)
    ids = rng.integers(0, 5, 6)
    ignored = np.where(np.arange(6) % 3 == 1, -100, ids)
    q = distribution(rng)
    return {
        "ids": {"labels": ids},
        "none": {"labels": ids, "reduction": "none"},
        "sum": {"labels": ids, "reduction": "sum", "normalizer": np.float32(7)},
        "ignored": {"labels": ignored, "ignore_index": -100},
        "ignored, weights": {
            "labels": ignored,
            "ignore_index": -100,
            "class_weight": w,
            "sample_weight": s,
        },
        "mean_all": {"labels": ignored, "ignore_index": -100, "reduction": "mean_all"},
        "smoothing": {"labels": ids, "label_smoothing": 0.1, "class_weight": w},
        "transforms": {"labels": ids, "temperature": 2.0, "softcap": 5.0, "z_loss": 1e-2},
        "distribution": {"labels": q},
        "distribution, all": {
            "labels": q,
            "class_weight": w,
            "sample_weight": s,
            "label_smoothing": 0.2,
            "z_loss": 1e-2,
            "reduction": "none",
        },
        "one-hot bools": {"labels": np.eye(5, dtype=bool)[ids]},
        "one-hot ints": {"labels": np.eye(5, dtype=np.int8)[ids]},
    }


NAMES = list(cases(np.random.default_rng(0)))
MODES = {"eager": lambda f: f, "jit": jax.jit}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("name", NAMES)
def test_softmax_value_and_gradient(name, dtype, mode, rng):
    options = cases(rng)[name]
    logits, _ = data(rng, dtype)
    value, gradient = by_jax(softmax_loss, logits, transform=MODES[mode], **options)
    expected, slope = reference(softmax_loss, logits, **options)
    assert_close(value, expected)
    assert_close(gradient, slope)


@pytest.mark.parametrize("name", NAMES)
def test_softmax_in_float64(name, rng, x64):
    options = cases(rng)[name]
    logits, _ = data(rng, "float64")
    value, gradient = by_jax(softmax_loss, logits, transform=jax.jit, **options)
    expected, slope = reference(softmax_loss, logits, **options)
    assert_close(value, expected)
    assert_close(gradient, slope)


@pytest.mark.parametrize("axis", [0, 1, -2, 2])
def test_any_class_axis(axis, rng):
    logits = jnp.asarray(rng.normal(size=(3, 4, 5)), "float32")
    labels = rng.integers(0, 3, np.delete(logits.shape, axis))
    weight = rng.random(np.delete(logits.shape, axis)[0]).astype(np.float32)
    options = {"labels": labels, "axis": axis, "sample_weight": weight}
    value, gradient = by_jax(softmax_loss, logits, transform=jax.jit, **options)
    expected, slope = reference(softmax_loss, logits, **options)
    assert_close(value, expected)
    assert_close(gradient, slope)


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32"])
@pytest.mark.parametrize("mode", MODES)
def test_ids_of_every_integer_dtype(dtype, mode, rng):
    logits, ids = data(rng)
    expected = softmax_loss(labels=ids, logits=np.asarray(logits))
    loss = MODES[mode](lambda y, x: softmax_loss(labels=y, logits=x))
    assert_close(loss(ids.astype(dtype), logits), expected)
    assert_close(loss(jnp.asarray(ids.astype(dtype)), logits), expected)


def test_int_labels_are_no_obstacle_to_gradients_of_everything(rng):
    logits, ids = data(rng)
    loss = lambda given: softmax_loss(**given)  # noqa: E731
    gradients = jax.grad(loss, allow_int=True)({"labels": jnp.asarray(ids), "logits": logits})
    assert gradients["labels"].dtype == jax.dtypes.float0
    _, slope = reference(softmax_loss, logits, labels=ids)
    assert_close(gradients["logits"], slope)


def sigmoid_cases(rng):
    z = rng.random((6, 5)).astype(np.float32)
    bits = (z > 0.5).astype(np.int32)
    return {
        "labels": {"labels": z},
        "ints": {"labels": bits},
        "none": {"labels": z, "reduction": "none", "label_smoothing": 0.1},
        "weights": {
            "labels": z,
            "pos_weight": rng.random(5).astype(np.float32),
            "sample_weight": rng.normal(size=6).astype(np.float32),
        },
        "one pos_weight": {"labels": z, "pos_weight": np.float32(2.5)},
        "element weights": {"labels": z, "sample_weight": z, "reduction": "sum"},
        "ignored": {"labels": np.where(z > 0.8, -1, bits), "ignore_index": -1},
        "mean_all": {
            "labels": np.where(z > 0.8, -1, bits),
            "ignore_index": -1,
            "reduction": "mean_all",
            "sample_weight": rng.random((6, 1)).astype(np.float32),
        },
    }


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", list(sigmoid_cases(np.random.default_rng(0))))
def test_sigmoid_value_and_gradient(name, dtype, mode, rng):
    options = sigmoid_cases(rng)[name]
    logits, _ = data(rng, dtype)
    value, gradient = by_jax(sigmoid_loss, logits, transform=MODES[mode], **options)
    expected, slope = reference(sigmoid_loss, logits, **options)
    assert_close(value, expected)
    assert_close(gradient, slope)


# ---- transformations


def formula_of(monkeypatch):
    """Losses by the formula alone."""
    monkeypatch.setattr("crossent._jax_native.runs_here", lambda: False)


def by_formula(monkeypatch, of, *arguments):
    """What the formula alone gives, in a program of its own: JAX keeps those of a function."""
    formula_of(monkeypatch)
    program = jax.jit(lambda *operands: of(*operands)).lower(*arguments)
    assert "@crossent_" not in program.as_text()
    return program.compile()(*arguments)


LOSSES = {
    "softmax": (softmax_loss, lambda rng: cases(rng)["ignored, weights"]),
    "distribution": (softmax_loss, lambda rng: cases(rng)["distribution, all"]),
    "transforms": (softmax_loss, lambda rng: cases(rng)["transforms"]),
    "sigmoid": (sigmoid_loss, lambda rng: sigmoid_cases(rng)["weights"]),
    "sigmoid, ignored": (sigmoid_loss, lambda rng: sigmoid_cases(rng)["ignored"]),
}

DERIVATIVES = {
    "jvp": lambda f, x: jax.jvp(f, (x,), (jnp.cos(x),)),
    "linearize": lambda f, x: jax.linearize(f, x)[1](jnp.sin(x)),
    "hessian": lambda f, x: jax.hessian(f)(x),
    "jacfwd": lambda f, x: jax.jacfwd(f)(x),
    "jacrev": lambda f, x: jax.jacrev(f)(x),
    "grad of grad": lambda f, x: jax.grad(lambda x: jnp.vdot(jax.grad(f)(x), jnp.cos(x)))(x),
    "hvp": lambda f, x: jax.jvp(jax.grad(f), (x,), (jnp.cos(x),))[1],
    "third": lambda f, x: jax.jvp(jax.hessian(f), (x,), (jnp.cos(x),))[1],
    "scaled": lambda f, x: jax.grad(lambda x: 3 * f(x))(x),
    "checkpoint": lambda f, x: jax.grad(jax.checkpoint(f))(x),
    "scan": lambda f, x: jax.lax.scan(lambda c, _: (c - jax.grad(f)(c), f(c)), x, None, length=3),
}


@pytest.mark.parametrize(
    ("name", "derivative", "mode"),
    [
        *(("softmax", derivative, "jit") for derivative in DERIVATIVES),
        *((name, "hessian", "jit") for name in LOSSES if name != "softmax"),
        *((name, "third", "jit") for name in LOSSES if name != "softmax"),
        ("softmax", "grad of grad", "eager"),
        ("sigmoid", "hvp", "eager"),
    ],
)
def test_derivatives_of_every_order(name, derivative, mode, rng, x64, monkeypatch):
    loss, options_of = LOSSES[name]
    options = options_of(rng)
    logits, _ = data(rng, "float64")

    def of(logits):
        total = lambda x: loss(logits=x, **options).sum()  # noqa: E731  # another one for each trace
        return DERIVATIVES[derivative](total, logits)

    actual = MODES[mode](of)(logits)
    expected = by_formula(monkeypatch, of, logits)
    jax.tree.map(partial(assert_close, ulps=256), actual, expected)


@pytest.mark.parametrize("wrt", ["labels", "class_weight", "sample_weight"])
def test_gradients_in_the_other_arguments(wrt, rng, x64):
    options = cases(rng)["distribution, all"] | {"reduction": "mean"}
    options = {k: v.astype(float) if isinstance(v, np.ndarray) else v for k, v in options.items()}
    options["labels"] /= options["labels"].sum(-1, keepdims=True)
    logits, _ = data(rng, "float64")
    of = lambda moving: softmax_loss(logits=logits, **{**options, wrt: moving})  # noqa: E731
    _, expected = crossent.numpy.value_and_grad(
        softmax_loss, logits=np.asarray(logits), wrt=wrt, **options
    )
    assert_close(jax.grad(of)(jnp.asarray(options[wrt])), expected, ulps=16)
    assert_close(jax.jit(jax.grad(of))(jnp.asarray(options[wrt])), expected, ulps=16)


@pytest.mark.parametrize("wrt", ["labels", "pos_weight", "sample_weight"])
def test_sigmoid_gradients_in_the_other_arguments(wrt, rng, x64):
    options = {k: v.astype(float) for k, v in sigmoid_cases(rng)["weights"].items()}
    logits, _ = data(rng, "float64")
    of = lambda moving: sigmoid_loss(logits=logits, **{**options, wrt: moving})  # noqa: E731
    _, expected = crossent.numpy.value_and_grad(
        sigmoid_loss, logits=np.asarray(logits), wrt=wrt, **options
    )
    assert_close(jax.grad(of)(jnp.asarray(options[wrt])), expected, ulps=16)


def test_logits_and_weights_at_once(rng, x64, monkeypatch):
    logits, ids = data(rng, "float64")
    weight = jnp.asarray(rng.random(6))

    def of(logits, weight):
        return softmax_loss(labels=ids, logits=logits, sample_weight=weight)

    actual = jax.jit(jax.hessian(of, argnums=(0, 1)))(logits, weight)
    expected = by_formula(monkeypatch, jax.hessian(of, argnums=(0, 1)), logits, weight)
    jax.tree.map(partial(assert_close, ulps=32), actual, expected)


def test_the_normalizer_gets_no_gradient(rng):
    logits, ids = data(rng)
    of = lambda n: softmax_loss(labels=ids, logits=logits, reduction="sum", normalizer=n)  # noqa: E731
    assert jax.grad(of)(jnp.float32(3)) == 0


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("mode", MODES)
def test_vmap_of_value_and_gradient(name, mode, rng):
    loss, options_of = LOSSES[name]
    options = options_of(rng)
    logits = jnp.asarray(rng.normal(size=(4, 6, 5)), "float32")

    def both(logits):
        def total(logits):
            losses = loss(logits=logits, **options)
            return losses.sum(), losses

        (_, value), gradient = jax.value_and_grad(total, has_aux=True)(logits)
        return value, gradient

    of = jax.vmap(both)
    values, gradients = MODES[mode](of)(logits)
    for one, value, gradient in zip(logits, values, gradients, strict=True):
        for actual, expected in zip((value, gradient), both(one), strict=True):
            assert_close(actual, expected)


def test_vmap_over_labels_weights_and_any_axis(rng):
    logits = jnp.asarray(rng.normal(size=(6, 4, 5)), "float32")
    labels, weights = jnp.asarray(rng.integers(0, 5, (6, 4))), jnp.asarray(rng.random((4, 5)), "f4")

    def of(logits, labels, weight):
        return softmax_loss(labels=labels, logits=logits, class_weight=weight)

    actual = jax.vmap(of, in_axes=(1, 1, 0))(logits, labels, weights)
    expected = [of(logits[:, k], labels[:, k], weights[k]) for k in range(4)]
    assert_close(actual, np.stack(expected))


def test_vmap_in_vmap_of_grad_is_a_gradient_per_example(rng):
    logits = jnp.asarray(rng.normal(size=(3, 4, 5)), "float32")
    labels = jnp.asarray(rng.integers(0, 5, (3, 4)))
    of = jax.grad(lambda x, y: softmax_loss(labels=y, logits=x))
    actual = jax.jit(jax.vmap(jax.vmap(of)))(logits, labels)
    losses = lambda x: softmax_loss(labels=labels, logits=x, reduction="sum")  # noqa: E731
    assert_close(actual, jax.grad(losses)(logits))


# ---- corners


@pytest.mark.parametrize("mode", MODES)
def test_masked_classes_and_rows_without_a_softmax(mode, rng):
    logits, ids = data(rng)
    logits = np.array(logits)
    logits[0, (ids[0] + 1) % 5] = -INF
    logits[1] = -INF
    logits[2, 0], logits[3, 1] = NAN, INF
    options = {"labels": ids, "reduction": "none"}
    value, gradient = by_jax(softmax_loss, jnp.asarray(logits), transform=MODES[mode], **options)
    expected, slope = reference(softmax_loss, logits, **options)
    assert_close(value, expected)
    assert_close(gradient, slope)
    assert np.isnan(value).tolist() == [False, True, True, True, False, False]


@pytest.mark.parametrize("derivative", ["grad", "hessian"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("how", ["ignored", "weight"])
def test_rows_that_do_not_count_may_hold_nan(how, mode, derivative, rng):
    logits, ids = data(rng)
    logits = jnp.asarray(logits).at[2].set(NAN)
    options = {"labels": ids, "sample_weight": np.where(np.arange(6) == 2, 0, 1)}
    if how == "ignored":
        options = {"labels": np.where(np.arange(6) == 2, 255, ids), "ignore_index": 255}
    of = getattr(jax, derivative)(lambda x: softmax_loss(logits=x, **options))
    result = np.asarray(MODES[mode](of)(logits))
    assert np.isfinite(result).all()
    assert (result[2] == 0).all()
    assert result[0].any()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("reduction", ["mean", "sum", "mean_all"])
def test_nothing_kept_is_zero(reduction, mode, rng):
    logits, _ = data(rng)
    options = {"labels": np.full(6, -1), "ignore_index": -1, "reduction": reduction}
    value, gradient = by_jax(softmax_loss, logits, transform=MODES[mode], **options)
    assert value == 0
    assert not gradient.any()
    labels = np.full((6, 5), -1)
    options["labels"] = labels
    value, gradient = by_jax(sigmoid_loss, logits, transform=MODES[mode], **options)
    assert value == 0
    assert not gradient.any()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_empty_batch(reduction, mode):
    logits = jnp.zeros((0, 5))
    options = {"labels": np.zeros(0, int), "reduction": reduction}
    value, gradient = by_jax(softmax_loss, logits, transform=MODES[mode], **options)
    assert not value.any()
    assert gradient.shape == (0, 5)
    options["labels"] = np.zeros((0, 5))
    value, gradient = by_jax(sigmoid_loss, logits, transform=MODES[mode], **options)
    assert not value.any()
    assert gradient.shape == (0, 5)


def test_invalid_labels_are_an_error_where_their_values_are_at_hand(rng):
    logits, _ = data(rng)
    with pytest.raises(LabelError, match="5 at row 1"):
        softmax_loss(labels=jnp.array([0, 5, 1, 2, 3, 4]), logits=logits)
    with pytest.raises(LabelError, match="ignore_index=-100"):
        jax.grad(lambda x: softmax_loss(labels=np.full(6, -100), logits=x))(logits)
    with pytest.raises(LabelError):  # the same under jit: NumPy's values are known
        jax.jit(lambda x: softmax_loss(labels=np.full(6, 7), logits=x))(logits)
    with pytest.raises(LabelError):  # would wrap around to 1 in int32
        softmax_loss(labels=np.full(6, 2**32 + 1), logits=logits)
    with pytest.raises(LabelError):
        sigmoid_loss(labels=jnp.full((6, 5), 2.0), logits=logits)
    with pytest.raises(OptionError):
        softmax_loss(labels=jnp.zeros(6, int), logits=logits, sample_weight=jnp.full(6, NAN))


@pytest.mark.parametrize("runs", ["native", "formula"])
@pytest.mark.parametrize("bad", [-1, 5, -100, 2**31 - 1])
def test_invalid_labels_in_a_compiled_program_are_nan_rows(bad, runs, rng, monkeypatch):
    if runs == "formula":
        formula_of(monkeypatch)
    logits, ids = data(rng)
    ids[3] = bad
    options = {"labels": ids, "reduction": "none", "class_weight": np.arange(1, 6)}
    value, gradient = by_jax(softmax_loss, logits, transform=jax.jit, **options)
    ids[3] = 0
    expected, slope = reference(softmax_loss, logits, **options)
    expected[3], slope[3] = NAN, NAN
    assert_close(value, expected, ulps=8)
    assert_close(gradient, slope, ulps=8)


def test_an_invalid_label_does_not_reach_the_gradient_of_other_rows(rng):
    logits, ids = data(rng)
    bad = np.array(ids)
    bad[3] = -5
    options = {"class_weight": np.ones(5, np.float32)}
    value, gradient = by_jax(softmax_loss, logits, transform=jax.jit, labels=bad, **options)
    _, expected = reference(softmax_loss, logits, labels=ids)
    assert np.isnan(value)
    assert np.isnan(gradient[3]).all()
    others = np.arange(6) != 3
    assert_close(gradient[others], expected[others])

    def masked(logits, labels):  # nothing flows back to row 3, and still it says what it is
        losses = softmax_loss(labels=labels, logits=logits, reduction="none")
        return jnp.where(others, losses, 0).sum()

    gradient = jax.jit(jax.grad(masked))(logits, bad)
    assert np.isnan(gradient[3]).all()
    assert np.isfinite(gradient[others]).all()
    q = distribution(rng)
    q[3] *= 2
    _, gradient = by_jax(softmax_loss, logits, transform=jax.jit, labels=q)
    assert np.isnan(gradient[3]).all()
    assert np.isfinite(gradient[others]).all()


def test_invalid_sigmoid_labels_in_a_compiled_program(rng):
    logits, _ = data(rng)
    labels = np.full((6, 5), 0.5, np.float32)
    labels[2, 1] = 1.5
    value, gradient = by_jax(
        sigmoid_loss, logits, transform=jax.jit, labels=labels, reduction="none"
    )
    bad = labels != 0.5
    assert (np.isnan(value) == bad).all()
    assert (np.isnan(gradient) == bad).all()


def test_checks_in_compiled_programs_on_request(rng, monkeypatch):
    logits, _ = data(rng)
    monkeypatch.setenv("CROSSENT_CHECK", "1")
    loss = jax.jit(lambda y, x: softmax_loss(labels=y, logits=x))
    assert np.isfinite(loss(jnp.zeros(6, int), logits))
    jax.effects_barrier()

    def run():
        jax.block_until_ready(loss(jnp.full(6, 9), logits))
        jax.effects_barrier()

    with pytest.raises(Exception, match="labels must lie in"):
        run()


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"labels": np.zeros(5, int)}, ShapeError),
        ({"labels": np.zeros(6, int), "axis": 2}, ShapeError),
        ({"labels": np.zeros(6, int), "class_weight": np.ones(4)}, ShapeError),
        ({"labels": np.zeros(6, int), "sample_weight": np.ones(5)}, ShapeError),
        ({"labels": np.zeros(6, int), "normalizer": np.ones(2)}, ShapeError),
        ({"labels": np.zeros(6, int), "normalizer": -1.0}, OptionError),
        ({"labels": np.full((6, 5), 0.2), "ignore_index": 0}, OptionError),
        ({"labels": np.zeros(6, complex)}, DTypeError),
    ],
)
@pytest.mark.parametrize("mode", MODES)
def test_what_does_not_fit_is_an_error(wrong, error, mode, rng):
    logits, _ = data(rng)
    with pytest.raises(error):
        MODES[mode](lambda x: softmax_loss(logits=x, **wrong))(logits)


def test_lists_numbers_and_numpy_arrays_go_with_jax(rng):
    logits, ids = data(rng)
    expected = softmax_loss(labels=ids, logits=np.asarray(logits))
    assert_close(softmax_loss(labels=ids.tolist(), logits=logits), expected)
    assert_close(softmax_loss(labels=jnp.asarray(ids), logits=np.asarray(logits)), expected)
    assert_close(softmax_loss(labels=jnp.asarray(ids), logits=logits.tolist()), expected)
    ones = softmax_loss(labels=ids, logits=logits, class_weight=[1] * 5, normalizer=6.0)
    assert_close(ones, expected)
    assert isinstance(ones, jax.Array)


@pytest.mark.parametrize("mode", MODES)
def test_every_other_loss_runs_on_jax(mode, rng):
    logits, ids = data(rng)
    p = jax.nn.softmax(logits)
    for loss in (crossent.focal_loss, crossent.poly_loss, crossent.generalized_cross_entropy):
        actual = MODES[mode](lambda x, loss=loss: loss(labels=ids, logits=x))(logits)
        assert_close(actual, loss(labels=ids, logits=np.asarray(logits)), ulps=16)
    actual = MODES[mode](lambda p: softmax_loss(labels=ids, probs=p))(p)
    assert_close(actual, softmax_loss(labels=ids, probs=np.asarray(p)), ulps=16)
    actual = MODES[mode](crossent.log_softmax)(logits)
    assert_close(actual, crossent.log_softmax(np.asarray(logits)), ulps=16)


def test_log_of_zero_has_no_derivative_where_nothing_flows_back(rng):
    # 0 * (1 / 0) is NaN, and a rule of JAX must be linear: it cannot ask whether what flows is 0.
    p = jnp.array([[0.0, 1.0], [0.5, 0.5]])
    labels = np.array([[0.0, 1.0], [0.5, 0.5]], np.float32)
    gradient = jax.grad(lambda p: softmax_loss(labels=labels, probs=p, reduction="sum"))(p)
    assert gradient.tolist() == [[0, -1], [-1, -1]]
    gradient = jax.jit(jax.grad(lambda p: softmax_loss(labels=np.array([0, 1]), probs=p)))(p)
    assert np.asarray(gradient).tolist() == [[-INF, 0], [0, -1]]


# ---- what is compiled


def compiled(of, *arguments):
    return jax.jit(of).lower(*arguments).compile().as_text()


def test_one_native_call_and_no_other_pass_over_the_logits(native, rng):
    logits, ids = data(rng, rows=64, classes=128)
    for dtype in ("float32", "bfloat16"):
        text = compiled(
            jax.value_and_grad(lambda x, y: softmax_loss(labels=y, logits=x)),
            logits.astype(dtype),
            ids,
        )
        body = text[text.index("ENTRY") :]
        assert body.count('custom_call_target="crossent_softmax_loss"') == 1
        for pass_over in ("multiply", "fusion", "copy(", "convert"):
            assert pass_over not in body


def test_kernel_for(native):
    assert crossent.kernel_for(jnp.zeros((2, 3))).startswith("native")
    assert crossent.kernel_for(jnp.zeros((2, 3), "complex64")).startswith("formula: no kernel for")


# ---- several devices; XLA_FLAGS must be set before JAX starts

PROLOGUE = """
import jax, jax.numpy as jnp, numpy as np, crossent
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
try:
    from jax import shard_map
except ImportError:  # up to JAX 0.5
    from functools import partial
    from jax.experimental.shard_map import shard_map
    shard_map = partial(shard_map, check_rep=False)
rng = np.random.default_rng(3)
mesh = Mesh(np.array(jax.devices()), ("data",))
place = lambda a, *spec: jax.device_put(a, NamedSharding(mesh, P(*spec)))
x, y = rng.normal(size=(8, 10)).astype(np.float32), rng.integers(0, 10, 8).astype(np.int32)
w = np.arange(10, dtype=np.float32)
loss = lambda x, y, **options: crossent.softmax_cross_entropy(labels=y, logits=x, **options)
close = lambda a, b: np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=2e-6, atol=1e-7)
"""


def on_two_devices(script):
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    ran = subprocess.run(
        [sys.executable, "-c", PROLOGUE + script],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr


def test_sharded_jit_calls_on_every_device_and_gathers_no_logits(native):
    on_two_devices("""
for options in ({}, {"class_weight": w, "ignore_index": 3}, {"reduction": "none"}):
    both = jax.value_and_grad(lambda x, y: loss(x, y, **options).sum())
    of = jax.jit(both)
    text = of.lower(place(x, "data"), place(y, "data")).compile().as_text()
    assert 'custom_call_target="crossent_softmax_loss"' in text
    assert "f32[4,10]" in text and "all-gather" not in text and "f32[8,10]" not in text
    value, gradient = of(place(x, "data"), place(y, "data"))
    expected, slope = jax.jit(both)(x, y)
    close(value, expected), close(gradient, slope)
    assert gradient.sharding.spec == P("data")
# Labels that are sharded alone, classes that are, and every device's own part of a vmap.
close(jax.jit(loss)(x, place(y, "data")), loss(x, y))
close(jax.jit(loss)(place(x, None, "data"), y), loss(x, y))
xs, ys = np.stack([x, 2 * x]), np.stack([y, y])
close(jax.jit(jax.vmap(loss))(place(xs, "data"), place(ys, "data")), jax.vmap(loss)(xs, ys))
z = (x > 0).astype(np.float32)
for spec in (("data",), (None, "data")):
    of = jax.jit(jax.value_and_grad(lambda x: crossent.sigmoid_cross_entropy(
        labels=z, logits=x, pos_weight=w, sample_weight=w[:8])))
    for actual, expected in zip(of(place(x, *spec)), of(x)):
        close(actual, expected)
hessian = jax.jit(jax.hessian(lambda x: loss(x, y)))
close(hessian(place(x, "data")), hessian(x))
""")


def test_rows_that_devices_do_not_have_as_many_of(native):
    """XLA fills up a shard: what it fills in must not count."""
    on_two_devices("""
xs, ys = rng.normal(size=(4, 8, 10)).astype(np.float32), rng.integers(0, 10, (4, 8))
of = jax.jit(jax.value_and_grad(lambda x, y: loss(x[:, :-1], y[:, 1:])))  # the next token's
for options in ({}, {"class_weight": w, "ignore_index": 3, "reduction": "sum"}):
    of = jax.jit(jax.value_and_grad(lambda x, y: loss(x[:, :-1], y[:, 1:], **options)))
    for actual, expected in zip(of(place(xs, None, "data"), place(ys, None, "data")), of(xs, ys)):
        close(actual, expected)
part = jax.jit(lambda x, y: loss(x[:3], y[:3]))
close(part(place(x, "data"), place(y, "data")), part(x, y))
z = (x > 0).astype(np.float32)
part = jax.jit(lambda x: crossent.sigmoid_cross_entropy(labels=z[:5], logits=x[:5]))
close(part(place(x, "data")), part(x))
""")


def test_shard_map(native):
    on_two_devices("""
def step(x, y):
    total = jax.lax.psum(crossent.label_weight(labels=y), "data")
    part = lambda x: loss(x, y, reduction="sum", normalizer=total)
    value, gradient = jax.value_and_grad(part)(x)
    return jax.lax.psum(value, "data"), gradient

specs = {"in_specs": (P("data"), P("data")), "out_specs": (P(), P("data"))}
of = jax.jit(shard_map(step, mesh=mesh, **specs))
assert 'custom_call_target="crossent_softmax_loss"' in of.lower(x, y).compile().as_text()
value, gradient = of(x, y)
expected, slope = jax.value_and_grad(loss)(x, y)
close(value, expected), close(gradient, slope)

# Weights that are the same on every device get the gradient of all rows.
bias = lambda b, x, y: jax.lax.psum(loss(x + b, y, reduction="sum"), "data")
of = shard_map(bias, mesh=mesh, in_specs=(P(), P("data"), P("data")), out_specs=P())
slope = jax.jit(jax.grad(of))(jnp.zeros(10), x, y)
close(slope, jax.grad(lambda b: loss(x + b, y, reduction="sum"))(jnp.zeros(10)))
""")


def test_a_shard_map_of_some_axes(native):
    if jax.__version_info__ < (0, 7):
        pytest.skip("a shard_map of some axes is called otherwise there")
    on_two_devices("""
from jax.sharding import AxisType
auto = (AxisType.Auto, AxisType.Auto)
for sizes in ((2, 1), (1, 2)):
    mesh = jax.make_mesh(sizes, ("data", "model"), axis_types=auto)
    def step(x, y):
        value, gradient = jax.value_and_grad(lambda x: loss(x, y, reduction="sum"))(x)
        return jax.lax.psum(value, "data"), gradient

    of = jax.jit(shard_map(step, mesh=mesh, in_specs=(P("data"), P("data")),
                           out_specs=(P(), P("data")), axis_names={"data"}))
    value, gradient = of(x, y)
    expected, slope = jax.value_and_grad(lambda x: loss(x, y, reduction="sum"))(x)
    close(value, expected), close(gradient, slope)
""")


def test_a_mesh_of_explicit_axes(native):
    """Results are typed as JAX's own functions would have them, and nothing is gathered."""
    if jax.__version_info__ < (0, 7):
        pytest.skip("explicit axes were an experiment there")
    on_two_devices("""
from jax.sharding import AxisType
x, y, w = jnp.asarray(x), jnp.asarray(y), jnp.asarray(w)
s = jnp.arange(8.0)
mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Explicit,))
place = lambda a, *spec: jax.device_put(a, NamedSharding(mesh, P(*spec)))
weighted = lambda x, y, s: loss(x, y, class_weight=w, sample_weight=s)
losses = {
    "plain": (lambda x, y, s: loss(x, y), True),
    "weighted": (weighted, True),
    "ignored": (lambda x, y, s: loss(x, y, ignore_index=3), True),
    "rows": (lambda x, y, s: loss(x, y, reduction="none", class_weight=w).sum(), True),
    "soft": (lambda x, y, s: loss(x, jax.nn.one_hot(y, 10), label_smoothing=0.1), True),
    "sigmoid": (lambda x, y, s: crossent.sigmoid_cross_entropy(
        labels=jax.nn.one_hot(y, 10), logits=x, pos_weight=w), True),
    "focal": (lambda x, y, s: crossent.focal_loss(labels=y, logits=x, gamma=2.0), False),
    "poly": (lambda x, y, s: crossent.poly_loss(labels=y, logits=x), False),
}
for name, (of, is_native) in losses.items():
    expected, slope = jax.value_and_grad(of)(x, y, s)
    with jax.set_mesh(mesh):
        sharded = place(x, "data"), place(y, "data"), place(s, "data")
        step = jax.jit(jax.value_and_grad(of))
        value, gradient = step(*sharded)
        text = step.lower(*sharded).compile().as_text()
        close(value, expected), close(gradient, slope)
        close(jax.value_and_grad(of)(*sharded)[1], slope)
        if is_native:  # JAX asks for whole classes itself where it looks one up
            close(jax.value_and_grad(of)(place(x, None, "data"), y, s)[1], slope)
    assert gradient.sharding.spec == P("data", None), (name, gradient.sharding)
    assert "all-gather" not in text and "f32[8,10]" not in text, name
    assert ('custom_call_target="crossent_' in text) == is_native, name
rows = lambda x, y: loss(x, y, reduction="none")
slopes = jax.hessian(lambda x, y: loss(x, y))(x, y)
with jax.set_mesh(mesh):
    assert jax.typeof(jax.jit(rows)(place(x, "data"), place(y, "data"))).sharding.spec == P("data")
    close(jax.hessian(lambda x, y: loss(x, y))(place(x, "data"), place(y, "data")), slopes)
""")


def test_a_program_for_another_platform_holds_the_formula(native, rng):
    """Lowered where there is none of its devices, too."""
    logits, ids = data(rng)
    logits = jnp.stack([logits, 2 * logits])

    def both(x, y):
        one = jax.value_and_grad(lambda x: softmax_loss(labels=y, logits=x))
        return jax.vmap(one)(x)

    traced = jax.jit(both).trace(logits, jnp.asarray(ids))
    assert "crossent_softmax_loss" in traced.lower(lowering_platforms=("cpu",)).as_text()
    assert "crossent_softmax_loss" not in traced.lower(lowering_platforms=("cuda",)).as_text()
    export = pytest.importorskip("jax.export")
    exported = export.export(
        jax.jit(both),
        platforms=["cpu", "cuda", "tpu"],
        disabled_checks=[export.DisabledSafetyCheck.custom_call("crossent_softmax_loss")],
    )(logits, jnp.asarray(ids))
    for actual, expected in zip(
        exported.call(logits, jnp.asarray(ids)), both(logits, ids), strict=True
    ):
        assert_close(actual, expected)


@pytest.mark.parametrize("loop", ["map", "scan", "while", "cond", "checkpoint"])
def test_second_derivatives_through_control_flow(loop, rng):
    logits, ids = data(rng)
    ids = jnp.asarray(ids)

    def one(z, y):
        return softmax_loss(labels=y, logits=z, reduction="none")

    def by_loop(x):
        if loop == "map":
            return jax.lax.map(lambda row: one(*row), (x, ids)).mean()
        if loop == "scan":
            add = lambda total, row: (total + one(*row), None)  # noqa: E731
            return jax.lax.scan(add, 0.0, (x, ids))[0] / len(ids)
        if loop == "while":
            return jax.lax.fori_loop(0, 1, lambda _, total: total + one(x, ids).mean(), 0.0)
        if loop == "cond":
            return jax.lax.cond(ids[0] >= 0, lambda x: one(x, ids).mean(), jnp.sum, x)
        return jax.vmap(jax.checkpoint(one))(x, ids).mean()

    def plain(x):
        return softmax_loss(labels=ids, logits=x)

    forward = [lambda f: jax.jacfwd(jax.jacfwd(f))]
    both = [jax.hessian, lambda f: jax.jacrev(jax.jacrev(f)), lambda f: jax.jacrev(jax.jacfwd(f))]
    for twice in forward if loop == "while" else [*forward, *both]:
        assert_close(twice(by_loop)(logits), twice(plain)(logits))


def test_without_jit(native, rng):
    logits, ids = data(rng)
    with jax.disable_jit():
        value, gradient = by_jax(softmax_loss, logits, labels=ids)
    expected, slope = reference(softmax_loss, logits, labels=ids)
    assert_close(value, expected)
    assert_close(gradient, slope)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("loss", [softmax_loss, crossent.focal_loss])
def test_narrow_ids_do_not_wrap_around(loss, mode, rng):
    # uint8 counts to 255: JAX takes 300 classes for 44, and the ignored label -100 for 156.
    logits = jnp.asarray(rng.normal(size=(4, 300)), "float32")
    ids = np.array([1, 156, 44, 200], np.uint8)
    options = {"ignore_index": -100, "class_weight": np.ones(300, np.float32)}
    for reduction in ("mean", "mean_all", "none"):
        given = {**options, "reduction": reduction}
        of = MODES[mode](lambda y, x, given=given: loss(labels=y, logits=x, **given))
        expected = loss(labels=ids, logits=np.asarray(logits), **given)
        assert_close(of(jnp.asarray(ids), logits), expected, ulps=16)
    gradient = jax.jit(jax.grad(lambda x, y: loss(labels=y, logits=x, **options)))
    assert_close(gradient(logits, jnp.asarray(ids)), gradient(logits, ids.astype(int)))


@pytest.mark.parametrize("name", ["softmax_cross_entropy", "sigmoid_cross_entropy"])
def test_float16_gradients_are_divided_after_the_loss_is_scaled(name):
    """Divided first and rounded then, entries below 6e-8 are 0 however large the scale is."""
    logits = jnp.zeros((4, 1000), jnp.float16)
    labels = jnp.array([0, 1, 2, 3]) if name.startswith("softmax") else jnp.ones((4, 1000))

    def scaled(x, normalizer):
        loss = getattr(crossent, name)
        return 2.0**24 * loss(labels=labels, logits=x, reduction="sum", normalizer=normalizer)

    gradient = jax.jit(jax.grad(scaled))(logits, 2.0**24)
    exact = jax.grad(scaled)(logits.astype(jnp.float32), 2.0**24)
    assert (gradient != 0).all()
    np.testing.assert_allclose(gradient, exact, rtol=2e-3)


@pytest.mark.parametrize("options", [{"sample_weight": np.full(4, 1e6)}, {"temperature": 1e-5}])
def test_float16_gradients_of_a_mean_overflow_only_by_themselves(options):
    logits = jnp.asarray(np.random.default_rng(1).normal(size=(4, 5)), jnp.float16)
    ids = jnp.arange(4)
    got = jax.grad(lambda x: softmax_loss(labels=ids, logits=x, **options))(logits)
    exact = jax.grad(lambda x: softmax_loss(labels=ids, logits=x, **options))(
        logits.astype(jnp.float32)
    )
    assert got.dtype == jnp.float16
    np.testing.assert_allclose(got, exact, rtol=2e-3, atol=1e-4)


def test_integer_weights_beyond_32_bits(rng):
    logits, ids = rng.normal(size=(6, 5)).astype("f4"), np.arange(6) % 5
    for options in (
        {"sample_weight": np.array([2**32] * 3 + [1] * 3)},
        {"class_weight": np.array([2**33, 2**32, 2**32, 1, 1])},
    ):
        got = softmax_loss(labels=ids, logits=jnp.asarray(logits), **options)
        np.testing.assert_allclose(got, softmax_loss(labels=ids, logits=logits, **options), 1e-6)


def test_a_label_of_one_class_may_be_a_bool():
    logits = jnp.zeros((3, 1))
    labels = np.ones((3, 1), bool)
    expected = softmax_loss(labels=labels, logits=np.zeros((3, 1)))
    assert softmax_loss(labels=labels, logits=logits) == expected


def test_numpys_numbers_are_normalizers():
    logits, ids = jnp.zeros((2, 3)), jnp.array([0, 2])
    for number in (np.float32(6), np.int64(6)):
        got = softmax_loss(labels=ids, logits=logits, normalizer=number)
        assert got == softmax_loss(labels=ids, logits=logits, normalizer=6.0)


def test_weights_of_an_empty_batch():
    logits, none = jnp.zeros((0, 5)), jnp.zeros(0)
    ids = jnp.zeros(0, jnp.int32)
    assert crossent.softmax_cross_entropy(labels=ids, logits=logits, sample_weight=none) == 0
    assert crossent.sigmoid_cross_entropy(labels=logits, logits=logits, sample_weight=none) == 0


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_distributions_in_half_precision_are_distributions_when_compiled(dtype):
    q = jax.nn.softmax(jnp.array(np.random.default_rng(0).normal(size=(4, 50)), dtype)).astype(
        dtype
    )

    def loss(labels):
        logits = jnp.zeros((4, 50), dtype)
        return crossent.softmax_cross_entropy(labels=labels, logits=logits, reduction="none")

    assert jnp.isfinite(loss(q)).all()
    assert jnp.isfinite(jax.jit(loss)(q)).all()
    assert jnp.isnan(jax.jit(loss)(2 * q)).all()


EXPORTED = {
    "mean": (softmax_loss, {}),
    "mean_all": (softmax_loss, {"reduction": "mean_all", "ignore_index": 0}),
    "weights": (softmax_loss, {"class_weight": np.arange(1, 6)}),
    "focal": (crossent.focal_loss, {}),
    "sigmoid": (sigmoid_loss, {}),
}


@pytest.mark.parametrize("name", EXPORTED)
def test_export_with_a_batch_of_unknown_size(name, rng):
    loss, options = EXPORTED[name]
    logits, ids = data(rng)
    labels = distribution(rng) if name == "sigmoid" else ids.astype(np.int32)

    @jax.jit
    def both(x, y):
        return jax.value_and_grad(lambda x: loss(labels=y, logits=x, **options))(x)

    export = pytest.importorskip("jax.export")
    (batch,) = export.symbolic_shape("batch")
    shapes = [
        jax.ShapeDtypeStruct((batch, *a.shape[1:]), a.dtype) for a in (logits, jnp.asarray(labels))
    ]
    targets = ("crossent_softmax_loss", "crossent_sigmoid_loss")
    allowed = [export.DisabledSafetyCheck.custom_call(target) for target in targets]
    exported = export.export(both, disabled_checks=allowed)(*shapes)
    restored = export.deserialize(exported.serialize())
    for actual, expected in zip(restored.call(logits, labels), both(logits, labels), strict=True):
        assert_close(actual, expected)


@pytest.mark.slow
def test_an_exported_program_in_a_new_process(native, tmp_path):
    export = pytest.importorskip("jax.export")
    logits, ids = jnp.zeros((6, 5)), jnp.zeros(6, jnp.int32)
    program = jax.jit(lambda x, y: softmax_loss(labels=y, logits=x))
    allowed = [export.DisabledSafetyCheck.custom_call("crossent_softmax_loss")]
    exported = export.export(program, disabled_checks=allowed)(logits, ids)
    (tmp_path / "program").write_bytes(exported.serialize())
    script = """
import sys, jax.export, jax.numpy as jnp, crossent.jax
with open(sys.argv[1], "rb") as file:
    program = jax.export.deserialize(file.read())
print(float(program.call(jnp.zeros((6, 5)), jnp.zeros(6, jnp.int32))))
"""
    ran = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "program"],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr
    assert float(ran.stdout) == program(logits, ids)


@pytest.mark.parametrize("loss", [softmax_loss, crossent.focal_loss, crossent.poly_loss])
def test_broadcasts_of_ours_where_the_caller_allows_none(loss, rng):
    logits, ids = data(rng)
    weights = {"class_weight": np.arange(1, 6), "sample_weight": np.arange(6)}
    with jax.numpy_rank_promotion("raise"):
        for labels in (ids, distribution(rng)):
            of = lambda x: loss(labels=labels, logits=x, label_smoothing=0.1, **weights)  # noqa: B023, E731
            assert jnp.isfinite(jax.grad(of)(logits)).all()
            assert jnp.isfinite(jax.jit(jax.hessian(of))(logits)).all()
        assert crossent.label_weight(labels=jnp.asarray(distribution(rng)), **weights) > 0


def test_training_in_a_scan_with_donated_weights(rng):
    inputs, labels = data(rng)

    def train(weights):
        def step(weights, _):
            of = lambda w: softmax_loss(labels=labels, logits=inputs @ w)  # noqa: E731
            value, slope = jax.value_and_grad(of)(weights)
            return weights - 0.1 * slope, value

        return jax.lax.scan(step, weights, None, length=10)

    start = jnp.zeros((5, 5))
    _, expected = train(start)
    _, losses = jax.jit(train, donate_argnums=0)(start)
    assert start.is_deleted()
    assert (jnp.diff(losses) < 0).all()
    assert_close(losses, expected)


def test_an_invalid_label_of_weight_0_does_nothing_in_a_compiled_program(rng):
    logits, ids = data(rng)
    weight = (np.arange(6) != 3).astype(np.float32)
    ids[3] = 9
    soft = distribution(rng)
    soft[3] = 9
    for loss, labels in [
        (softmax_loss, ids),
        (crossent.focal_loss, ids),
        (crossent.focal_loss, soft),
        (crossent.binary_focal_loss, soft),
    ]:
        value, gradient = by_jax(
            loss, logits, transform=jax.jit, labels=labels, sample_weight=weight, reduction="sum"
        )
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()
        assert not gradient[3].any()


@pytest.mark.parametrize("name", ["softmax_cross_entropy", "focal_loss", "poly_loss"])
def test_a_row_of_the_smallest_numbers_has_a_loss_at_any_temperature(name):
    """The usual mask is not -inf: divided by the temperature it would be, in float32."""
    x = jnp.full((1, 3), jnp.finfo(jnp.float32).min)
    loss, labels = getattr(crossent, name), jnp.array([0])
    want = loss(labels=labels, logits=jnp.zeros((1, 3)))
    for options in ({}, {"label_smoothing": 0.1}):
        value, gradient = jax.value_and_grad(
            lambda x, options=options: loss(labels=labels, logits=x, temperature=0.5, **options)
        )(x)
        np.testing.assert_allclose(value, want, rtol=1e-6)
        assert np.isfinite(gradient).all()
