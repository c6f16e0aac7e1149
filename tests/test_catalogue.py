"""The catalogue: every call runs or is checked name by name, and every number in it is true."""

import ast
import importlib.util
import json
import math
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import crossent as xe
from crossent import catalogue
from crossent.errors import OptionError

ROOT = Path(__file__).parents[1]
ROWS, CLASSES, FEATURES = 12, 4, 3
IGNORED = -100
# Losses of one row of class ids, of elements of yes/no labels, and of rows of distributions.
ON_IDS = (
    "softmax_ids",
    "softmax_smoothed",
    "softmax_weighted",
    "focal",
    "generalized_cross_entropy",
    "poly",
    "ordinal",
    "softmax_in_blocks",
)
ON_YES_NO = ("sigmoid_binary", "sigmoid_multilabel", "sigmoid_weighted", "focal_binary")
ON_DISTRIBUTIONS = ("softmax_distribution", "kl_divergence")
RANDOM = ("sampled_softmax",)
OTHERS = ("mean_squared_error", "in_batch_softmax", "pairwise_logistic")
DETERMINISTIC = (*ON_IDS, *ON_YES_NO, *ON_DISTRIBUTIONS, *OTHERS)


def make_arrays(name):
    """Arrays under the names that the calls use."""
    rng = np.random.default_rng(7)
    draw = rng.standard_normal
    ids = rng.integers(CLASSES, size=ROWS)
    shape = (ROWS, CLASSES - 1) if name == "ordinal" else (ROWS, CLASSES)
    labels = ids
    if name in ON_DISTRIBUTIONS:
        labels = rng.dirichlet(np.ones(CLASSES), size=ROWS)
        # A label probability of 0 is where hand-written formulas turn into NaN.
        labels[0] = [1.0, 0.0, 0.0, 0.0]
    elif name in ON_YES_NO:
        labels = rng.integers(2, size=shape)
    elif name == "mean_squared_error":
        labels = draw(ROWS)
    return {
        "labels": labels,
        "logits": 3 * draw(shape),
        "predictions": draw(ROWS),
        "class_weight": rng.uniform(0.5, 2, CLASSES),
        "pos_weight": rng.uniform(1, 5, CLASSES),
        "hidden": draw((ROWS, FEATURES)),
        "weights": draw((CLASSES, FEATURES)),
        "biases": draw(CLASSES),
        "num_sampled": 3,
        "queries": draw((ROWS, FEATURES)),
        "items": draw((ROWS, FEATURES)),
        "item_ids": np.arange(ROWS) % 5,
        "log_item_share": np.log(rng.uniform(0.01, 1, ROWS)),
        "temperature": 0.5,
        "positive_scores": draw(ROWS),
        "negative_scores": draw(ROWS),
        "num_classes": CLASSES,
        "ignore_index": IGNORED,
    }


def with_gaps(name, arrays):
    """The same arrays with unlabeled rows (or elements), and the same with those left out."""
    keep = np.ones(arrays["labels"].shape[: 1 if name not in ON_YES_NO else 2], dtype=bool)
    keep.reshape(-1)[[1, 5, 6]] = False
    empty = 0.0 if name in ON_DISTRIBUTIONS else IGNORED
    labels = arrays["labels"].copy()
    labels[~keep] = empty
    kept = {
        key: arrays[key][keep] for key in ("labels", "logits", "hidden") if name not in ON_YES_NO
    }
    if name in ON_YES_NO:
        weights = np.broadcast_to(arrays["pos_weight"], keep.shape)
        kept = {"labels": arrays["labels"][keep], "logits": arrays["logits"][keep]}
        kept["pos_weight"] = weights[keep]
    return {**arrays, "labels": labels}, {**arrays, **kept}


def log_softmax(x):
    return (
        x
        - x.max(-1, keepdims=True)
        - np.log(np.exp(x - x.max(-1, keepdims=True)).sum(-1, keepdims=True))
    )


