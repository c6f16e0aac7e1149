"""The contract in every library and every way of running it: a choice that still crosses every
loss, option, dtype, kind of score and regime with each way, and every two options with each
library, eager and compiled.

Compiled ways pay for each new program, not for its size. So the regimes are rows of one array,
padded by masked classes, and the options come as few calls that hold many of them at once.
"""

import functools
import itertools
import random

import numpy as np
import oracle_information
import pytest
import regimes
from frontends import MODES, front_end
from regimes import DTYPES, dtype_of, result_dtype
from test_contract import (
    BINARY_PROBS,
    LOGITS_ONLY,
    OPTIONS,
    PROBS,
    SIGMOID,
    SOFTMAX,
    assert_agrees,
    assert_contract,
    exact_of,
    own_dtype,
    scored,
    upstream_for,
    variants,
)
from test_contract_information import ELEMENTWISE, LABEL_WEIGHTS, MEASURES, ROWWISE
from test_contract_information import assert_contract as assert_information

import crossent

WAYS = [way for way in MODES if way not in ("numpy", "torch-inductor")]
# Ways that take most of a second for each program.
SLOW_TO_COMPILE = ["torch-compiled", "torch-func-compiled", "tf-xla"]
# Compiled ways that share the pairs of options with another one of their library: which half is
# theirs. The other half of tf-xla's is tf-function's, which has them all.
HALF = {"torch-compiled": 0, "torch-func-compiled": 1, "jax-jit": 0, "jax-x64": 1, "tf-xla": 1}
CLASSES = 10


def turns(names, every=2):
    """Each loss in each way; where compiling is slow, every second one, in turn."""
    for i, way in enumerate(WAYS):
        for k, name in enumerate(names):
            if way not in SLOW_TO_COMPILE or (i + k) % min(every, len(names)) == 0:
                yield pytest.param(way, name, id=f"{way}-{name}")


def known_dtype(way, name):
    """The dtype, or float32 where 64 bits are not enabled."""
    return dtype_of(name if front_end(way).has(dtype_of(name)) else "float32")


@functools.cache
def stacked_regimes(dtype):
    """Logits, class ids and distributions of all regimes of up to ten classes."""
    logits, ids, soft = [], [], []
    for regime in [r for r in regimes.SOFTMAX if r not in ("1000 classes", "no rows")]:
        x, y = regimes.softmax_case(regime, dtype)
        padding = [(0, 0), (0, CLASSES - x.shape[1])]
        logits.append(np.pad(x, padding, constant_values=-np.inf))
        soft.append(np.pad(regimes.distribution(*x.shape, result_dtype(dtype)), padding))
        ids.append(y)
    return np.concatenate(logits), np.concatenate(ids), np.concatenate(soft)


def sigmoid_regimes(dtype):
    """Logits of all regimes, for three labels."""
    parts = [np.ravel(case(dtype)).astype(dtype) for case in regimes.SIGMOID.values()]
    return np.tile(np.concatenate(parts), (3, 1))


def rotated(names):
    """Every loss with every dtype, and in turn with the values of its own parameters."""
    for i, name in enumerate(names):
        for k, dtype in enumerate(DTYPES):
            own = variants(name)
            yield pytest.param(
                name, dtype, own[(7 * k + i) % len(own)], (i + k) % 2, id=f"{name}-{dtype}"
            )


@pytest.mark.parametrize(("name", "dtype", "own", "soft"), list(rotated(SOFTMAX)))
@pytest.mark.parametrize("way", WAYS)
def test_softmax_losses_in_every_regime(way, name, dtype, own, soft):
    logits, ids, distribution = stacked_regimes(known_dtype(way, dtype))
    labels = distribution if soft else ids
    call = {"labels": labels, "logits": logits, "reduction": "none", **own}
    assert_contract(way, name, upstream=np.resize([0.5, -2.0, 1.0], ids.shape), **call)


@pytest.mark.parametrize(("name", "dtype", "own", "_"), list(rotated(SIGMOID)))
@pytest.mark.parametrize("way", WAYS)
def test_sigmoid_losses_in_every_regime(way, name, dtype, own, _):
    wanted = known_dtype(way, dtype)
    logits = sigmoid_regimes(wanted)
    labels = np.empty(logits.shape, result_dtype(wanted))
    labels[:] = [[0.0], [1.0], [0.25]]
    call = {"labels": labels, "logits": logits, "reduction": "none", **own}
    assert_contract(way, name, upstream=np.resize([0.5, -2.0, 1.0, -1.0], logits.shape), **call)


@pytest.mark.parametrize("way", WAYS)
def test_a_thousand_classes(way):
    logits, ids = regimes.softmax_case("1000 classes", np.dtype(np.float32))
    assert_contract(way, "softmax_cross_entropy", labels=ids, logits=logits)


