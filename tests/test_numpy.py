"""The door to NumPy: value_and_grad, second derivatives, what happens to the caller's arrays.

Values and gradients themselves are held to the oracle in test_contract.py.
"""

import functools
import inspect
import os
import subprocess
import sys
import threading
import tracemalloc
import warnings

import autograd
import autograd.numpy as anp
import numpy as np
import pytest
from regimes import dtype_of
from test_contract import option_pairs, own_dtype

import crossent as xe
from crossent import _numpy_native

value_and_grad = xe.numpy.value_and_grad

LOGITS = np.array([[2.0, 0.5, -1.0, 0.25], [0.25, 3.0, -0.5, 1.0], [0.0, -2.0, 1.5, -0.75]])
IDS = np.array([0, 3, 2])
SOFT = np.array([[0.5, 0.25, 0.125, 0.125], [0.0, 0.5, 0.5, 0.0], [1.0, 0.0, 0.0, 0.0]])
BITS = np.array([[1.0, 0.0, 0.25, 1.0], [0.0, 0.0, 1.0, 0.5], [1.0, 1.0, 0.0, 0.0]])
SOFTMAX = [
    xe.softmax_cross_entropy,
    xe.focal_loss,
    xe.generalized_cross_entropy,
    xe.poly_loss,
]
SIGMOID = [xe.sigmoid_cross_entropy, xe.binary_focal_loss]


needs_native = pytest.mark.skipif(
    _numpy_native.core is None, reason=f"no native kernels: {_numpy_native.kernel}"
)


@pytest.fixture
def formula(monkeypatch):
    monkeypatch.setattr(_numpy_native, "core", None)
    monkeypatch.setattr(_numpy_native, "kernel", "formula: a test wants it")


def by_name(loss):
    return loss.__name__


# Of all losses: the arguments that a call needs.
CALLS = [(loss, {"labels": IDS, "logits": LOGITS}) for loss in SOFTMAX]
CALLS += [(loss, {"labels": BITS, "logits": LOGITS}) for loss in SIGMOID]
each_loss = pytest.mark.parametrize(("loss", "call"), CALLS, ids=[c[0].__name__ for c in CALLS])


def differences(function, x, step=1e-6):
    """Derivative of each entry of function(x) with respect to each of x, by central differences."""
    columns = []
    for at in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[at] += step
        down[at] -= step
        columns.append((function(up) - function(down)) / (2 * step))
    return np.stack(columns, axis=-1).reshape(*columns[0].shape, *x.shape)


def assert_like_differences(got, want):
    # A step of 1e-6 costs its square times the third derivative, and 1e-16 / 1e-6 by rounding.
    np.testing.assert_allclose(got, want, rtol=1e-7, atol=2e-9)


# ---- what is differentiated, and into what


@each_loss
def test_several_arguments_give_their_gradients_in_that_order(loss, call):
    call = {**call, "sample_weight": np.array([1.0, 0.5, 2.0])}
    value, (by_weight, by_logits) = value_and_grad(loss, wrt=["sample_weight", "logits"], **call)
    assert value == loss(**call)
    assert np.array_equal(by_logits, value_and_grad(loss, **call)[1])
    assert np.array_equal(by_weight, value_and_grad(loss, wrt="sample_weight", **call)[1])
    assert by_weight.any()


@each_loss
def test_a_sequence_of_one_name_gives_a_tuple_of_one(loss, call):
    _, gradients = value_and_grad(loss, wrt=("logits",), **call)
    assert isinstance(gradients, tuple)
    assert np.array_equal(gradients[0], value_and_grad(loss, **call)[1])
    out = np.full_like(LOGITS, np.nan)
    _, (into,) = value_and_grad(loss, wrt=("logits",), out=out, **call)
    assert into is out
    assert np.array_equal(out, gradients[0])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@each_loss
