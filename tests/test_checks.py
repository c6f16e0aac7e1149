"""Every error of the core, from the outside: its class and the whole of its text.

mistakes.txt is the table. That nothing is missing from it is checked too: its calls reach every
`raise` of the core, and every `return` of the functions that choose a way out.
"""

import ast
import inspect
import re
import sys
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

import crossent as xe
from crossent import _arrays, _checks, information, losses

CORE = [_checks, _arrays, xe.numpy, losses, information]
BUILTINS = {
    xe.ShapeError: ValueError,
    xe.LabelError: ValueError,
    xe.ScoreError: ValueError,
    xe.OptionError: ValueError,
    xe.DTypeError: TypeError,
    xe.ArgumentError: TypeError,
    xe.MissingLibraryError: ImportError,
}
# Functions that say what to do; each of their branches is part of some message.
CHOOSES_A_WAY_OUT = re.compile(r"_hint$|^_conversion$")
FORM = re.compile(r"(?P<argument>[a-z_, ]+) must \S.*\S; got \S.*?\. \S.*[.?]")


class Foreign:
    """What is known of another library's array: the name of its module."""

    __module__ = "cupy"


class Symbolic:
    """The same of what stands for an array while a model of Keras is built."""

    __module__ = "keras.src"


def dtype_without_ml_dtypes(name):
    """crossent.numpy.dtype where that package is missing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "ml_dtypes", None)
        return xe.numpy.dtype(name)


# Four rows of three classes: some logits above 1, some below 0.
Z = np.array([[2.0, 0.5, -1.0], [0.25, 3.0, -0.5], [0.0, -2.0, 1.5], [1.0, 0.75, -0.25]])
IDS = np.array([0, 1, 2, 1])
ONE_HOT = np.eye(3, dtype=int)[IDS]
P = np.array([[0.5, 0.25, 0.25], [0.125, 0.75, 0.125], [0.25, 0.25, 0.5], [0.5, 0.375, 0.125]])
# Four yes/no answers.
X = np.array([1.0, -1.0, 2.0, 0.5])
BITS = np.array([0, 1, 1, 0])

PUBLIC = [f for f in (getattr(xe, name) for name in xe.__all__) if inspect.isfunction(f)]
NAMES = {function.__name__: function for function in PUBLIC}
NAMES |= {name: value for name, value in globals().items() if name.isupper()}
NAMES |= {"np": np, "torch": torch, "classes": _checks.classes}
NAMES |= {"Foreign": Foreign, "Symbolic": Symbolic}
NAMES |= {"dtype_without_ml_dtypes": dtype_without_ml_dtypes}
NAMES |= {"value_and_grad": partial(xe.numpy.value_and_grad, xe.softmax_cross_entropy)}


class Mistake(NamedTuple):
    call: str
    error: str
    message: str


def read_mistakes():
    text = (Path(__file__).parent / "mistakes.txt").read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    pairs = zip(lines[::2], lines[1::2], strict=True)
    return [Mistake(call, *raised.split(": ", 1)) for call, raised in pairs]


MISTAKES = read_mistakes()


def make(call):
    return eval(call, dict(NAMES))  # the calls are our own


@pytest.mark.parametrize("mistake", MISTAKES, ids=[m.call for m in MISTAKES])
def test_a_mistake_is_answered(mistake):
    with pytest.raises(xe.CrossentError) as caught:
        make(mistake.call)
    assert str(caught.value) == mistake.message
    assert type(caught.value) is getattr(xe, mistake.error)
    assert isinstance(caught.value, BUILTINS[type(caught.value)])


ARGUMENTS = {
    name
    for function in [*PUBLIC, xe.numpy.value_and_grad]
    for name in inspect.signature(function).parameters
}


@pytest.mark.parametrize("mistake", MISTAKES, ids=[m.call for m in MISTAKES])
def test_a_message_says_what_was_expected_what_came_and_what_to_do(mistake):
    form = FORM.fullmatch(mistake.message)
    assert form, mistake.message
    names = set(re.split(", | and ", form["argument"]))
    # "scores" are logits, probs and log_probs together, and x; a dtype is what tf_compat is given.
    assert names <= ARGUMENTS | {"scores", "dtype"}
    assert len(mistake.message) <= 300, "nobody reads that"


# ---- nothing is missing


def answers(module):
    """First and last line of each `raise`, and of each way out."""
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.Raise):
            yield node.lineno, node.end_lineno
        elif isinstance(node, ast.FunctionDef) and CHOOSES_A_WAY_OUT.search(node.name):
            for part in ast.walk(node):
                if isinstance(part, ast.Return):
                    yield part.lineno, part.end_lineno


def lines_run(call):
    """(file, line) of all that a call of the table runs in the core."""
    files, seen = {module.__file__ for module in CORE}, set()

    def trace(frame, event, argument):
        if frame.f_code.co_filename not in files:
            return None
        if event == "line":
            seen.add((frame.f_code.co_filename, frame.f_lineno))
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        make(call)
    except xe.CrossentError:
        pass
    finally:
        sys.settrace(before)
    return seen


def unreached(runs):
    """Source lines of the answers that no run came to."""
    seen = set().union(*runs)
    return [
        f"{Path(module.__file__).name}:{first} "
        + " ".join(inspect.getsource(module).splitlines()[first - 1 : last])
        for module in CORE
        for first, last in answers(module)
        if not any((module.__file__, line) in seen for line in range(first, last + 1))
    ]


@pytest.fixture(scope="module")
def runs():
    return {mistake: lines_run(mistake.call) for mistake in MISTAKES}


def test_every_raise_of_the_core_is_in_the_table(runs):
    assert unreached(runs.values()) == []


@pytest.mark.parametrize("text", ["num_classes must", "out must be writeable", "1-based? Subtract"])
def test_an_answer_missing_from_the_table_is_noticed(runs, text):
    without = [run for mistake, run in runs.items() if text not in mistake.message]
    assert len(without) < len(runs)
    (missing,) = unreached(without)
    assert text in missing


def test_all_answers_are_looked_for():
    sources = [inspect.getsource(module) for module in CORE]
    statements = sum(len(re.findall(r"^ +raise\b", source, re.MULTILINE)) for source in sources)
    missing = unreached([])
    assert sum(" raise " in line for line in missing) == statements > 40
    assert sum("return " in line for line in missing) > 20


# ---- what Python refuses by itself, and what is no mistake


def test_scores_and_labels_cannot_be_passed_by_position():
    for loss in (xe.softmax_cross_entropy, xe.sigmoid_cross_entropy, xe.kl_divergence):
        with pytest.raises(TypeError, match="takes 0 positional arguments"):
            loss(Z, ONE_HOT)


def test_an_option_that_a_loss_does_not_have_is_refused():
    with pytest.raises(TypeError, match="unexpected keyword argument 'class_weight'"):
        xe.sigmoid_cross_entropy(labels=BITS, logits=X, class_weight=[1.0, 2.0])
    with pytest.raises(TypeError, match="unexpected keyword argument 'temprature'"):
        xe.numpy.value_and_grad(xe.focal_loss, labels=IDS, logits=Z, temprature=2.0)


@pytest.mark.parametrize(
    "arguments",
    [
        {"labels": IDS.tolist()},
        {"labels": tuple(IDS)},
        {"labels": IDS[:, None]},
        {"labels": IDS.astype(np.uint8)},
        {"labels": IDS.astype(np.float16)},
        {"labels": IDS.astype(">i4")},
        {"labels": IDS, "axis": np.int64(1)},
        {"labels": IDS, "ignore_index": -100},
        {"labels": IDS.astype(np.uint8), "ignore_index": np.int64(-100)},
        {"labels": IDS, "ignore_index": 2**70},
        {"labels": ONE_HOT},
        {"labels": ONE_HOT.astype(bool)},
        {"labels": ONE_HOT.astype(np.float16)},
        {"labels": np.ma.masked_array(IDS, False)},
        {"labels": IDS, "logits": Z.tolist()},
        {"labels": IDS, "logits": list(Z)},
        {"labels": IDS, "logits": np.ma.masked_array(Z)},
        {"labels": IDS, "logits": Z.astype(">f8")},
        {"labels": IDS, "class_weight": [1, 1, 1]},
        {"labels": IDS, "sample_weight": 1},
        {"labels": IDS, "sample_weight": [True] * 4},
        {"labels": IDS, "temperature": np.float32(1)},
    ],
)
def test_other_ways_to_write_the_same_are_no_mistake(arguments):
    want = xe.softmax_cross_entropy(labels=IDS, logits=Z)
    got = xe.softmax_cross_entropy(**{"logits": Z, **arguments})
    assert got == want
    assert got.dtype == want.dtype


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
def test_a_matrix_is_an_array():
    got = xe.softmax_cross_entropy(labels=np.matrix(IDS).T, logits=np.matrix(Z))
    assert got == xe.softmax_cross_entropy(labels=IDS, logits=Z)
    assert type(got) is np.float64


def test_an_empty_batch_costs_nothing():
    assert xe.softmax_cross_entropy(labels=[], logits=np.zeros((0, 3))) == 0
    assert xe.sigmoid_cross_entropy(labels=[], logits=[]) == 0


def test_sample_weights_go_with_the_leading_axis():
    loss = partial(xe.softmax_cross_entropy, logits=np.stack([Z, Z]), labels=[IDS, IDS])
    by_batch = loss(sample_weight=[1.0, 0.0], reduction="sum")
    assert by_batch == loss(sample_weight=[[1.0], [0.0]], reduction="sum")
    assert by_batch == xe.softmax_cross_entropy(logits=Z, labels=IDS, reduction="sum")


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("classes", [2, 1000, 150_000])
def test_probabilities_and_labels_that_are_merely_rounded_sum_to_1(dtype, classes):
    logits = np.random.default_rng(classes).normal(size=(2, classes))
    exp = np.exp(logits).astype(dtype)
    # Added up one after the other in the dtype itself: worse than any library's softmax. (float16
    # gets no further than 2048 that way.)
    adding = np.float64 if dtype == np.float16 and classes > 1000 else dtype
    total = np.cumsum(exp, axis=-1, dtype=adding)[:, -1:]
    probs = exp / total
    rounded = probs.astype(dtype)
    assert np.isfinite(xe.cross_entropy(labels=rounded, logits=logits)).all()
    assert np.isfinite(xe.entropy(probs=rounded)).all()
    assert np.isfinite(xe.entropy(log_probs=np.log(probs).astype(dtype))).all()


@pytest.mark.parametrize("classes", [2, 1000, 150_000])
def test_float32_sums_that_are_off_by_more_than_rounding_are_refused(classes):
    probs = np.full((1, classes), 1.005 / classes, np.float32)
    with pytest.raises(xe.ScoreError, match=r"probs must sum to 1 .* got sums 1\.005 at row 0"):
        xe.entropy(probs=probs)
    with pytest.raises(xe.LabelError, match=r"labels must sum to 1 .* got sums 1\.005 at row 0"):
        xe.cross_entropy(labels=probs, logits=np.zeros((1, classes)))


def test_float16_labels_hold_class_ids_up_to_2048_classes():
    labels = np.array([2047, 1], np.float16)
    loss = xe.softmax_cross_entropy(labels=labels, logits=np.zeros((2, 2048)))
    assert loss == pytest.approx(np.log(2048), rel=1e-15)
    with pytest.raises(xe.DTypeError, match=r"float16 of shape .2,. for 2049 classes"):
        xe.softmax_cross_entropy(labels=labels, logits=np.zeros((2, 2049)))


def test_pandas_goes_in_and_its_missing_values_do_not():
    pandas = pytest.importorskip("pandas")
    want = xe.softmax_cross_entropy(labels=IDS, logits=Z)
    frame, labels = pandas.DataFrame(Z), pandas.Series(IDS)
    assert xe.softmax_cross_entropy(labels=labels, logits=frame) == want
    assert xe.softmax_cross_entropy(labels=labels.astype("Int64"), logits=frame) == want
    assert xe.softmax_cross_entropy(labels=pandas.get_dummies(labels), logits=frame) == want
    with pytest.raises(xe.LabelError, match=r"got nan at row 2\. Mark rows to skip by -100"):
        xe.softmax_cross_entropy(labels=pandas.Series([0, 1, None, 1]), logits=frame)
    with pytest.raises(xe.DTypeError, match="Map names to ids 0"):
        xe.softmax_cross_entropy(labels=pandas.Series(list("abca"), dtype=object), logits=frame)
