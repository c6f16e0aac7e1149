"""The tables of a result file: for the terminal, benchmarks/README.md and the project's README."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import library_tables
from table_text import Row, duration, limit_rate, markdown, megabytes, spread, ulps

HERE = Path(__file__).resolve().parent

# The columns; a name that is missing in a result is left out.
WHO = [
    *("crossent", "crossent, given out=", "crossent, in place"),
    *("torch", "torch.compile", "JAX jit", "TensorFlow", "TensorFlow XLA"),
    *("NumPy", "NumPy float64", "SciPy", "sklearn log_loss"),
]
# Of the project's README: fewer columns, and the problems that people have.
SHORT_WHO = [
    *("crossent", "crossent, given out=", "torch", "torch.compile", "JAX jit", "TensorFlow"),
    "NumPy",
]
SHORT_PROBLEMS = [
    "softmax, ids, float32, 128x10",
    "softmax, ids, float32, 65536x10",
    "softmax, ids, float32, 8192x1000",
    "softmax, ids, float32, 2048x32000",
    "softmax, ids, float32, 2048x32000, confident rows",
    "softmax, ids, bfloat16, 2048x32000",
    "softmax, distributions, float32, 2048x32000",
    "sigmoid, yes/no, float32, 8192x1000",
]


def cells(row: Row) -> list[str]:
    """One row, for the terminal."""
    if row["kind"] == "accuracy":
        return [row["who"], ulps(row["max_ulp"])]
    return [
        row["who"],
        duration(row["median_s"]),
        f"+- {spread(row):.0f} %",
        f"{row['ratio_to_ours']:.2f} x",
        f"{row['bytes_per_s'] / 1e9:.2f} GB/s",
    ]


# ---- what a result holds


def rows_of(result: dict[str, Any], kind: str, what: str) -> dict[str, dict[str, Row]]:
    """Problem -> who -> row."""
    found: dict[str, dict[str, Row]] = {}
    for row in result["rows"]:
        if (row["kind"], row["what"]) == (kind, what):
            found.setdefault(row["problem"], {})[row["who"]] = row
    return found


def times_the_limit(by_who: dict[str, Row], who: str) -> float:
    return limit_rate(by_who) / by_who[who]["bytes_per_s"]


def present(columns: list[str], problems: dict[str, dict[str, Row]]) -> list[str]:
    return [who for who in columns if any(who in by_who for by_who in problems.values())]


# ---- tables


def time_table(problems: dict[str, dict[str, Row]], columns: list[str]) -> str:
    """Medians; in brackets how many times that is of what memory allows; the largest spread."""
    columns = present(columns, problems)
    lines = []
    for problem, by_who in problems.items():
        shown = [
            f"{duration(by_who[who]['median_s'])} ({times_the_limit(by_who, who):.3g})"
            if who in by_who
            else "-"
            for who in columns
        ]
        rate = f"{limit_rate(by_who) / 1e9:.0f} GB/s"
        worst = f"{max(spread(row) for row in by_who.values()):.0f} %"
        lines.append([problem, *shown, rate, worst])
    return markdown(["", *columns, "limit", "largest spread"], lines)


def memory_table(problems: dict[str, dict[str, Row]]) -> str:
    columns = present(WHO, problems)
    lines = [
        [problem, *(megabytes(by_who[w]["peak_bytes"]) if w in by_who else "-" for w in columns)]
        for problem, by_who in problems.items()
        if by_who[columns[0]]["peak_bytes"] is not None
    ]
    return markdown(["", *columns], lines) if lines else ""


def accuracy_table(result: dict[str, Any]) -> str:
    parts = {
        what: rows_of(result, "accuracy", what)
        for what in dict.fromkeys(r["what"] for r in result["rows"] if r["kind"] == "accuracy")
    }
    every = {(what, name): row for what, rows in parts.items() for name, row in rows.items()}
    columns = [w for w in WHO if any(w in by_who for by_who in every.values())]
    lines = [
        [
            f"{what}: {regime}",
            *(ulps(by_who[w]["max_ulp"]) if w in by_who else "-" for w in columns),
        ]
        for (what, regime), by_who in every.items()
    ]
    return markdown(["", *columns], lines)


def instruction_set_lines(result: dict[str, Any]) -> list[str]:
    """The rows that only some cases have."""
    lines = []
    for row in result["rows"]:
        if row["kind"] == "time" and row["who"].startswith("crossent, x86-64"):
            ratio = f"{row['ratio_to_ours']:.2f} x the best"
            lines.append(f"- {row['problem']}, {row['what']}: `{row['who'].split(', ')[1]}` ")
            lines[-1] += f"{duration(row['median_s'])}, {ratio}"
    return lines


def plot_name(name: str) -> str:
    return Path(name).with_suffix(".png").name


def about_run(result: dict[str, Any], name: str) -> str:
    about = result["environment"]
    found = ", ".join(f"{k} {v}" for k, v in about["versions"].items())
    return (
        f"[results/{name}](results/{name}): {about['processor']}, {about['threads']} threads, "
        f"Python {about['python']}, {found}; commit {about['commit']}, {about['date']}; kernel "
        f"`{about['kernel']}`; at most {about['rounds']} rounds."
    )


def all_tables(result: dict[str, Any], name: str) -> str:
    parts = [about_run(result, name), f"![time by case](results/{plot_name(name)})"]
    for what in ("loss", "loss + gradient"):
        problems = rows_of(result, "time", what)
        if problems:
            parts += [f"**Time, {what}**", time_table(problems, WHO)]
            memory = memory_table(problems)
            parts += [f"**Peak memory, {what}**", memory] if memory else []
    lower = instruction_set_lines(result)
    parts += ["**Lower instruction sets**", "\n".join(lower)] if lower else []
    parts += library_tables.tables(result)
    return "\n\n".join([*parts, "**Largest error, ulp of float32**", accuracy_table(result)])


def short_tables(result: dict[str, Any], name: str) -> str:
    """For the project's README."""
    lines, problems = [], {}
    for what in ("loss", "loss + gradient"):
        for problem, by_who in rows_of(result, "time", what).items():
            if problem in SHORT_PROBLEMS:
                problems[f"{problem}, {what}"] = by_who
    columns = present(SHORT_WHO, problems)
    for case, by_who in problems.items():
        shown = [duration(by_who[w]["median_s"]) if w in by_who else "-" for w in columns]
        limit = by_who[columns[0]]["median_s"] / times_the_limit(by_who, columns[0])
        lines.append([case, *shown, duration(limit)])
    about = result["environment"]
    note = (
        f"{about['processor']}, {about['threads']} threads, kernel `{about['kernel']}`: rows of "
        f"[benchmarks/results/{name}](benchmarks/results/{name}). The limit is the time of one "
        "read of the data, for loss + gradient that of one copy, in the same run."
    )
    plot = f"![time by case](benchmarks/results/{plot_name(name)})"
    errors = "Largest error in each regime, in ulp of float32 (below 1 is the last bit):"
    times = markdown(["time", *columns, "limit"], lines)
    on_libraries = library_tables.short_table(result)
    parts = [plot, times, *([on_libraries] if on_libraries else []), note]
    return "\n\n".join([*parts, errors, accuracy_table(result)])


def write_between(path: Path, marker: str, text: str) -> bool:
    """Replace what lies between the markers; False where the file has none."""
    old = path.read_text() if path.exists() else ""
    parts = re.split(rf"(<!-- {marker}\b[^>]*-->\n).*?(<!-- /{marker} -->)", old, flags=re.DOTALL)
    if len(parts) != 4:
        return False
    new = f"{parts[0]}{parts[1]}\n{text}\n\n{parts[2]}{parts[3]}"
    if new != old:
        path.write_text(new)
    return True


def write_tables() -> None:
    """Into both READMEs: this directory's has every result, the project's the newest."""
    files = sorted((HERE / "results").glob("*.json"))
    if not files:
        sys.exit("no result file in benchmarks/results; run bench.py without --table first")
    results = {path.name: json.loads(path.read_text()) for path in files}
    everything = "\n\n".join(all_tables(result, name) for name, result in results.items())
    write_between(HERE / "README.md", "benchmark", everything)
    newest = max(results, key=lambda name: (results[name]["environment"]["date"], name))
    write_between(HERE.parent / "README.md", "benchmark", short_tables(results[newest], newest))
