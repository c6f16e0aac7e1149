"""The benchmark runs, competitors compute the same, and tables are those of the result files."""

import importlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest
from exact_arithmetic import exact, log_softmax_row

from crossent._doctor import examine

# Libraries warn of their own future when they are imported, each in another way.
pytestmark = pytest.mark.filterwarnings("ignore")

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
MODULES = [
    "accuracy",
    "bench",
    "cases",
    "instructions",
    "libraries",
    "library_tables",
    "measuring",
    "memory",
    "ours",
    "plot",
    "tables",
]


@pytest.fixture(scope="module")
def modules():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return SimpleNamespace(**{name: importlib.import_module(name) for name in MODULES})
    finally:
        sys.path.remove(str(BENCHMARKS))


def small(case):
    return case._replace(rows=6, classes=5)


def kinds(cases):
    """One small case for each loss, label kind, dtype and kind of rows."""
    return list(dict.fromkeys(small(case) for case in cases))


def as_numpy(array):
    """In float64: torch and TensorFlow have no other way to hand NumPy their bfloat16."""
    if hasattr(array, "detach"):
        array = array.detach().double()
    return (array.numpy() if hasattr(array, "numpy") else np.asarray(array)).astype(np.float64)


# ---- what is measured


def test_competitors_compute_the_same(modules):
    for case in kinds(modules.cases.CASES):
        calls = modules.ours.competitors(case, *modules.cases.data(case))
        assert {modules.ours.OURS, "NumPy"} <= set(calls)
        want = calls.pop(modules.ours.OURS).call()
        # bfloat16 has 8 bits, and some compute in it; a confident row keeps none of its loss.
        relative, absolute = (0.05, 2e-2) if case.dtype == "bfloat16" else (1e-5, 1e-6)
        for who, competitor in calls.items():
            got = competitor.call()
            pairs = [(got, want)] if case.what == "loss" else zip(got, want, strict=True)
            for a, b in pairs:
                np.testing.assert_allclose(
                    as_numpy(a), as_numpy(b), relative, absolute, err_msg=f"{case.name}: {who}"
                )


def library_here(modules, name):
    absent = modules.libraries.missing(name)
    if absent:
        pytest.skip(f"no module {', '.join(absent)}")
    return name


@pytest.mark.parametrize("library", ["torch", "JAX", "TensorFlow"])
def test_the_ways_of_a_library_compute_the_same(modules, library):
    library_here(modules, library)
    for case in modules.bench.tiny(modules.libraries.cases_of(library)):
        x, y = modules.cases.data(case)
        want = modules.ours.our_calls(case, x, y)[modules.ours.OURS].call()
        calls = modules.libraries.library_calls(library, case, x, y)
        assert next(iter(calls)).startswith("crossent, ")
        relative, absolute = (0.05, 2e-2) if case.dtype == "bfloat16" else (1e-5, 1e-6)
        for who, competitor in calls.items():
            got = competitor.call()
            pairs = [(got, want)] if case.what == "loss" else zip(got, want, strict=True)
            for a, b in pairs:
                np.testing.assert_allclose(
                    as_numpy(a), as_numpy(b), relative, absolute, err_msg=f"{case.name}: {who}"
                )


def test_both_losses_of_keras_see_the_same_fit_step(modules):
    library_here(modules, "Keras on TensorFlow")  # Keras' own default
    case = small(modules.libraries.FIT_CASES[0])
    ours, own = modules.libraries.library_calls(
        "Keras on TensorFlow", case, *modules.cases.data(case)
    ).values()
    for _ in range(2):  # the second time with weights that the first step changed
        assert float(ours.call()) == pytest.approx(float(own.call()), rel=1e-5)


def test_in_place_finds_its_logits_again(modules):
    case = modules.cases.Case("softmax", "ids", "float32", 6, 5, "loss + gradient")
    in_place = modules.ours.our_calls(case, *modules.cases.data(case))["crossent, in place"]
    first = in_place.call()
    in_place.restore()
    assert in_place.call()[0] == first[0]
    assert in_place.call()[0] != first[0]  # on its own gradient