def test_out_receives_the_gradient(loss, call, dtype):
    logits = LOGITS.astype(dtype_of(dtype))
    call = {**call, "logits": logits}
    value, want = value_and_grad(loss, **call)
    buffers = [np.empty_like(logits), np.empty_like(logits, order="F")]
    buffers.append(np.empty((6, 8), logits.dtype)[::-2, ::2])
    buffers.append(as_field(logits))
    for out in buffers:
        got, gradient = value_and_grad(loss, out=out, **call)
        assert gradient is out
        assert got == value
        assert out.tobytes() == want.tobytes()
    got, gradient = value_and_grad(loss, **call, out=logits)
    assert gradient is logits
    assert got == value
    assert logits.tobytes() == want.tobytes()


def test_out_that_does_not_fit_is_left_as_it_was():
    out = np.full((4, 3), 7.0)
    with pytest.raises(xe.ArgumentError):
        value_and_grad(xe.focal_loss, labels=IDS, logits=LOGITS, out=out)
    assert (out == 7.0).all()


def test_nothing_is_written_into_out_if_the_labels_are_wrong():
    logits = LOGITS.copy()
    with pytest.raises(xe.LabelError):
        value_and_grad(xe.softmax_cross_entropy, labels=IDS + 4, logits=logits, out=logits)
    assert np.array_equal(logits, LOGITS)


@each_loss
def test_upstream_is_the_gradient_of_what_follows(loss, call):
    _, by_mean = value_and_grad(loss, **call)
    _, scaled = value_and_grad(loss, upstream=-4.0, **call)
    assert np.array_equal(scaled, -4.0 * by_mean)  # a power of two: exact
    call = {**call, "reduction": "none"}
    rows, by_rows = value_and_grad(loss, **call)
    assert np.array_equal(by_rows, value_and_grad(loss, upstream=np.ones_like(rows), **call)[1])
    upstream = np.linspace(-1.0, 2.0, rows.size).reshape(rows.shape)
    _, got = value_and_grad(loss, upstream=upstream.tolist(), **call)
    factors = upstream.reshape(upstream.shape + (1,) * (LOGITS.ndim - upstream.ndim))
    np.testing.assert_allclose(got, factors * by_rows, rtol=1e-14, atol=1e-17)


@each_loss
def test_lists_count_as_float64(loss, call):
    lists = {name: value.tolist() for name, value in call.items()}
    value, gradient = value_and_grad(loss, **lists)
    want, by_array = value_and_grad(loss, **call)
    assert value == want
    assert gradient.dtype == np.float64
    assert np.array_equal(gradient, by_array)
    whole = {**call, "logits": [[2, 0, -1, 0], [0, 3, 0, 1], [0, -2, 1, 0]]}
    assert value_and_grad(loss, **whole)[1].dtype == np.float64


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@each_loss
def test_a_half_precision_gradient_is_the_float32_one_rounded_once(loss, call, dtype):
    half = LOGITS.astype(dtype_of(dtype))
    value, gradient = value_and_grad(loss, **{**call, "logits": half})
    want, wide = value_and_grad(loss, **{**call, "logits": half.astype(np.float32)})
    assert value == want
    assert value.dtype == np.float32
    assert gradient.dtype == half.dtype
    assert gradient.tobytes() == wide.astype(half.dtype).tobytes()


def test_a_gradient_is_not_rounded_straight_from_float64_to_half():
    """Where the two ways differ, about once in 2^13 entries, float32 comes first."""
    logits = np.random.default_rng(0).normal(size=100_000).astype(np.float16)
    call = {"labels": np.zeros(logits.shape), "reduction": "sum"}
    _, gradient = value_and_grad(xe.sigmoid_cross_entropy, logits=logits, **call)
    wide = value_and_grad(xe.sigmoid_cross_entropy, logits=logits.astype(np.float64), **call)[1]
    assert gradient.tobytes() == wide.astype(np.float32).astype(np.float16).tobytes()
    assert gradient.tobytes() != wide.astype(np.float16).tobytes()


# ---- value and gradient in one native call

FUSED = [*SOFTMAX, xe.sigmoid_cross_entropy]
# Where the other softmax losses are the cross-entropy.
IDENTITY = {xe.focal_loss: "gamma", xe.generalized_cross_entropy: "q", xe.poly_loss: "epsilon"}
ROWS = np.array([1.0, 0.5, 2.0])
PER_CLASS = np.array([1.0, 0.5, 2.0, 1.5])


