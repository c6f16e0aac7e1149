"""THE contract: every loss, in every library and dtype, against the oracle: value and gradient.

A new loss gets the whole matrix by existing: it is found in crossent.losses, asked of the oracle
under the same name, and called with what its signature takes. NumPy runs the whole of it here; the
other libraries, in each way of running them, a choice from it in test_contract_libraries.py.
"""

import functools
import inspect
import itertools
import pickle

import ml_dtypes
import numpy as np
import oracle
import pytest
import regimes
from exact_arithmetic import mp
from frontends import front_end
from regimes import DTYPES, dtype_of, result_dtype
from ulp import assert_ulp

import crossent
from crossent import _numpy_native

LIBRARIES = ["numpy"]
LOSSES = [
    name
    for name, loss in vars(crossent.losses).items()
    if inspect.isfunction(loss)
    and loss.__module__ == "crossent.losses"
    and not name.startswith("_")
    and "reduction" in inspect.signature(loss).parameters
    and name != "label_weight"
]
ARGUMENTS = {name: inspect.signature(getattr(crossent, name)).parameters for name in LOSSES}
SOFTMAX = [name for name in LOSSES if "class_weight" in ARGUMENTS[name]]
SIGMOID = [name for name in LOSSES if "pos_weight" in ARGUMENTS[name]]
# Values to try of the parameters that only some losses have: the ends of the range and between.
PARAMETERS = {
    "gamma": [0.0, 0.5, 2.0, 5.0],
    "q": [0.01, 0.7, 1.0],
    "epsilon": [-0.5, 0.0, 1.0, 10.0],
    "alpha": [None, 0.25],
}
REDUCTIONS = ["none", "sum", "mean", "mean_all"]

# Tolerances in ulps of the result. The formula computes float32 and narrower in float64, so that
# what is left is rounding: 1 ulp of the value, 2 of the label's entry of the gradient and 4 of the
# others are what native kernels are held to as well. Where terms of opposite sign meet, the largest
# of them is what the ulps refer to; with class ids the entries of the gradient are single terms.
VALUE_ULP = {"float32": 1, "float64": 8}
LABEL_ULP = {"float32": 2, "float64": 8}
OTHERS_ULP = {"float32": 4, "float64": 16}
# A reduction adds the rows as they are returned, each rounded by up to 2^-24 of itself: one ulp of
# the result at the top of a binade, half of one more for its own rounding.
REDUCED_ULP = 0.5
# tanh and the division by the temperature put a rounding each into the exponent. In float64 it is
# the exponent itself, up to 745, that is rounded: half an ulp of it are 256 of the exponential.
TRANSFORMED_ULP = {"float32": 2, "float64": 512}
# Powers of p and 1 - p take the same way through an exponent; 128 is what is documented for values.
OWN_VALUE_ULP = {"float32": 1, "float64": 128}
OWN_GRADIENT_ULP = {"float32": 4, "float64": 512}
# Rounded to float32 (2 or 4 ulp off) and then once more: half an ulp of the narrow dtype.
HALF_ULP = 0.51
# The formula where a library computes in float32 (JAX without 64-bit numbers): a few roundings of
# the largest number on the way, the row's width or a row's weight, and in confident rows, where
# less than that is left, the error of the exponent: half an ulp of 87 is 64 of the exponential.
NARROW_ULP, NARROW_RELATIVE_ULP = 4, 128


def own_parameters(name):
    shared = ARGUMENTS["softmax_cross_entropy"].keys() | ARGUMENTS["sigmoid_cross_entropy"].keys()
    return [key for key in ARGUMENTS[name] if key not in shared | {"predictions"}]


def variants(name):
    """The loss with every combination of its own parameters."""
    keys = own_parameters(name)
    values = itertools.product(*(PARAMETERS[key] for key in keys))
    return [dict(zip(keys, v, strict=True)) for v in values]


def score_name(options):
    return next(k for k in ("logits", "probs", "log_probs", "predictions") if k in options)


def value_ulp(name, options, wide):
    table = OWN_VALUE_ULP if own_parameters(name) else VALUE_ULP
    limit = TRANSFORMED_ULP[wide] if options.keys() & {"temperature", "softcap"} else table[wide]
    return limit + (0 if options.get("reduction") == "none" else REDUCED_ULP)


def has_ids(options):
    return np.shape(options["labels"]) != np.shape(options[score_name(options)])