def test_confident_rows_have_the_losses_that_are_asked_for(modules):
    x, y = modules.accuracy.confident(np.random.default_rng(0), 50, 1e-9, 1e-3)
    losses = modules.accuracy.exact(x, y, gradient=False).loss
    assert 0.9e-9 < losses.min() < 1e-7
    assert 1e-5 < losses.max() < 1.1e-3


def test_limits_touch_every_byte(modules):
    for dtype in (np.float32, ml_dtypes.bfloat16):
        x = np.arange(1, 2**19 + 4).astype(dtype)  # over a MB, and no multiple of anything
        source, warm = x.view(np.uint8), np.zeros(x.nbytes, np.uint8)
        modules.measuring.in_threads(np.copyto, 3, warm, source)()
        np.testing.assert_array_equal(warm, source)
        for copies, passes in ((False, 1), (True, 2)):
            for competitor, moved in modules.measuring.limits(x, copies).values():
                competitor.call()
                assert moved in (passes * x.nbytes, 2 * x.nbytes)


# ---- how it is measured


class Fake:
    def __init__(self, duration):
        self.duration, self.counts = duration, []

    def seconds(self, count):
        self.counts.append(count)
        return count * self.duration


def test_every_round_times_everyone_and_the_slow_sit_some_out(modules):
    fast, middle, slow = Fake(1e-3), Fake(0.2), Fake(60.0)
    timed = {"fast": fast, "middle": middle, "slow": slow}
    taken = modules.measuring.samples(timed, rounds=15, budget=1.5)
    assert {who: len(times) for who, times in taken.items()} == {
        "fast": 15,
        "middle": 7,
        "slow": 5,
    }
    np.testing.assert_allclose(taken["fast"], 1e-3)
    assert fast.counts == [1, 1] + [10] * 15  # 10 ms a sample, after two calls to warm up
    assert slow.counts == [1] * 7


def test_restoring_is_not_timed(modules):
    done = []

    def restore():
        time.sleep(0.02)
        done.append("restored")

    competitor = modules.measuring.Competitor(lambda: done.append("called"), restore)
    assert modules.measuring.InThisProcess(competitor).seconds(3) < 0.02
    assert done == ["restored", "called"] * 3


@pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK), reason="no high-water mark to set back here"
)
def test_peak_memory_is_what_a_call_allocates(modules):
    competitor = modules.measuring.Competitor
    assert modules.memory.rise(competitor(lambda: np.ones(1 << 23))) == pytest.approx(
        1 << 26, rel=0.1
    )
    assert modules.memory.rise(competitor(lambda: None)) < 1 << 20
    case = modules.cases.Case("softmax", "ids", "float32", 2200, 1000, "loss")
    peaks = modules.memory.peak_bytes([case, small(case)])
    assert list(peaks) == [case.name]  # small cases are not measured
    # Two arrays of the logits' size at the least; the limits need none.
    assert peaks[case.name]["NumPy"] > 1.9 * case.logits_bytes
    assert peaks[case.name]["limit: read"] < 0.2 * case.logits_bytes


def test_a_library_is_timed_in_a_process_of_its_own(modules):
    library_here(modules, "torch")
    case = modules.cases.Case("softmax", "ids", "float32", 8, 10, "loss")
    (rows,) = modules.libraries.library_rows("torch", [case], rounds=2, budget=0.1)
    assert [row["who"] for row in rows] == [
        "crossent, eager",
        "crossent, torch.compile",
        "torch, eager",
        "torch, torch.compile",
        "limit: read",
    ]
    assert {(row["kind"], row["library"], row["samples"]) for row in rows} == {
        ("library", "torch", 2)
    }
    assert rows[0]["ratio_to_ours"] == 1
    assert min(row["ratio_to_own"] for row in rows if row["who"].startswith("torch")) == 1


def test_a_process_that_fails_is_told(modules):
    with pytest.raises(subprocess.CalledProcessError):
        list(modules.libraries.library_rows("no library", [("softmax",)], rounds=2, budget=0))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator than glibc's")