def without_fused_form(loss):
    return lambda **options: loss(**options)


def assert_same_bits(got, want, what=""):
    """But for the sign of 0, which a sum with another 0 may change."""
    for mine, theirs in zip(got, want, strict=True):
        assert mine.dtype == theirs.dtype, what
        wide = (np.asarray(array, np.float64) for array in (mine, theirs))
        assert np.array_equal(*wide, equal_nan=True), what


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
@pytest.mark.parametrize("loss", [xe.softmax_cross_entropy, xe.sigmoid_cross_entropy], ids=by_name)
def test_every_way_gives_the_same_bits(loss, dtype):
    """One native call, the checks and then kernels, and autograd around them."""
    logits = (3 * LOGITS).astype(dtype_of(dtype))
    logits[1, 2] = -np.inf
    for labels in (IDS, SOFT) if loss in SOFTMAX else (BITS,):
        for pair in option_pairs(by_name(loss)):
            if labels is SOFT and "ignore_index" in pair:
                continue
            call = {"labels": labels, "logits": logits, **own_dtype(pair, dtype_of(dtype))}
            want = value_and_grad(without_fused_form(loss), **call)
            assert_same_bits(value_and_grad(loss, **call), want, pair)
            assert_same_bits([loss(**call)], want[:1], pair)
            lists = {**call, "labels": labels.tolist()}  # these go the general way
            assert_same_bits([loss(**lists)], want[:1], pair)


def ways_to_call(loss):
    """Forms of the arguments that one native call takes."""
    rows = {"logits": LOGITS.astype(np.float32)}
    if loss is xe.sigmoid_cross_entropy:
        yield {**rows, "labels": BITS}
        yield {**rows, "labels": BITS == 1, "pos_weight": 3, "sample_weight": ROWS[:, None]}
        yield {**rows, "labels": BITS.astype(np.float16), "pos_weight": PER_CLASS.tolist()}
        yield {"logits": LOGITS[:, :1], "labels": BITS[:, 0], "ignore_index": -1}
        yield {"logits": LOGITS[:, 0], "labels": BITS[:, :1], "reduction": "none"}
        yield {"logits": np.array(0.5), "labels": np.array(1), "sample_weight": 2.0}
        return
    yield {**rows, "labels": IDS}
    yield {**rows, "labels": SOFT, "class_weight": PER_CLASS.tolist(), "temperature": 2}
    yield {**rows, "labels": IDS[:, None].astype(np.uint8), "sample_weight": [1, 2, 0]}
    yield {**rows, "labels": IDS, "ignore_index": -100, "normalizer": np.float32(3)}
    yield {"logits": LOGITS.T, "labels": IDS, "axis": 0, "sample_weight": ROWS}
    yield {"logits": LOGITS.T, "labels": SOFT.T, "axis": 0, "label_smoothing": 0.1}
    yield {"logits": LOGITS[None], "labels": IDS[None], "sample_weight": [0.5], "softcap": 5}
    yield {"logits": LOGITS[0], "labels": np.array(2), "reduction": "none", "z_loss": 1e-3}


@needs_native
@pytest.mark.parametrize("loss", FUSED, ids=by_name)
def test_plain_arrays_take_one_native_call(loss, monkeypatch):
    def not_needed():
        raise AssertionError("autograd is not needed here")

    for call in ways_to_call(loss):
        call |= {IDENTITY[loss]: 0.0} if loss in IDENTITY else {}
        want = value_and_grad(without_fused_form(loss), **call)
        with monkeypatch.context() as patch:
            patch.setattr(xe.numpy, "autograd", not_needed)
            assert_same_bits(value_and_grad(loss, **call), want)
            upstream = np.full(np.shape(want[0]), 0.5)
            _, halved = value_and_grad(loss, upstream=upstream, **call)
            assert_same_bits([halved], [want[1] / 2])
    monkeypatch.setattr(xe.numpy, "autograd", not_needed)
    with pytest.raises(AssertionError, match="autograd is not needed"):
        value_and_grad(without_fused_form(loss), **call)