def pairwise(factors, is_allowed):
    """Few choices of one value for each factor that hold every allowed pair of values together."""
    rng = random.Random(0)
    bits = {}
    pool = []
    for _ in range(3000):
        choice = {key: rng.randrange(len(values)) for key, values in factors.items()}
        if is_allowed({key: factors[key][k] for key, k in choice.items()}):
            pairs = itertools.combinations(choice.items(), 2)
            pool.append((choice, sum(1 << bits.setdefault(pair, len(bits)) for pair in pairs)))
    missing = (1 << len(bits)) - 1
    while missing:
        choice, covered = max(pool, key=lambda entry: (entry[1] & missing).bit_count())
        missing &= ~covered
        yield {key: factors[key][k] for key, k in choice.items()}


def with_none(key):
    return [None, *(value for _, value in OPTIONS[key])]


SHARED = {
    "dtype": DTYPES,
    "kind": ["logits", "probs", "log_probs"],
    "own": range(4),
    "sample_weight": with_none("sample_weight"),
    "label_smoothing": with_none("label_smoothing"),
    "ignore_index": with_none("ignore_index"),
    "reduction": ["none", "sum", "mean", "mean_all"],
    "normalizer": with_none("normalizer"),
}
SOFTMAX_FACTORS = {
    "name": SOFTMAX,
    "labels": ["ids", "distribution"],
    "wrt": ["scores", "labels", "class_weight", "sample_weight"],
    "class_weight": with_none("class_weight"),
    "temperature": with_none("temperature"),
    "softcap": with_none("softcap"),
    "z_loss": with_none("z_loss"),
    **SHARED,
}
SIGMOID_FACTORS = {
    "name": SIGMOID,
    "wrt": ["scores", "labels", "pos_weight", "sample_weight"],
    "pos_weight": with_none("pos_weight"),
    **SHARED,
}


def is_possible(case):
    """Options that exclude one another, and gradients of what is not there."""
    if case["normalizer"] is not None and case["reduction"] == "none":
        return False
    if case["wrt"] not in ("scores", "labels") and np.ndim(case[case["wrt"]]) == 0:
        return False
    if "labels" not in case:
        return True
    if case["labels"] == "ids":
        return case["wrt"] != "labels" and not (case["kind"] != "logits" and transforms(case))
    return case["ignore_index"] is None and not (case["kind"] != "logits" and transforms(case))


def transforms(case):
    return [key for key in LOGITS_ONLY if case.get(key) is not None]


def options_of(case, dtype):
    """The options of a case that are given, weights in the dtype of the result."""
    keys = case.keys() & OPTIONS.keys()
    given = own_dtype({k: case[k] for k in keys if case[k] is not None}, dtype)
    own = variants(case["name"])
    return given | own[case["own"] % len(own)]


def softmax_call(case, dtype):
    if case["kind"] == "logits":
        scores = regimes.random_rows(3, 4)[0].astype(dtype)
        if case["wrt"] != "labels":  # how fast the loss would grow with such a share is infinite
            scores[1, 2] = -np.inf
        ids = np.array([0, 1, 3])
        soft = [[0.5, 0.25, 0, 0.25], [0.25, 0.5, 0, 0.25], [0, 0, 0.125, 0.875]]
    else:
        probs = PROBS if case["wrt"] != "labels" else np.stack([PROBS[0]] * 3)
        scores = scored(case["kind"], probs, dtype)
        ids = np.array([0, 2, 1])
        soft = [[0.25, 0.5, 0, 0.25], [0, 0, 1, 0], [0.5, 0.25, 0, 0.25]]
    labels = ids if case["labels"] == "ids" else np.array(soft, result_dtype(dtype))
    return {"labels": labels, case["kind"]: scores, **options_of(case, dtype)}


def sigmoid_call(case, dtype):
    labels = np.array([[0, 1, 0.25, 0.5], [1, 1, 0, 0], [0.75, 1, 0, 1]], result_dtype(dtype))
    if case["kind"] == "logits":
        scores = regimes.random_rows(3, 4)[0].astype(dtype)
    else:
        probs = BINARY_PROBS if case["wrt"] == "scores" else np.stack([BINARY_PROBS[0]] * 3)
        scores = scored(case["kind"], probs, dtype)
    return {"labels": labels, case["kind"]: scores, **options_of(case, dtype)}


SOFTMAX_CASES = list(pairwise(SOFTMAX_FACTORS, is_possible))
SIGMOID_CASES = list(pairwise(SIGMOID_FACTORS, is_possible))


def of_way(way, cases):
    """Which of the cases this way runs."""
    return range(HALF[way], len(cases), 2) if way in HALF else range(len(cases))


def shared(cases):
    return [(way, case) for way in WAYS for case in of_way(way, cases)]


@pytest.mark.parametrize(("way", "case"), shared(SOFTMAX_CASES))
def test_softmax_losses_with_every_pair_of_options(way, case):
    case = SOFTMAX_CASES[case]
    call = softmax_call(case, known_dtype(way, case["dtype"]))
    wrt = case["kind"] if case["wrt"] == "scores" else case["wrt"]
    assert_contract(way, case["name"], wrt, upstream_for(call, (3,)), **call)