def test_memory_is_kept_where_the_rows_say_so(modules, tmp_path):
    # Faults of pages that a second array of 64 MB meets, where the first one was.
    script = tmp_path / "faults.py"
    script.write_text(
        "import numpy as np, resource\n"
        "np.ones(8_000_000)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "np.ones(8_000_000)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)\n"
    )
    lines_of, settings = modules.libraries.lines_of, modules.libraries.KEEPING
    (given_back,), (kept,) = (list(lines_of(script, None, {}, s)) for s in ({}, settings))
    assert kept < 10 < given_back
    large = modules.libraries.cases_of("torch" + modules.libraries.KEPT)
    assert {case.what for case in large} == {"loss + gradient"}
    assert min(case.logits_bytes for case in large) > 1 << 25  # glibc keeps smaller ones


def test_a_library_that_is_not_here_is_left_out_with_its_reason(modules, monkeypatch, capsys):
    monkeypatch.setitem(modules.libraries.LIBRARIES, "torch", ("torch", "no_such_door"))
    assert modules.bench.measured_on("torch", "", 2, 0.1, smoke=True) == []
    assert "torch is left out: no module no_such_door" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK), reason="no high-water mark to set back here"
)
def test_peak_memory_of_a_librarys_ways(modules):
    library_here(modules, "torch")
    case = modules.cases.Case("softmax", "ids", "float32", 2200, 1000, "loss")
    peaks = modules.memory.peak_bytes([case], "torch")[case.name]
    assert peaks["torch, eager"] > 0.9 * case.logits_bytes  # the log-softmax
    assert peaks["limit: read"] < 0.2 * case.logits_bytes


def test_another_process_takes_its_turns(modules):
    case = modules.cases.Case("softmax", "ids", "float32", 6, 5, "loss")
    worker = modules.ours.InstructionSet("x86-64-v2", case)
    assert re.match("native x86-64-v2|formula", worker.kernel)
    assert 0 < worker.seconds(2) < 5
    worker.stop()
    assert worker.process.returncode == 0


# ---- accuracy


def test_exact_values_are_exact(modules):
    accuracy = modules.accuracy
    for regime, make in accuracy.REGIMES.items():
        x, y = make(np.random.default_rng(3), 4)
        x, y = x[:4, :2000], np.minimum(y[:4], min(x.shape[1], 2000) - 1)
        got = accuracy.exact(x, y, gradient=True)
        for i, label in enumerate(y.tolist()):
            nll, p, rest, _ = log_softmax_row(exact(x[i]).tolist())
            want = [-rest[j] if j == label else p[j] for j in range(len(p))]
            assert float(abs(got.loss[i] - nll[label])) <= 2e-14 * nll[label], regime
            for value, entry in zip(got.gradient[i].tolist(), want, strict=True):
                if abs(entry) >= accuracy.SMALLEST_NORMAL:
                    assert float(abs(value - entry)) <= 2e-14 * abs(entry), regime


def test_errors_are_in_ulps_and_what_is_not_finite_is_said(modules):
    accuracy = modules.accuracy
    actual = np.array([1 + 2.0**-23, 0.0], np.float32)
    assert accuracy.worst(accuracy.ulp_errors(actual, np.array([1.0, 0.0]))) == 1
    assert accuracy.worst(accuracy.ulp_errors([np.nan], np.array([1.0]))) is None
    assert modules.tables.ulps(None) == "not finite"


def test_accuracy_rows_name_everybody(modules):
    rows = modules.accuracy.accuracy_rows("confident, loss 1e-9 to 1e-30", 4)
    worst = {(row["what"], row["who"]): row["max_ulp"] for row in rows}
    assert worst["loss", modules.ours.OURS] <= 1
    assert worst["gradient of the label", modules.ours.OURS] <= 2
    assert worst["loss", "NumPy"] > 1e6  # it returns 0
    assert {row["numbers"] for row in rows if row["what"] == "loss"} == {40}


# ---- result files, tables, plots


@pytest.fixture(scope="module")
def result_file(modules, tmp_path_factory):
    path = tmp_path_factory.mktemp("bench") / "result.json"
    modules.bench.main(["--smoke", "--only", "yes/no, float32", "--out", str(path)])
    return path


