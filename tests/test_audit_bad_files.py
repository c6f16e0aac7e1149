"""What is no file of predictions is refused in one line, and nothing in a file is ever run."""

import sys
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prediction_files import npy_bytes, npz_bytes, parquet_modules, write_csv, write_parquet

import crossent as xe


@pytest.fixture(scope="module")
def predictions():
    """Labels and float32 probabilities of 60 rows."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 4, 60), rng.dirichlet(np.ones(4), 60).astype(np.float32)


GOOD_CSV = "y,p_0,p_1\n0,0.5,0.5\n1,0.25,0.75\n"
BAD_CSV = [
    ("", {}, "bad.csv must hold predictions; it is empty"),
    ("y,p_0,p_1\n", {}, "bad.csv must hold at least one row below its header; got none"),
    ("0,0.5,0.5\n1,0.2,0.8\n", {}, r'begin with a header line .* got "0", "0.5", "0.5"'),
    (GOOD_CSV + "1,0.5\n", {}, "must have 3 cells in every row, as its header has; row 2 has 2"),
    (GOOD_CSV + "1,0.5,0.5,1\n", {}, "row 2 has 4"),
    (GOOD_CSV + "1,half,0.5\n", {}, 'column "p_0" must hold numbers; got "half" in row 2'),
    (GOOD_CSV + "1,,0.5\n", {}, 'column "p_0" must hold numbers; got an empty cell in row 2'),
    (GOOD_CSV + "1,1_0,0.5\n", {}, 'got "1_0" in row 2'),
    (GOOD_CSV + "cat,0.5,0.5\n", {}, 'column "y" must .* got "cat" in row 2. Text labels need'),
    (GOOD_CSV.replace("_0", "_a") + "c,1,0\n", {}, 'got "c" in row 2. .* classes "a", "1"'),
    (GOOD_CSV, {"labels": "z"}, 'no column "z"; it has "y", "p_0", "p_1". Name one .* --labels'),
    (GOOD_CSV, {"probs": "q_*"}, 'has no column "q_\\*".* --probs'),
    (GOOD_CSV, {"probs": None}, 'named logits, probs or log_probs; it has "y".*--logits, --probs'),
    (GOOD_CSV, {"sample_weight": "w"}, 'has no column "w".* with --weights'),
    (GOOD_CSV, {"ids": "id"}, 'has no column "id".* with --ids'),
    (GOOD_CSV.replace("y,", "x,"), {}, "no column named label; .* --labels COLUMN, or --labels"),
    ("y,target,p_0,p_1\n0,0,1,0\n", {}, "several columns that may hold the labels"),
    ("y,logits_0,probs_0\n0,1,0\n", {"probs": None}, r"several kinds of scores \(logits, probs\)"),
    ("y,p_0,p_0\n0,1,0\n", {}, 'must have one column "p_0"; its header names it twice'),
    (b"y,p_0,p_1\n0,0.5,0.5\xff\n", {}, "bad.csv must be a CSV file in UTF-8"),
    (b"\xff\xfey\x00", {}, "bad.csv must be a CSV file in UTF-8"),
    (b'y,p_0,p_1\n0,"' + b"1" * 200_000 + b'",0\n', {}, "a CSV file in UTF-8; field larger"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "columns", "message"), BAD_CSV)
def test_bad_csv_is_refused(tmp_path, content, columns, message):
    path = tmp_path / "bad.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(xe.FileError, match=message) as raised:
        xe.audit(path, **{"probs": "p_*", **columns})
    assert "\n" not in str(raised.value)


BAD_NPY = [
    (b"", "probs.npy must hold predictions; it is empty"),
    (b"not numpy at all", "must be a NPY file, by its name; its first bytes are"),
    (b"\x93NUMPY\x01\x00", "probs.npy must be a readable NPY array; "),
    (b"\x93NUMPY\x09\x00" + b" " * 80, r"must be a readable NPY array; .*\(9, 0\)"),
    (b"\x93NUMPY\x01\x00\x05\x00evil(", "must be a readable NPY array; "),
    (npy_bytes(np.zeros((4, 2)))[:-1], "must hold 64 bytes of array, by its header; got 63"),
    (npy_bytes(np.zeros((0, 2))), "must hold at least one row; got none"),
    (npy_bytes(np.float64(1)), r"must have 1 or 2 dimensions.*got shape \(\)"),
    (npy_bytes(np.zeros((2, 2, 2))), r"got shape \(2, 2, 2\). Put every row on the first axis"),
    (npy_bytes(np.zeros((2, 2), complex)), "must hold numbers; got dtype complex128"),
    (npy_bytes(np.zeros((2, 2), "V2")), r"must hold numbers; got dtype \|V2. Save it as float32"),
    (npy_bytes(np.zeros((3, 2))), "labels.npy must have one label for each of the 3 rows .* got 2"),
    (npy_bytes(np.zeros((1, 2))), "labels.npy must have one label for each of the 1 rows .* got 2"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "message"), BAD_NPY)
def test_bad_npy_is_refused(tmp_path, content, message):
    (tmp_path / "probs.npy").write_bytes(content)
    np.save(tmp_path / "labels.npy", np.array([0, 1]))
    with pytest.raises(xe.FileError, match=message):
        xe.audit(tmp_path / "probs.npy", labels=str(tmp_path / "labels.npy"))


class Exploding:
    """An object whose unpickling would run code."""

    def __reduce__(self):
        return (print, ("unpickled",))


@pytest.mark.parametrize("archive", [False, True])
def test_no_pickle_is_ever_loaded(tmp_path, capsys, archive):
    objects = np.array([Exploding(), Exploding()], dtype=object)
    path = tmp_path / ("probs.npz" if archive else "probs.npy")
    if archive:
        np.savez(path, probs=objects, label=np.array([0, 1]))
    else:
        np.save(path, objects, allow_pickle=True)
    np.save(tmp_path / "labels.npy", objects, allow_pickle=True)
    with pytest.raises(xe.FileError, match="pickled Python objects, which could run code"):
        xe.audit(path, labels=None if archive else [0, 1])
    np.save(tmp_path / "good.npy", np.array([[0.5, 0.5]] * 2))
    with pytest.raises(xe.FileError, match=r"labels\.npy must hold numbers; got pickled"):
        xe.audit(tmp_path / "good.npy", probs="good", labels=str(tmp_path / "labels.npy"))
    assert capsys.readouterr().out == ""
    np.load(path if not archive else tmp_path / "labels.npy", allow_pickle=True)
    assert "unpickled" in capsys.readouterr().out  # the trap was armed


def test_a_bare_pickle_is_refused(tmp_path):
    (tmp_path / "probs.pkl").write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(xe.FileError, match="must be a Parquet, CSV, NPY or NPZ file"):
        xe.audit(tmp_path / "probs.pkl")


def test_bad_npz_is_refused(tmp_path):
    path = tmp_path / "bad.npz"
    np.savez(path, label=np.array([0, 1, 1]), probs=np.full((2, 2), 0.5))
    with pytest.raises(xe.FileError, match='same number of rows; "label" has 3, "probs" has 2'):
        xe.audit(path)
    np.savez(path, label=np.array([0, 1]), probs=np.full((2, 2), 0.5))
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    with pytest.raises(xe.FileError, match="must be an NPZ archive; it is damaged"):
        xe.audit(path)
    place = whole.rindex(np.float64(0.5).tobytes())
    path.write_bytes(whole[:place] + b"\x01" + whole[place + 1 :])
    with pytest.raises(xe.FileError, match='array "probs" must be a readable NPY array; Bad CRC'):
        xe.audit(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("probs.npy", npy_bytes(np.full((2, 2), 0.5))[:-8])
        archive.writestr("label.npy", npy_bytes(np.array([0, 1])))
    with pytest.raises(
        xe.FileError, match='array "probs" must hold 2 rows, by its header; it ends early'
    ):
        xe.audit(path)


def bad_parquet():
    pa, _ = parquet_modules()
    pairs = [[0.5, 0.5], [0.25, 0.75]]
    lists = pa.list_(pa.float32())
    yield (
        {"label": [0, 1], "probs": pa.array([[0.5, 0.5], [1.0]], lists)},
        ('the lists of column "probs" must be equally long; row 0 has 2 numbers and row 1 has 1'),
    )
    yield {"label": [0, 1], "probs": pa.array([[0.5, 0.5], None], lists)}, "row 1 is null"
    yield {"label": [0, 1], "probs": pa.array([[0.5, 0.5], [0.5, None]], lists)}, "row 1 has a null"
    yield {"label": [0, 1], "probs": pa.array([[], []], lists)}, "got empty ones"
    yield (
        {"label": pa.array([0, None]), "probs": pairs},
        'column "label" must have a value in every row; row 1',
    )
    yield (
        {"label": [0, 1], "probs": pa.array([["a", "b"]] * 2)},
        "must hold numbers; got Parquet type string",
    )
    yield (
        {"label": [0, 1], "probs": pa.array([{"a": 1}] * 2)},
        "must hold numbers; got Parquet type struct",
    )
    yield (
        {"label": ["a", "b"], "probs": pairs},
        'got "a" in row 0. Text labels need one score column',
    )
    yield (
        {"label": pa.array([], pa.int64()), "probs": pa.array([], lists)},
        "at least one row; got none",
    )
    yield (
        {"label": [0, 1], "probs_a": pairs, "probs_b": pairs},
        "one column of lists or several of numbers",
    )
    yield (
        {"label": [0, 1], "other": pairs},
        'no column named logits, probs or log_probs; it has "label", "other"',
    )


def test_bad_parquet_is_refused(tmp_path):
    for columns, message in bad_parquet():
        path = write_parquet(tmp_path / "bad.parquet", columns)
        with pytest.raises(xe.FileError) as raised:
            xe.audit(path)
        assert message in str(raised.value)


def test_lists_that_change_length_between_batches_are_refused(tmp_path):
    pa, _ = parquet_modules()
    lists = pa.array([[0.5, 0.5]] * 4 + [[1.0]] * 4, pa.list_(pa.float64()))
    path = write_parquet(tmp_path / "bad.parquet", {"y": [0] * 8, "probs": lists})
    with pytest.raises(xe.FileError, match="rows before 4 have 2, row 4 has 1"):
        xe.audit(path, batch_rows=4)


def test_truncated_parquet_is_refused(tmp_path, predictions):
    labels, probs = predictions
    path = write_parquet(tmp_path / "cut.parquet", {"y": labels, "probs": list(probs)})
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(
        xe.FileError, match=r"cut\.parquet must be a readable Parquet file; "
    ) as raised:
        xe.audit(path)
    assert "\n" not in str(raised.value)


def test_parquet_without_pyarrow_names_the_pip_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "p.parquet").write_bytes(b"PAR1" + bytes(20))
    with pytest.raises(
        xe.MissingLibraryError, match=r'needs pyarrow: pip install "crossent\[audit\]"'
    ):
        xe.audit(tmp_path / "p.parquet")


def test_paths_that_are_no_file_are_refused(tmp_path):
    with pytest.raises(xe.FileError, match="must be a file; got a directory"):
        xe.audit(tmp_path)
    with pytest.raises(xe.FileError, match="must be a file; there is none of this name"):
        xe.audit(tmp_path / "missing.npy")
    with pytest.raises(xe.FileError, match="must be readable; got embedded null byte"):
        xe.audit("a\0b.npy")
    path = write_csv(tmp_path / "good.csv", ["y", "probs"], [[0, 0.5]])
    with pytest.raises(xe.FileError, match=r"missing\.npy must be a file; there is none"):
        xe.audit(path, labels=str(tmp_path / "missing.npy"))
    with pytest.raises(xe.ArgumentError, match=r"probs must name a column of good\.csv; got list"):
        xe.audit(path, probs=[0.5])
    with pytest.raises(
        xe.ArgumentError,
        match=r"exactly one kind of scores .* got logits and probs",
    ):
        xe.audit(path, probs="probs", logits="probs")


def test_labels_of_another_length_than_a_csv_are_refused(tmp_path):
    path = write_csv(tmp_path / "two.csv", ["id", "probs"], [["a", 0.5], ["b", 0.5]])
    for rows in (1, 3):
        np.save(tmp_path / "labels.npy", np.zeros(rows, int))
        with pytest.raises(xe.FileError, match=f"labels.npy must have one label .* got {rows}"):
            xe.audit(path, labels=str(tmp_path / "labels.npy"), batch_rows=1)
    np.savez(tmp_path / "labels.npz", np.zeros(2))
    (tmp_path / "labels.npz").rename(tmp_path / "zip.npy")
    with pytest.raises(xe.FileError, match="must be a NPY file, by its name"):
        xe.audit(path, labels=str(tmp_path / "zip.npy"))


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_damaged_files_raise_nothing_but_our_errors(tmp_path, predictions, data):
    labels, probs = predictions
    good = {
        "npy": npy_bytes(probs),
        "npz": npz_bytes(labels=labels, probs=probs),
        "csv": (
            "y,probs\n"
            + "\n".join(f"{y % 2},{p}" for y, p in zip(labels, probs[:, 0], strict=True))
        ).encode(),
    }
    kind = data.draw(st.sampled_from(sorted(good)))
    content = bytearray(good[kind])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / f"probs.{kind}"
    path.write_bytes(content[: data.draw(st.integers(1, len(content)))])
    try:
        report = xe.audit(path, labels=labels if kind == "npy" else None)
    except xe.CrossentError as error:
        reason = str(error)
    else:
        reason = f"{report.scores.rows} rows"
    assert "\n" not in reason
    assert reason != "0 rows"