@needs_native
def test_gradients_in_one_native_call_wait_for_nobody():
    done = threading.Event()

    def in_another_thread():
        value_and_grad(xe.softmax_cross_entropy, labels=IDS, logits=LOGITS)
        done.set()

    with xe.numpy._TRACING:  # as while another thread traces
        thread = threading.Thread(target=in_another_thread)
        thread.start()
        assert done.wait(timeout=60)
    thread.join()


def test_a_function_around_a_loss_is_not_taken_for_it():
    @functools.wraps(xe.softmax_cross_entropy)
    def doubled(**options):
        return 2 * xe.softmax_cross_entropy(**options)

    call = {"labels": IDS, "logits": LOGITS}
    value, gradient = value_and_grad(xe.softmax_cross_entropy, **call)
    assert_same_bits(value_and_grad(doubled, **call), (2 * value, 2 * gradient))


@pytest.mark.parametrize("loss", FUSED, ids=by_name)
def test_a_wrong_name_is_refused_by_the_loss_itself(loss):
    with pytest.raises(TypeError, match=rf"^{by_name(loss)}\(\) got an unexpected .* 'logit'"):
        value_and_grad(loss, labels=IDS, logits=LOGITS, logit=LOGITS)


IRREGULAR = {
    "an id beyond the classes": ({"labels": np.array([0, 3, 4])}, xe.LabelError),
    "a negative id": ({"labels": np.array([0, 3, -1])}, xe.LabelError),
    "sums of 1.01": ({"labels": SOFT * [[1], [1], [1.01]]}, xe.LabelError),
    "a negative share": ({"labels": SOFT - [[0], [0], [0.5]]}, xe.LabelError),
    "a class weight of inf": ({"class_weight": [1, 1, 1, np.inf]}, xe.OptionError),
    "a sample weight of NaN": ({"sample_weight": [1, 1, np.nan]}, xe.OptionError),
    "a negative normalizer": ({"normalizer": -1.0}, xe.OptionError),
}


@pytest.mark.parametrize("case", IRREGULAR)
def test_nothing_is_written_over_the_logits_of_a_wrong_call(case):
    wrong, error = IRREGULAR[case]
    logits = LOGITS.copy()
    call = {"labels": IDS, "logits": logits, **wrong}
    with pytest.raises(error):
        value_and_grad(xe.softmax_cross_entropy, out=logits, **call)
    assert np.array_equal(logits, LOGITS)


@pytest.mark.parametrize(("bad", "error"), [(1.5, xe.LabelError), (np.nan, xe.LabelError)])
def test_nothing_is_written_over_the_logits_of_wrong_sigmoid_labels(bad, error):
    logits, labels = LOGITS.copy(), BITS.copy()
    labels[2, 3] = bad
    with pytest.raises(error):
        value_and_grad(xe.sigmoid_cross_entropy, labels=labels, logits=logits, out=logits)
    assert np.array_equal(logits, LOGITS)


def test_distributions_as_rough_as_half_precision_may_overwrite_the_logits():
    """Their sums are within the tolerance of their own dtype only, which not all kernels know."""
    soft = np.full((3, 4), 1 / 3, np.float16)
    soft[:, 3] = 0.001
    call = {"labels": soft, "logits": LOGITS}
    want = value_and_grad(xe.softmax_cross_entropy, **call)
    logits = LOGITS.copy()
    got = value_and_grad(xe.softmax_cross_entropy, **{**call, "logits": logits}, out=logits)
    assert got[1] is logits
    assert_same_bits(got, want)


def test_a_normalizer_of_0_gives_0():
    logits = LOGITS.copy()
    for loss, labels in ((xe.softmax_cross_entropy, IDS), (xe.sigmoid_cross_entropy, BITS)):
        call = {"labels": labels, "logits": logits, "normalizer": 0, "reduction": "sum"}
        value, gradient = value_and_grad(loss, **call)
        assert value == 0
        assert not gradient.any()