def softplus(x):
    return np.logaddexp(0, x)


def expected(name, a):
    """The loss in float64, written down from its formula and sharing nothing with the package."""
    y, x = a["labels"], a["logits"]
    if name == "softmax_in_blocks":
        x = a["hidden"] @ a["weights"].T + a["biases"]
    if name in ON_IDS and name != "ordinal":
        nll = -log_softmax(x)[np.arange(len(y)), y]
    if name in ON_YES_NO:
        ce = y * softplus(-x) + (1 - y) * softplus(x)
    formulas = {
        "softmax_ids": lambda: nll.mean(),
        "softmax_in_blocks": lambda: nll.mean(),
        "softmax_smoothed": lambda: (0.9 * nll - 0.1 * log_softmax(x).mean(-1)).mean(),
        "softmax_weighted": lambda: np.average(nll, weights=a["class_weight"][y]),
        "focal": lambda: ((1 - np.exp(-nll)) ** 2 * nll).mean(),
        "generalized_cross_entropy": lambda: ((1 - np.exp(-nll) ** 0.7) / 0.7).mean(),
        "poly": lambda: (nll + 1 - np.exp(-nll)).mean(),
        "ordinal": lambda: np.mean(
            [
                [softplus(-x[i, j]) if y[i] > j else softplus(x[i, j]) for j in range(CLASSES - 1)]
                for i in range(len(y))
            ]
        ),
        "sigmoid_binary": lambda: ce.mean(),
        "sigmoid_multilabel": lambda: ce.mean(),
        "sigmoid_weighted": lambda: np.mean(
            a["pos_weight"] * y * softplus(-x) + (1 - y) * softplus(x)
        ),
        "focal_binary": lambda: np.mean(np.where(y == 1, 0.25, 0.75) * (1 - np.exp(-ce)) ** 2 * ce),
        "softmax_distribution": lambda: -(y * log_softmax(x)).sum(-1).mean(),
        "kl_divergence": lambda: np.mean(
            [
                sum(q * (math.log(q) - lp) for q, lp in zip(row, lps, strict=True) if q > 0)
                for row, lps in zip(y, log_softmax(x), strict=True)
            ]
        ),
        "mean_squared_error": lambda: ((y - a["predictions"]) ** 2).mean(),
        "pairwise_logistic": lambda: softplus(a["negative_scores"] - a["positive_scores"]).mean(),
        "in_batch_softmax": lambda: expected_in_batch(a),
    }
    return float(formulas[name]())


def expected_in_batch(a):
    losses = []
    for i in range(ROWS):
        scores = [
            a["queries"][i] @ a["items"][j] / a["temperature"] - a["log_item_share"][j]
            for j in range(ROWS)
            if j == i or a["item_ids"][j] != a["item_ids"][i]
        ]
        own = a["queries"][i] @ a["items"][i] / a["temperature"] - a["log_item_share"][i]
        losses.append(math.log(sum(math.exp(s - own) for s in scores)))
    return np.mean(losses)


def run(call, modules, arrays):
    scope = {**modules, **arrays}
    exec(compile(call, "<call>", "exec"), scope)
    return float(scope["loss"])


NUMPY = {"np": np, "xe": xe}


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_crossent_call_gives_the_loss_of_the_formula(name):
    arrays = make_arrays(name)
    loss = run(catalogue.library_calls(name)["crossent"], NUMPY, arrays)
    assert loss == pytest.approx(expected(name, arrays), rel=1e-12)


@pytest.mark.parametrize("name", [*ON_IDS, *ON_YES_NO, *ON_DISTRIBUTIONS])
def test_crossent_call_with_gaps_is_the_loss_of_the_labelled_rest(name):
    gappy, kept = with_gaps(name, make_arrays(name))
    call = catalogue.library_calls(name, unlabeled=True, values={"ignore_index": IGNORED})
    assert run(call["crossent"], NUMPY, gappy) == pytest.approx(expected(name, kept), rel=1e-12)


