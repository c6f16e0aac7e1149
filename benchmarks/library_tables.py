"""Tables of crossent on each library's arrays, and whether the design's targets are met."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from table_text import Row, duration, limit_rate, markdown, megabytes, spread

OURS = "crossent"
IN_PLACE = f"{OURS}, in place"
# What is counted in pages, and by libraries that round up, is not exact.
MEMORY_TOLERANCE = 4_000_000
LARGE = "softmax, ids, float32, 2048x32000"
# Of the project's README.
SHORT_LIBRARIES = ("torch", "JAX", "TensorFlow")
SHORT_PROBLEMS = [
    "softmax, ids, float32, 8x10",
    "softmax, ids, float32, 128x10",
    "softmax, ids, float32, 65536x10",
    "softmax, ids, float32, 8192x1000",
    "softmax, ids, float32, 2048x32000",
    "softmax, ids, bfloat16, 2048x32000",
    "softmax, ids, float32, 256x151936",
    "sigmoid, yes/no, float32, 8192x1000",
]
# The case of a row: problem and what, and who -> row.
Cases = dict[tuple[str, str], dict[str, Row]]


def by_library(result: dict[str, Any]) -> dict[str, Cases]:
    found: dict[str, Cases] = {}
    for row in result["rows"]:
        if row["kind"] == "library":
            cases = found.setdefault(row["library"], {})
            cases.setdefault((row["problem"], row["what"]), {})[row["who"]] = row
    return found


def everybody(cases: Iterable[dict[str, Row]]) -> list[str]:
    """Ours first."""
    names = dict.fromkeys(who for by_who in cases for who in by_who)
    timed = [who for who in names if not who.startswith("limit")]
    return sorted(timed, key=lambda who: not who.startswith(f"{OURS}, "))


def ways(by_who: dict[str, Row]) -> tuple[list[str], list[str]]:
    """Ours, and the library's own, which has none that overwrites the logits."""
    names = everybody([by_who])
    ours = [who for who in names if who.startswith(f"{OURS}, ")]
    return [who for who in ours if who != IN_PLACE], [who for who in names if who not in ours]


def fastest(by_who: dict[str, Row], names: list[str]) -> Row:
    return min((by_who[who] for who in names), key=lambda row: row["median_s"])


# ---- tables


def time_table(cases: Cases) -> str:
    """Medians, in brackets multiples of what memory allows; a fit step has no such limit."""
    columns = everybody(cases.values())
    lines = []
    for (problem, what), by_who in cases.items():
        rate = limit_rate(by_who)
        is_loss = what.startswith("loss")
        cells = []
        for who in columns:
            if who not in by_who:
                cells.append("-")
                continue
            cell = duration(by_who[who]["median_s"])
            cells.append(f"{cell} ({rate / by_who[who]['bytes_per_s']:.3g})" if is_loss else cell)
        ours, own = (fastest(by_who, names)["median_s"] for names in ways(by_who))
        ratio = f"{own / ours:.2f}" if own >= ours else f"**{own / ours:.2f}**"
        worst = f"{max(spread(row) for row in by_who.values()):.0f} %"
        limit = f"{rate / 1e9:.0f} GB/s" if is_loss else "-"
        lines.append([f"{problem}, {what}", *cells, ratio, limit, worst])
    return markdown(["", *columns, "own fastest / ours", "limit", "largest spread"], lines)


def memory_table(cases: Cases) -> str:
    counted = {case: row for case, row in cases.items() if ours_of(row)["peak_bytes"] is not None}
    if not counted:
        return ""
    columns = everybody(counted.values())
    lines = [
        [
            f"{problem}, {what}",
            *(megabytes(by_who[who]["peak_bytes"] if who in by_who else None) for who in columns),
        ]
        for (problem, what), by_who in counted.items()
    ]
    return markdown(["", *columns], lines)


def ours_of(by_who: dict[str, Row]) -> Row:
    return by_who[ways(by_who)[0][0]]


def tables(result: dict[str, Any]) -> list[str]:
    parts = []
    for library, cases in by_library(result).items():
        parts += [f"**On {library}: time**", time_table(cases)]
        memory = memory_table(cases)
        parts += [f"**On {library}: peak memory**", memory] if memory else []
    return [*parts, "**Targets**", target_table(result)] if parts else []