def test_out_may_lie_anywhere():
    """Shifted by a row, on the labels, on the weights: what is still read must not be written."""
    memory = np.tile(LOGITS, (3, 1))
    call = {"labels": SOFT, "logits": LOGITS, "sample_weight": ROWS, "reduction": "none"}
    want = value_and_grad(xe.softmax_cross_entropy, **call)
    shifted = {**call, "logits": memory[3:6]}
    for out in (memory[4:7], memory[2:5], memory[5:2:-1], memory[3:6]):
        memory[:] = np.tile(LOGITS, (3, 1))
        value, gradient = value_and_grad(xe.softmax_cross_entropy, out=out, **shifted)
        assert gradient is out
        assert_same_bits((value, gradient), want)
    labels = SOFT.copy()
    got = value_and_grad(xe.softmax_cross_entropy, **{**call, "labels": labels}, out=labels)
    assert_same_bits(got, want)
    memory = np.concatenate([LOGITS.ravel(), ROWS])  # an out that begins before the weights
    out, weight = memory[3:].reshape(3, 4), memory[-3:]
    got = value_and_grad(xe.softmax_cross_entropy, **{**call, "sample_weight": weight}, out=out)
    assert_same_bits(got, want)


# ---- derivatives in the other arguments


@pytest.mark.parametrize("reduction", ["none", "sum", "mean", "mean_all"])
@pytest.mark.parametrize("loss", SOFTMAX + SIGMOID, ids=by_name)
def test_gradients_in_the_weights(loss, reduction):
    call = {"labels": SOFT, "logits": LOGITS, "reduction": reduction}
    weights = {"sample_weight": np.array([1.0, 0.5, 2.0])}
    name = "class_weight" if loss in SOFTMAX else "pos_weight"
    weights[name] = np.array([1.0, 0.5, 2.0, 1.5])
    for wrt, at in weights.items():
        _, gradient = value_and_grad(loss, wrt=wrt, **call, **weights)
        want = differences(lambda w, wrt=wrt: loss(**call, **{**weights, wrt: w}), at)
        assert_like_differences(gradient, want.reshape(-1, *at.shape).sum(axis=0))


@pytest.mark.parametrize("loss", SOFTMAX, ids=by_name)
def test_the_gradient_in_a_distribution_along_the_distributions(loss):
    inside = (SOFT + 0.25) / 2.0
    call = {"logits": LOGITS, "class_weight": [1.0, 0.5, 2.0, 1.5]}
    _, gradient = value_and_grad(loss, wrt="labels", labels=inside, **call)
    step = 1e-6
    for row, one, other in [(0, 0, 1), (1, 3, 2), (2, 1, 0)]:
        towards = np.zeros_like(inside)
        towards[row, one], towards[row, other] = 1.0, -1.0  # still sums to 1
        up, down = (loss(labels=inside + s * towards, **call) for s in (step, -step))
        assert_like_differences((gradient * towards).sum(), (up - down) / (2 * step))


@pytest.mark.parametrize("loss", SIGMOID, ids=by_name)
def test_the_gradient_in_the_labels_of_a_sigmoid_loss(loss):
    inside = 0.1 + 0.8 * BITS
    _, gradient = value_and_grad(loss, wrt="labels", labels=inside, logits=LOGITS)
    want = differences(lambda z: loss(labels=z, logits=LOGITS), inside)
    assert_like_differences(gradient, want)


def test_the_normalizer_gets_no_gradient():
    call = {"labels": IDS, "logits": LOGITS, "normalizer": np.float64(8.0), "reduction": "sum"}
    value, gradient = value_and_grad(xe.softmax_cross_entropy, wrt="normalizer", **call)
    assert value > 0
    assert gradient == 0


def test_functions_of_one_array_take_it_by_its_name():
    x, upstream = LOGITS[0], np.array([1.0, -2.0, 0.5, 0.0])
    p, gradient = value_and_grad(xe.softmax, wrt="x", x=x, upstream=upstream)
    assert np.array_equal(p, xe.softmax(x))
    np.testing.assert_allclose(gradient, p * (upstream - p @ upstream), rtol=1e-14)
    lse, by_x = value_and_grad(xe.log_sum_exp, wrt="x", x=x)
    assert lse == xe.log_sum_exp(x)
    np.testing.assert_allclose(by_x, p, rtol=1e-15)
    x_again, slope = value_and_grad(xe.logit, wrt="p", p=xe.sigmoid(x))
    np.testing.assert_allclose(x_again, x, rtol=1e-14)
    np.testing.assert_allclose(slope, 1 / (xe.sigmoid(x) * xe.sigmoid(-x)), rtol=1e-13)


