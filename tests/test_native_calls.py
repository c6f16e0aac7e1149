"""The losses by address: the bits of the losses of arrays, and NaN where labels are invalid."""

import math

import numpy as np
import pytest

from crossent import _numpy_native

core = _numpy_native.core
pytestmark = pytest.mark.skipif(core is None, reason="this processor has no native kernels")

NUMBERS = [
    "float32",
    "float64",
    "float16",
    "bfloat16",
    "bool",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
]
REDUCTIONS = ["none", "sum", "mean", "mean_all"]
WEIGHTS = [None, "float64", "float32", "float16", "int32", "uint8", "bool"]


def place(array):
    """Address, number, shape and strides in elements."""
    if array is None:
        return None
    steps = tuple(stride // array.itemsize for stride in array.strides)
    return array.ctypes.data, NUMBERS.index(array.dtype.name), array.shape, steps


def wide(logits):
    return np.float64 if logits.dtype == np.float64 else np.float32


class Case:
    """One loss of the arguments given, by address or of arrays; absent ones have defaults."""

    def __init__(self, sigmoid, logits, labels, weight=None, sample_weight=None, **options):
        self.sigmoid, self.logits, self.labels = sigmoid, logits, labels
        self.weight, self.sample_weight = weight, sample_weight
        self.smoothing = options.pop("smoothing", 0.0)
        self.ignored = options.pop("ignored", None)
        self.reduction = options.pop("reduction", "mean")
        self.normalizer = options.pop("normalizer", None)
        self.upstream = options.pop("upstream", 1.0)
        self.rows = options.pop("rows", None)  # upstream of each row
        self.temperature = options.pop("temperature", 1.0)
        self.softcap = options.pop("softcap", None)
        self.z_loss = options.pop("z_loss", 0.0)
        self.axis = -1
        assert not options
        self.losses = np.full(logits.shape if sigmoid else logits.shape[:-1], 7.0, wide(logits))
        self.gradient = np.full(logits.shape, 7.0, logits.dtype)

    def scaling(self):
        return self.temperature, self.softcap, self.z_loss

    def of_arrays(self):
        shape = self.losses.shape
        sample_weight = self.sample_weight
        if sample_weight is not None:
            missing = (1,) * (len(shape) - sample_weight.ndim)
            sample_weight = sample_weight.astype("f8").reshape(sample_weight.shape + missing)
            sample_weight = np.broadcast_to(sample_weight, shape)
        weight = None if self.weight is None else self.weight.astype("f8")
        loss = core.sigmoid_loss if self.sigmoid else core.softmax_loss
        value = loss(
            *(self.logits, False, self.labels, False, weight, sample_weight),
            *(self.smoothing, self.ignored, *(() if self.sigmoid else self.scaling())),
            *(self.reduction, self.normalizer),
            self.upstream if self.rows is None else self.rows.astype("f8"),
            *(self.losses, self.gradient),
        )
        return self.results(value)

    def by_address(self, invalid_is_nan=False):
        tensors = self.logits, self.labels, self.weight, self.sample_weight, self.rows
        result = np.full((), 7.0, wide(self.logits))
        value = core.linear_loss_at(
            *(None, *map(place, (*tensors, result, self.losses, self.gradient))),
            *(not self.sigmoid, self.axis, self.smoothing, self.ignored, *self.scaling()),
            *(self.reduction, self.normalizer, self.upstream, invalid_is_nan, 0),
        )
        assert_same_bits([result], [7.0 if value is None else value])
        return self.results(value)

    def results(self, value):
        return value, self.losses.copy(), self.gradient.copy()


def assert_same_bits(got, expected):
    for mine, theirs in zip(got, expected, strict=True):
        np.testing.assert_array_equal(np.asarray(mine), np.asarray(theirs))
        assert np.array_equal(np.signbit(mine), np.signbit(theirs))


def strided(logits, layout):
    """The same scores in another order of memory."""
    if layout == "contiguous":
        return logits
    if layout == "backwards":
        return np.ascontiguousarray(logits[::-1, ..., ::-1])[::-1, ..., ::-1]
    spread = np.zeros((*logits.shape[:-1], 2 * logits.shape[-1]), logits.dtype)
    spread[..., ::2] = logits
    return spread[..., ::2]


def weights(rng, number, shape):
    if number is None:
        return None
    return rng.integers(0, 2 if number == "bool" else 4, shape).astype(number)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("layout", ["contiguous", "backwards", "every other"])
@pytest.mark.parametrize("number", ["float16", "float32", "float64"])
@pytest.mark.parametrize("sigmoid", [False, True])
def test_an_address_gives_the_bits_of_an_array(sigmoid, number, layout, reduction):
    rng = np.random.default_rng(5)
    logits = strided(rng.normal(0, 3, (6, 5, 9)).astype(number), layout)
    if sigmoid:
        labels = strided(rng.random(logits.shape).astype("f4"), layout)
    else:
        labels = rng.integers(0, 9, (5, 6)).T
    for each, of_rows in zip(WEIGHTS, reversed(WEIGHTS), strict=True):
        weight = weights(rng, each, 9)
        sample_weight = weights(rng, of_rows, (6, 5))
        case = Case(sigmoid, logits, labels, weight, sample_weight, reduction=reduction)
        case.upstream = 0.5
        assert case.by_address()[0] is not None
        assert_same_bits(case.by_address(), case.of_arrays())


@pytest.mark.parametrize("sigmoid", [False, True])
def test_options_by_address_are_those_of_arrays(sigmoid):
    rng = np.random.default_rng(6)
    logits = rng.normal(0, 3, (40, 7)).astype("f4")
    labels = rng.integers(0, 2, (40, 7) if sigmoid else 40).astype("u1")
    for options in (
        {"smoothing": 0.25},
        {"ignored": 1},
        {"normalizer": 3.5},
        {"reduction": "none", "rows": rng.random(labels.shape).astype("f4")},
        {"reduction": "none", "rows": rng.random(labels.shape[::-1]).T},
        *([] if sigmoid else [{"temperature": 2.0, "softcap": 9.0, "z_loss": 1e-3}]),
    ):
        case = Case(sigmoid, logits, labels, **options)
        got = case.by_address()
        assert got[0] is not None
        if case.rows is not None:
            case.rows = np.ascontiguousarray(case.rows)
        assert_same_bits(got, case.of_arrays())


@pytest.mark.parametrize("shape", [(), (1,), (6,), (6, 1), (1, 5), (6, 5)])
@pytest.mark.parametrize("number", ["float64", "float32"])
@pytest.mark.parametrize("sigmoid", [False, True])
def test_sample_weights_broadcast_from_the_first_axis(sigmoid, number, shape):
    rng = np.random.default_rng(7)
    logits = rng.normal(0, 3, (6, 5, 3))
    labels = rng.integers(0, 2, (6, 5, 3) if sigmoid else (6, 5))
    sample_weight = rng.random(shape).astype(number)
    sample_weight = np.asarray(sample_weight)
    case = Case(sigmoid, logits, labels, sample_weight=sample_weight)
    assert_same_bits(case.by_address(), case.of_arrays())


def test_weights_of_half_precision_keep_subnormals_and_infinities():
    values = np.array([6e-8, 6e-5, -0.5, 65504, 0], "f2")
    case = Case(False, np.zeros((5, 3)), np.zeros(5, "i8"), sample_weight=values, reduction="none")
    assert_same_bits(case.by_address(), case.of_arrays())
    case.sample_weight = np.array([np.inf, -np.inf, np.nan, 1, 1], "f2")
    assert case.by_address()[0] is None
    losses = case.by_address(invalid_is_nan=True)[1]
    assert losses[0] == math.inf
    assert losses[1] == -math.inf
    assert math.isnan(losses[2])
    np.testing.assert_allclose(losses[3:], math.log(3))


def test_labels_with_an_axis_of_1():
    rng = np.random.default_rng(8)
    logits = rng.normal(0, 3, (6, 5))
    ids = rng.integers(0, 5, 6)
    expected = Case(False, logits, ids).by_address()
    assert_same_bits(Case(False, logits, ids[:, None]).by_address(), expected)
    binary = rng.integers(0, 2, 6)
    expected = Case(True, logits[:, :1], binary[:, None]).by_address()
    assert_same_bits(Case(True, logits[:, :1], binary).by_address(), expected)
    flat = Case(True, logits[:, 0], binary[:, None]).by_address()
    assert flat[0] == expected[0]


def test_shapes_and_options_that_do_not_fit_are_unusual():
    logits, ids = np.zeros((4, 3)), np.zeros(4, "i8")
    assert Case(False, logits, ids).by_address()[0] is not None
    for case in (
        Case(False, logits, np.zeros(3, "i8")),
        Case(False, logits, np.zeros(4)),
        Case(False, logits, ids, weight=np.ones(4)),
        Case(False, logits, ids, sample_weight=np.ones(3)),
        Case(False, logits, ids, sample_weight=np.ones((4, 1))),
        Case(False, logits, ids, smoothing=1.5),
        Case(False, logits, ids, temperature=0.0),
        Case(False, logits, ids, softcap=0.0),
        Case(False, logits, ids, reduction="median"),
        Case(False, logits, ids, reduction="none", normalizer=1.0),
        Case(True, logits, ids),
        Case(True, logits, logits, weight=np.ones(4)),
    ):
        assert case.by_address()[0] is None
        assert case.by_address(invalid_is_nan=True)[0] is None


def test_places_that_do_not_fit_raise():
    logits, ids = np.zeros((4, 3)), np.zeros(4, "i8")
    case = Case(False, logits, ids, reduction="none", rows=np.ones(3))
    with pytest.raises(ValueError, match="upstream"):
        case.by_address()

    def loss(*logits_and_labels):
        after = None, None, None, None, None, None, True, -1, 0.0, None, 1.0, None, 0.0
        return core.linear_loss_at(None, *logits_and_labels, *after, "none", None, 1.0, False, 0)

    start, of_ids = logits.ctypes.data, place(ids)
    for match, wrong in (
        ("losses: absent", place(logits)),
        ("number", (start, 13, (4, 3), (3, 1))),
        ("strides", (start, 1, (4, 3), (3,))),
        ("too many axes", (start, 1, (1,) * 33, (1,) * 33)),
        ("address, number, shape", (start, 1, (4, 3))),
        ("negative", (start, 1, (-4, 3), (3, 1))),
        ("exchange", logits),
    ):
        with pytest.raises(ValueError, match=match):
            loss(wrong, of_ids)
    with pytest.raises(ValueError, match="result"):
        core.linear_loss_at(
            *(None, place(logits), of_ids, None, None, None, of_ids, None, None),
            *(True, -1, 0.0, None, 1.0, None, 0.0, "mean", None, 1.0, False, 0),
        )
    # Nothing to write: libraries give empty tensors the address 0.
    assert loss((0, 1, (0, 3), (3, 1)), (0, 8, (0,), (1,))) == 0


def test_any_axis_may_be_that_of_the_classes():
    rng = np.random.default_rng(15)
    for soft in (False, True):
        logits = rng.normal(0, 3, (4, 5, 6))
        labels = rng.dirichlet(np.ones(6), (4, 5)) if soft else rng.integers(0, 6, (4, 5))
        expected = Case(False, logits, labels).by_address()
        for axis in (0, 1, 2, -3, -2):
            case = Case(False, np.moveaxis(logits, -1, axis), labels)
            if soft:
                case.labels = np.moveaxis(labels, -1, axis)
            case.axis, case.losses = axis, np.full((4, 5), 7.0)
            value, losses, gradient = case.by_address()
            assert_same_bits((value, losses, np.moveaxis(gradient, axis, -1)), expected)
    for axis in (3, -4):
        case.axis = axis
        assert case.by_address()[0] is None


# ---- invalid labels as NaN


def invalid_labels(kind, rng):
    """Labels of 12 rows and 10 classes, those with two invalid rows, and where these are."""
    bad = np.zeros(12, bool)
    bad[[2, 7]] = True
    if kind in ("ids", "unsigned"):
        good = rng.integers(0, 10, 12).astype("i8" if kind == "ids" else "u8")
        labels = good.copy()
        labels[[2, 7]] = [10, -3] if kind == "ids" else [2**63 + 1, 2**64 - 1]
        return good, labels, bad
    good = rng.dirichlet(np.ones(10), 12).astype(kind)
    good[bad] = np.eye(10)[0]  # such a row counts 1 in a mean
    labels = good.copy()
    labels[2] = 0.5
    labels[7] = np.nan
    return good, labels, bad


@pytest.mark.parametrize("layout", ["contiguous", "backwards", "every other"])
@pytest.mark.parametrize("kind", ["ids", "unsigned", "float32", "float64"])
@pytest.mark.parametrize("number", ["float16", "float32", "float64"])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_rows_with_invalid_labels_become_nan(number, kind, layout, reduction):
    rng = np.random.default_rng(9)
    logits = strided(rng.normal(0, 3, (12, 10)).astype(number), layout)
    good, labels, bad = invalid_labels(kind, rng)
    case = Case(False, logits, labels, reduction=reduction)
    assert case.by_address()[0] is None
    value, losses, gradient = case.by_address(invalid_is_nan=True)
    sound_value, sound_losses, sound_gradient = Case(
        False, logits, good, reduction=reduction
    ).by_address()
    assert value == sound_value == 0 if reduction == "none" else math.isnan(value)
    assert np.isnan(losses[bad]).all()
    assert np.isnan(gradient[bad]).all()
    assert_same_bits((losses[~bad], gradient[~bad]), (sound_losses[~bad], sound_gradient[~bad]))


def test_a_strided_gradient_is_nan_in_its_own_rows_only():
    rng = np.random.default_rng(10)
    _good, labels, bad = invalid_labels("ids", rng)
    case = Case(False, rng.normal(0, 3, (12, 10)), labels, reduction="sum")
    memory = np.full((20, 24), 7.0)
    case.gradient = memory[::-1, ::2][:12, :10]
    _, _, gradient = case.by_address(invalid_is_nan=True)
    assert np.isnan(gradient[bad]).all()
    assert not np.isnan(gradient[~bad]).any()
    case.gradient[...] = 7
    assert (memory == 7).all()


def test_in_place_of_the_logits():
    rng = np.random.default_rng(11)
    _, labels, _ = invalid_labels("ids", rng)
    logits = rng.normal(0, 3, (12, 10))
    expected = Case(False, logits, labels, reduction="sum").by_address(invalid_is_nan=True)
    case = Case(False, logits.copy(), labels, reduction="sum")
    case.gradient = case.logits
    assert_same_bits(case.by_address(invalid_is_nan=True), expected)
    z = np.array([[0.0, 2.0], [np.nan, 1.0]])
    expected = Case(True, logits[:2, :2].copy(), z).by_address(invalid_is_nan=True)
    case = Case(True, logits[:2, :2].copy(), z)
    case.gradient = case.logits
    assert_same_bits(case.by_address(invalid_is_nan=True), expected)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_ignored_rows_and_those_of_weight_0_stay_0(reduction):
    rng = np.random.default_rng(12)
    good, labels, bad = invalid_labels("ids", rng)
    logits = rng.normal(0, 3, (12, 10))
    labels[4] = good[4] = 0
    sample_weight = np.where(bad, 0.0, rng.random(12))
    options = {"sample_weight": sample_weight, "reduction": reduction, "ignored": 0}
    case = Case(False, logits, labels, **options)
    got = case.by_address(invalid_is_nan=True)
    assert_same_bits(got, Case(False, logits, np.where(bad, 1, good), **options).by_address())
    assert (got[1][bad] == 0).all()
    assert (got[2][bad] == 0).all()
    assert got[1][4] == 0
    assert (got[2][4] == 0).all()
    # -1 is ignored; another number that is out of range is not.
    labels[2] = -1
    case = Case(False, logits, labels, reduction=reduction, ignored=-1)
    _, losses, gradient = case.by_address(invalid_is_nan=True)
    assert losses[2] == 0
    assert (gradient[2] == 0).all()
    assert math.isnan(losses[7])
    assert np.isnan(gradient[7]).all()


def test_class_weights_that_are_not_finite_flow_through():
    rng = np.random.default_rng(13)
    logits = rng.normal(0, 3, (12, 10))
    weight = np.ones(10)
    weight[3] = np.nan
    for kind in ("ids", "float64"):
        labels, _, _ = invalid_labels(kind, rng)
        case = Case(False, logits, labels, weight, reduction="none")
        assert case.by_address()[0] is None
        value, losses, gradient = case.by_address(invalid_is_nan=True)
        assert value == 0
        touched = labels == 3 if kind == "ids" else np.ones(12, bool)
        assert np.isnan(losses[touched]).all()
        assert np.isnan(gradient[touched]).any(axis=1).all()
        assert np.isfinite(losses[~touched]).all()


@pytest.mark.parametrize("normalizer", [math.nan, math.inf, -2.0, 0.0])
@pytest.mark.parametrize("sigmoid", [False, True])
def test_any_normalizer_divides(sigmoid, normalizer):
    logits = np.array([[1.0, 2.0]])
    labels = np.array([[0.0, 1.0]])
    case = Case(sigmoid, logits, labels, reduction="sum")
    total = case.by_address()[0]
    case.normalizer = normalizer
    expected = total / normalizer if normalizer else 0.0
    np.testing.assert_allclose(case.by_address(invalid_is_nan=True)[0], expected)


def test_a_row_of_nan_stays_within_its_memory():
    # A row of NaN has no largest target: the search then ended in what pads the row, one behind.
    for classes in (3, 9, 65, 130):
        around = np.full((2, classes + 40), 7.0, "f4")
        case = Case(False, np.zeros((2, classes), "f4"), np.full((2, classes), 1 / classes, "f4"))
        case.weight = np.full(classes, np.nan)
        case.gradient = around[:, :classes]
        case.by_address(invalid_is_nan=True)
        assert (around[:, classes:] == 7).all()


@pytest.mark.parametrize("ignored", [None, 0, 1, -1])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("kind", ["float16", "float32", "float64", "int64"])
@pytest.mark.parametrize("number", ["float32", "float64"])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_elements_with_invalid_labels_become_nan(reduction, number, kind, smoothing, ignored):
    rng = np.random.default_rng(14)
    logits = rng.normal(0, 3, (33, 64)).astype(number)
    good = rng.integers(0, 2, logits.shape).astype(kind)
    labels, bad = good.copy(), np.zeros(logits.shape, bool)
    bad[[3, 17], [5, 60]] = True
    labels[3, 5] = 2
    labels[17, 60] = -2 if kind == "int64" else np.nan
    good[bad] = 1 if ignored == 0 else 0  # kept
    if ignored == -1:
        good[9] = labels[9] = -1
    options = {"smoothing": smoothing, "ignored": ignored, "reduction": reduction}
    case = Case(True, logits, labels, **options)
    assert case.by_address()[0] is None
    value, losses, gradient = case.by_address(invalid_is_nan=True)
    sound = Case(True, logits, good, **options).by_address()
    assert value == 0 if reduction == "none" else math.isnan(value)
    assert np.isnan(losses[bad]).all()
    assert np.isnan(gradient[bad]).all()
    assert_same_bits((losses[~bad], gradient[~bad]), (sound[1][~bad], sound[2][~bad]))

    case.sample_weight = np.where(bad, 0.0, 1.0)
    got = case.by_address(invalid_is_nan=True)
    sound = Case(True, logits, good, sample_weight=case.sample_weight, **options).by_address()
    assert_same_bits(got, sound)
    assert (got[1][bad] == 0).all()
    assert (got[2][bad] == 0).all()
