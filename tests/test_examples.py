"""The examples run, without a warning, and show what they say."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
NUMBER = r"[0-9.]+(?:e[-+][0-9]+)?"


def output_of(name, **environment):
    """What the example prints, in a process of its own; warnings there are errors too."""
    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / name],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def loss_of(name, **environment):
    return float(re.search(rf"loss ({NUMBER})", output_of(name, **environment))[1])


@pytest.fixture(scope="module")
def loss_of_digits():
    return loss_of("digits_numpy.py")


@pytest.mark.slow
@pytest.mark.parametrize("library", ["torch", "jax", "tensorflow"])
def test_every_library_trains_to_the_same_loss(library, loss_of_digits):
    # 200 steps of float32 products, which every library adds up in its own order.
    assert loss_of(f"digits_{library}.py") == pytest.approx(loss_of_digits, rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["torch", "jax", "tensorflow"])
def test_keras_trains_to_the_same_loss(backend, loss_of_digits):
    loss = loss_of("digits_keras.py", KERAS_BACKEND=backend)
    assert loss == pytest.approx(loss_of_digits, rel=1e-4)


@pytest.mark.slow
def test_accumulated_gradients_are_those_of_one_batch():
    shown = output_of("ddp_gradient_accumulation.py")
    expected = float(re.search(rf"one batch +loss ({NUMBER})", shown)[1])
    pattern = rf"{{}} +loss ({NUMBER})  gradient off by ({NUMBER})"
    loss, error = map(float, re.search(pattern.format("sum / label_weight"), shown).groups())
    assert loss == pytest.approx(expected, rel=1e-12)
    assert error < 1e-12
    loss, error = map(float, re.search(pattern.format("mean of means"), shown).groups())
    assert abs(loss / expected - 1) > 0.01
    assert error > 0.01
