"""The picture of a result file: every time beside what memory allows."""

import hashlib
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from table_text import Row
from tables import HERE, rows_of, times_the_limit

# Okabe and Ito's colours, and a shape for each, so that neither has to be told apart alone.
MARKS = {
    "crossent": ("#D55E00", "D"),
    "crossent, given out=": ("#FFFFFF", "D"),
    "torch": ("#0072B2", "o"),
    "torch.compile": ("#56B4E9", "^"),
    "JAX jit": ("#009E73", "s"),
    "TensorFlow": ("#E69F00", "v"),
    "TensorFlow XLA": ("#F0E442", "P"),
    "NumPy": ("#000000", "x"),
}
LIMITS = {"loss": "one read", "loss + gradient": "one copy"}


def is_bound_by_memory(problem: str) -> bool:
    """The smallest problem measures the overhead of a call; it would dwarf the rest."""
    return "128x10" not in problem


def write_plot(result: dict[str, Any], path: Path, digest: str) -> None:
    """`digest` names the result file that the picture was made from."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    kinds = [what for what in LIMITS if rows_of(result, "time", what)]
    figure, axes = plt.subplots(1, len(kinds), figsize=(11, 6), sharex=True, sharey=True)
    for axis, what in zip([axes] if len(kinds) == 1 else axes, kinds, strict=True):
        found = rows_of(result, "time", what)
        draw(axis, what, {p: found[p] for p in found if is_bound_by_memory(p)})
    figure.legend(*legend(figure), loc="lower center", ncols=len(MARKS), frameon=False, fontsize=9)
    about = result["environment"]
    figure.suptitle(
        "Time in multiples of what memory allows: "
        f"{about['processor']}, {about['threads']} threads",
        fontsize=11,
    )
    for axis in figure.axes:
        low, high = axis.dataLim.intervalx
        axis.set_xlim(min(0.8, low / 1.2), high * 1.3)
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    figure.savefig(path, dpi=100, metadata={"Comment": digest, "Software": None})
    plt.close(figure)


def draw(axis: Any, what: str, problems: dict[str, dict[str, Row]]) -> None:
    names = list(problems)
    for place, by_who in enumerate(problems.values()):
        shown = {who: times_the_limit(by_who, who) for who in MARKS if who in by_who}
        ends = [min(shown.values()), max(shown.values())]
        axis.plot(ends, [place, place], color="#CCCCCC", zorder=1)
        for who, times in shown.items():
            color, marker = MARKS[who]
            edge = {} if marker == "x" else {"edgecolors": edge_of(color), "linewidths": 0.8}
            axis.scatter(times, place, s=55, c=color, marker=marker, label=who, zorder=2, **edge)
    axis.axvline(1, color="#333333", linestyle="--", linewidth=1)
    axis.set_xscale("log")
    ticks = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]
    axis.set_xticks(ticks, [str(tick) for tick in ticks])
    axis.set_xticks([], minor=True)
    labels = [name.replace(", confident", ",\nconfident") for name in names]
    axis.set_yticks(range(len(names)), labels)
    axis.set_ylim(len(names) - 0.5, -0.5)  # the first on top
    axis.set_title(what, fontsize=11)
    axis.set_xlabel(f"time / {LIMITS[what]} of the data, log scale")
    axis.grid(axis="x", color="#EEEEEE", zorder=0)
    axis.spines[["top", "right"]].set_visible(False)


def edge_of(color: str) -> str:
    """A hollow mark has the colour of its family; a full one needs an outline where marks meet."""
    return MARKS["crossent"][0] if color == "#FFFFFF" else "#333333"


def legend(figure: Any) -> tuple[list[Any], list[str]]:
    found = {}
    for axis in figure.axes:
        handles, names = axis.get_legend_handles_labels()
        found |= dict(zip(names, handles, strict=True))
    ordered = [who for who in MARKS if who in found]
    return [found[who] for who in ordered], ordered


def digest_of(path: Path) -> str:
    """What the picture says of the result file that it was made from."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def is_current(picture: Path, digest: str) -> bool:
    """Whether it was made from this result file; PNG keeps a comment as plain text."""
    return picture.exists() and digest.encode() in picture.read_bytes()


def write_plots() -> None:
    """Those that are missing or were made from other measurements."""
    for path in sorted((HERE / "results").glob("*.json")):
        picture, digest = path.with_suffix(".png"), digest_of(path)
        if is_current(picture, digest):
            continue
        if find_spec("matplotlib"):
            write_plot(json.loads(path.read_text()), picture, digest)
        else:
            print(f"{picture.name} is not drawn: matplotlib is not installed")
