"""Every format of prediction files gives the same scores, in memory that does not grow."""

import subprocess
import sys

import numpy as np
import pytest
from prediction_files import parquet_modules, write_csv, write_parquet

import crossent as xe

CLASSES = 4


@pytest.fixture(scope="module")
def predictions():
    """Labels, float32 probabilities and weights of 60 rows."""
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.ones(CLASSES), 60).astype(np.float32)
    return rng.integers(0, CLASSES, 60), probs, rng.uniform(0.5, 2, 60)


def exact_cells(labels, probs):
    """CSV cells that read back as the same numbers."""
    return [[y, *map(repr, map(float, row))] for y, row in zip(labels, probs, strict=True)]


def in_parquet(tmp_path, labels, probs):
    pa, _ = parquet_modules()
    fixed = pa.FixedSizeListArray.from_arrays(pa.array(probs.ravel()), CLASSES)
    yield write_parquet(tmp_path / "fixed.parquet", {"label": labels, "probs": fixed}), {}
    # Row groups of 7 rows: batches end where groups end.
    lists = pa.array(list(probs), pa.list_(pa.float32()))
    yield write_parquet(tmp_path / "list.pq", {"probs": lists, "y": labels}, row_group_size=7), {}
    large = lists.cast(pa.large_list(pa.float32()))
    yield write_parquet(tmp_path / "large.parquet", {"target": labels, "probs": large}), {}
    columns = {f"probs_{k}": probs[:, k] for k in range(CLASSES)}
    yield write_parquet(tmp_path / "columns.parquet", {**columns, "labels": labels}), {}
    named = {f"p_{k}": probs[:, k] for k in range(CLASSES)}
    text = pa.array([str(y) for y in labels]).dictionary_encode()
    yield (
        write_parquet(tmp_path / "text.parquet", {**named, "class": text}),
        {
            "labels": "class",
            "probs": "p_*",
        },
    )


def in_numpy_formats(tmp_path, labels, probs):
    np.save(tmp_path / "probs.npy", probs)
    np.save(tmp_path / "labels.npy", labels)
    yield tmp_path / "probs.npy", {"labels": str(tmp_path / "labels.npy")}
    yield tmp_path / "probs.npy", {"labels": tmp_path / "labels.npy"}
    yield tmp_path / "probs.npy", {"labels": labels}
    np.save(tmp_path / "model_a.npy", np.asfortranarray(probs))
    np.save(tmp_path / "column.npy", labels[:, None].astype(np.int16))
    yield tmp_path / "model_a.npy", {"labels": str(tmp_path / "column.npy"), "probs": "model_a"}
    fields = np.zeros(len(labels), [("label", "u1"), ("probs", ">f4", (CLASSES,))])
    fields["label"], fields["probs"] = labels, probs
    np.save(tmp_path / "fields.npy", fields)
    yield tmp_path / "fields.npy", {}
    np.savez(tmp_path / "plain.npz", label=labels, probs=probs)
    yield tmp_path / "plain.npz", {}
    np.savez_compressed(tmp_path / "packed.npz", y=labels, scores=np.asfortranarray(probs))
    yield tmp_path / "packed.npz", {"probs": "scores"}
    one_hot = np.eye(CLASSES, dtype=bool)[labels]
    np.savez(tmp_path / "onehot.npz", y=one_hot, probs=probs)
    yield tmp_path / "onehot.npz", {}


def in_csv(tmp_path, labels, probs):
    header = ["label", *(f"probs_{k}" for k in range(CLASSES))]
    rows = exact_cells(labels, probs)
    yield write_csv(tmp_path / "comma.csv", header, rows), {}
    yield write_csv(tmp_path / "tab.tsv", header, rows, "\t"), {}
    yield write_csv(tmp_path / "semicolon.csv", header, rows, ";"), {}
    bom = tmp_path / "excel.csv"
    bom.write_bytes(b"\xef\xbb\xbf" + (tmp_path / "comma.csv").read_bytes() + b"\r\n")
    yield bom, {}
    yield write_csv(tmp_path / "floats.csv", header, [[f"{r[0]}.0", *r[1:]] for r in rows]), {}
    one_hot = [[*np.eye(CLASSES, dtype=int)[r[0]], *r[1:]] for r in rows]
    names = [*(f"y_{k}" for k in range(CLASSES)), *header[1:]]
    yield write_csv(tmp_path / "onehot.csv", names, one_hot), {"labels": "y_*"}


@pytest.mark.parametrize("files", [in_parquet, in_numpy_formats, in_csv])
@pytest.mark.parametrize("batch_rows", [None, 13])
def test_every_format_gives_the_same_scores(tmp_path, predictions, files, batch_rows):
    labels, probs, _ = predictions
    expected = xe.audit(labels=labels, probs=probs).scores
    for path, columns in files(tmp_path, labels, probs):
        report = xe.audit(path, batch_rows=batch_rows, **columns)
        assert report.scores == expected, path.name
        assert report.source == path.name


def test_weights_and_ids_are_columns(tmp_path, predictions):
    labels, probs, weights = predictions
    ids = [f"row {i}" for i in range(60)]
    expected = xe.audit(labels=labels, probs=probs, sample_weight=weights, ids=ids)
    assert expected.scores != xe.audit(labels=labels, probs=probs).scores
    cells = exact_cells(labels, probs)
    rows = [
        [w, i, *row] for w, i, row in zip(map(repr, map(float, weights)), ids, cells, strict=True)
    ]
    header = ["w", "id", "label", *(f"probs_{k}" for k in range(CLASSES))]
    path = write_csv(tmp_path / "weighted.csv", header, rows)
    assert xe.audit(path, sample_weight="w", ids="id").scores == expected.scores


