"""Crossent on each library's own arrays beside that library's own ways: one process for each.

TensorFlow's threads and torch's spin for each other's cores when they share a process; here a
library has the machine to itself, and limits of memory measured beside it.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import peers
from cases import DTYPES, Case, data
from measuring import Competitor, InThisProcess, limits, samples, time_rows
from ours import OURS

import crossent as xe

# In a process that keeps freed memory for the next array, as TensorFlow always does. Elsewhere
# glibc gives large arrays back, and the system clears the pages of each new one.
KEPT = ", memory kept"
KEEPING = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 34)}

# Library -> what must be importable: itself, and our door to it.
LIBRARIES = {
    "torch": ("torch", "crossent.torch"),
    f"torch{KEPT}": ("torch", "crossent.torch"),
    "JAX": ("jax", "optax", "crossent.jax"),
    f"JAX{KEPT}": ("jax", "optax", "crossent.jax"),
    "TensorFlow": ("tensorflow", "crossent.tensorflow"),
    "Keras on torch": ("keras", "torch", "crossent.keras"),
    "Keras on JAX": ("keras", "jax", "crossent.keras"),
    "Keras on TensorFlow": ("keras", "tensorflow", "crossent.keras"),
}
# What the library's own loss is called in the names of its ways.
OWN = {"torch": "torch", "JAX": "optax", "TensorFlow": "tf.nn"}
KERAS = "Keras on "
FIT_STEP = "fit step"
# A form that only we have: the gradient over the logits.
IN_PLACE = "in place"
FEATURES = 16

ARRAY_CASES = [
    *(
        Case("softmax", "ids", dtype, rows, classes, what)
        for rows, classes in ((8, 10), (128, 10), (8192, 1000), (2048, 32000), (256, 151936))
        for dtype in DTYPES
        for what in ("loss", "loss + gradient")
    ),
    *(
        Case("softmax", "ids", "float32", 65536, classes, what)
        for classes in (2, 10)
        for what in ("loss", "loss + gradient")
    ),
    *(
        Case("sigmoid", "yes/no", dtype, 8192, 1000, what)
        for dtype in DTYPES
        for what in ("loss", "loss + gradient")
    ),
]
KEPT_CASES = [
    case for case in ARRAY_CASES if case.classes >= 32000 and case.what == "loss + gradient"
]
FIT_CASES = [
    Case("softmax", "ids", "float32", rows, classes, FIT_STEP)
    for rows, classes in ((128, 10), (8192, 1000))
]


def cases_of(library: str) -> list[Case]:
    if library.endswith(KEPT):
        return KEPT_CASES
    return FIT_CASES if library.startswith(KERAS) else ARRAY_CASES


def missing(library: str) -> list[str]:
    """The modules without which a library cannot take part."""
    return [module for module in LIBRARIES[library] if find_spec(module) is None]


# ---- the calls


def library_calls(library: str, case: Case, x: Any, y: Any) -> dict[str, Competitor]:
    """Ours first; each in the forms that the library has: eager, compiled."""
    library = library.removesuffix(KEPT)
    if case.what == FIT_STEP:
        calls = fit_steps(case, x, y)
    else:
        make, own = {
            "torch": (peers.torch_forms, peers.torch_loss),
            "JAX": (peers.jax_forms, peers.jax_loss),
            "TensorFlow": (peers.tensorflow_forms, peers.tensorflow_loss),
        }[library]
        calls = {
            f"{who}, {form}": call
            for who, loss in ((OURS, our_loss(case)), (OWN[library], own(case)))
            for form, call in make(case, x, y, loss).items()
        }
    found = {who: Competitor(call) for who, call in calls.items()}
    if library == "torch" and case.wants_gradient:
        found[f"{OURS}, {IN_PLACE}"] = torch_in_place(case, x, y)
    return found


def torch_in_place(case: Case, x: Any, y: Any) -> Competitor:
    """`Loss(inplace=True)` of logits that a layer made: here one that only hands them out."""
    import torch

    from crossent import torch as door

    loss = door.Loss(loss_function(case), inplace=True)
    given, labels = peers.torch_tensor(x), peers.torch_tensor(y)
    overwritten, parameter = given.clone(), torch.zeros((), requires_grad=True)

    class Layer(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, parameter: Any) -> Any:
            return overwritten.detach()

        @staticmethod
        def backward(ctx: Any, gradient: Any) -> Any:
            ctx.gradient = gradient
            return None

    def call() -> Any:
        logits = Layer.apply(parameter)
        layer = logits.grad_fn
        value = loss(logits, labels)
        value.backward()
        return value.detach(), layer.gradient

    return Competitor(call, restore=lambda: overwritten.copy_(given))


def loss_function(case: Case) -> Callable[..., Any]:
    return xe.softmax_cross_entropy if case.loss == "softmax" else xe.sigmoid_cross_entropy


def our_loss(case: Case) -> Callable[[Any, Any], Any]:
    loss = loss_function(case)
    return lambda logits, labels: loss(labels=labels, logits=logits)


def fit_steps(case: Case, x: Any, y: Any) -> dict[str, Callable[[], Any]]:
    """A training step of one dense layer: small beside its loss where there are many classes."""
    import keras

    from crossent import keras as door

    features = np.ascontiguousarray(x[:, :FEATURES])

    def step(loss: Any) -> Callable[[], Any]:
        keras.utils.set_random_seed(0)
        layer = keras.layers.Dense(case.classes)
        model = keras.Sequential([keras.Input(features.shape[1:]), layer])
        model.compile(optimizer=keras.optimizers.SGD(1e-3), loss=loss)
        return lambda: model.train_on_batch(features, y)

    own = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    losses = {OURS: door.Loss(xe.softmax_cross_entropy), "Keras": own}
    return {f"{who}, {FIT_STEP}": step(loss) for who, loss in losses.items()}


# ---- the processes


def lines_of(
    script: Path, library: str | None, options: dict[str, Any], settings: dict[str, str]
) -> Iterator[Any]:
    """What a script prints, line by line, in a process of its own."""
    environment = {**os.environ, **settings}
    if library is not None and library.startswith(KERAS):
        environment["KERAS_BACKEND"] = library.removeprefix(KERAS).lower()
    command = [sys.executable, str(script), json.dumps({"library": library, **options})]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        yield from map(json.loads, process.stdout or [])
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, script.name)


def library_rows(
    library: str, cases: list[Case], rounds: int, budget: float
) -> Iterator[list[dict[str, Any]]]:
    """The rows of each case, as they come from the process of the library."""
    options = {"cases": cases, "rounds": rounds, "budget": budget}
    settings = KEEPING if library.endswith(KEPT) else {}
    return lines_of(Path(__file__), library, options, settings)


def measured(library: str, case: Case, rounds: int, budget: float) -> list[dict[str, Any]]:
    x, y = data(case)
    calls = library_calls(library, case, x, y)
    ours, *others = calls
    own = [who for who in others if not who.startswith(OURS)]
    moved = dict.fromkeys(calls, case.moved_bytes)
    for who, (call, moves) in limits(x, copies=case.wants_gradient).items():
        calls[who], moved[who] = call, moves
    seconds = samples({w: InThisProcess(call) for w, call in calls.items()}, rounds, budget)
    found = time_rows(case, seconds, moved, ours)
    best = min(row["median_s"] for row in found if row["who"] in own)
    return [
        {
            **row,
            "kind": "library",
            "library": library,
            "ratio_to_own": round(row["median_s"] / best, 3),
        }
        for row in found
    ]


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    for case in asked["cases"]:
        rows = measured(asked["library"], Case(*case), asked["rounds"], asked["budget"])
        print(json.dumps(rows), flush=True)
