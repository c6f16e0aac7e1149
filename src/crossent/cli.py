"""The command line: arguments in, text and an exit code out; no logic of its own.

Exit codes: 0 clean, 1 something was found, 2 usage or input that cannot be read.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from crossent.choosing import choose
from crossent.errors import CrossentError


class _Commands(click.Group):
    """The group of commands; an error of ours ends any of them with one line and exit code 2."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except CrossentError as error:
            click.echo(f"crossent: {error}", err=True)
            ctx.exit(2)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="crossent")
def main() -> None:
    """Cross-entropy losses: which one to use, and what is wrong with the predictions at hand."""


@main.command(short_help="Show what is installed and which kernel runs.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of lines.")
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Say what is installed here and which kernel runs; exit 1 if the native core is unusable."""
    from crossent import _doctor

    report = _doctor.examine()
    click.echo(json.dumps(asdict(report), indent=2) if as_json else _doctor.format_report(report))
    ctx.exit(0 if report.is_healthy else 1)


@main.command(short_help="Score a file of predictions and find mistakes.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--labels", metavar="COL|FILE.npy", help="Labels: a column, a pattern, or an NPY file."
)
@click.option(
    "--logits", metavar="COL", help="Scores before softmax or sigmoid; 'z_*' for several."
)
@click.option("--probs", metavar="COL", help="Probabilities; 'p_*' for several columns.")
@click.option("--log-probs", metavar="COL", help="Log-probabilities; 'lp_*' for several columns.")
@click.option("--weights", "--sample-weight", metavar="COL", help="Weights of the rows.")
@click.option("--ids", metavar="COL", help="Ids of the rows, looked at for duplicates.")
@click.option("--loss", type=click.Choice(["softmax", "sigmoid"]), help="Else found from the data.")
@click.option("--ignore-index", type=int, metavar="LABEL", help="Label of rows to leave out.")
@click.option("--batch-rows", type=click.IntRange(1), help="Rows read at once.")
@click.option(
    "--worst",
    type=click.IntRange(0),
    default=10,
    show_default=True,
    help="Rows with the highest loss to list.",
)
@click.option(
    "--bins",
    type=click.IntRange(1),
    default=15,
    show_default=True,
    help="Bins of the calibration error.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
@click.option("--exit-zero", is_flag=True, help="Exit 0 even if something was found.")
@click.option("--no-progress", is_flag=True, help="Draw no progress bar on a terminal.")
@click.pass_context
def audit(
    ctx: click.Context,
    /,
    file: Path,
    as_json: bool,
    exit_zero: bool,
    no_progress: bool,
    weights: str | None,
    **options: Any,
) -> None:
    """Score the predictions in FILE (Parquet, CSV, NPY or NPZ) and say what is suspicious.

    Columns that no option names are found by their names. Labels: label, labels, y, target,
    targets or y_true. Scores: logits, probs or log_probs, one column of lists or several such as
    logits_0 and logits_1. Of an NPY file that is one array, any name stands for the array:
    crossent audit z.npy --labels y.npy --logits z.

    Where the score columns are numbered, labels are matched with the numbers; where they are
    named, labels may be the names. Columns of labels and of scores are paired by what the * stands
    for.

    Exits 1 if something was found that is an error or a warning, 2 if FILE cannot be read.
    """
    from crossent import auditing
    from crossent.auditing.progress import progress_bar

    with progress_bar(not no_progress) as advance:
        report = auditing.audit(file, sample_weight=weights, progress=advance, **options)
    if as_json:
        click.echo(json.dumps(report.to_dict(), indent=2, allow_nan=False))
    else:
        report.write(sys.stdout)
    ctx.exit(1 if report.is_suspicious and not exit_zero else 0)


main.add_command(choose)
