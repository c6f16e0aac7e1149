"""The native core's losses under the sanitizers, on every instruction set of this processor.

tests/native/softmax_driver.cpp has the scenarios. The thread pool and the exact sums have tests of
this kind of their own.
"""

import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NATIVE = ROOT / "native"
DRIVER = ROOT / "tests/native/softmax_driver.cpp"
SOURCES = [
    NATIVE / f"{name}.cpp"
    for name in (
        "arrays",
        "calls",
        "softmax",
        "elementwise",
        "exact_sum",
        "thread_pool",
        "memory_advice",
        "instruction_sets",
    )
]

SANITIZERS = {"tsan": "thread", "asan-ubsan": "address,undefined"}
# ThreadSanitizer goes on after a race, and sleeps at every exit.
OF_SANITIZERS = {"TSAN_OPTIONS": "atexit_sleep_ms=0:halt_on_error=1"}

# What CMakeLists.txt says of the kernels; -Og as they compile for most of a minute as it is.
KERNEL_FLAGS = (
    "-ffp-contract=off -fno-math-errno -fno-trapping-math"
    " -Wno-maybe-uninitialized -Wno-unknown-warning-option"
)
FLAGS = ["-std=c++17", "-Og", "-g1", "-Wall", "-Wextra", "-Werror", "-pthread"]

SCENARIOS = [
    "softmax_loss_of_every_shape",
    "softmax_loss_of_many_classes",
    "softmax_loss_of_every_logit",
    "softmax_loss_of_every_label",
    "softmax_threads_change_no_bit",
    "row_statistics_and_gradients",
    "probabilities_of_every_shape",
    "sigmoid_loss_of_every_shape",
    "sigmoid_threads_change_no_bit",
    "functions_of_every_shape",
    "calls_with_invalid_labels",
    "sigmoid_calls_with_invalid_labels",
    "concurrent_callers",
]
# A race is one on every instruction set, and ThreadSanitizer takes its time.
OF_THREADS = [
    "softmax_threads_change_no_bit",
    "sigmoid_threads_change_no_bit",
    "functions_of_every_shape",
    "concurrent_callers",
]


def instruction_sets():
    """The sets that CMakeLists.txt compiles the kernels for on this machine."""
    lists = re.findall(r"set\(instruction_sets (.+)\)", (ROOT / "CMakeLists.txt").read_text())
    machine = "arm64" if os.uname().machine in {"aarch64", "arm64"} else "x86-64"
    (names,) = [names.split() for names in lists if names.startswith(machine)]
    return names


def compile_(compiler, flags, source, output):
    command = [compiler, *FLAGS, *flags, f"-I{NATIVE}", "-c", source, "-o", output]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return output


@pytest.fixture(scope="module")
def compiler():
    path = os.environ.get("CXX") or shutil.which("c++")
    if path is None:
        pytest.skip("no C++ compiler on the path")
    if not sys.platform.startswith("linux"):
        pytest.skip("the driver takes its memory from Linux")
    return path


@pytest.fixture(scope="module", params=SANITIZERS)
def driver(request, compiler, tmp_path_factory):
    """The driver, built with a sanitizer."""
    folder = tmp_path_factory.mktemp(request.param)
    flags = [f"-fsanitize={SANITIZERS[request.param]}", "-fno-sanitize-recover=all"]
    empty = folder / "empty.cpp"
    empty.write_text("int main() { return 0; }\n")
    built = subprocess.run(
        [compiler, *flags, empty, "-o", folder / "empty"], capture_output=True, check=False
    )
    if built.returncode or subprocess.run([folder / "empty"], check=False).returncode:
        pytest.skip(f"a program built with {flags[0]} does not build or run here")

    parts = []
    for name in instruction_sets():
        of_set = [f"-DCROSSENT_ISA={name.replace('-', '_')}", *KERNEL_FLAGS.split()]
        of_set += [] if name == "arm64" else [f"-march={name}"]
        parts.append(([*flags, *of_set], NATIVE / "kernels.cpp", folder / f"{name}.o"))
    parts += [(flags, source, folder / f"{source.stem}.o") for source in [*SOURCES, DRIVER]]
    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(lambda part: compile_(compiler, *part), parts))
    program = folder / "driver"
    subprocess.run([compiler, *flags, "-pthread", *objects, "-o", program], check=True)
    return request.param, program


def run(program, *arguments, **added):
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("CROSSENT_")}
    return subprocess.run(
        [program, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=inherited | OF_SANITIZERS | added,
    )


@pytest.mark.slow
@pytest.mark.parametrize("isa", instruction_sets())
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_scenario(driver, scenario, isa):
    kind, program = driver
    if kind == "tsan" and scenario not in OF_THREADS:
        pytest.skip("one thread only")
    chosen = run(program, "instruction_set", CROSSENT_MAX_ISA=isa).stdout.splitlines()
    if chosen[0] != isa:
        pytest.skip(f"this processor does not run {isa}")
    done = run(program, scenario, CROSSENT_MAX_ISA=isa)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def test_every_scenario_is_run():
    written = re.findall(r'^ *\{"(\w+)", \1\},$', DRIVER.read_text(), re.MULTILINE)
    assert sorted(written) == sorted([*SCENARIOS, "instruction_set"])
    assert set(OF_THREADS) <= set(SCENARIOS)
