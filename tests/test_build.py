"""The native core is built as meant: one wheel for all Pythons, strict arithmetic, a true stub."""

import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import crossent

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "native").glob("*.cpp"))
X86_64_LEVELS = ["x86-64", "x86-64-v2", "x86-64-v3", "x86-64-v4"]

# Each lets the compiler change what the arithmetic means.
FORBIDDEN_FLAGS = [
    "-ffast-math",
    "-Ofast",
    "-funsafe-math-optimizations",
    "-freciprocal-math",
    "-ffinite-math-only",
]


@pytest.fixture(scope="module")
def native():
    """The native core. Absent only where crossent is run from its sources without an install."""
    try:
        metadata.version("crossent")
    except metadata.PackageNotFoundError:
        pytest.skip("crossent is not installed here, so it has no native core")
    from crossent import _native

    return _native


@pytest.fixture(scope="module")
def compiler():
    path = os.environ.get("CXX") or shutil.which("c++")
    if path is None:
        pytest.skip("no C++ compiler on the path")
    return path


def syntax_check(compiler, *flags):
    return subprocess.run(
        [compiler, "-std=c++17", "-fsyntax-only", *flags, ROOT / "native/instruction_sets.cpp"],
        capture_output=True,
        text=True,
        check=False,
    )


def test_native_core_belongs_to_this_version(native):
    assert native.build_info()["version"] == crossent.__version__
    assert metadata.version("crossent") == crossent.__version__


def test_one_wheel_serves_every_python(native):
    if not native.build_info()["nanobind"].endswith(" split"):
        pytest.skip("built with CROSSENT_NB_SPLIT=OFF: one wheel per Python")
    wheel = metadata.distribution("crossent").read_text("WHEEL")
    tags = re.findall(r"^Tag: (\S+)", wheel, flags=re.MULTILINE)
    assert tags
    assert all(tag.startswith("cp311-abi3-") for tag in tags)
    assert Path(native.__file__).name.split(".", 1)[1] in {"abi3.so", "pyd"}


def test_flags_keep_the_arithmetic(native):
    flags = native.build_info()["flags"].split()
    assert "-O3" in flags
    assert not set(flags) & set(FORBIDDEN_FLAGS)


def test_strict_flags_compile(compiler):
    done = syntax_check(compiler, "-Wall", "-Wextra", "-Werror")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("flag", FORBIDDEN_FLAGS)
def test_unsafe_flags_stop_the_build(compiler, flag):
    done = syntax_check(compiler, flag)
    assert done.returncode != 0
    assert "crossent must be compiled without" in done.stderr


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_every_source_has_the_guard_and_only_the_bindings_know_python(source):
    text = source.read_text()
    assert '#include "floating_point.h"' in text
    knows_python = re.search(r"#include <(nanobind|Python)", text) is not None
    assert knows_python == (source.name == "bindings.cpp")


def test_loading_the_core_leaves_subnormals_alone(native):
    code = "from crossent import _native; print(2.0 * 5e-324 == 1e-323 != 0.0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


def test_stub_is_the_generated_one(native, tmp_path):
    pytest.importorskip("nanobind", reason="the stub generator comes with nanobind")
    fresh = tmp_path / "_native.pyi"
    subprocess.run(
        [sys.executable, "-m", "nanobind.stubgen", "-q", "-m", "crossent._native", "-o", fresh],
        check=True,
    )
    committed = ROOT / "src/crossent/_native.pyi"
    assert committed.read_text() == fresh.read_text(), "stale: run `make docs`"


def test_instruction_sets_are_those_of_the_processor(native):
    cpuinfo = Path("/proc/cpuinfo")
    supported = native.supported_instruction_sets()
    if not (cpuinfo.exists() and supported[0] == "x86-64"):
        pytest.skip("the kernel's own list of features is read on x86-64 Linux only")
    features = set(re.search(r"^flags\s*: (.*)$", cpuinfo.read_text(), re.MULTILINE)[1].split())
    # System V psABI, table 3.1; the names are Linux's ("abm" holds lzcnt).
    v2 = {"cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3"}
    v3 = v2 | {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe"}
    v4 = v3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
    count = 1 + sum(level <= features for level in (v2, v3, v4))
    assert supported == X86_64_LEVELS[:count]


@pytest.mark.parametrize("value", [None, ""])
def test_without_a_cap_the_best_set_is_chosen(native, monkeypatch, value):
    if value is None:
        monkeypatch.delenv("CROSSENT_MAX_ISA", raising=False)
    else:
        monkeypatch.setenv("CROSSENT_MAX_ISA", value)
    assert native.chosen_instruction_set() == native.supported_instruction_sets()[-1]


def test_the_cap_lowers_but_never_raises(native, monkeypatch):
    supported = native.supported_instruction_sets()
    names = X86_64_LEVELS if supported[0] == "x86-64" else supported
    for position, name in enumerate(names):
        monkeypatch.setenv("CROSSENT_MAX_ISA", name)
        assert native.chosen_instruction_set() == supported[min(position, len(supported) - 1)]


def test_an_unknown_cap_is_an_error(native, monkeypatch):
    monkeypatch.setenv("CROSSENT_MAX_ISA", "avx2")
    with pytest.raises(ValueError, match=r'^CROSSENT_MAX_ISA must be one of ".*"; got "avx2"\. '):
        native.chosen_instruction_set()


def test_make_alone_prints_the_commands():
    if shutil.which("make") is None:
        pytest.skip("no make on the path")
    # Without the variables of a `make` that runs this very test.
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(
        ["make"], cwd=ROOT, capture_output=True, text=True, check=True, env=environment
    )
    for name in ("demo", "test", "check", "bench", "docs", "mutants"):
        assert re.search(rf"^make {name} +\S", done.stdout, re.MULTILINE), done.stdout
