"""TensorFlow's and Keras' own results (tests/golden): tf_compat returns them, or means to differ.

Every case runs on NumPy, those with derivatives on the other libraries too, in their usual form and
within the same tolerances. A case in golden_deviations.toml states what is returned instead, part
by part; every other part must still be TensorFlow's, and a part that no longer differs fails.
"""

import json
import re
import tomllib
import warnings
from contextlib import nullcontext
from pathlib import Path

import frontends
import numpy as np
import pytest

import crossent.tf_compat as tf
from crossent.numpy import value_and_grad

HERE = Path(__file__).parent
CASES = {
    case["id"]: case
    for file in sorted((HERE / "golden").glob("*.json"))
    for case in json.loads(file.read_text())
}
DEVIATIONS = tomllib.loads((HERE / "golden_deviations.toml").read_text())
PARTS = {"value", "grads", "hvp", "error"}

ERRORS = {
    "ValueError": ValueError,
    "TypeError": TypeError,
    "AttributeError": AttributeError,
    "InvalidArgumentError": tf.errors.InvalidArgumentError,
}

# A call under one of these names warns; see also `is_deprecated`.
DEPRECATED = ("tf.contrib.", "tf.compat.v1.nn.softmax_cross_entropy_with_logits")


def decoded(argument):
    """A case's argument as a NumPy array or a Python object."""
    if "dtype" in argument:
        array = np.array(argument["data"], np.float64 if is_float(argument) else None)
        return array.astype(dtype_named(argument["dtype"])).reshape(argument["shape"])
    if "py" in argument:
        return argument["py"]
    if "list" in argument:
        return [decoded(item) for item in argument["list"]]
    return tuple(plain(item) for item in argument["tuple"])


def plain(item):
    return decoded(item) if isinstance(item, dict) else item


def is_float(tensor):
    return "float" in tensor["dtype"]


def dtype_named(name):
    return tf.bfloat16 if name == "bfloat16" else np.dtype(name)


def arguments(case):
    decoded_ones = {name: decoded(value) for name, value in case["kwargs"].items()}
    if "y_pred_mask" in decoded_ones:
        decoded_ones["mask"] = decoded_ones.pop("y_pred_mask")
    return decoded_ones


def resolved(path):
    """tf_compat's object for TensorFlow's name of it."""
    first, *names = path.split(".")
    found = tf.tf_keras if first == "tf_keras" else tf
    for name in names:
        found = getattr(found, name)
    return found


def called(case):
    """A function of the case's keyword arguments that does what the case describes."""
    target = resolved(case["function"])
    if case["kind"] == "call":
        return target
    init = {name: decoded(value) for name, value in case.get("init", {}).items()}
    return lambda **kwargs: target(**init)(**kwargs)


def run(case, library):
    """Value, gradients and Hessian product of a case, by the names of their parts."""
    function, kwargs = called(case), arguments(case)
    args = [decoded(argument) for argument in case.get("args", [])]
    if not case.get("grad_wrt"):
        return {"value": function(*args, **kwargs)}
    up = decoded(case["cotangent"]) if "cotangent" in case else None
    names = case["grad_wrt"]
    value, gradients = library.gradients(function, kwargs, names, up)
    result = {"value": value, "grads": dict(zip(names, gradients, strict=True))}
    if "hvp" in case:
        wrt, v = case["hvp"]["wrt"], decoded(case["hvp"]["v"])
        result["hvp"] = library.hessian_product(function, kwargs, wrt, up, v)
    return result


class NumPy:
    """The derivatives of a function of NumPy arrays; another library's class takes those too."""

    def widths(self, case):
        return nullcontext()

    def gradients(self, function, kwargs, names, up):
        value, gradients = value_and_grad(function, wrt=names, upstream=up, **kwargs)
        np.testing.assert_array_equal(value, function(**kwargs))
        return value, gradients

    def hessian_product(self, function, kwargs, wrt, up, v):
        def slope(**inner):
            _, gradient = value_and_grad(function, wrt=wrt, upstream=up, **inner)
            return (gradient * v).sum()

        return value_and_grad(slope, wrt=wrt, **kwargs)[1]


class Torch(NumPy):
    """torch.autograd.grad, and once more for the Hessian product."""

    way = frontends.Torch()

    def gradients(self, function, kwargs, names, up):
        value, gradients, _ = self.differentiated(function, kwargs, names, up)
        return self.way.array(value), [self.way.array(gradient) for gradient in gradients]

    def hessian_product(self, function, kwargs, wrt, up, v):
        import torch

        _, (gradient,), (x,) = self.differentiated(function, kwargs, [wrt], up)
        (product,) = torch.autograd.grad(gradient, x, self.way.tensor(v))
        return self.way.array(product)

    def differentiated(self, function, kwargs, names, up):
        import torch

        tensors = on(self.way, kwargs)
        xs = [tensors[name].requires_grad_() for name in names]
        value = function(**tensors)
        up = torch.ones_like(value) if up is None else self.way.tensor(up).to(value.dtype)
        if not value.requires_grad:
            return value, [torch.zeros_like(x) for x in xs], xs
        gradients = torch.autograd.grad(value, xs, up, create_graph=True, materialize_grads=True)
        return value, gradients, xs