@pytest.mark.parametrize("name", RANDOM)
def test_sampled_softmax_is_the_softmax_over_the_true_and_the_sampled_classes(name):
    arrays = make_arrays(name)
    arrays["num_classes"], arrays["num_sampled"] = CLASSES, 50
    scope = {**NUMPY, **arrays}
    exec(compile(catalogue.library_calls(name)["crossent"], "<call>", "exec"), scope)
    sampled, labels = scope["sampled"], arrays["labels"]
    logits = arrays["hidden"] @ arrays["weights"].T + arrays["biases"]
    losses = [
        math.log(1 + sum(math.exp(logits[i, j] - logits[i, y]) for j in sampled if j != y))
        for i, y in enumerate(labels)
    ]
    assert float(scope["loss"]) == pytest.approx(np.mean(losses), rel=1e-12)


REPAIRS = {
    "names": (np.array(["a", "c", "b"]), np.array([0, 2, 1])),
    "names_or_none": (np.array(["a", "", "b"]), np.array([0, -1, 1])),
    "from_1": (np.array([1, 3, 2]), np.array([0, 2, 1])),
    "signed": (np.array([-1, 1, -1]), np.array([0, 1, 0])),
    "mask_255": (np.array([0, 255, 0], np.uint8), np.array([0, 1, 0])),
    "signed_ids": (np.array([-1, 1, -1]), np.array([0, 1, 0])),
    "mask_255_ids": (np.array([0, 255, 0], np.uint8), np.array([0, 1, 0])),
    "second_column": (np.array([[1, 0], [0, 1], [1, 0]]), np.array([0, 1, 0])),
    "one_hot": (np.array([[1, 0, 0], [0, 0, 1], [0, 1, 0]]), np.array([0, 2, 1])),
    "votes": (
        np.array([[3, 1, 0], [0, 0, 2], [1, 1, 2]]),
        np.array([[0.75, 0.25, 0], [0, 0, 1], [0.25, 0.25, 0.5]]),
    ),
}


@pytest.mark.parametrize("repair", catalogue.REPAIRS)
def test_repair_makes_the_labels_that_the_loss_takes(repair):
    wrong, right = REPAIRS[repair]
    binary = repair in ("signed", "mask_255", "second_column")
    name = "sigmoid_binary" if binary else "softmax_ids"
    logits = np.array([0.5, -1.0, 2.0]) if binary else np.array([[1.0, 2, 0], [0, 1, 3], [2, 1, 1]])
    # An empty name marks a row without a label.
    gaps = {"unlabeled": bool(np.any(right < 0)), "values": {"ignore_index": -1}}
    call = catalogue.library_calls(name, repair=repair, **gaps)["crossent"]
    repaired = run(call, NUMPY, {"labels": wrong, "logits": logits})
    plain = run(
        catalogue.library_calls(name, **gaps)["crossent"],
        NUMPY,
        {"labels": right, "logits": logits},
    )
    assert repaired == plain


@pytest.mark.parametrize("name", [*ON_IDS, *ON_YES_NO, *ON_DISTRIBUTIONS])
@pytest.mark.parametrize("scores", ["probs", "log_probs"])
def test_crossent_call_takes_the_kind_of_scores_at_hand(name, scores):
    arrays = make_arrays(name)
    if not catalogue.takes_scores(name):
        call = catalogue.library_calls(name, scores=scores)["crossent"]
        assert call == catalogue.library_calls(name)["crossent"]
        return
    kind = "sigmoid" if name in (*ON_YES_NO, "ordinal") else "softmax"
    x = arrays["logits"]
    own = -softplus(-x) if kind == "sigmoid" else log_softmax(x)
    arrays[scores] = np.exp(own) if scores == "probs" else own
    del arrays["logits"]
    loss = run(catalogue.library_calls(name, scores=scores)["crossent"], NUMPY, arrays)
    assert loss == pytest.approx(expected(name, {**arrays, "logits": x}), rel=1e-6)


