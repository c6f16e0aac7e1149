"""The native core's threads, floating-point state and memory advice, in small C++ programs.

Each program in tests/native has scenarios by name; it ends with 1 and says what is not so, or is
ended by an alarm when it hangs. The same scenarios run under the sanitizers.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NATIVE = ROOT / "native"
PROGRAMS = ROOT / "tests" / "native"
SOURCES = [NATIVE / "thread_pool.cpp", NATIVE / "memory_advice.cpp"]

THREAD_POOL = [
    "each_item_once",
    "many_short_loops",
    "threads_meet",
    "one_thread_is_the_caller",
    "concurrent_callers",
    "a_busy_pool_keeps_nobody_waiting",
    "nested",
    "fork_with_a_warm_pool",
    "fork_while_another_thread_is_in_a_loop",
    "a_late_worker_is_waited_for",
    "fork_while_a_caller_sleeps",
    "forks_at_any_moment",
    "exit_while_another_thread_is_in_a_loop",
    "workers_leave_signals_to_the_process",
    "limits_can_be_set",
]
FLOATING_POINT = [
    "in_force_and_restored",
    "sticky_flags_are_the_callers",
    "nothing_traps",
    "in_force_in_every_worker",
]
MEMORY_ADVICE = [
    "whole_huge_pages_inside_are_advised",
    "aligned_memory_is_advised_whole",
    "small_memory_is_left_alone",
    "errno_is_kept",
]
SCENARIOS = [
    *(("thread_pool", name) for name in THREAD_POOL),
    *(("floating_point", name) for name in FLOATING_POINT),
    *(("memory_advice", name) for name in MEMORY_ADVICE),
]

SANITIZERS = {"plain": None, "tsan": "thread", "asan-ubsan": "address,undefined"}
# ThreadSanitizer forbids threads in a child of a program with threads, and sleeps at every exit.
OF_SANITIZERS = {"TSAN_OPTIONS": "die_after_fork=0:atexit_sleep_ms=0:halt_on_error=1"}

HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def variables(**added):
    """The environment, without what a test is about."""
    inherited = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    return inherited | OF_SANITIZERS | added


@pytest.fixture(scope="module")
def compiler():
    path = os.environ.get("CXX") or shutil.which("c++")
    if path is None:
        pytest.skip("no C++ compiler on the path")
    if not sys.platform.startswith("linux"):
        pytest.skip("the programs ask Linux what became of threads, signals and memory")
    return path


@pytest.fixture(scope="module")
def compile_(compiler, tmp_path_factory):
    folder = tmp_path_factory.mktemp("native")

    def compile_(output, *arguments):
        flags = ["-std=c++17", "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-pthread"]
        done = subprocess.run(
            [compiler, *flags, f"-I{NATIVE}", *arguments, "-o", folder / output],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return folder / output

    return compile_


@pytest.fixture(scope="module")
def sanitizer_flags(compiler, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sanitizers")
    source = folder / "empty.cpp"
    source.write_text("int main() { return 0; }\n")

    @cache
    def sanitizer_flags(kind):
        if SANITIZERS[kind] is None:
            return []
        flags = [f"-fsanitize={SANITIZERS[kind]}", "-fno-sanitize-recover=all"]
        built = subprocess.run(
            [compiler, *flags, source, "-o", folder / kind], capture_output=True, check=False
        )
        if built.returncode or subprocess.run([folder / kind], check=False).returncode:
            pytest.skip(f"a program built with {flags[0]} does not build or run here")
        return flags

    return sanitizer_flags


@pytest.fixture(scope="module")
def run(compile_, sanitizer_flags):
    @cache
    def built(program, kind):
        flags = sanitizer_flags(kind)
        return compile_(f"{program}-{kind}", *flags, PROGRAMS / f"{program}.cpp", *SOURCES)

    def run(program, scenario, kind="plain", **added):
        done = subprocess.run(
            [built(program, kind), scenario],
            capture_output=True,
            text=True,
            check=False,
            env=variables(**added),
        )
        assert done.returncode == 0, (done.returncode, done.stderr)
        assert done.stdout.endswith("done\n")
        return done.stdout.splitlines()[:-1]

    return run


@pytest.mark.parametrize("kind", SANITIZERS)
@pytest.mark.parametrize(("program", "scenario"), SCENARIOS, ids=lambda name: name)
def test_scenario(run, kind, program, scenario):
    run(program, scenario, kind)


def test_every_scenario_is_run():
    text = "".join(path.read_text() for path in PROGRAMS.glob("*.cpp"))
    written = set(re.findall(r'^    \{"(\w+)", \1\},$', text, re.MULTILINE))
    here = Path(__file__).read_text()
    assert {name for _, name in SCENARIOS} <= written
    assert {name for name in written if f'"{name}"' not in here} == set()


# The sanitizers' own threads and memory are in the way of these.


def test_idle_workers_use_no_cpu(run):
    run("thread_pool", "idle_workers_use_no_cpu")


def test_workers_keep_off_the_callers_cpu(run):
    run("thread_pool", "workers_keep_off_the_callers_cpu")


@pytest.mark.parametrize(
    "scenario", ["a_system_without_threads", "fork_beside_a_loop_with_free_seats"]
)
def test_when_no_thread_can_be_started(run, scenario):
    run("thread_pool", scenario)


def test_writing_takes_huge_pages(run):
    if not HUGE_PAGES.exists() or "[never]" in HUGE_PAGES.read_text():
        pytest.skip("this system gives no huge pages")
    run("memory_advice", "writing_takes_huge_pages")


# ---- The number of threads


@pytest.mark.parametrize(
    ("own", "openmp", "threads"),
    [
        ("3", None, 3),
        ("3", "5", 3),
        (" 12 ", None, 12),
        ("99999999999999999999", None, 1024),
        (None, "5", 5),
        ("", "5", 5),
        (None, "4,2", 4),
        (None, " 6 , 2", 6),
        (None, "1", 1),
    ],
)
def test_variables_set_the_number_of_threads(run, own, openmp, threads):
    given = {"CROSSENT_NUM_THREADS": own, "OMP_NUM_THREADS": openmp}
    given = {name: value for name, value in given.items() if value is not None}
    assert run("thread_pool", "print_limit", **given) == [str(threads)] * 2


@pytest.mark.parametrize("openmp", [None, "", "many", "0", "-2", "2x", ","])
def test_else_all_cpus_of_the_process_count(run, openmp):
    given = {} if openmp is None else {"OMP_NUM_THREADS": openmp}
    usable = len(os.sched_getaffinity(0))
    assert run("thread_pool", "print_limit", **given) == [str(usable)] * 2
    assert run("thread_pool", "print_limit_on_one_cpu", **given) == ["1", "1"]


@pytest.mark.parametrize("value", ["two", "0", "-1", "4,2", "2.5", "3 threads", " "])
def test_an_unreadable_variable_is_an_error(run, value):
    message, for_threadpoolctl = run("thread_pool", "print_limit", CROSSENT_NUM_THREADS=value)
    assert message == (
        f'CROSSENT_NUM_THREADS must be a whole number from 1 on; got "{value}". '
        "Unset it to use every CPU of this process."
    )
    assert for_threadpoolctl == "0"


# ---- threadpoolctl


@pytest.fixture(scope="module")
def library(compile_):
    """The thread pool as a library of the native core's name."""
    return compile_("_native.so", "-shared", "-fPIC", "-fvisibility=hidden", *SOURCES)