class Jax(NumPy):
    """jax.vjp, and jax.jvp of it for the Hessian product; compiled, as programs for JAX are.

    So every array is traced, and nothing can look at values.
    """

    way = frontends.Jax()

    def widths(self, case):
        wide = any(f'"{dtype}"' in json.dumps(case) for dtype in ("float64", "int64"))
        return frontends.JaxX64()._widths() if wide else nullcontext()

    def gradients(self, function, kwargs, names, up):
        value, gradients = self.compiled(
            kwargs, lambda tensors: self.differentiated(function, tensors, names, up)
        )
        return self.way.array(value), [self.way.array(gradient) for gradient in gradients]

    def hessian_product(self, function, kwargs, wrt, up, v):
        import jax

        def product(tensors):
            def slope(x):
                return self.differentiated(function, {**tensors, wrt: x}, [wrt], up)[1][0]

            return jax.jvp(slope, (tensors[wrt],), (self.way.tensor(v),))[1]

        return self.way.array(self.compiled(kwargs, product))

    def differentiated(self, function, tensors, names, up):
        import jax

        others = {name: value for name, value in tensors.items() if name not in names}

        def of(*xs):
            return function(**dict(zip(names, xs, strict=True)), **others)

        value, pull = jax.vjp(of, *(tensors[name] for name in names))
        up = jax.numpy.ones_like(value) if up is None else jax.numpy.asarray(up, value.dtype)
        return value, pull(up)

    def compiled(self, kwargs, function):
        import jax

        tensors, others = self.way._split(kwargs)
        return jax.jit(lambda tensors: function({**tensors, **others}))(tensors)


class TensorFlow(NumPy):
    """tf.GradientTape, and a tape around it for the Hessian product."""

    way = frontends.TensorFlow()

    def gradients(self, function, kwargs, names, up):
        value, gradients = self.differentiated(function, on(self.way, kwargs), names, up)
        return self.way.array(value), [self.way.array(gradient) for gradient in gradients]

    def hessian_product(self, function, kwargs, wrt, up, v):
        import tensorflow as tf

        tensors = on(self.way, kwargs)
        with tf.GradientTape() as tape:
            tape.watch(tensors[wrt])
            _, (gradient,) = self.differentiated(function, tensors, [wrt], up)
        return self.way.array(tape.gradient(gradient, tensors[wrt], self.way.tensor(v)))

    def differentiated(self, function, tensors, names, up):
        import tensorflow as tf

        xs = [tensors[name] for name in names]
        with tf.GradientTape() as tape:
            tape.watch(xs)
            value = function(**tensors)
        up = None if up is None else tf.cast(self.way.tensor(up), value.dtype)
        return value, tape.gradient(value, xs, up, unconnected_gradients="zero")


def on(way, value):
    """The same with every NumPy array in it as the library's own."""
    if isinstance(value, dict):
        return {name: on(way, item) for name, item in value.items()}
    if isinstance(value, list):
        return [on(way, item) for item in value]
    return way.tensor(value) if isinstance(value, np.ndarray) else value


LIBRARIES = {"numpy": NumPy(), "torch": Torch(), "jax": Jax(), "tensorflow": TensorFlow()}


def is_deprecated(case):
    return (
        case["function"].startswith(DEPRECATED[0])
        or case["function"] == DEPRECATED[1]
        or any(
            case["kwargs"].get(name, {"py": None}) != {"py": None} for name in ("targets", "dim")
        )
    )


def outcome(case, library):
    """What `run` returns or the error it raises; it warns exactly where the case should."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            replicas = [f"device:{i}" for i in range(case.get("replicas", 0))]
            scope = tf.distribute.MirroredStrategy(replicas).scope() if replicas else nullcontext()
            with scope, library.widths(case):
                result = run(case, library)
        except Exception as error:  # its class is compared below
            result = error
    categories = {warning.category for warning in caught}
    assert RuntimeWarning not in categories
    # A call that does not reach the function, such as one with a wrong keyword, warns of nothing.
    if not isinstance(result, TypeError):
        assert (DeprecationWarning in categories) == is_deprecated(case)
    return result


def assert_part(name, actual, expected, tol):
    """One part of an outcome is what TensorFlow returned, within the case's own tolerance."""
    if name == "error":
        assert isinstance(actual, ERRORS[expected["type"]]), actual
        return
    assert not isinstance(actual, Exception), actual
    if name == "grads":
        assert actual["grads"].keys() == expected.keys()
        for argument, gradient in expected.items():
            assert_gradient(actual["grads"][argument], gradient, tol)
        return
    assert_tensor(actual[name], expected, tol)


def assert_gradient(actual, expected, tol):
    if expected is None:  # TensorFlow has no gradient: a constant
        np.testing.assert_array_equal(actual, 0)
    else:
        assert_tensor(actual, expected, tol)