def test_rows_are_left_out_before_their_labels_are_repaired():
    votes = np.array([[3, 1, 0], [0, 0, 0], [1, 1, 2]])
    logits = np.array([[1.0, 2, 0], [0, 1, 3], [2, 1, 1]])
    call = catalogue.library_calls("softmax_distribution", unlabeled=True, repair="votes")
    loss = run(call["crossent"], NUMPY, {"labels": votes, "logits": logits})
    shares = votes[[0, 2]] / votes[[0, 2]].sum(-1, keepdims=True)
    assert loss == pytest.approx(-(shares * log_softmax(logits[[0, 2]])).sum(-1).mean(), rel=1e-12)


def test_unlabeled_makes_no_sense_for_rankings():
    with pytest.raises(OptionError, match="unlabeled must be False for in_batch_softmax; got True"):
        catalogue.library_calls("in_batch_softmax", unlabeled=True)


def test_numbers_replace_names_but_not_the_names_of_arguments():
    calls = catalogue.library_calls("softmax_smoothed", values={"num_classes": 10})
    assert "keras.ops.one_hot(labels, 10)" in calls["Keras"]
    calls = catalogue.library_calls("sampled_softmax", values={"num_classes": 10})
    assert "num_classes=10" in calls["TensorFlow 2"]


# The other libraries ------------------------------------------------------------------------------

# Names that TensorFlow and Keras share with `tf_compat`: there the same calls run on NumPy.
ON_TF_COMPAT = {
    "TensorFlow 1": (
        "softmax_ids",
        "softmax_distribution",
        "softmax_smoothed",
        "sigmoid_binary",
        "sigmoid_multilabel",
        "sigmoid_weighted",
        "mean_squared_error",
    ),
    "TensorFlow 2": (
        "softmax_ids",
        "softmax_distribution",
        "sigmoid_binary",
        "sigmoid_multilabel",
        "sigmoid_weighted",
        "focal_binary",
        "mean_squared_error",
    ),
    "Keras": (
        "softmax_ids",
        "softmax_distribution",
        "sigmoid_binary",
        "sigmoid_multilabel",
        "focal_binary",
        "mean_squared_error",
    ),
}


@pytest.mark.parametrize(
    ("library", "name"),
    [(library, name) for library, names in ON_TF_COMPAT.items() for name in names],
)
def test_tensorflow_call_runs_on_tf_compat_with_the_same_number(library, name):
    from crossent import tf_compat
    from crossent.tf_compat.compat import v1

    modules = {
        "TensorFlow 1": {"tf": v1},
        "TensorFlow 2": {"tf": tf_compat},
        "Keras": {"keras": tf_compat.keras},
    }[library]
    arrays = {
        key: value.astype(np.float32) if getattr(value, "dtype", None) == np.float64 else value
        for key, value in make_arrays(name).items()
    }
    loss = run(catalogue.library_calls(name)[library], modules, arrays)
    # float32, and Keras clips probabilities of the focal loss at 1e-7.
    assert loss == pytest.approx(expected(name, make_arrays(name)), rel=2e-6)


def import_library(library):
    """The modules under the names that the calls use, and what makes their arrays of ours."""
    reason = f"{library} is not installed: its calls are only checked name by name"
    if library == "PyTorch":
        torch = pytest.importorskip("torch", reason=reason)
        modules = {"torch": torch, "F": torch.nn.functional}
        return modules, lambda a: torch.from_numpy(a.astype(np.float32 if is_real(a) else np.int64))
    if library == "Optax":
        optax = pytest.importorskip("optax", reason=reason)
        import jax
        import jax.numpy as jnp

        modules = {"jax": jax, "jnp": jnp, "optax": optax, "key": jax.random.key(0)}
        return modules, lambda a: jnp.asarray(a, jnp.float32 if is_real(a) else jnp.int32)
    if library == "Keras":
        keras = pytest.importorskip("keras", reason=reason)
        to = keras.ops.convert_to_tensor
        return {"keras": keras}, lambda a: to(a, "float32" if is_real(a) else "int32")
    tf = pytest.importorskip("tensorflow", reason=reason)
    to = tf.convert_to_tensor
    modules = {"tf": tf.compat.v1 if library == "TensorFlow 1" else tf}
    return modules, lambda a: to(a, tf.float32 if is_real(a) else tf.int64)


