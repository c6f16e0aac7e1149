"""The contract of the information measures and activations: values and gradients against the oracle
in every dtype, as test_contract.py does for the losses."""

import inspect

import numpy as np
import oracle_information as oracle
import pytest
import regimes
from frontends import front_end
from regimes import DTYPES, dtype_of, result_dtype
from test_contract import (
    BINARY_PROBS,
    HALF_ULP,
    LIBRARIES,
    PROBS,
    assert_narrow,
    exact_of,
    scored,
    unflushed,
)
from ulp import assert_ulp

import crossent

MEASURES = ["entropy", "cross_entropy", "kl_divergence"]
ROWWISE = ["softmax", "log_softmax", "log_sum_exp"]
ELEMENTWISE = ["sigmoid", "log_sigmoid", "softplus", "logit", "odds"]
# The formula computes float32 and narrower in float64 and rounds once; conversion to bits included.
# Native kernels add and multiply float32 in places: 2 ulp of the value, 4 of the gradient. float64
# adds the roundings of exp and log and of the sum. Where terms of opposite sign meet (the
# divergence, log_sum_exp below 0, gradients) the largest of them is what the ulps refer to.
NATIVE = crossent.kernel_for([0.0]).startswith("native")
VALUE_ULP = {"float32": 2 if NATIVE else 0.51, "float64": 8}
GRADIENT_ULP = {"float32": 4 if NATIVE else 0.51, "float64": 16}
GRADIENT_ULP |= {"float16": HALF_ULP, "bfloat16": HALF_ULP}


def assert_contract(library, name, wrt, upstream=None, **call):
    function, way = getattr(crossent, name), front_end(library)
    value, gradient = way.value_and_grad(function, wrt, upstream, **call)
    exact = _exact(name, wrt, upstream, call)
    wide, dtype = result_dtype(call[wrt].dtype), call[wrt].dtype
    assert value.dtype == wide
    assert gradient.dtype == dtype
    if not way.is_compiled:
        alone = way.value(function, **call)
        if way.has_one_value:
            assert np.array_equal(value, alone, equal_nan=True)
    if way.flushes_to_zero:
        value = unflushed(value, exact.value, wide)
        gradient = unflushed(gradient, exact.gradient, dtype)
    what, of = f"{name} ", f"gradient of {name} "
    if way.works_in(dtype) == np.float32:
        assert_narrow(value, exact.value, wide, exact.value_scale, what)
        assert_narrow(gradient, exact.gradient, dtype, exact.gradient_scale, of)
        return
    assert_ulp(value, exact.value, wide, VALUE_ULP[wide.name], exact.value_scale, what)
    limit = GRADIENT_ULP[dtype.name]
    assert_ulp(gradient, exact.gradient, dtype, limit, exact.gradient_scale, of)


def _exact(name, wrt, upstream, call):
    arguments = call if wrt in ("x", "p") else {**call, "wrt": wrt}
    return exact_of(name, oracle, upstream=upstream, **arguments)


def upstream_like(shape):
    return np.resize([0.5, -2.0, 1.0, 1.0], shape)


@pytest.mark.parametrize("unit", ["nats", "bits"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("library", LIBRARIES)
def test_measures_of_logits(library, name, dtype, unit):
    for regime in regimes.SOFTMAX:
        logits, _ = regimes.softmax_case(regime, dtype_of(dtype))
        if regime == "1000 classes":
            logits = logits[:, :100]  # the oracle's terms are classes x classes
        call = {"logits": logits, "unit": unit}
        if name != "entropy":
            call["labels"] = regimes.distribution(*logits.shape, result_dtype(logits.dtype))
        assert_contract(library, name, "logits", upstream_like(logits.shape[:-1]), **call)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["probs", "log_probs"])
@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("library", LIBRARIES)
def test_measures_of_probabilities(library, name, kind, dtype):
    scores = scored(kind, PROBS, dtype_of(dtype))
    labels = np.array(
        [[0.25, 0.5, 0, 0.25], [0.25, 0, 0.75, 0], [0.5, 0.25, 0, 0.25]], scores.dtype
    )
    call = {kind: scores} if name == "entropy" else {kind: scores, "labels": labels}
    for wrt in list(call):
        if wrt == "labels":  # what a share of an impossible class would add is infinite
            call = {kind: scores[:1], "labels": labels[:1] / 2 + labels.dtype.type(0.125)}
        assert_contract(library, name, wrt, **call)
        swapped = {key: np.moveaxis(value, -1, 0) for key, value in call.items()}
        assert_contract(library, name, wrt, axis=0, **swapped)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ROWWISE)