def gradient_ulp(name, options, wrt, dtype):
    """The tolerance of each entry of the gradient."""
    if dtype.itemsize == 2:
        return HALF_ULP
    if options.keys() & {"temperature", "softcap"}:
        return TRANSFORMED_ULP[dtype.name] + OTHERS_ULP[dtype.name]
    if own_parameters(name):
        return OWN_GRADIENT_ULP[dtype.name]
    if wrt != "logits" or not has_ids(options):
        return OTHERS_ULP[dtype.name]
    limit = np.full(np.shape(options[wrt]), OTHERS_ULP[dtype.name])
    classes = np.moveaxis(limit, options.get("axis", -1), -1)
    ids = np.asarray(options["labels"]).reshape(classes.shape[:-1])
    for i in np.ndindex(ids.shape):
        if ids[i] != options.get("ignore_index"):
            classes[(*i, int(ids[i]))] = LABEL_ULP[dtype.name]
    return limit


@functools.lru_cache(maxsize=512)
def _answer(function, pickled):
    return function(**pickle.loads(pickled))


def exact_of(name, judge=oracle, **arguments):
    """The oracle's answer, which several ways of running the same call share."""
    return _answer(getattr(judge, name), pickle.dumps(arguments))


def is_narrow(way, name, wrt, options):
    """Whether float32 is all that the call is computed in, and by no kernel."""
    kind = score_name(options)
    if way.works_in(np.asarray(options[kind]).dtype) != np.float32:
        return False
    fused = not own_parameters(name) and kind == wrt == "logits"
    return not (fused and way.kernel_for(options[kind]).startswith("native"))


def assert_narrow(actual, exact, dtype, scale, what):
    """Within 4 ulp of the largest number there is (at least 1), and 128 of the entry's own."""
    own = np.array([float(s) for s in scale.ravel()]).reshape(scale.shape)
    if dtype.itemsize == 2:
        limit = HALF_ULP + NARROW_RELATIVE_ULP / 2**13  # float16 has 13 bits less than float32
        assert_ulp(actual, exact, dtype, limit, own, what)
        return
    largest = np.max(own, where=np.isfinite(own), initial=1.0)
    assert_ulp(actual, exact, dtype, NARROW_ULP, np.full_like(own, largest), what)
    assert_ulp(actual, exact, dtype, NARROW_RELATIVE_ULP, own, what)


def unflushed(actual, exact, dtype):
    """The result, with the exact number where a library may flush one to 0 that is not normal."""
    tiny = float(ml_dtypes.finfo(dtype).smallest_normal)
    size = np.array([abs(float(e)) for e in exact.ravel()]).reshape(exact.shape)
    near = (size < tiny) & (np.abs(actual.astype(float)) <= tiny)
    return np.where(near, exact.astype(float), actual.astype(float))


def assert_contract(library, name, wrt=None, upstream=None, **options):
    """Value and gradient agree with the oracle, in dtype, shape and to the last bits."""
    wrt = wrt or score_name(options)
    loss, way = getattr(crossent, name), front_end(library)
    value, gradient = way.value_and_grad(loss, wrt, upstream, **options)
    exact = exact_of(name, wrt=wrt, upstream=upstream, **options)
    assert_agrees(way, name, wrt, options, exact, value, gradient)
    if not way.is_compiled:
        alone = way.value(loss, **options)
        if way.has_one_value and wrt == score_name(options):
            assert np.array_equal(value, alone, equal_nan=True), "value depends on the gradient"
        assert_agrees(way, name, wrt, options, exact, alone)


def assert_agrees(way, name, wrt, options, exact, value, gradient=None):
    """Results of one way of running a call are within the tolerances."""
    wide = result_dtype(np.asarray(options[score_name(options)]).dtype)
    dtype = np.asarray(options[wrt]).dtype
    narrow = is_narrow(way, name, wrt, options)
    what = f"{name} value "
    assert value.dtype == wide
    value = unflushed(value, exact.value, wide) if way.flushes_to_zero else value
    if narrow:
        assert_narrow(value, exact.value, wide, exact.value_scale, what)
    else:
        assert_ulp(value, exact.value, wide, value_ulp(name, options, wide.name), what=what)
    if gradient is None:
        return
    what = f"{name} gradient of {wrt} "
    assert gradient.dtype == dtype
    assert gradient.shape == np.shape(options[wrt])
    if way.flushes_to_zero:
        gradient = unflushed(gradient, exact.gradient, dtype)
    if narrow:
        assert_narrow(gradient, exact.gradient, dtype, exact.gradient_scale, what)
    else:
        limit = gradient_ulp(name, options, wrt, dtype)
        assert_ulp(gradient, exact.gradient, dtype, limit, exact.gradient_scale, what)


def matrix(names):
    return [pytest.param(library, name) for library in LIBRARIES for name in names]


