"""The tables of a result file: for the terminal, benchmarks/README.md and the project's README."""

import json
import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
OURS = "crossent"


def cells(row: dict[str, Any]) -> list[str]:
    if row["kind"] == "accuracy":
        return [
            row["who"],
            f"{row['max_ulp']:.3g} ulp",
            f"{row['median_ulp']:.3g} ulp",
            f"{row['max_relative_error']:.1e}",
        ]
    return [
        row["who"],
        duration(row["median_s"]),
        f"+- {100 * row['iqr_s'] / 2 / row['median_s']:.0f} %",
        f"{row['ratio_to_ours']:.2f} x",
        f"{row['bytes_per_s'] / 1e9:.2f} GB/s",
        f"{row['peak_bytes'] / 1e6:.1f} MB",
    ]


def duration(seconds: float) -> str:
    return f"{1e6 * seconds:.0f} us" if seconds < 1e-3 else f"{1e3 * seconds:.1f} ms"


def markdown(head: list[str], lines: list[list[str]]) -> str:
    rule = ["---"] + ["---:"] * (len(head) - 1)
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, rule, *lines])


def all_tables(result: dict[str, Any], name: str) -> str:
    about = result["environment"]
    versions = ", ".join(f"{k} {v}" for k, v in about["versions"].items())
    about_run = (
        f"[results/{name}](results/{name}): {about['processor']}, {about['cores']} cores, Python "
        f"{about['python']}, {versions}; commit {about['commit']}, {about['date']}; kernel "
        f"`{about['kernel']}`; {about['repeats']} repeats."
    )
    parts = [about_run]
    for case in dict.fromkeys(row["case"] for row in result["rows"]):
        rows = [row for row in result["rows"] if row["case"] == case]
        if rows[0]["kind"] == "time":
            head = ["who", "median", "spread", "time / ours", "rate", "peak memory"]
        else:
            head = ["who", "largest error", "median error", "largest relative error"]
            case += f", losses about {rows[0]['median_loss']:.0e}"
        parts += [f"**{case}**", markdown(head, [cells(row) for row in rows])]
    return "\n\n".join(parts)


def short_table(result: dict[str, Any], name: str) -> str:
    """For the project's README: the accuracy, and time where we are slower as well."""
    who = [OURS, "NumPy formula", "NumPy formula, float64", "scipy.special", "sklearn log_loss"]
    lines = []
    for case in dict.fromkeys(row["case"] for row in result["rows"]):
        found = {row["who"]: row for row in result["rows"] if row["case"] == case}
        first = found[OURS]
        if first["kind"] == "accuracy":
            label = f"largest error, losses about {first['median_loss']:.0e}"
            shown = [f"{found[w]['max_ulp']:.3g} ulp" for w in who]
        elif "ids" in case and ("8192x1000" in case or "128x10" in case):
            label = f"time, {case.split(', ', 2)[2]}"
            shown = [duration(found[w]["median_s"]) if w in found else "-" for w in who]
        else:
            continue
        lines.append([label, *shown])
    lines.sort(key=lambda line: line[0].startswith("time"))
    about = result["environment"]
    note = (
        f"Softmax cross-entropy of class ids, float32, {about['processor']}, {about['cores']} "
        f"cores: rows of [benchmarks/results/{name}](benchmarks/results/{name})."
    )
    return markdown(["", *who], lines) + "\n\n" + note


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
    files = sorted((HERE / "results").glob("*.json"))
    if not files:
        sys.exit("no result file in benchmarks/results; run bench.py without --table first")
    results = {path.name: json.loads(path.read_text()) for path in files}
    everything = "\n\n".join(all_tables(result, name) for name, result in results.items())
    write_between(HERE / "README.md", "benchmark", everything)
    newest = max(results, key=lambda name: (results[name]["environment"]["date"], name))
    write_between(HERE.parent / "README.md", "benchmark", short_table(results[newest], newest))
