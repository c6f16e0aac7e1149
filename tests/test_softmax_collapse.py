"""The example of a loss that is rounded away: it runs, and what it says is in its table."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def example():
    path = ROOT / "examples" / "softmax_collapse.py"
    spec = importlib.util.spec_from_file_location("softmax_collapse", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_few_steps_train_every_curve_and_write_nothing(example, capsys, monkeypatch):
    threads = []
    monkeypatch.setattr(example.torch, "set_num_threads", threads.append)
    before = example.TABLE.read_bytes(), example.PICTURE.read_bytes()
    example.main(["--steps", "3"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(" sees")[0].strip() for line in lines] == [
        "torch, float32, eps 1e-30",
        "torch, float64, eps 1e-30",
        "crossent, float32, eps 1e-30",
        "torch, float32, eps 1e-8",
        "crossent, float32, eps 1e-8",
    ]
    assert threads == [1]
    assert (example.TABLE.read_bytes(), example.PICTURE.read_bytes()) == before


def test_every_curve_starts_alike_and_learns(example):
    found = {curve: example.train(curve, 20) for curve in example.CURVES}
    starts = [points[0][2] for points in found.values()]
    assert starts == pytest.approx([starts[0]] * len(starts), rel=1e-6)
    for points in found.values():
        assert points[-1][2] < 0.98 * points[0][2]
        for _, seen, true in points:
            assert seen == pytest.approx(true, rel=1e-5)


def test_the_table_has_what_is_said_of_it(example):
    found = example.read_table()
    second_half = {
        name: [point for point in points if point[0] >= example.STEPS // 2]
        for name, points in found.items()
    }
    torch_32, torch_64, ours = (
        [true for _, _, true in second_half[f"{who}, eps 1e-30"]]
        for who in ("torch, float32", "torch, float64", "crossent, float32")
    )
    assert min(torch_32) > 5e-8
    assert min(torch_64) < 1e-15
    assert max(torch_64) > 1e-9
    assert max(ours) < 1e-21
    assert ours[-1] == min(ours) < 3e-23
    by_default = [found[f"{who}, float32, eps 1e-8"][-1][2] for who in ("torch", "crossent")]
    assert by_default[0] > 50 * by_default[1]


def test_the_picture_is_drawn_from_the_table(example, tmp_path):
    current = example.digest().encode() in example.PICTURE.read_bytes()
    assert current, "run examples/softmax_collapse.py --plot with matplotlib installed"
    pytest.importorskip("matplotlib", reason="plots need it: pip install -e .[bench]")
    path = tmp_path / "picture.png"
    example.draw(example.read_table(), path)
    assert example.digest().encode() in path.read_bytes()


def test_labels_at_the_ends_of_curves_do_not_overlap(example):
    ends = {"a": 1e-20, "b": 1e-7, "c": 1.1e-7, "d": 1.2e-7}
    assert example.apart(ends, 10) == pytest.approx({"a": 1e-20, "b": 1e-7, "c": 1e-6, "d": 1e-5})