# Each option alone and every pair of them; those of one group exclude one another.
OPTIONS = {
    "class_weight": [("class_weight", np.array([0.5, 2.0, 0.0, 1.25]))],
    "sample_weight": [("sample_weight", np.array([1.5, 0.25, 0.0]))],
    "label_smoothing": [("label_smoothing", 0.1)],
    "ignore_index": [("ignore_index", 1)],
    "temperature": [("temperature", 0.7), ("temperature", 3.0)],
    "softcap": [("softcap", 5.0)],
    "z_loss": [("z_loss", 1e-3)],
    "reduction": [("reduction", r) for r in REDUCTIONS],
    "normalizer": [("normalizer", 3.7)],
    "pos_weight": [("pos_weight", np.array([0.5, 2.0, 0.0, 1.25])), ("pos_weight", 3.0)],
}
LOGITS_ONLY = {"temperature", "softcap", "z_loss"}


def option_pairs(name):
    """Every pair of options of the loss, each value of one with each value of the other."""
    known = [key for key in OPTIONS if key in ARGUMENTS[name]]
    for one, other in itertools.combinations(known, 2):
        for first, second in itertools.product(OPTIONS[one], OPTIONS[other]):
            pair = dict([first, second])
            if not ("normalizer" in pair and pair.get("reduction") == "none"):
                yield pair


def own_dtype(options, dtype):
    """Weights in the dtype of the result, so that their gradients are judged in it."""
    wide = result_dtype(dtype)
    return {k: v.astype(wide) if isinstance(v, np.ndarray) else v for k, v in options.items()}


def differentiable(options):
    """The arguments of the call that have a gradient."""
    return [k for k, v in options.items() if np.asarray(v).dtype.kind in "fV" and np.ndim(v)]


def upstream_for(options, shape):
    """1 for reduced values; for rows, coefficients of both signs and 0."""
    if options.get("reduction", "mean") != "none":
        return None
    return np.resize([0.5, -2.0, 0.0, 1.0], shape)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("regime", regimes.SOFTMAX)
@pytest.mark.parametrize(("library", "name"), matrix(SOFTMAX))
def test_softmax_losses_in_every_regime(library, name, regime, dtype):
    logits, ids = regimes.softmax_case(regime, dtype_of(dtype))
    soft = regimes.distribution(*logits.shape, result_dtype(logits.dtype))
    for own in variants(name) if logits.size < 100 else [{}]:
        for labels in (ids, soft):
            call = {"labels": labels, "logits": logits, **own}
            assert_contract(library, name, **call, reduction="none")
    assert_contract(library, name, labels=ids, logits=logits)


TRANSFORMS = [{"temperature": 0.7}, {"softcap": 5.0}, {"softcap": 30.0, "temperature": 3.0}]


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("library", "name"), matrix(SOFTMAX))
def test_transformed_logits_in_every_regime(library, name, dtype, transform):
    """Among them logits far beyond the cap, where its slope is 1e-30 and less."""
    for regime in regimes.SOFTMAX.keys() - {"1000 classes", "masked label"}:
        logits, ids = regimes.softmax_case(regime, dtype_of(dtype))
        call = {"labels": ids, "logits": logits, **transform}
        assert_contract(library, name, **call, reduction="none")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("regime", regimes.SIGMOID)
@pytest.mark.parametrize(("library", "name"), matrix(SIGMOID))
def test_sigmoid_losses_in_every_regime(library, name, regime, dtype):
    logits = regimes.SIGMOID[regime](dtype_of(dtype)).astype(dtype_of(dtype))
    for own in variants(name):
        for label in (0.0, 1.0, 0.25):
            labels = np.full(logits.shape, label, result_dtype(logits.dtype))
            call = {"labels": labels, "logits": logits, **own}
            assert_contract(library, name, **call, reduction="none")
            assert_contract(library, name, **call)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("labels", ["ids", "distribution"])
@pytest.mark.parametrize(("library", "name"), matrix(SOFTMAX))
def test_softmax_losses_with_every_pair_of_options(library, name, labels, dtype):
    logits = regimes.random_rows(3, 4)[0]
    target = np.array([0, 1, 3])
    if labels == "distribution":
        target = np.array([[0.5, 0.25, 0, 0.25], [0.25, 0.5, 0, 0.25], [0, 0, 0.125, 0.875]], dtype)
    for pair in option_pairs(name):
        if labels == "distribution" and "ignore_index" in pair:
            continue
        call = {"labels": target, "logits": logits.astype(dtype)}
        call |= own_dtype(pair, dtype_of(dtype))
        upstream = upstream_for(pair, (3,))
        for wrt in differentiable(call):
            # A masked class. With no share of the label it costs nothing; how fast the loss would
            # grow with such a share is infinite, and left out here.
            call["logits"][1, 2] = logits[1, 2] if wrt == "labels" else -np.inf
            assert_contract(library, name, wrt, upstream, **call)


