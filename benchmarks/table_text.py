"""How rows of a result are written: numbers with their units, tables."""

from typing import Any

Row = dict[str, Any]


def duration(seconds: float) -> str:
    if seconds < 1e-3:
        return f"{1e6 * seconds:.3g} us"
    return f"{1e3 * seconds:.1f} ms" if seconds < 0.1 else f"{1e3 * seconds:.0f} ms"


def spread(row: Row) -> float:
    return 100 * row["iqr_s"] / 2 / row["median_s"]


def megabytes(count: int | None) -> str:
    return "-" if count is None else f"{count / 1e6:.0f} MB"


def ulps(error: float | None) -> str:
    if error is None:
        return "not finite"
    if error < 1000:
        return f"{error:.2f}" if error < 10 else f"{error:.0f}"
    return f"{error:.0e}".replace("e+0", "e").replace("e+", "e")


def markdown(head: list[str], lines: list[list[str]]) -> str:
    rule = ["---"] + ["---:"] * (len(head) - 1)
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, rule, *lines])


def limit_rate(by_who: dict[str, Row]) -> float:
    """Bytes per second of the fastest call that only reads, or only copies, the logits."""
    return max(row["bytes_per_s"] for who, row in by_who.items() if who.startswith("limit"))
