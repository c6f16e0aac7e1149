"""What people use instead, in each library's usual form. A library that is not here is left out."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
from cases import Case
from measuring import Competitor


def peers(case: Case, x: Any, y: Any) -> dict[str, Competitor]:
    """The data are the same arrays for all; what a library needs converted is converted here."""
    calls = dict(numpy_calls(case, x, y))
    for modules, make in (
        (("scipy",), scipy_calls),
        (("scipy", "sklearn"), sklearn_calls),
        (("torch",), torch_calls),
        (("jax", "optax"), jax_calls),
        (("tensorflow",), tensorflow_calls),
    ):
        if all(find_spec(module) for module in modules):
            calls |= make(case, x, y)
    return {who: Competitor(call) for who, call in calls.items()}


# ---- formulas in NumPy and SciPy


def numpy_softmax(x: Any, y: Any, gradient: bool) -> Any:
    """Log-sum-exp with the peak subtracted, in the dtype of the logits."""
    peak = x.max(axis=1, keepdims=True)
    exp = np.exp(x - peak)
    total = exp.sum(axis=1, keepdims=True)
    lse = np.log(total) + peak
    rows = np.arange(len(x))
    is_ids = y.ndim == 1
    loss = ((lse[:, 0] - x[rows, y]) if is_ids else ((lse - x) * y).sum(axis=1)).mean()
    if not gradient:
        return loss
    exp /= total
    if is_ids:
        exp[rows, y] -= 1
    else:
        exp -= y
    exp /= len(x)
    return loss, exp


def numpy_sigmoid(x: Any, z: Any, gradient: bool) -> Any:
    """TensorFlow's documented form, and the sigmoid as it is usually written."""
    loss = (np.maximum(x, 0) - x * z + np.log1p(np.exp(-np.abs(x)))).mean()
    return (loss, (1 / (1 + np.exp(-x)) - z) / x.size) if gradient else loss


def numpy_calls(case: Case, x: Any, y: Any) -> dict[str, Callable[[], Any]]:
    formula = numpy_softmax if case.loss == "softmax" else numpy_sigmoid
    if case.dtype == "float32":
        return {
            "NumPy": lambda: formula(x, y, case.wants_gradient),
            "NumPy float64": lambda: formula(x.astype(np.float64), y, case.wants_gradient),
        }

    def in_float32() -> Any:
        labels = y if y.ndim == 1 else y.astype(np.float32)
        result = formula(x.astype(np.float32), labels, case.wants_gradient)
        return (result[0], result[1].astype(x.dtype)) if case.wants_gradient else result

    return {"NumPy": in_float32}


def scipy_calls(case: Case, x: Any, y: Any) -> dict[str, Callable[[], Any]]:
    if case.dtype != "float32":
        return {}
    from scipy.special import expit, log_softmax, logsumexp, softmax

    rows = np.arange(len(x))

    def of_ids() -> Any:
        loss = (logsumexp(x, axis=1) - x[rows, y]).mean()
        if not case.wants_gradient:
            return loss
        p = softmax(x, axis=1)
        p[rows, y] -= 1
        p /= len(x)
        return loss, p

    def of_distributions() -> Any:
        loss = -(y * log_softmax(x, axis=1)).sum(axis=1).mean()
        return (loss, (softmax(x, axis=1) - y) / len(x)) if case.wants_gradient else loss

    def of_sigmoids() -> Any:
        loss = (np.logaddexp(0, x) - x * y).mean()
        return (loss, (expit(x) - y) / x.size) if case.wants_gradient else loss

    forms = {"ids": of_ids, "distributions": of_distributions, "yes/no": of_sigmoids}
    return {"SciPy": forms[case.labels]}


def sklearn_calls(case: Case, x: Any, y: Any) -> dict[str, Callable[[], Any]]:
    # It starts from probabilities, given here for free, and makes a dense one-hot array of ids.
    if (case.labels, case.what, case.dtype) != ("ids", "loss", "float32") or case.classes > 1000:
        return {}
    from scipy.special import softmax
    from sklearn.metrics import log_loss

    p, classes = softmax(x, axis=1), np.arange(case.classes)
    return {"sklearn log_loss": lambda: log_loss(y, p, labels=classes)}


# ---- libraries that differentiate