@pytest.mark.parametrize("kind", ["logits", "probs", "log_probs"])
@pytest.mark.parametrize(("library", "name"), matrix(SOFTMAX))
def test_gradients_of_labels_and_weights_at_masked_classes_are_not_nan(library, name, kind):
    with np.errstate(divide="ignore"):
        scores = np.array([[0.25, 0.0, 0.75]]) if kind == "probs" else np.log([[0.25, 0, 0.75]])
    call = {kind: scores, "labels": np.array([[0.5, 0.0, 0.5]])}
    value_and_grad = getattr(crossent, library).value_and_grad
    for weights in ([1.0, 2.0, 0.5], [1.0, 0.0, 0.5]):
        call["class_weight"] = np.array(weights)
        for wrt, smoothing in itertools.product(("labels", "class_weight"), (0.0, 0.1)):
            loss = getattr(crossent, name)
            _, gradient = value_and_grad(loss, wrt=wrt, label_smoothing=smoothing, **call)
            assert not np.isnan(gradient).any(), (wrt, smoothing)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("library", "name"), matrix(SIGMOID))
def test_sigmoid_losses_with_every_pair_of_options(library, name, dtype):
    logits = regimes.random_rows(3, 4)[0].astype(dtype)
    labels = np.array([[0, 1, 0.25, 0.5], [1, 1, 0, 0], [0.75, 1, 0, 1]], dtype)
    for pair in option_pairs(name):
        call = {"labels": labels, "logits": logits, **own_dtype(pair, dtype_of(dtype))}
        for wrt in differentiable(call):
            assert_contract(library, name, wrt, upstream_for(pair, (3, 4)), **call)


# Exact in every dtype, and sums of 1: a prediction, a certain one, one with a class ruled out.
PROBS = np.array([[0.5, 0.125, 0.25, 0.125], [0, 0, 1, 0], [0.75, 0.25 - 2**-7, 0, 2**-7]])
BINARY_PROBS = np.array([[0.5, 0.125, 0.75, 1 - 2**-7], [0, 0, 1, 0], [1e-3, 1e-7, 1, 2**-7]])


def scored(kind, probs, dtype):
    with np.errstate(divide="ignore"):
        return (np.log(probs) if kind == "log_probs" else probs).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["probs", "log_probs"])
@pytest.mark.parametrize(("library", "name"), matrix(SOFTMAX))
def test_softmax_losses_of_probabilities(library, name, kind, dtype):
    scores = scored(kind, PROBS, dtype_of(dtype))
    soft = np.array([[0.25, 0.5, 0, 0.25], [0, 0, 1, 0], [0.5, 0.25, 0, 0.25]], dtype_of(dtype))
    for labels, own in itertools.product(([0, 2, 1], [3, 1, 2], soft), variants(name)):
        call = {"labels": np.array(labels), kind: scores, **own}
        assert_contract(library, name, **call, reduction="none")
    for pair in option_pairs(name):
        if not pair.keys() & LOGITS_ONLY:
            call = {"labels": np.array([0, 2, 1]), kind: scores}
            call |= own_dtype(pair, dtype_of(dtype))
            assert_contract(library, name, None, upstream_for(pair, (3,)), **call)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["probs", "log_probs"])
@pytest.mark.parametrize(("library", "name"), matrix(SIGMOID))
def test_sigmoid_losses_of_probabilities(library, name, kind, dtype):
    scores = scored(kind, BINARY_PROBS, dtype_of(dtype))
    for label, own in itertools.product((0.0, 1.0, 0.25), variants(name)):
        call = {"labels": np.full(scores.shape, label), kind: scores, **own}
        assert_contract(library, name, **call, reduction="none")
    for pair in option_pairs(name):
        call = {"labels": np.full(scores.shape, 0.25), kind: scores}
        call |= own_dtype(pair, dtype_of(dtype))
        assert_contract(library, name, None, upstream_for(pair, scores.shape), **call)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("library", LIBRARIES)
def test_squared_error(library, dtype, reduction):
    predictions = regimes.random_rows(3, 4)[0].astype(dtype_of(dtype))
    call = {
        "labels": regimes.random_rows(3, 4, seed=9)[0].astype(dtype_of(dtype)),
        "predictions": predictions,
        "sample_weight": np.array([[1.5], [0], [0.25]], result_dtype(predictions.dtype)),
        "reduction": reduction,
    }
    for wrt in differentiable(call):
        upstream = upstream_for(call, (3, 4))
        assert_contract(library, "mean_squared_error", wrt, upstream, **call)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(("library", "name"), matrix(LOSSES))
