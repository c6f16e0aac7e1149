"""A progress bar on standard error, drawn by rich where it is installed and someone is watching."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(wanted: bool) -> Iterator[Callable[[float], None]]:
    """A function that takes the share of the work done, 0 to 1; it draws on a terminal only."""
    if not wanted or not sys.stderr.isatty():
        yield _draw_nothing
        return
    try:
        from rich.console import Console
        from rich.progress import Progress
    except ImportError:
        yield _draw_nothing
        return
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading", total=1.0)
        yield lambda fraction: bar.update(task, completed=fraction)


def _draw_nothing(fraction: float) -> None:
    """Nobody is watching, or rich is not installed."""
