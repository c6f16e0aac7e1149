"""`import crossent` costs what `import numpy` costs: no other library, little time."""

import json
import statistics
import subprocess
import sys

import pytest

# Imports NumPy first, so what is left over is ours.
LOADED_BY = """
import json, sys
import numpy
before = set(sys.modules)
{statement}
print(json.dumps(sorted({{name.partition(".")[0] for name in set(sys.modules) - before}})))
"""

# The processor's time: an import waits for nothing else, and other work on the machine takes turns
# with it for several times as long.
SECONDS_OF = """
import time
import numpy
start = time.process_time()
{statement}
print(time.process_time() - start)
"""

A_LOSS_AND_A_REDUCTION = """
import crossent as xe
xe.softmax_cross_entropy(labels=[0, 1], logits=numpy.zeros((2, 3), dtype="float32"))
xe.sigmoid_cross_entropy(labels=[0.0, 1.0], logits=[0.5, 0.5], reduction="none")
"""

A_GRADIENT = """
import crossent as xe
xe.numpy.value_and_grad(
    xe.focal_loss, labels=[0, 1], logits=numpy.zeros((2, 3), dtype="float32")
)
"""

# The compiled part of the native core's bindings.
NANOBIND = {"nanobind_backend", "_nanobind_backend"}


def run(code):
    """What a new interpreter prints for this code; warnings there are errors too."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def loaded_by(statement):
    """Top-level packages that the statement loads beyond NumPy and the standard library."""
    names = set(json.loads(run(LOADED_BY.format(statement=statement))))
    # NumPy loads numpy.random, which brings Cython's run time, when somebody asks for it.
    of_numpy = {name for name in names if name.startswith(("numpy", "cython_runtime", "_cython_"))}
    return names - of_numpy - sys.stdlib_module_names - NANOBIND


def assert_loads_only_crossent(statement):
    assert loaded_by(statement) == {"crossent"}


def median_import_milliseconds(statement, runs):
    code = SECONDS_OF.format(statement=statement)
    return 1e3 * statistics.median(float(run(code)) for _ in range(runs))


@pytest.mark.parametrize(
    "statement",
    ["import crossent", "from crossent import *", A_LOSS_AND_A_REDUCTION],
    ids=["import", "star", "losses"],
)
def test_nothing_but_numpy_is_loaded(statement):
    assert_loads_only_crossent(statement)


def test_a_gradient_loads_autograd_and_no_more():
    assert loaded_by(A_GRADIENT) == {"crossent", "autograd"}


def test_the_check_sees_another_library():
    assert loaded_by("import crossent, click") == {"crossent", "click"}
    with pytest.raises(AssertionError):
        assert_loads_only_crossent("import crossent, click")


def test_the_doctor_loads_no_library_but_the_native_core():
    loaded = loaded_by("from crossent import _doctor; _doctor.examine()")
    # Both come with the native core where it is built.
    assert loaded - NANOBIND == {"crossent"}


def test_import_takes_little_longer_than_numpy():
    # DESIGN: at most 60 ms above NumPy, the median of 7. Other work on the machine only ever adds
    # time (caches, clocks), so one quiet series of three is enough.
    series = []
    for _ in range(3):
        series.append(median_import_milliseconds("import crossent", runs=7))
        if series[-1] <= 60.0:
            return
    pytest.fail(f"import crossent took {series} ms above import numpy; at most 60 are allowed")


def test_the_time_is_measured():
    busy = "while time.process_time() - start < 0.07: pass"
    assert median_import_milliseconds(f"{busy}\nimport crossent", runs=1) > 70.0


@pytest.mark.parametrize(
    ("library", "name"), [("torch", "Loss"), ("jax", "kernel_for"), ("tensorflow", "kernel_for")]
)
def test_a_door_needs_no_import_of_its_own(library, name):
    pytest.importorskip(library, reason="not on every Python that the core is tested on")
    code = f"import crossent as xe; print(callable(xe.{library}.{name}))"
    # Not run(): what these libraries warn of at import is theirs.
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
