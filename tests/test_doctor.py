"""`crossent doctor` tells the truth, also when something is wrong; how commands report errors."""

import json
import os
import platform
import subprocess
import sys
from importlib import metadata

import click
import ml_dtypes
import numpy as np
import pytest
from click.testing import CliRunner

import crossent
from crossent import _doctor, _numpy_native, cli
from crossent.errors import ShapeError


@pytest.fixture
def installed():
    try:
        metadata.version("crossent")
    except metadata.PackageNotFoundError:
        pytest.skip("crossent is not installed here, so it has no native core")


@pytest.fixture
def without_native_core(monkeypatch):
    monkeypatch.delattr(crossent, "_native", raising=False)
    monkeypatch.setitem(sys.modules, "crossent._native", None)  # importing it now raises
    monkeypatch.setattr(_numpy_native, "core", None)
    monkeypatch.setattr(_numpy_native, "kernel", "formula: a test wants it")


def doctor(*arguments):
    return CliRunner().invoke(cli.main, ["doctor", *arguments])


def lines_of(result):
    """First column -> the rest, as a reader sees them."""
    pairs = (line.split("  ", 1) for line in result.output.splitlines())
    return {name: rest.strip() for name, rest in pairs}


def test_versions_are_those_that_run(installed):
    result = doctor("--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.output)
    assert report["crossent"] == report["native"]["version"] == crossent.__version__
    assert report["python"] == f"{platform.python_version()} {sys.implementation.name}"
    assert report["numpy"] == np.__version__
    assert report["libraries"]["ml_dtypes"] == ml_dtypes.__version__
    assert report["kernel"] == crossent.kernel_for(np.zeros((1, 2), dtype=np.float32))
    assert report["native"]["instruction_set"] in report["native"]["supported_instruction_sets"]
    assert report["native_problem"] is None


def test_lines_say_what_the_json_says(installed):
    report = json.loads(doctor("--json").output)
    result = doctor()
    assert result.exit_code == 0
    lines = lines_of(result)
    for name in ("crossent", "python", "numpy", "platform", "kernel"):
        assert lines[name] == report[name]
    assert lines["usable cpus"] == str(report["usable_cpus"])
    assert lines["instruction set"].startswith(report["native"]["instruction_set"])
    assert lines["threads"] == str(report["native"]["threads"])
    for name, version in report["libraries"].items():
        assert lines[name] == (version or "not installed")


def test_a_missing_core_is_named_and_exits_1(without_native_core):
    result = doctor()
    assert result.exit_code == 1
    assert lines_of(result)["native core"].startswith("missing: ")
    assert lines_of(result)["kernel"] == "formula: a test wants it"
    assert "Build it with `pip install .`" in result.output
    as_json = doctor("--json")
    assert as_json.exit_code == 1
    report = json.loads(as_json.output)
    assert report["native"] is None
    assert "crossent._native" in report["native_problem"]


def test_a_core_of_another_version_exits_1(installed, monkeypatch):
    built = crossent.__version__
    monkeypatch.setattr(metadata, "version", lambda package: "99.0")
    result = doctor()
    assert result.exit_code == 1
    assert lines_of(result)["crossent"] == "99.0"
    assert lines_of(result)["native core"] == (
        f"{built}; built for another version than 99.0. Install crossent again."
    )


def test_an_unknown_instruction_set_exits_1(installed, monkeypatch):
    monkeypatch.setenv("CROSSENT_MAX_ISA", "sse9")
    result = doctor()
    assert result.exit_code == 1
    assert 'got "sse9". Unset it' in lines_of(result)["native core"]
    assert lines_of(result)["instruction set"].startswith("none ")


@pytest.mark.parametrize("count", ["1", "3"])
def test_threads_are_those_that_kernels_use(installed, count):
    code = "from crossent import _doctor; print(_doctor.examine().native.threads)"
    environment = {**os.environ, "CROSSENT_NUM_THREADS": count}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout == f"{count}\n"


def test_a_number_of_threads_that_is_none_exits_1(installed):
    environment = {**os.environ, "CROSSENT_NUM_THREADS": "many"}
    done = subprocess.run(
        [sys.executable, "-m", "crossent", "doctor"],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 1
    assert "CROSSENT_NUM_THREADS" in done.stdout


def test_variables_in_force_are_listed_and_slips_are_marked(monkeypatch):
    monkeypatch.setenv("CROSSENT_MAX_ISA", "x86-64")
    monkeypatch.setenv("CROSSENT_MAXISA", "x86-64")
    monkeypatch.setenv("CROSSENTX", "1")
    report = _doctor.examine()
    assert report.environment["CROSSENT_MAX_ISA"] == "x86-64"
    assert report.unread_environment == ["CROSSENT_MAXISA"]
    assert "CROSSENTX" not in report.environment
    assert lines_of(doctor())["CROSSENT_MAXISA"] == "x86-64 (this version does not read it)"


def test_a_library_is_found_under_any_of_its_packages(monkeypatch):
    monkeypatch.setattr(
        _doctor, "LIBRARIES", {"a": ("no-such-package", "numpy"), "b": ("no-such-package",)}
    )
    assert _doctor.examine().libraries == {"a": np.__version__, "b": None}
    assert lines_of(doctor())["b"] == "not installed"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no affinity mask")
def test_cpus_are_those_this_process_may_use():
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from crossent import _doctor; print(_doctor.examine().usable_cpus)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


def test_the_package_runs_as_a_module(installed):
    done = subprocess.run(
        [sys.executable, "-m", "crossent", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"crossent, version {crossent.__version__}\n"


def test_an_error_of_ours_is_one_line_and_exit_2():
    @click.group(cls=cli._Commands)
    def group():
        pass

    @group.command()
    def fail():
        raise ShapeError("labels must have shape (2,); got (3,). Drop one.")

    result = CliRunner().invoke(group, ["fail"])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr == "crossent: labels must have shape (2,); got (3,). Drop one.\n"


def test_a_fault_in_the_code_is_not_hidden():
    @click.group(cls=cli._Commands)
    def group():
        pass

    @group.command()
    def fail():
        raise KeyError("a bug")

    result = CliRunner().invoke(group, ["fail"])
    assert isinstance(result.exception, KeyError)
