"""The door to NumPy: value_and_grad, second derivatives, what happens to the caller's arrays.

Values and gradients themselves are held to the oracle in test_contract.py.
"""

import inspect
import tracemalloc
import warnings

import autograd
import autograd.numpy as anp
import numpy as np
import pytest
from regimes import dtype_of

import crossent as xe

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


LAYOUTS = {
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
    want = value_and_grad(loss, **{**call, "logits": logits})
    got = value_and_grad(loss, **{**call, "logits": other})
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


def test_kernel_for_names_the_formula_and_why():
    assert xe.kernel_for(LOGITS).startswith("formula: ")
    assert xe.kernel_for([[1.0, 2.0]]) == xe.kernel_for(LOGITS)
    seen = []

    def loss(*, logits):
        seen.append(xe.kernel_for(logits))
        return logits.sum()

    value_and_grad(loss, logits=LOGITS)
    assert seen == ["formula: autograd traces NumPy arrays"]