# ---- second derivatives, and autograd's own functions

OPTIONS = [
    {},
    {"label_smoothing": 0.1, "z_loss": 1e-2},
    {"temperature": 2.0, "softcap": 5.0},
    {"class_weight": [1.0, 0.5, 2.0, 1.5], "sample_weight": [1.0, 0.0, 2.0]},
]
SECOND = [(loss, {"labels": IDS, **options}) for loss in SOFTMAX for options in OPTIONS]
SECOND += [(loss, {"labels": SOFT}) for loss in SOFTMAX]
SECOND += [(loss, {"labels": BITS, "pos_weight": 3.0}) for loss in SIGMOID]


@pytest.mark.parametrize(("loss", "call"), SECOND)
def test_second_derivatives(loss, call):
    def gradient(x):
        return value_and_grad(loss, logits=x, **call)[1]

    hessian = autograd.jacobian(gradient)(LOGITS)
    assert_like_differences(hessian, differences(gradient, LOGITS))
    square = hessian.reshape(LOGITS.size, LOGITS.size)
    np.testing.assert_allclose(square, square.T, rtol=1e-12, atol=1e-15)
    assert square.any()


@each_loss
def test_value_and_grad_inside_value_and_grad(loss, call):
    """A gradient penalty: a loss plus the squared length of its gradient."""
    options = {name: value for name, value in call.items() if name != "logits"}

    def penalised(*, logits):
        value, gradient = value_and_grad(loss, logits=logits, **options)
        return value + (gradient * gradient).sum()

    value, gradient = value_and_grad(penalised, logits=LOGITS)
    first = value_and_grad(loss, **call)
    assert value == pytest.approx(first[0] + (first[1] ** 2).sum(), rel=1e-14)
    want = differences(lambda x: value_and_grad(penalised, logits=x)[0], LOGITS)
    assert_like_differences(gradient, want)


@each_loss
def test_autograds_own_functions_see_through_the_losses(loss, call):
    options = {name: value for name, value in call.items() if name != "logits"}
    gradient = autograd.grad(lambda x: loss(logits=x, **options))(LOGITS)
    assert np.array_equal(gradient, value_and_grad(loss, **call)[1])


def test_a_model_around_a_loss():
    inputs = np.array([[1.0, -0.5], [0.25, 2.0], [-1.0, 0.5]])
    weights = np.array([[0.5, -1.0, 0.25, 1.0], [1.0, 0.5, -0.75, 0.0]])

    def of_weights(w):
        return xe.softmax_cross_entropy(labels=IDS, logits=anp.tanh(anp.dot(inputs, w)))

    assert_like_differences(autograd.grad(of_weights)(weights), differences(of_weights, weights))


# ---- the caller's arrays and settings

EXTREME = np.array(
    [
        [-np.inf, 0.0, 800.0, -800.0],
        [np.nan, 0.0, 1.0, 2.0],
        [-np.inf, -np.inf, -np.inf, -np.inf],
        [np.inf, 0.0, 1.0, 2.0],
        [3e38, -3e38, 1e-320, -1e-310],
    ]
)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("loss", SOFTMAX + SIGMOID, ids=by_name)
def test_extreme_logits_warn_of_nothing(loss, dtype):
    with np.errstate(all="ignore"):
        logits = EXTREME.astype(dtype)
    labels = np.zeros(5, int) if loss in SOFTMAX else np.zeros((5, 4))
    with warnings.catch_warnings(), np.errstate(all="raise"):
        warnings.simplefilter("error")
        value, gradient = value_and_grad(loss, labels=labels, logits=logits, reduction="none")
        assert np.geterr()["over"] == "raise"
    assert np.isnan(value).any()
    assert np.isnan(gradient).any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("loss", SOFTMAX, ids=by_name)