def test_result_of_a_run(modules, result_file):
    rows = json.loads(result_file.read_text())["rows"]
    assert len(result_file.read_text().splitlines()) < len(rows) + 50  # one line for each row
    for what in ("loss", "loss + gradient"):
        by_who = {row["who"]: row for row in rows if row["what"] == what}
        assert by_who[modules.ours.OURS]["ratio_to_ours"] == 1.0
        assert {"NumPy", "limit: read" if what == "loss" else "limit: x.copy()"} < set(by_who)
        assert all(row["samples"] == 2 for row in by_who.values())


def test_versions_name_what_took_part(modules, result_file):
    result = json.loads(result_file.read_text())
    took_part = {row["who"] for row in result["rows"]}
    for package, who in (("scipy", "SciPy"), ("torch", "torch"), ("optax", "JAX jit")):
        assert (package in result["environment"]["versions"]) == (who in took_part)


def test_a_run_without_cases_ends_with_a_message(modules):
    with pytest.raises(SystemExit, match="no case has 'nothing'"):
        modules.bench.main(["--smoke", "--only", "nothing"])


def test_committed_tables_are_those_of_the_committed_results(modules, tmp_path, monkeypatch):
    project = tmp_path / "project"
    shutil.copytree(BENCHMARKS, project / "benchmarks", ignore=shutil.ignore_patterns("*.pyc"))
    shutil.copy(BENCHMARKS.parent / "README.md", project)
    files = [project / "README.md", project / "benchmarks/README.md"]
    before = [path.read_text() for path in files]
    monkeypatch.setattr(modules.tables, "HERE", project / "benchmarks")
    modules.tables.write_tables()
    assert [path.read_text() for path in files] == before, "run benchmarks/bench.py --table"


def test_committed_pictures_are_those_of_the_committed_results(modules):
    for path in (BENCHMARKS / "results").glob("*.json"):
        digest = modules.plot.digest_of(path)
        current = modules.plot.is_current(path.with_suffix(".png"), digest)
        assert current, f"{path.name}: run benchmarks/bench.py --table with matplotlib installed"


def test_a_picture_is_drawn_from_a_result(modules, result_file, tmp_path):
    pytest.importorskip("matplotlib", reason="plots need it: pip install -e .[bench]")
    path = tmp_path / "picture.png"
    modules.plot.write_plot(json.loads(result_file.read_text()), path, "a digest")
    assert modules.plot.is_current(path, "a digest")
    assert not modules.plot.is_current(path, "another digest")


LARGE = "softmax, ids, float32, 2048x32000"


def library_result(**seconds):
    """A result with one case of torch: loss + gradient of the targets' size."""
    who = {"crossent, eager": 1.0, "torch, eager": 8.0, "torch, torch.compile": 4.4} | seconds
    who = {"limit: x.copy()": 1.0} | who
    return {
        "rows": [
            {
                "kind": "library",
                "library": "torch",
                "what": "loss + gradient",
                "problem": LARGE,
                "who": name,
                "median_s": taken,
                "iqr_s": 0.02 * taken,
                "bytes_per_s": 1e9 / taken,
                "peak_bytes": 262_144_000,
            }
            for name, taken in who.items()
        ]
    }


def test_targets_that_are_missed_are_said(modules):
    tables = modules.library_tables
    met = tables.target_table(library_result())
    assert "missed" not in met
    assert "| own fastest / ours >= 4 | torch | eager | met | 4.40: " in met
    slow = tables.target_table(library_result(**{"crossent, eager": 1.2}))
    assert "<= 1.05 | torch | eager | **missed**: 0 of 1 met | 1.20: " in slow
    assert ">= 4 | torch | eager | **missed**: 0 of 1 met | 3.67: " in slow
    assert "MB <= 4 | torch | eager | met | 0.00: " in slow
    copy = {"limit: copy into a warm array, 2 threads": 0.5, "crossent, in place": 0.8}
    in_place = tables.target_table(library_result(**copy))
    assert "on all threads <= 1.5 | torch | in place | **missed**: 0 of 1 met | 1.60" in in_place