@pytest.mark.parametrize("library", LIBRARIES)
def test_rowwise_activations(library, name, dtype):
    for regime in regimes.SOFTMAX:
        x, _ = regimes.softmax_case(regime, dtype_of(dtype))
        if regime == "1000 classes":
            x = x[:, :100]  # the oracle's terms are classes x classes
        upstream = upstream_like(x.shape[:-1] if name == "log_sum_exp" else x.shape)
        assert_contract(library, name, "x", upstream, x=x)
    swapped = upstream_like((3,) if name == "log_sum_exp" else (4, 3))
    assert_contract(library, name, "x", swapped, x=np.arange(12.0).reshape(4, 3), axis=0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ELEMENTWISE)
@pytest.mark.parametrize("library", LIBRARIES)
def test_elementwise_activations(library, name, dtype):
    wanted = dtype_of(dtype)
    if name in ("logit", "odds"):
        near_half = 0.5 + np.array([0.0, 2**-9, -(2**-9), 0.1, -0.26, 0.24])
        for p in (BINARY_PROBS, near_half):
            assert_contract(library, name, "p", upstream_like(p.shape), p=p.astype(wanted))
        return
    for regime in regimes.SIGMOID:
        x = regimes.SIGMOID[regime](wanted).astype(wanted)
        assert_contract(library, name, "x", upstream_like(x.shape), x=x)


@pytest.mark.parametrize("name", [*ROWWISE, "sigmoid", "log_sigmoid", "softplus"])
def test_activations_take_integers_and_lists_as_float64(name):
    function = getattr(crossent, name)
    want = function(np.array([1.0, 3.0, -2.0]))
    for x in ([1, 3, -2], np.array([1, 3, -2], np.int8)):
        got = function(x)
        assert got.dtype == np.float64
        assert np.array_equal(got, want)


LABEL_WEIGHTS = [
    {"labels": np.array([3, -100, 1]), "ignore_index": -100},
    {"labels": np.array([3, 0, 1]), "class_weight": np.array([0.5, 2.0, 0.0, 1.25])},
    {
        "labels": np.array([[3, -1], [1, 1]]),
        "ignore_index": -1,
        "class_weight": np.array([0.5, 2.0, 0.0, 1.25]),
        "sample_weight": np.array([0.25, 3.0]),
    },
    {"labels": regimes.distribution(3, 4, np.float32), "num_classes": 4},
    {
        "labels": regimes.distribution(4, 3, np.float32).T,
        "class_weight": np.array([0.5, 2.0, 1.25]),
        "sample_weight": np.array([0.5, 0.0, 1.0, 2.0]),
        "axis": 0,
    },
    {"labels": np.array([[0.0, 1.0], [0.25, -1]]), "ignore_index": -1},
    {"labels": np.array([7, 7]), "ignore_index": 7},
]


@pytest.mark.parametrize("reduction", ["mean", "mean_all"])
@pytest.mark.parametrize("call", LABEL_WEIGHTS)
def test_label_weight(call, reduction):
    got = crossent.label_weight(**call, reduction=reduction)
    assert_ulp(got, oracle.label_weight(**call, reduction=reduction), np.float64, 2)


def test_every_public_function_is_in_the_contract():
    functions = {k for k, v in vars(crossent.information).items() if inspect.isfunction(v)}
    assert functions & set(crossent.__all__) == {*MEASURES, *ROWWISE, *ELEMENTWISE}
