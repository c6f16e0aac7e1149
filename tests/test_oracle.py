"""The oracle judges everything else, so it is judged first: its analytic gradients against finite
differences at 60 digits, and its values against the definitions evaluated at 1,000 digits."""

import inspect

import numpy as np
import oracle
import oracle_information
import pytest
from exact_arithmetic import exact, mp
from ulp import ulp_error

X = np.array([[0.3, -1.7, 2.2], [5.0, 4.5, -0.25]])
P = np.array([[0.5, 0.125, 0.375], [0.0625, 0.8125, 0.125]])
IDS = np.array([2, 1])
ONE_ROW = {"class_weight": np.array([0.5, 2.0, 1.25]), "sample_weight": np.array([1.5, 0.25])}
BINARY = {"pos_weight": np.array([0.5, 2.0, 1.25]), "sample_weight": np.array([[1.5], [0.25]])}
SCORES = {"logits": X, "probs": P, "log_probs": np.log(P)}
SOFTMAX = ["softmax_cross_entropy", "focal_loss", "generalized_cross_entropy", "poly_loss"]
SIGMOID = ["sigmoid_cross_entropy", "binary_focal_loss"]
REDUCTIONS = ["none", "sum", "mean", "mean_all"]


def assert_derivative(fn, options, wrt, upstream):
    """The gradient agrees with central differences of the value to 30 digits."""
    options = {k: exact(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
    got = fn(**options, wrt=wrt, upstream=upstream).gradient
    up = exact(1.0 if upstream is None else upstream)
    h = mp.mpf("1e-20")
    target = options[wrt]
    assert got.shape == target.shape
    for i in np.ndindex(target.shape):
        sides = []
        for step in (h, -h):
            moved = target.copy()
            moved[i] += step
            sides.append(np.sum(fn(**{**options, wrt: moved}).value * up))
        want = (sides[0] - sides[1]) / (2 * h)
        assert abs(got[i] - want) <= mp.mpf("1e-30") * max(1, abs(want)), (wrt, i)


def some_upstream(reduction, shape):
    return np.arange(1, 1 + np.prod(shape)).reshape(shape) / 4 if reduction == "none" else 0.75


@pytest.mark.parametrize("kind", SCORES)
@pytest.mark.parametrize("name", SOFTMAX)
def test_softmax_gradients_are_derivatives(name, kind):
    extra = {"temperature": 0.7, "softcap": 3.0, "z_loss": 0.01} if kind == "logits" else {}
    for reduction in REDUCTIONS:
        options = {kind: SCORES[kind], **ONE_ROW, **extra}
        options |= {"labels": P[::-1], "label_smoothing": 0.2, "reduction": reduction}
        for wrt in (kind, "labels", *ONE_ROW):
            assert_derivative(getattr(oracle, name), options, wrt, some_upstream(reduction, (2,)))


@pytest.mark.parametrize("kind", SCORES)
@pytest.mark.parametrize("name", SIGMOID)
def test_sigmoid_gradients_are_derivatives(name, kind):
    extra = {"alpha": 0.3} if name == "binary_focal_loss" else {}
    for reduction in REDUCTIONS:
        options = {kind: SCORES[kind], **BINARY, **extra}
        options |= {"labels": P[::-1], "label_smoothing": 0.2, "reduction": reduction}
        for wrt in (kind, "labels", *BINARY):
            assert_derivative(getattr(oracle, name), options, wrt, some_upstream(reduction, (2, 3)))


def test_squared_error_gradients_are_derivatives():
    options = {"predictions": X, "labels": P, "sample_weight": np.array([1.5, 0.25])}
    for wrt in options:
        assert_derivative(oracle.mean_squared_error, options, wrt, 0.75)


@pytest.mark.parametrize("name", ["entropy", "cross_entropy", "kl_divergence"])
@pytest.mark.parametrize("kind", SCORES)
def test_information_gradients_are_derivatives(name, kind):
    options = {kind: SCORES[kind], "unit": "bits"}
    if name != "entropy":
        options["labels"] = P[::-1]
    for wrt in set(options) - {"unit"}:
        assert_derivative(getattr(oracle_information, name), options, wrt, np.array([0.5, 3.0]))


@pytest.mark.parametrize(
    "name",
    ["sigmoid", "log_sigmoid", "logit", "odds", "softmax", "log_softmax", "log_sum_exp"],
)
def test_activation_gradients_are_derivatives(name):
    fn = getattr(oracle_information, name)
    argument = next(iter(inspect.signature(fn).parameters))
    upstream = np.array([0.5, 3.0]) if name == "log_sum_exp" else X

    def by_keyword(*, wrt=None, **options):
        return fn(**options)

    assert_derivative(by_keyword, {argument: P}, argument, upstream)


def by_definition(x, label):
    """-log(exp(x_y) / sum exp(x_j)) with 1,000 digits, which absorb every cancellation."""
    with mp.workdps(1000):
        e = [mp.exp(mp.mpf(v)) for v in x]
        return -mp.log(e[label] / mp.fsum(e))


@pytest.mark.parametrize(
    "x",
    [
        [0.0, -69.1, -80.0],  # a true loss of 1e-30
        [0.0, -700.0, -690.5],
        [1e8, 1e8 - 69.0, 1e8 - 80.0],
        [-1e8, -1e8 - 2.5, -1e8 + 1],
        [4.0, 4.0, 4.0],
        [1e-310, 0.0, -5e-324],
    ],
)
def test_values_match_the_definition_at_1000_digits(x):
    for label in range(3):
        got = oracle.softmax_cross_entropy(logits=[x], labels=[label], reduction="sum")
        want = by_definition(x, label)
        assert abs(got.value.item() - want) <= mp.mpf("1e-50") * want
        with mp.workdps(1000):
            pull = mp.exp(-want) - 1
        assert abs(got.gradient[0, label] - pull) <= mp.mpf("1e-50") * abs(pull)


def test_published_values():
    """Numbers of the articles that the semantics of the losses were taken from."""
    options = {"logits": [-18.6, 0.51, 2.94, -12.8], "labels": [0, 1, 0, 0]}
    plain = oracle.sigmoid_cross_entropy(**options).value.item()
    smooth = oracle.sigmoid_cross_entropy(**options, label_smoothing=0.1).value.item()
    assert [float(plain), float(smooth)] == pytest.approx([0.865458, 1.227583], abs=1e-6)
    softmax = oracle.softmax_cross_entropy(logits=[[-1.0, 1.0]], labels=[0]).value.item()
    assert float(softmax) == pytest.approx(2.126928, abs=1e-6)
    sigmoid = oracle.sigmoid_cross_entropy(logits=[5.0, 5.0], labels=[1, 0], reduction="none")
    assert [float(v) for v in sigmoid.value] == pytest.approx([0.006715, 5.006715], abs=1e-6)
    bits = oracle_information.entropy(probs=np.full((1, 32), 1 / 32), unit="bits").value
    assert float(bits[0]) == 5


def test_focal_of_gamma_2_by_hand():
    p = mp.mpf("0.25")
    options = {"probs": np.array([[0.25, 0.75]]), "labels": [0]}
    assert abs(oracle.focal_loss(**options).value.item() - (1 - p) ** 2 * -mp.log(p)) < 1e-50
    generalized = oracle.generalized_cross_entropy(**options, q=0.5).value.item()
    assert abs(generalized - (1 - mp.sqrt(p)) / 0.5) < 1e-50
    poly = oracle.poly_loss(**options, epsilon=2.0).value.item()
    assert abs(poly - (-mp.log(p) + 2 * (1 - p))) < 1e-50


def test_rows_without_a_softmax_are_nan_and_weights_of_zero_remove_them():
    x = np.array([[0.0, 1.0], [np.nan, 0.0], [-np.inf, -np.inf], [np.inf, 0.0], [-np.inf, 3.0]])
    none = oracle.softmax_cross_entropy(logits=x, labels=[0, 0, 0, 0, 0], reduction="none")
    assert [bool(mp.isnan(v)) for v in none.value] == [False, True, True, True, False]
    assert none.value[4] == mp.inf
    assert none.gradient[4].tolist() == [-1, 1]
    kept = oracle.softmax_cross_entropy(
        logits=x, labels=[0, -1, 0, -1, 1], ignore_index=-1, sample_weight=[1.0, 5.0, 0.0, 1.0, 3.0]
    )
    first = oracle.softmax_cross_entropy(logits=x[:1], labels=[0]).value
    assert abs(kept.value.item() - first.item() / 4) < 1e-50
    assert all(v == 0 for v in kept.gradient[1:].ravel())


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_ulp_error_is_sane_everywhere(dtype):
    info = np.finfo(dtype)
    one, tiny, big = dtype(1), info.smallest_subnormal, info.max
    inf, nan = mp.inf, mp.nan
    pairs = [
        (one, mp.mpf(1), 0.0),
        (np.nextafter(one, dtype(2)), mp.mpf(1), 1.0),
        (np.nextafter(one, dtype(0)), mp.mpf(1), 0.5),
        (tiny, mp.mpf(0), 1.0),
        (dtype(0), mp.mpf(0), 0.0),
        (-dtype(0), mp.mpf(0), 0.0),
        (dtype(0), exact(tiny).item() / 2, 0.5),
        (dtype(3) * tiny, exact(tiny).item() * 2, 1.0),
        (dtype(np.inf), inf, 0.0),
        (dtype(-np.inf), inf, np.inf),
        (big, inf, np.inf),
        (dtype(np.inf), exact(big).item(), np.inf),
        (dtype(np.inf), exact(big).item() * 2, 0.0),
        (dtype(np.nan), nan, 0.0),
        (dtype(np.nan), mp.mpf(1), np.inf),
        (one, nan, np.inf),
    ]
    for actual, true, error in pairs:
        assert ulp_error(actual, true, dtype) == error, (actual, true)
    # With a scale: one unit of 8 instead of one of 1; an infinite scale excuses nothing.
    assert ulp_error(np.nextafter(one, dtype(2)), mp.mpf(1), dtype, scale=mp.mpf(8)) == 0.125
    assert ulp_error(np.nextafter(one, dtype(2)), mp.mpf(1), dtype, scale=inf) == 1.0
    third = mp.mpf(1) / 3
    assert ulp_error(dtype(1) / dtype(3), third, dtype) < 0.5
