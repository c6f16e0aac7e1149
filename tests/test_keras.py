"""crossent.keras on each back end of Keras: `keras_cases.py`, in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import crossent

CASES = Path(__file__).with_name("keras_cases.py")
# Keras asks NumPy for arrays of torch tensors in a way that NumPy 2 is giving up.
COPY = "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["torch", "jax", "tensorflow"])
def test_on_a_back_end(backend):
    # Which back end Keras takes is decided by the environment, at its import.
    environment = {
        **os.environ,
        "KERAS_BACKEND": backend,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",  # two devices of JAX
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    done = subprocess.run(
        [*command, "-W", COPY, CASES, Path(crossent.__file__).with_name("keras.py")],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stdout + done.stderr