def test_one_column_is_binary(tmp_path):
    probs = np.array([0.2, 0.9, 0.6])
    expected = xe.audit(labels=[0, 1, 0], probs=probs).scores
    assert (expected.family, expected.classes) == ("sigmoid", 1)
    path = write_csv(
        tmp_path / "b.csv", ["y", "probs"], [["False", 0.2], ["True", 0.9], ["False", 0.6]]
    )
    assert xe.audit(path).scores == expected
    np.savez(tmp_path / "b.npz", y=np.array([[False], [True], [False]]), probs=probs[:, None])
    assert xe.audit(tmp_path / "b.npz").scores == expected


def test_a_pattern_of_scores_leaves_out_labels_weights_and_ids(tmp_path):
    header, rows = ["w", "y", "a", "id", "b"], [[1, 0, 0.75, "r", 0.25], [2, 1, 0.5, "s", 0.5]]
    report = xe.audit(
        write_csv(tmp_path / "all.csv", header, rows), probs="*", sample_weight="w", ids="id"
    )
    assert report.class_names == ("a", "b")
    assert report.scores.weight == 3


def test_probabilities_of_a_teacher_may_be_the_labels(tmp_path):
    teacher, logits = np.array([[0.5, 0.5], [0.25, 0.75]]), np.array([[1.0, 0.0], [0.0, 2.0]])
    np.savez(tmp_path / "distilled.npz", probs=teacher, logits=logits)
    report = xe.audit(tmp_path / "distilled.npz", labels="probs")
    assert report.kind == "logits"
    assert report.scores == xe.audit(labels=teacher, logits=logits).scores


# ---- classes by name


def test_classes_keep_the_order_of_the_file_and_labels_may_be_their_names(tmp_path):
    rows = [["dog", 0.7, 0.2, 0.1], ["cat", 0.3, 0.6, 0.1], ["ant", 0.8, 0.1, 0.1]]
    path = write_csv(tmp_path / "pets.csv", ["y", "p(dog)", "p(cat)", "p(ant)"], rows)
    report = xe.audit(path, probs="p(*)")
    assert report.class_names == ("dog", "cat", "ant")
    assert report.scores == xe.audit(labels=[0, 1, 2], probs=[row[1:] for row in rows]).scores
    assert [entry["name"] for entry in report.to_dict()["scores"]["per_class"]] == [
        "dog",
        "cat",
        "ant",
    ]
    assert "ant    dog" in report.text()  # the worst row: label, predicted


def test_columns_numbered_out_of_order_are_matched_by_their_number(tmp_path):
    numbers = [0, 1, 10, *range(2, 10)]  # as sorting by text leaves them
    rng = np.random.default_rng(1)
    probs = rng.dirichlet(np.ones(11), 40)
    labels = rng.integers(0, 11, 40)
    header = ["y", *(f"p_{k}" for k in numbers)]
    cells = [
        [y, *(repr(float(row[k])) for k in numbers)] for y, row in zip(labels, probs, strict=True)
    ]
    path = write_csv(tmp_path / "sorted.csv", header, cells)
    shuffled = xe.audit(path, probs="p_*").scores
    straight = xe.audit(labels=labels, probs=probs).scores
    assert (shuffled.mean_loss, shuffled.accuracy) == (straight.mean_loss, straight.accuracy)


def test_labels_out_of_range_stay_so_beside_numbered_columns(tmp_path):
    header = ["y", "p_1", "p_0"]
    path = write_csv(tmp_path / "two.csv", header, [[0, 0.1, 0.9], [2, 0.5, 0.5], [-1, 0.5, 0.5]])
    report = xe.audit(path, probs="p_*")
    assert (report.scores.scored, report.scores.unscorable) == (1, 2)
    assert report.scores.worst[0].label_prob == pytest.approx(0.9)


# ---- memory

MEASURE = """
import resource, sys
import crossent as xe
import pyarrow.parquet
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
xe.audit(sys.argv[1], labels=sys.argv[3] or None)
small = peak()
xe.audit(sys.argv[2], labels=sys.argv[4] or None)
print(peak() - small)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["npy", "npz", "parquet", "csv"])
def test_a_large_file_needs_no_more_memory_than_a_small_one(tmp_path, kind):
    pytest.importorskip("pyarrow", reason="reads Parquet")
    arguments = []
    for rows in (20_000, 200_000 if kind != "csv" else 60_000):
        rng = np.random.default_rng(0)
        logits = rng.normal(size=(rows, 50)).astype(np.float32)
        labels = rng.integers(0, 50, rows)
        folder = tmp_path / str(rows)
        folder.mkdir()
        path = folder / f"logits.{kind}"
        write_large(path, labels, logits)
        arguments.append((str(path), str(folder / "labels.npy") if kind == "npy" else ""))
    (small, small_labels), (large, large_labels) = arguments
    result = subprocess.run(
        [sys.executable, "-c", MEASURE, small, large, small_labels, large_labels],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    # 40 MB of logits (12 MB of numbers in the CSV) pass through; the sample for the findings is
    # full in the small file already.
    assert float(result.stdout) < 12


def write_large(path, labels, logits):
    if path.suffix == ".npy":
        np.save(path, logits)
        np.save(path.with_name("labels.npy"), labels)
    elif path.suffix == ".npz":
        np.savez(path, label=labels, logits=logits)
    elif path.suffix == ".csv":
        header = ",".join(["label", *(f"logits_{k}" for k in range(50))])
        table = np.column_stack([labels, logits.round(3)])
        np.savetxt(path, table, "%g", ",", header=header, comments="")
    else:
        pa, _ = parquet_modules()
        lists = pa.FixedSizeListArray.from_arrays(pa.array(logits.ravel()), 50)
        write_parquet(path, {"label": labels, "logits": lists}, row_group_size=20_000)
