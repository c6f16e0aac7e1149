"""The benchmark runs, competitors compute the same, and tables are those of the result files."""

import importlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy", reason="the benchmark compares with SciPy: pip install -e .[dev]")
pytest.importorskip("sklearn", reason="and with scikit-learn: pip install -e .[dev]")

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture(scope="module")
def modules():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return importlib.import_module("bench"), importlib.import_module("tables")
    finally:
        sys.path.remove(str(BENCHMARKS))


def small(case):
    return case._replace(rows=6, classes=5)


def test_competitors_compute_the_same(modules):
    bench, _ = modules
    for case in bench.CASES:
        calls = bench.competitors(small(case))
        expected = calls.pop(bench.OURS)()
        expected = expected if case.what != "loss" else (expected,)
        calls = {who: call for who, call in calls.items() if not who.startswith("limit")}
        assert len(calls) >= 3
        for who, call in calls.items():
            result = call() if case.what != "loss" else (call(),)
            for got, want in zip(result, expected, strict=True):
                np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-7, err_msg=who)


def test_exact_losses_are_exact(modules):
    bench, _ = modules
    x = np.array([[0.0, 0.0], [40.0, 0.0]], np.float32)
    got = [float(loss) for loss in bench.exact_losses(x, np.array([0, 0]))]
    assert got == [np.log(2), np.log1p(np.exp(-40.0))]


def test_rows_name_every_competitor_and_ours_is_1(modules, tmp_path):
    bench, _ = modules
    out = tmp_path / "result.json"
    bench.main(["--smoke", "--only", "confident", "--out", str(out)])
    result = json.loads(out.read_text())
    by_who = {row["who"]: row for row in result["rows"]}
    assert by_who[bench.OURS]["max_ulp"] <= 1
    assert by_who["NumPy formula"]["max_relative_error"] == 1.0  # it returns 0
    rows = bench.time_rows(small(bench.CASES[0]), repeats=2)
    assert [row["ratio_to_ours"] for row in rows if row["who"] == bench.OURS] == [1.0]
    assert {row["who"] for row in rows} == set(bench.competitors(small(bench.CASES[0])))


def test_committed_tables_are_those_of_the_committed_results(modules, tmp_path, monkeypatch):
    _, tables = modules
    project = tmp_path / "project"
    shutil.copytree(BENCHMARKS, project / "benchmarks", ignore=shutil.ignore_patterns("*.pyc"))
    shutil.copy(BENCHMARKS.parent / "README.md", project)
    files = [project / "README.md", project / "benchmarks/README.md"]
    before = [path.read_text() for path in files]
    monkeypatch.setattr(tables, "HERE", project / "benchmarks")
    tables.write_tables()
    assert [path.read_text() for path in files] == before, "run benchmarks/bench.py --table"


def test_text_outside_the_markers_stays(modules, tmp_path):
    _, tables = modules
    path = tmp_path / "a.md"
    path.write_text("before\n<!-- benchmark -->\nold\n<!-- /benchmark -->\nafter\n")
    for _ in range(2):
        assert tables.write_between(path, "benchmark", "new")
        text = "before\n<!-- benchmark -->\n\nnew\n\n<!-- /benchmark -->\nafter\n"
        assert path.read_text() == text
    path.write_text("no markers")
    assert not tables.write_between(path, "benchmark", "new")
    assert path.read_text() == "no markers"