def test_extreme_probabilities_warn_of_nothing(loss, dtype):
    probs = np.array([[0.0, 1.0], [np.nan, 0.5], [1e-40, 1.0]]).astype(dtype)
    log_probs = np.array([[-np.inf, 0.0], [np.nan, -1.0], [-800.0, -0.0]]).astype(dtype)
    for scores in ({"probs": probs}, {"log_probs": log_probs}):
        (name,) = scores
        with warnings.catch_warnings(), np.errstate(all="raise"):
            warnings.simplefilter("error")
            value, _ = value_and_grad(loss, wrt=name, labels=[0, 0, 0], reduction="none", **scores)
        assert np.isnan(value[1])
        assert value[2] > 1


ACTIVATIONS = [
    function
    for function in (getattr(xe, name) for name in xe.__all__)
    if inspect.isfunction(function)
    and next(iter(inspect.signature(function).parameters)) in ("x", "p")
]


@pytest.mark.parametrize("function", ACTIVATIONS, ids=by_name)
def test_activations_warn_of_nothing(function):
    name = next(iter(inspect.signature(function).parameters))
    x = EXTREME if name == "x" else np.array([0.0, 1.0, np.nan, 1e-320, 0.5])
    with warnings.catch_warnings(), np.errstate(all="raise"):
        warnings.simplefilter("error")
        value, _ = value_and_grad(function, wrt=name, **{name: x})
    assert np.isnan(value).any()


def test_the_callers_floating_point_settings_come_back_after_an_error():
    with np.errstate(over="raise", invalid="warn"):
        before = np.geterr()
        with pytest.raises(xe.LabelError):
            value_and_grad(xe.softmax_cross_entropy, labels=[7, 0, 0], logits=LOGITS)
        assert np.geterr() == before


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


@each_loss
def test_arguments_may_be_read_only_and_stay_as_they_are(loss, call):
    call = {**call, "sample_weight": np.array([1.0, 0.0, 2.0])}
    call["class_weight" if loss in SOFTMAX else "pos_weight"] = np.array([1.0, 0.5, 2.0, 1.5])
    locked = {name: read_only(value) for name, value in call.items()}
    value, gradient = value_and_grad(loss, **locked)
    want = value_and_grad(loss, **call)
    assert value == want[0]
    assert np.array_equal(gradient, want[1])
    gradient += 1.0  # it is the caller's own
    for name, array in call.items():
        assert np.array_equal(array, locked[name])


def as_field(array):
    """Of a structured array: strides of no whole number of elements, and nothing is aligned."""
    records = np.zeros(array.shape, [("flag", np.int8), ("value", array.dtype)])
    records["value"] = array
    return records["value"]


LAYOUTS = {
    "structured": as_field,
    "Fortran order": np.asfortranarray,
    "negative strides": lambda a: a[::-1, ::-1].copy()[::-1, ::-1],
    "every other": lambda a: np.repeat(np.repeat(a, 2, 0), 3, 1)[::2, ::3],
    "swapped bytes": lambda a: a.astype(a.dtype.newbyteorder("S")),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@each_loss
def test_any_layout_gives_the_same(loss, call, dtype, layout):
    logits = LOGITS.astype(dtype)
    other = LAYOUTS[layout](logits)
    assert (other.strides, other.dtype.str) != (logits.strides, logits.dtype.str)
    call = {**call, "sample_weight": np.array([1.0, 0.5, 2.0])}
    want = value_and_grad(loss, **{**call, "logits": logits})
    others = {name: LAYOUTS[layout](array) for name, array in call.items() if array.ndim == 2}
    others["sample_weight"] = as_field(call["sample_weight"])
    got = value_and_grad(loss, **{**call, **others, "logits": other})
    for mine, theirs in zip(got, want, strict=True):
        assert mine.dtype == dtype
        assert mine.tobytes() == theirs.tobytes()


# ---- memory, and which kernel runs

MEBIBYTE = 2**20


def extra_memory(function):
    """The most bytes that were held at once, beyond what was there before."""
    function()  # what is imported and cached stays out of it
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        function()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


# A block has 2^16 elements of float64, half a mebibyte, and about ten arrays of it live at once.
BLOCKS = 6 * MEBIBYTE


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1, "z_loss": 1e-3}])
def test_a_loss_never_copies_its_logits(axis, options):
    logits = np.zeros((1024, 16_384), np.float32)
    assert logits.nbytes == 64 * MEBIBYTE
    labels = np.zeros(1024 if axis == 1 else 16_384, int)
    call = {"labels": labels, "logits": logits, "axis": axis, **options}
    assert extra_memory(lambda: xe.softmax_cross_entropy(**call)) < BLOCKS
    if not options:
        assert extra_memory(lambda: xe.focal_loss(**call)) < BLOCKS