def test_tables_of_a_library_show_where_ours_is_slower(modules):
    tables = modules.library_tables
    result = library_result(**{"torch, torch.compile": 0.5})
    time, memory = tables.tables(result)[1:4:2]
    assert "| 1000 ms (1) | 8000 ms (8) | 500 ms (0.5) | **0.50** | 1 GB/s | 1 % |" in time
    assert memory.count("262 MB") == 3
    # A form that only we have is a column, but not what is compared.
    result["rows"] += library_result(**{"crossent, in place": 0.1})["rows"][-1:]
    result["rows"] += [{**row, "problem": "another"} for row in library_result()["rows"]]
    time = tables.time_table(tables.by_library(result)["torch"])
    assert "| 1000 ms (1) | 100 ms (0.1) | 8000 ms (8) | 500 ms (0.5) | **0.50** |" in time
    assert "| 1000 ms (1) | - | " in time
    short = tables.short_table(result)
    assert f"| {LARGE} | 1000 ms | 500 ms (torch, torch.compile) |" in short
    assert tables.tables({"rows": []}) == []
    assert tables.short_table({"rows": []}) == ""


def test_text_outside_the_markers_stays(modules, tmp_path):
    path = tmp_path / "a.md"
    path.write_text("before\n<!-- benchmark -->\nold\n<!-- /benchmark -->\nafter\n")
    for _ in range(2):
        assert modules.tables.write_between(path, "benchmark", "new")
        text = "before\n<!-- benchmark -->\n\nnew\n\n<!-- /benchmark -->\nafter\n"
        assert path.read_text() == text
    path.write_text("no markers")
    assert not modules.tables.write_between(path, "benchmark", "new")
    assert path.read_text() == "no markers"


# ---- instruction counts

DUMP = """version: 1
ob=(1) /lib/libc.so.6
fn=(1) memcpy
12 100
ob=(2) /x/crossent/_native.abi3.so
fn=(2) rows
5 30
+1 4
cob=(1)
cfn=(1)
calls=2 12
+1 100
* 6
fn=(3) other
-2 1
ob=(1)
fn=(1)
13 1000
ob=(2)
fn=(2)
7 9
"""


def test_only_what_the_native_core_itself_ran_is_counted(modules):
    assert modules.instructions.instructions_of(DUMP) == 30 + 4 + 6 + 1 + 9
    assert modules.instructions.instructions_of(DUMP, "/libc") == 100 + 1000


def test_a_rise_is_told_and_a_fall_is_not(modules):
    rises = modules.instructions.rises
    assert rises({"a": 1000, "b": 1000}, {"a": 1050, "b": 10}) == []
    (line,) = rises({"a": 1000, "b": 1000}, {"a": 1051, "b": 1000})
    assert line.startswith("a: 1,051 instructions, 5.1 % more than the 1,000 on record")
    assert "only recorded" in rises({"a": 1}, {})[0]
    assert "only counted" in rises({}, {"a": 1})[0]
    assert "no instruction of the native core" in rises({"a": 0}, {"a": 0})[0]


def test_counts_on_record_are_those_of_the_kernels(modules):
    every = json.loads(modules.instructions.RECORD.read_text())
    names = list(modules.instructions.kernels())
    for compiler, by_instruction_set in every.items():
        for counts in by_instruction_set.values():
            assert list(counts) == names, f"{compiler}: record again"
            assert min(counts.values()) > 10_000  # less than one for each logit is no kernel
        # Wider vectors never take more instructions.
        for narrow, wide in pairwise(by_instruction_set.values()):
            assert all(wide[name] < narrow[name] for name in names)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("valgrind"), reason="Valgrind counts the instructions")
def test_callgrind_counts_each_kernel_by_itself(modules):
    if examine().native is None:
        pytest.skip("run from sources without the native core")
    instruction_set = modules.instructions.instruction_sets()[-1]
    counts = modules.instructions.counted(instruction_set)
    assert list(counts) == list(modules.instructions.kernels())
    assert min(counts.values()) > 10_000
    rows, row = (counts[f"ids, float32, {shape}, loss"] for shape in ("64x1000", "1x150000"))
    assert 1.3 < row / rows < 2.7  # 150,000 logits beside 64,000, of which short rows cost more
    assert counts["ids, float32, 64x1000, loss + gradient"] > rows