def is_real(array):
    return array.dtype.kind == "f"


OTHER_LIBRARIES = [library for library in catalogue.LIBRARIES if library != "crossent"]


@pytest.mark.parametrize("library", OTHER_LIBRARIES)
def test_calls_give_the_same_numbers_in_the_library_itself(library):
    modules, convert = import_library(library)
    wrong = {}
    for name in catalogue.LOSSES:
        arrays = reference = make_arrays(name)
        for gaps in (False, name in (*ON_IDS, *ON_YES_NO, *ON_DISTRIBUTIONS)):
            if gaps:
                arrays, reference = with_gaps(name, arrays)
            call = catalogue.library_calls(name, unlabeled=gaps)[library]
            own = {k: convert(v) if isinstance(v, np.ndarray) else v for k, v in arrays.items()}
            loss = run(call, modules, own)
            right = loss if name in RANDOM else expected(name, reference)
            if not math.isclose(loss, right, rel_tol=1e-4):
                wrong[name, gaps] = (loss, right)
    assert wrong == {}


def test_gaps_are_left_out_the_way_each_library_allows():
    calls = catalogue.library_calls("softmax_ids", unlabeled=True, values={"ignore_index": -1})
    integer_labels = "optax.losses.softmax_cross_entropy_with_integer_labels"
    # A selection has a size that jax.jit cannot know, and Optax reads -1 as the last class.
    assert calls["Optax"].splitlines() == [
        "keep = labels != -1",
        "labels = jnp.where(keep, labels, 0)",
        f"loss = {integer_labels}(logits, labels).mean(where=keep)",
    ]
    # In TensorFlow 1 `labels != -1` is True: the tensor is no number.
    assert calls["TensorFlow 1"].startswith("keep = tf.not_equal(labels, -1)\n")