@pytest.mark.parametrize(("way", "case"), shared(SIGMOID_CASES))
def test_sigmoid_losses_with_every_pair_of_options(way, case):
    case = SIGMOID_CASES[case]
    call = sigmoid_call(case, known_dtype(way, case["dtype"]))
    wrt = case["kind"] if case["wrt"] == "scores" else case["wrt"]
    assert_contract(way, case["name"], wrt, upstream_for(call, (3, 4)), **call)


@pytest.mark.parametrize("cases", [SOFTMAX_CASES, SIGMOID_CASES], ids=["softmax", "sigmoid"])
def test_half_of_the_cases_have_every_value_of_every_option(cases):
    every = {(key, str(value)) for case in cases for key, value in case.items()}
    for way in HALF:
        mine = [cases[case] for case in of_way(way, cases)]
        assert {(key, str(value)) for case in mine for key, value in case.items()} == every


SQUARED = [
    ("float16", "none", "predictions"),
    ("bfloat16", "sum", "labels"),
    ("float32", "mean", "sample_weight"),
    ("float64", "mean_all", "predictions"),
]


@pytest.mark.parametrize(("dtype", "reduction", "wrt"), SQUARED)
@pytest.mark.parametrize("way", WAYS)
def test_squared_error(way, dtype, reduction, wrt):
    wanted = known_dtype(way, dtype)
    call = {
        "labels": regimes.random_rows(3, 4, seed=9)[0].astype(wanted),
        "predictions": regimes.random_rows(3, 4)[0].astype(wanted),
        "sample_weight": np.array([[1.5], [0], [0.25]], result_dtype(wanted)),
        "reduction": reduction,
    }
    assert_contract(way, "mean_squared_error", wrt, upstream_for(call, (3, 4)), **call)


FUNCTIONS = [
    pytest.param(name, DTYPES[(i + k) % 4], id=f"{name}-{DTYPES[(i + k) % 4]}")
    for i, name in enumerate([*MEASURES, *ROWWISE, *ELEMENTWISE])
    for k in (0, 2)
]


@pytest.mark.parametrize(("name", "dtype"), FUNCTIONS)
@pytest.mark.parametrize("way", WAYS)
def test_measures_and_activations(way, name, dtype):
    """Of logits in every regime, of probabilities between 0 and 1."""
    wanted = known_dtype(way, dtype)
    if name in ("logit", "odds"):
        wrt, call = "p", {"p": BINARY_PROBS.astype(wanted)}
    elif name in ELEMENTWISE:
        wrt, call = "x", {"x": sigmoid_regimes(wanted)}
    else:
        wrt = "logits" if name in MEASURES else "x"
        logits, _, distribution = stacked_regimes(wanted)
        call = {wrt: logits}
        if name in ("cross_entropy", "kl_divergence"):
            call["labels"] = distribution
    reduces = name in (*MEASURES, "log_sum_exp")
    shape = call[wrt].shape[:-1] if reduces else call[wrt].shape
    assert_information(way, name, wrt, np.resize([0.5, -2.0, 1.0], shape), **call)


@pytest.mark.parametrize("kind", ["probs", "log_probs"])
@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("way", WAYS)
def test_measures_of_probabilities(way, name, kind):
    dtype = np.dtype(np.float32)
    call = {kind: scored(kind, PROBS, dtype)}
    if name != "entropy":
        call["labels"] = np.array([[0.25, 0.5, 0, 0.25], [0, 0, 1, 0], [0.5, 0.25, 0, 0.25]], dtype)
    assert_information(way, name, kind, np.array([0.5, -2.0, 1.0]), **call)


@pytest.mark.parametrize("way", WAYS)
def test_label_weight(way):
    call = LABEL_WEIGHTS[2]
    got = front_end(way).value(crossent.label_weight, **call)
    assert got == oracle_information.label_weight(**call)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("name", ["softmax_cross_entropy", "focal_loss"])
def test_inductor(name):
    logits, ids, _ = stacked_regimes(np.dtype(np.float32))
    call = {"labels": ids, "logits": logits, "reduction": "none"}
    assert_contract("torch-inductor", name, upstream=np.resize([0.5, -2.0, 1.0], ids.shape), **call)


@pytest.mark.parametrize("name", [*SOFTMAX, *SIGMOID])
@pytest.mark.parametrize("way", [way for way in WAYS if MODES[way].is_compiled])
def test_the_value_without_a_gradient(way, name):
    """A program of its own, where it is compiled."""
    logits, labels, _ = stacked_regimes(np.dtype(np.float32))
    if name in SIGMOID:
        logits = sigmoid_regimes(np.dtype(np.float32))
        labels = np.full_like(logits, 0.25)
    call = {"labels": labels, "logits": logits, "reduction": "none"}
    runs = front_end(way)
    exact = exact_of(name, wrt="logits", **call)
    value = runs.value(getattr(crossent, name), **call)
    assert_agrees(runs, name, "logits", call, exact, value)