def assert_tensor(actual, expected, tol):
    actual, expected_array = np.asarray(actual), decoded(expected)
    assert actual.dtype.name == expected["dtype"]
    assert actual.shape == expected_array.shape
    np.testing.assert_allclose(
        actual.astype(np.float64), expected_array.astype(np.float64), **tol, equal_nan=True
    )


def ours(case, part):
    """A deviation's part in the form of the case's: numbers take the dtype of what they replace."""
    deviation, expected = DEVIATIONS[case["id"]], case["expect"]
    if part == "error":
        return {"type": deviation["error"]}
    if part == "grads":
        replaced = {
            name: tensor_like(expected["grads"][name], data)
            for name, data in deviation["grads"].items()
        }
        return expected["grads"] | replaced
    return tensor_like(expected.get(part, {"dtype": deviation.get("dtype")}), deviation[part])


def tensor_like(expected, data):
    return {"dtype": expected["dtype"], "shape": list(np.shape(data)), "data": data}


TENSOR_CASES = [case for case in CASES.values() if case["kind"] != "collections"]
DIFFERENTIATED_CASES = [case for case in TENSOR_CASES if case.get("grad_wrt")]


@pytest.mark.parametrize("case", TENSOR_CASES, ids=lambda case: case["id"])
def test_case(case):
    assert_golden(case, "numpy")


@pytest.mark.parametrize("library", ["torch", "jax", "tensorflow"])
@pytest.mark.parametrize("case", DIFFERENTIATED_CASES, ids=lambda case: case["id"])
def test_case_with_derivatives(case, library):
    assert_golden(case, library)


def assert_golden(case, library):
    result = outcome(case, LIBRARIES[library])
    deviation = DEVIATIONS.get(case["id"], {})
    replaced = PARTS & deviation.keys()
    for part, expected in case["expect"].items():
        if part not in replaced and not (part == "error" and replaced):
            assert_part(part, result, expected, case["tol"])
    for part in replaced:
        assert_part(part, result, ours(case, part), case["tol"])
    if deviation:
        assert_still_deviates(case, result, replaced)


def assert_still_deviates(case, result, replaced):
    """Every part that is said to differ does; TensorFlow's error differs from any value."""
    for part in replaced:
        theirs = "error" if "error" in case["expect"] else part
        with pytest.raises(AssertionError):
            assert_part(theirs, result, case["expect"][theirs], case["tol"])


def test_collections_of_a_graph():
    counts, values = (CASES["collections/graph"]["expect"][key] for key in ("counts", "values"))
    tol = CASES["collections/graph"]["tol"]
    v1 = tf.compat.v1
    with v1.Graph().as_default():
        with v1.name_scope("sc"):
            mse = v1.losses.mean_squared_error([1.0], [2.0])
        v1.losses.sigmoid_cross_entropy([[1]], [[2.0]], loss_collection=None)
        v1.losses.softmax_cross_entropy([[1, 0]], [[2.0, 1.0]], loss_collection="mine")
        v1.losses.add_loss(5.0)
        v1.add_to_collection(v1.GraphKeys.REGULARIZATION_LOSSES, v1.constant(0.25))
        (mine,) = v1.losses.get_losses(loss_collection="mine")
        found = {
            "total": v1.losses.get_total_loss(),
            "total_noreg": v1.losses.get_total_loss(add_regularization_losses=False),
            "total_scope": v1.losses.get_total_loss(scope="sc"),
            "reg": v1.losses.get_regularization_loss(),
            "mse": mse,
            "mine": mine,
        }
        assert counts == {
            "n_default": len(v1.losses.get_losses()),
            "n_mine": len(v1.losses.get_losses(loss_collection="mine")),
            "n_scope": len(v1.losses.get_losses(scope="sc")),
            "n_reg": len(v1.losses.get_regularization_losses()),
        }
    assert found.keys() == values.keys()
    for name, value in values.items():
        np.testing.assert_allclose(found[name], value, **tol)


def test_an_empty_graph_has_no_total_loss():
    expected = CASES["collections/err_empty_total"]["expect"]["error"]["type"]
    with tf.Graph().as_default(), pytest.raises(ERRORS[expected]):
        tf.losses.get_total_loss()


def test_nothing_is_collected_outside_of_a_graph():
    tf.losses.add_loss(1.0)
    assert (
        len(tf.losses.get_losses()) == CASES["collections/eager"]["expect"]["counts"]["n_default"]
    )


def test_all_cases_are_here():
    # 954 were recorded; those of the sampled losses and candidate samplers are not among these.
    assert len(CASES) == 794
    assert len(TENSOR_CASES) + 3 == len(CASES)


def test_every_deviation_replaces_a_part_of_a_case():
    for name, deviation in DEVIATIONS.items():
        assert name in CASES
        assert PARTS & deviation.keys()
        assert deviation.keys() <= PARTS | {"reason", "dtype"}


def test_every_reason_is_explained_in_the_documentation():
    text = (HERE.parent / "docs" / "tensorflow.md").read_text()
    headings = set(re.findall(r"^### (.+)$", text, flags=re.MULTILINE))
    reasons = {deviation["reason"] for deviation in DEVIATIONS.values()}
    assert reasons <= headings