# Every function that the calls name, with the names of the arguments it has there.
SIGNATURES = {
    "tf.losses.sparse_softmax_cross_entropy": "labels logits weights",
    "tf.losses.softmax_cross_entropy": "onehot_labels logits weights label_smoothing",
    "tf.losses.sigmoid_cross_entropy": "multi_class_labels logits weights label_smoothing",
    "tf.losses.mean_squared_error": "labels predictions weights",
    "tf.nn.sparse_softmax_cross_entropy_with_logits": "labels logits",
    "tf.nn.softmax_cross_entropy_with_logits": "labels logits axis",
    "tf.nn.softmax_cross_entropy_with_logits_v2": "labels logits axis",
    "tf.nn.sigmoid_cross_entropy_with_logits": "labels logits",
    "tf.nn.weighted_cross_entropy_with_logits": "labels logits pos_weight",
    "tf.nn.sampled_softmax_loss": "weights biases labels inputs num_sampled num_classes num_true",
    "tf.nn.softplus": "",
    "tf.keras.losses.CategoricalCrossentropy": "from_logits label_smoothing axis reduction",
    "tf.keras.losses.BinaryFocalCrossentropy": "apply_class_balancing alpha gamma from_logits",
    "tf.keras.losses.MeanSquaredError": "reduction",
    "tf.argmax": "axis",
    "tf.boolean_mask": "axis",
    "tf.cast": "dtype",
    "tf.equal": "",
    "tf.fill": "",
    "tf.gather": "axis",
    "tf.log": "",
    "tf.math.expm1": "",
    "tf.math.xlogy": "",
    "tf.matmul": "transpose_a transpose_b",
    "tf.maximum": "",
    "tf.not_equal": "",
    "tf.one_hot": "depth",
    "tf.range": "dtype",
    "tf.reduce_mean": "axis keepdims",
    "tf.reduce_sum": "axis keepdims",
    "tf.shape": "",
    "tf.stop_gradient": "",
    "tf.where": "",
    "tf.zeros_like": "",
    "keras.losses.SparseCategoricalCrossentropy": "from_logits ignore_class reduction",
    "keras.losses.CategoricalCrossentropy": "from_logits label_smoothing axis reduction",
    "keras.losses.BinaryCrossentropy": "from_logits label_smoothing axis reduction",
    "keras.losses.CategoricalFocalCrossentropy": "alpha gamma from_logits label_smoothing",
    "keras.losses.BinaryFocalCrossentropy": "apply_class_balancing alpha gamma from_logits",
    "keras.losses.CategoricalGeneralizedCrossEntropy": "q reduction",
    "keras.losses.KLDivergence": "reduction",
    "keras.losses.MeanSquaredError": "reduction",
    **{
        f"keras.ops.{function}": arguments
        for function, arguments in {
            "arange": "",
            "argmax": "axis",
            "cast": "dtype",
            "concatenate": "axis",
            "equal": "",
            "expand_dims": "axis",
            "expm1": "",
            "matmul": "",
            "mean": "axis",
            "not_equal": "",
            "one_hot": "num_classes axis",
            "softmax": "axis",
            "softplus": "",
            "sum": "axis keepdims",
            "take": "indices axis",
            "transpose": "axes",
            "where": "",
            "zeros_like": "",
        }.items()
    },
    "keras.random.randint": "shape minval maxval",
    "F.cross_entropy": "weight reduction ignore_index label_smoothing",
    "F.binary_cross_entropy_with_logits": "weight reduction pos_weight",
    "F.kl_div": "reduction log_target",
    "F.linear_cross_entropy": "linear_bias reduction ignore_index options",
    "F.log_softmax": "dim",
    "F.mse_loss": "reduction",
    "F.softplus": "",
    "torch.arange": "device dtype",
    "torch.as_tensor": "dtype device",
    "torch.cat": "dim",
    "torch.expm1": "",
    "torch.nn.LinearCrossEntropyOptions": "",
    "torch.randint": "device",
    "torch.zeros_like": "",
    "optax.losses.kl_divergence": "axis where",
    "optax.losses.poly_loss_cross_entropy": "epsilon axis where",
    "optax.losses.safe_softmax_cross_entropy": "",
    "optax.losses.sigmoid_binary_cross_entropy": "",
    "optax.losses.sigmoid_focal_loss": "alpha gamma",
    "optax.losses.smooth_labels": "",
    "optax.losses.softmax_cross_entropy": "axis where",
    "optax.losses.softmax_cross_entropy_with_integer_labels": "axis where",
    "optax.losses.squared_error": "",
    "jax.checkpoint": "",
    "jax.lax.map": "batch_size",
    "jax.nn.log_sigmoid": "",
    "jax.nn.log_softmax": "axis",
    "jax.nn.one_hot": "axis",
    "jax.nn.softplus": "",
    "jax.random.randint": "",
    "jnp.arange": "",
    "jnp.asarray": "",
    "jnp.concatenate": "axis",
    "jnp.expm1": "",
    "jnp.maximum": "",
    "jnp.where": "",
    "jnp.zeros_like": "",
}
MODULES = {
    "crossent": ("np", "xe"),
    "TensorFlow 1": ("tf",),
    "TensorFlow 2": ("tf",),
    "Keras": ("keras",),
    "PyTorch": ("torch", "F"),
    "Optax": ("jax", "jnp", "optax"),
}