def torch_tensor(array: Any) -> Any:
    """A tensor on the memory of the array; torch does not know NumPy's bfloat16 by name."""
    import torch

    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def torch_calls(case: Case, x: Any, y: Any) -> dict[str, Callable[[], Any]]:
    eager, compiled = torch_forms(case, x, y, torch_loss(case)).values()
    return {"torch": eager, "torch.compile": compiled}


def torch_loss(case: Case) -> Callable[[Any, Any], Any]:
    from torch.nn import functional

    if case.loss == "softmax":
        return functional.cross_entropy
    return functional.binary_cross_entropy_with_logits


def torch_forms(
    case: Case, x: Any, y: Any, loss: Callable[[Any, Any], Any]
) -> dict[str, Callable[[], Any]]:
    """Calls of a loss of (logits, labels): eager, and by torch.compile."""
    import torch

    # A function of our own: torch.compile does not enter those of torch itself. Without the reset
    # it counts other shapes as recompilations and gives up after eight of them.
    torch._dynamo.reset()
    compiled = torch.compile(lambda scores, labels: loss(scores, labels), dynamic=False)
    logits, labels = torch_tensor(x), torch_tensor(y)

    def call_of(function: Any) -> Callable[[], Any]:
        leaf = logits.detach().requires_grad_(case.wants_gradient)

        def value() -> Any:
            with torch.no_grad():
                return function(leaf, labels)

        def value_and_gradient() -> Any:
            loss = function(leaf, labels)
            loss.backward()
            gradient, leaf.grad = leaf.grad, None
            return loss.detach(), gradient

        return value_and_gradient if case.wants_gradient else value

    return {"eager": call_of(loss), "torch.compile": call_of(compiled)}


def jax_calls(case: Case, x: Any, y: Any) -> dict[str, Callable[[], Any]]:
    return {"JAX jit": jax_forms(case, x, y, jax_loss(case))["jit"]}


def jax_loss(case: Case) -> Callable[[Any, Any], Any]:
    import optax

    row_losses = {
        "ids": optax.softmax_cross_entropy_with_integer_labels,
        "distributions": optax.softmax_cross_entropy,
        "yes/no": optax.sigmoid_binary_cross_entropy,
    }[case.labels]
    return lambda logits, labels: row_losses(logits, labels).mean()


def jax_forms(
    case: Case, x: Any, y: Any, loss: Callable[[Any, Any], Any]
) -> dict[str, Callable[[], Any]]:
    """Calls of a loss of (logits, labels): under jit."""
    import jax

    function = jax.jit(jax.value_and_grad(loss) if case.wants_gradient else loss)
    logits = jax.numpy.asarray(x)
    labels = jax.numpy.asarray(y.astype(np.int32) if case.labels == "ids" else y)
    return {"jit": lambda: jax.block_until_ready(function(logits, labels))}


def tensorflow_calls(case: Case, x: Any, y: Any) -> dict[str, Callable[[], Any]]:
    _, graph, by_xla = tensorflow_forms(case, x, y, tensorflow_loss(case)).values()
    return {"TensorFlow": graph, "TensorFlow XLA": by_xla}


def tensorflow_loss(case: Case) -> Callable[[Any, Any], Any]:
    import tensorflow as tf

    row_losses = {
        "ids": tf.nn.sparse_softmax_cross_entropy_with_logits,
        "distributions": tf.nn.softmax_cross_entropy_with_logits,
        "yes/no": tf.nn.sigmoid_cross_entropy_with_logits,
    }[case.labels]
    return lambda logits, labels: tf.reduce_mean(row_losses(labels=labels, logits=logits))


def tensorflow_forms(
    case: Case, x: Any, y: Any, loss: Callable[[Any, Any], Any]
) -> dict[str, Callable[[], Any]]:
    """Calls of a loss of (logits, labels): eager, in a tf.function, and by XLA."""
    import tensorflow as tf

    # Each case is a trace of its own; it warns of the fifth.
    tf.get_logger().setLevel("ERROR")

    def value_and_gradient(logits: Any, labels: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = loss(logits, labels)
        return value, tape.gradient(value, logits)

    eager = value_and_gradient if case.wants_gradient else loss
    graph, by_xla = tf.function(eager), tf.function(eager, jit_compile=True)
    logits, labels = tf.constant(x), tf.constant(y)
    return {
        "eager": lambda: eager(logits, labels),
        "tf.function": lambda: graph(logits, labels),
        "XLA": lambda: by_xla(logits, labels),
    }