@pytest.fixture(scope="module")
def foreign_library(compile_, tmp_path_factory):
    source = tmp_path_factory.mktemp("foreign") / "foreign.cpp"
    source.write_text('extern "C" int answer() { return 42; }\n')
    return compile_("_native_of_others.so", "-shared", "-fPIC", source)


def python(code, *arguments, **added):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=variables(**added),
    )
    assert done.returncode == 0, done.stderr


def needs_threadpoolctl():
    if importlib.util.find_spec("threadpoolctl") is None:
        pytest.skip("threadpoolctl is not installed")


LIMITING = """
import ctypes, sys
from crossent._threads import register_with_threadpoolctl as register

library, foreign = map(ctypes.CDLL, sys.argv[1:])

assert not register()
assert "threadpoolctl" not in sys.modules

import threadpoolctl

def ours():
    # Of this file: `import crossent` has loaded the real core beside it.
    found = [info for info in threadpoolctl.threadpool_info() if info["user_api"] == "crossent"]
    return [info for info in found if info["filepath"] == sys.argv[1]]

assert ours() == []
assert register() and register()
(info,) = ours()
assert info["filepath"] == sys.argv[1] and info["internal_api"] == "crossent", info
assert info["prefix"] == "_native" and info["num_threads"] == 6, info

with threadpoolctl.threadpool_limits(1):
    assert library.crossent_get_num_threads() == 1
    with threadpoolctl.threadpool_limits({"crossent": 3}):
        assert ours()[0]["num_threads"] == 3
    assert library.crossent_get_num_threads() == 1
assert library.crossent_get_num_threads() == 6
with threadpoolctl.threadpool_limits(1, user_api="blas"):
    assert library.crossent_get_num_threads() == 6
"""


def test_threadpoolctl_limits_our_threads(library, foreign_library):
    needs_threadpoolctl()
    python(LIMITING, library, foreign_library, CROSSENT_NUM_THREADS="6")


def test_a_limit_leaves_an_unreadable_variable_to_be_reported(library):
    needs_threadpoolctl()
    code = """
import ctypes, sys, threadpoolctl
from crossent._threads import register_with_threadpoolctl

library = ctypes.CDLL(sys.argv[1])
assert register_with_threadpoolctl()
with threadpoolctl.threadpool_limits(1):
    assert library.crossent_get_num_threads() == 1
assert library.crossent_get_num_threads() == 0
"""
    python(code, library, CROSSENT_NUM_THREADS="two")


def test_a_threadpoolctl_that_cannot_register_is_left_alone():
    python("""
import sys, types
from crossent._threads import register_with_threadpoolctl

sys.modules["threadpoolctl"] = types.ModuleType("threadpoolctl")
assert not register_with_threadpoolctl()
""")