def named_calls(tree):
    """(dotted name, keywords) of every call of a function by a dotted name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name.replace(".", "").isidentifier():
                # One Keras call says `ops = keras.ops` first.
                name = f"keras.{name}" if name.startswith("ops.") else name
                yield name, {keyword.arg for keyword in node.keywords}


def all_variants(name):
    """Every call of a loss that people can be given."""
    yield catalogue.library_calls(name)
    if name not in ("in_batch_softmax", "pairwise_logistic"):
        yield catalogue.library_calls(name, unlabeled=True)
        for repair in catalogue.REPAIRS:
            yield catalogue.library_calls(name, unlabeled=True, repair=repair)
            yield catalogue.library_calls(name, repair=repair)


@pytest.mark.parametrize("library", OTHER_LIBRARIES)
@pytest.mark.parametrize("name", catalogue.LOSSES)
def test_call_names_only_functions_and_arguments_that_the_library_has(name, library):
    for calls in all_variants(name):
        tree = ast.parse(calls[library])
        assert isinstance(tree.body[-1], ast.Assign)
        assert ast.unparse(tree.body[-1].targets[0]) == "loss"
        for function, keywords in named_calls(tree):
            if function.split(".")[0] in MODULES[library]:
                assert keywords <= set(SIGNATURES[function].split()), function


def test_signatures_hold_nothing_that_no_call_uses():
    used = {
        function
        for name in catalogue.LOSSES
        for calls in all_variants(name)
        for call in calls.values()
        for function, _ in named_calls(ast.parse(call))
    }
    assert set(SIGNATURES) <= used


# The records --------------------------------------------------------------------------------------


def test_every_record_is_complete_and_every_key_is_its_name():
    for name, facts in catalogue.LOSSES.items():
        assert facts.name == name
        assert tuple(facts.calls) == catalogue.LIBRARIES
        assert facts.traps
        texts = [
            getattr(facts, field) for field in facts.__slots__ if field not in ("calls", "traps")
        ]
        assert all(isinstance(text, str) and text for text in texts)
        assert all(trap.endswith(".") for trap in facts.traps)


def test_records_are_frozen():
    with pytest.raises(AttributeError):
        catalogue.LOSSES["focal"].title = "another"
    with pytest.raises(TypeError):
        catalogue.LOSSES["focal"] = catalogue.LOSSES["poly"]


def test_unknown_loss_is_an_error_that_lists_the_losses():
    with pytest.raises(OptionError, match=r"name must be one of softmax_ids, .*; got 'hinge'"):
        catalogue.loss_facts("hinge")


def test_choice_table_has_one_row_per_loss_and_four_cells_in_each():
    lines = catalogue.choice_table().splitlines()
    assert len(lines) == 2 + len(catalogue.LOSSES)
    assert {line.count(" | ") for line in lines if "---" not in line} == {3}
    functions = [line.split("`")[1].removeprefix("xe.") for line in lines[2:]]
    assert all(callable(getattr(xe, function)) for function in functions)
    assert len(set(functions)) == 9


def test_markdown_holds_every_loss_and_every_call():
    page = catalogue.as_markdown()
    for facts in catalogue.LOSSES.values():
        assert f"\n## {facts.title[0].upper()}{facts.title[1:]}\n" in page
        assert all(call in page for call in facts.calls.values())
    # |x| in a table cell would be read as two more columns.
    assert "log1p(exp(-\\|x\\|))" in page


# The numbers --------------------------------------------------------------------------------------


def test_gradients_of_squared_error_and_cross_entropy_on_a_sigmoid():
    def of_squared_error(logits):
        return xe.mean_squared_error(labels=[1.0], predictions=xe.sigmoid(logits))

    p = 1 / (1 + math.exp(10))
    _, cross_entropy = xe.numpy.value_and_grad(
        xe.sigmoid_cross_entropy, labels=[1.0], logits=np.array([-10.0])
    )
    squared_error = 2 * (p - 1) * p * (1 - p)
    step = 1e-5
    slope = (of_squared_error([-10 + step]) - of_squared_error([-10 - step])) / (2 * step)
    assert slope == pytest.approx(squared_error, rel=1e-6)
    assert f"gradient is {squared_error:.2e}".replace("e-05", "e-5") in catalogue.SQUARED_ERROR
    assert f"cross-entropy {cross_entropy[0]:.5f}" in catalogue.SQUARED_ERROR


@pytest.mark.parametrize(
    ("rows", "num_classes", "ids", "logits"),
    [
        (1024, 50_000, "8 KiB", "195 MiB"),
        (2048, 150_000, "16 KiB", "1.14 GiB"),
        (10, 5, "80 bytes", "200 bytes"),
    ],
)
def test_memory_note_has_the_sizes_of_real_arrays(rows, num_classes, ids, logits):
    note = catalogue.memory_note(num_classes, rows)
    assert f"the ids take {ids}" in note
    assert note.endswith(f"the float32 logits {logits}.")
    assert f"{rows:,} rows x {num_classes:,} classes" in note
    # 8 bytes per id, 4 per logit.
    sizes = {"bytes": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
    number, unit = logits.split()
    assert rows * num_classes * 4 == pytest.approx(float(number) * sizes[unit], rel=5e-3)


@pytest.fixture(scope="module")
def make() -> ModuleType:
    """examples/pos_weight/make.py as a module."""
    pytest.importorskip("sklearn", reason="the digits and the folds are scikit-learn's")
    pytest.importorskip("scipy", reason="the model is trained with scipy")
    path = ROOT / "examples" / "pos_weight" / "make.py"
    spec = importlib.util.spec_from_file_location("pos_weight_make", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pos_weight_figures_are_those_that_the_script_measures(make):
    committed = {row["pos_weight"]: row for row in catalogue.pos_weight_rows()}
    assert tuple(committed) == make.POS_WEIGHTS
    for row in make.measure((1.0, 20.0)):
        # One row of the digits is 0.006 of the recall; the optimum is the same on every machine.
        assert row == pytest.approx(committed[row["pos_weight"]], abs=0.006)


def test_pos_weight_table_of_the_example_is_the_one_in_the_package():
    page = (ROOT / "examples" / "pos_weight" / "README.md").read_text("utf-8")
    assert "\n".join(catalogue.pos_weight_lines()) in page


def test_pos_weight_trades_precision_and_calibration_for_recall():
    rows = catalogue.pos_weight_rows()
    assert len(rows) >= 4
    for lighter, heavier in pairwise(rows):
        assert heavier["recall"] > lighter["recall"]
        assert heavier["precision"] < lighter["precision"]
        assert heavier["mean_predicted"] > lighter["mean_predicted"]
    for row in rows:
        assert row["true_rate"] == pytest.approx(174 / 1797, abs=5e-5)
        error = abs(row["mean_predicted"] - row["true_rate"])
        undone_error = abs(row["undone_mean_predicted"] - row["true_rate"])
        assert undone_error < error or row["pos_weight"] == 1
        assert row["undone_log_loss"] <= row["log_loss"]


def test_pos_weight_texts_hold_the_measured_numbers():
    text = catalogue.pos_weight_text()
    narrow = catalogue.pos_weight_text(70)
    for row in catalogue.pos_weight_rows():
        assert f"{row['recall']:.3f}" in text
        assert f"{row['undone_log_loss']:.3f}" in text
        assert f"{row['threshold_precision']:.3f}" in text
    assert sorted(set(text.split())) == sorted(set(narrow.split()))
    assert max(len(line) for line in text.splitlines()) <= 92
    assert max(len(line) for line in narrow.splitlines()) <= 70


def test_catalogue_data_is_plain_json():
    path = Path(catalogue.__file__).with_name("pos_weight_digits.json")
    content = json.loads(path.read_text("utf-8"))
    assert set(content) == {"what", "rows"}
    assert all(set(row) == set(catalogue.PosWeightRow.__annotations__) for row in content["rows"])