def test_nothing_kept_is_zero_with_gradient_zero(library, name, reduction):
    broken = np.array([[np.nan, 0.0, 1.0], [np.inf, 2.0, -np.inf]], np.float32)
    scores = "predictions" if name == "mean_squared_error" else "logits"
    labels = [0, 2] if name in SOFTMAX else np.ones((2, 3))
    calls = [{"labels": labels, scores: broken, "sample_weight": [0.0, 0.0]}]
    if "ignore_index" in ARGUMENTS[name]:
        ignored = np.full_like(labels, -100)
        calls.append({"labels": ignored, scores: broken, "ignore_index": -100})
    empty = np.zeros((0, 3), np.float32)
    calls.append({"labels": np.zeros(0, int) if name in SOFTMAX else empty, scores: empty})
    for call in calls:
        value, gradient = getattr(crossent, library).value_and_grad(
            getattr(crossent, name), wrt=scores, reduction=reduction, **call
        )
        assert not np.any(value)
        assert not np.any(gradient)
        assert gradient.shape == call[scores].shape


@pytest.mark.slow
@pytest.mark.parametrize("library", LIBRARIES)
def test_a_row_of_150000_classes(library, monkeypatch):
    """As many classes as a large vocabulary; in sixteenths, so that many share an exponential.

    The formula too, as the oracle takes ten seconds; test_native.py has the kernels of every
    instruction set.
    """
    rng = np.random.default_rng(0)
    logits = np.round(rng.standard_normal((1, 150_000)) * 48).astype(np.float32) / 16
    call = {"labels": np.array([149_999]), "logits": logits}
    assert_contract(library, "softmax_cross_entropy", **call)
    monkeypatch.setattr(_numpy_native, "core", None)
    assert_contract(library, "softmax_cross_entropy", **call)


@pytest.mark.parametrize("weight", [(2,), (2, 1), (1, 3), (2, 3), (), (1,)])
@pytest.mark.parametrize(("library", "name"), matrix(LOSSES))
def test_sample_weights_broadcast_from_the_leading_axes(library, name, weight):
    shape = (2, 3, 4) if name in SOFTMAX else (2, 3)
    scores = np.random.default_rng(1).normal(size=shape)
    labels = np.array([[0, 3, 1], [2, 2, 0]]) if name in SOFTMAX else np.ones(shape) / 4
    kind = "predictions" if name == "mean_squared_error" else "logits"
    sample_weight = np.random.default_rng(2).uniform(0.5, 2, weight)
    call = {"labels": labels, kind: scores, "sample_weight": sample_weight}
    for wrt in (kind, "sample_weight"):
        assert_contract(library, name, wrt, **call)


@pytest.mark.parametrize(("library", "name"), matrix(SOFTMAX))
def test_one_row_without_a_batch_axis(library, name):
    logits = np.array([0.5, -1.0, 2.0])
    for labels in (np.array(2), np.array([0.25, 0.75, 0])):
        for reduction in REDUCTIONS:
            assert_contract(library, name, labels=labels, logits=logits, reduction=reduction)


@pytest.mark.parametrize(("library", "name"), matrix(SOFTMAX))
def test_reductions_divide_the_returned_rows(library, name):
    """The sum runs over the rows as they are returned, and is rounded once."""
    logits = regimes.random_rows(50, 3)[0].astype(np.float32)
    call = {"labels": np.arange(50) % 3, "logits": logits, "ignore_index": 1}
    rows = getattr(crossent, name)(**call, reduction="none")
    total = mp.fsum(map(float, rows))
    for reduction, count in (("sum", 1), ("mean", 33), ("mean_all", 33)):
        value = getattr(crossent, name)(**call, reduction=reduction)
        assert_ulp(value, total / count, np.float32, 0.5001, what=f"{name} {reduction}")


def test_every_public_loss_is_in_the_contract():
    """Also: each has an oracle, and each parameter of its own has values to try."""
    public = set(crossent.__all__) & vars(crossent.losses).keys()
    functions = {name for name in public if inspect.isfunction(getattr(crossent, name))}
    assert functions - {"label_weight", "kernel_for"} == set(LOSSES)
    assert len(SOFTMAX) + len(SIGMOID) + 1 == len(LOSSES)
    for name in LOSSES:
        assert callable(getattr(oracle, name))
        assert set(own_parameters(name)) <= PARAMETERS.keys()