def short_table(result: dict[str, Any]) -> str:
    """Loss + gradient on each library: ours, and the fastest of its own ways by its name."""
    libraries = {
        name: cases for name, cases in by_library(result).items() if name in SHORT_LIBRARIES
    }
    lines = []
    for problem in SHORT_PROBLEMS:
        line = [problem]
        for cases in libraries.values():
            by_who = cases.get((problem, "loss + gradient"))
            if by_who is None:
                line += ["-", "-"]
                continue
            ours, own = (fastest(by_who, names) for names in ways(by_who))
            line += [duration(ours["median_s"]), f"{duration(own['median_s'])} ({own['who']})"]
        lines.append(line)
    head = [cell for name in libraries for cell in (f"crossent on {name}", f"fastest of {name}")]
    return markdown(["time, loss + gradient", *head], lines) if libraries else ""


# ---- targets


class Judged(NamedTuple):
    """One measurement beside its bound."""

    target: str
    way: str
    case: str
    measured: float
    is_met: bool


def target_table(result: dict[str, Any]) -> str:
    """A line for each target, library and way of ours: how many cases meet it, and the worst."""
    lines = []
    for library, cases in by_library(result).items():
        groups: dict[tuple[str, str], list[Judged]] = {}
        for one in judged(library, cases):
            groups.setdefault((one.target, one.way), []).append(one)
        for (target, way), every in groups.items():
            met = sum(one.is_met for one in every)
            is_least = ">=" in target
            worst = (min if is_least else max)(every, key=lambda one: one.measured)
            verdict = "met" if met == len(every) else f"**missed**: {met} of {len(every)} met"
            lines.append([target, library, way, verdict, f"{worst.measured:.2f}: {worst.case}"])
    return markdown(["target", "on", "way", "", "worst"], lines)


def judged(library: str, cases: Cases) -> Iterator[Judged]:
    """Section 7 of the design, for each way of ours."""
    for (problem, what), by_who in cases.items():
        ours, own = ways(by_who)
        case = f"{problem}, {what}"
        own_seconds = fastest(by_who, own)["median_s"]
        if IN_PLACE in by_who and problem == LARGE:
            copies = [row for name, row in by_who.items() if name.startswith("limit: copy into")]
            ratio = by_who[IN_PLACE]["median_s"] / copies[-1]["median_s"]  # on all threads
            target = "time / copy into a warm array on all threads <= 1.5"
            yield Judged(target, "in place", case, ratio, ratio <= 1.5)
            ratio = own_seconds / by_who[IN_PLACE]["median_s"]
            yield Judged("own fastest / ours >= 4", "in place", case, ratio, ratio >= 4)
        for who in ours:
            seconds, form = by_who[who]["median_s"], who.removeprefix(f"{OURS}, ")
            if (problem, what) == (LARGE, "loss + gradient"):
                ratio = seconds / by_who["limit: x.copy()"]["median_s"]
                yield Judged("time / x.copy() of NumPy <= 1.05", form, case, ratio, ratio <= 1.05)
                ratio = own_seconds / seconds
                yield Judged("own fastest / ours >= 4", form, case, ratio, ratio >= 4)
            elif (problem, what) == (LARGE, "loss"):
                reads = [row for name, row in by_who.items() if name.startswith("limit: read")]
                ratio = seconds / reads[-1]["median_s"]  # the last is on all threads
                yield Judged("time / read on all threads <= 1.4", form, case, ratio, ratio <= 1.4)
            elif problem.endswith(("8x10", "128x10")):
                same = next(name for name in own if name.endswith(f", {form}"))
                ratio = seconds / by_who[same]["median_s"]
                bound = 1.15 if same == "torch, eager" else 1.0
                target = f"small batch: time / the library's own in this form <= {bound}"
                yield Judged(target, form, case, ratio, ratio <= bound)
            if by_who[who]["peak_bytes"] is not None:
                extra = by_who[who]["peak_bytes"] - (what != "loss") * logits_bytes(problem)
                target = f"memory beyond the result, MB <= {MEMORY_TOLERANCE / 1e6:.0f}"
                yield Judged(target, form, case, extra / 1e6, extra <= MEMORY_TOLERANCE)


def logits_bytes(problem: str) -> int:
    """Of "softmax, ids, float32, 2048x32000": the gradient's bytes, too."""
    _, _, dtype, shape = problem.split(", ")
    rows, classes = map(int, shape.split("x"))
    return rows * classes * {"float32": 4, "bfloat16": 2}[dtype]