def test_a_gradient_needs_little_beside_itself():
    logits = np.zeros((1024, 8192), np.float32)
    labels = np.zeros(1024, int)
    extra = extra_memory(
        lambda: value_and_grad(xe.softmax_cross_entropy, labels=labels, logits=logits)
    )
    assert logits.nbytes < extra < logits.nbytes + BLOCKS


@needs_native
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_gradient_in_place_needs_no_memory_of_that_size(dtype):
    logits = np.zeros((1024, 4096), dtype)
    labels = np.zeros(1024, int)
    call = {"labels": labels, "logits": logits, "out": logits}
    kibibytes = extra_memory(lambda: value_and_grad(xe.softmax_cross_entropy, **call)) / 1024
    assert kibibytes < 64  # 1024 rows are 8 KiB of float64
    bits = np.zeros(logits.shape, dtype)
    call = {"labels": bits, "logits": logits, "out": logits}
    assert extra_memory(lambda: value_and_grad(xe.sigmoid_cross_entropy, **call)) < 65_536


def test_kernel_for_names_the_kernel():
    kernel = xe.kernel_for(LOGITS)
    if _numpy_native.core is None:
        assert kernel.startswith("formula: ")
    else:
        assert kernel == f"native {_numpy_native.core.instruction_set()}"
    assert xe.kernel_for(["one"]) == "formula: no kernel for str"
    for same in ([[1.0, 2.0]], [1, 2], LOGITS.astype(dtype_of("bfloat16")), LOGITS.astype(">f4")):
        assert xe.kernel_for(same) == kernel


def test_kernel_for_traced_logits():
    seen = []

    def loss(*, logits):
        seen.append(xe.kernel_for(logits))
        return logits.sum()

    value_and_grad(loss, logits=LOGITS)
    assert seen == ["formula: autograd traces NumPy arrays"]


@each_loss
def test_the_formula_runs_without_the_core(loss, call, formula):
    assert xe.kernel_for(LOGITS) == "formula: a test wants it"
    value, gradient = value_and_grad(loss, **call)
    assert value == loss(**call)
    assert_like_differences(gradient, differences(lambda x: loss(**{**call, "logits": x}), LOGITS))


def kernel_in_a_new_process(before="", **environment):
    """`kernel_for` there, after a loss and a gradient."""
    code = f"""
import sys
{before}
import numpy as np, crossent as xe
call = {{"labels": np.array([0]), "logits": np.array([[0.0, 0.0]])}}
value, gradient = xe.numpy.value_and_grad(xe.softmax_cross_entropy, **call)
assert value == xe.softmax_cross_entropy(**call) == np.log(2), value
assert gradient.tolist() == [[-0.5, 0.5]], gradient
print(xe.kernel_for(call["logits"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_core_that_cannot_be_imported_leaves_the_formula():
    kernel = kernel_in_a_new_process('sys.modules["crossent._native"] = None')
    assert kernel.startswith("formula: the native core is missing, ")


@needs_native
def test_the_cap_on_instruction_sets_leaves_the_formula():
    least = _numpy_native.core.supported_instruction_sets()[0]
    if least != "x86-64":
        pytest.skip(f"{least} has native kernels")
    kernel = kernel_in_a_new_process(CROSSENT_MAX_ISA=least)
    assert kernel == "formula: no native kernel up to CROSSENT_MAX_ISA=x86-64"


@needs_native
def test_a_cap_that_is_none_leaves_the_formula_and_says_so():
    kernel = kernel_in_a_new_process(CROSSENT_MAX_ISA="sse9")
    assert kernel.startswith("formula: CROSSENT_MAX_ISA must be one of ")
