"""Writes the generated parts of the documents; `make docs` runs it, CI fails on a difference."""

import inspect
import re
from pathlib import Path

from crossent import catalogue, losses
from crossent.rules import RULES

ROOT = Path(__file__).parents[1]

RULES_PAGE = """# The rules

Made from `crossent.rules` by `make docs`; edit the functions there, not this page.

`xe.review` and `crossent audit` apply these to labels and scores. A finding has a severity (E: cannot be right, W: very
likely wrong, I: worth knowing), the evidence, why it bites and the way out. Nothing is ever applied to the data.
`silence=("B4",)` leaves rules out. A codes are hard facts; B codes say that something is not what it was passed as.

| code | the mistake |
| --- | --- |
"""  # noqa: E501 - as wide as the other pages


def rules_page() -> str:
    """One row per rule, from the first line of its docstring."""
    rows = []
    for code, rule in RULES.items():
        said, what = inspect.getdoc(rule).splitlines()[0].split(": ", 1)
        if said != code:
            raise SystemExit(f"the docstring of rule {code} must begin with its code; got {said}")
        rows.append(f"| {code} | {what} |\n")
    return RULES_PAGE + "".join(rows)


def arguments_page() -> str:
    """The arguments that losses share, as the module describes them."""
    text = inspect.getdoc(losses).split("Arguments that all losses share", 1)[1].split("\n", 1)[1]
    listed = re.sub(r"^(\w[\w ,|]*):", r"- **`\1`**:", text, flags=re.MULTILINE)
    return (
        "# Arguments that losses share\n\n"
        "Made from `crossent.losses` by `make docs`; edit the module's docstring, not this page.\n"
        + listed.rstrip()
        + "\n"
    )


def between(text: str, marker: str, body: str) -> str:
    """The text with what stands between two marker comments replaced."""
    pattern = rf"(<!-- {marker}[^>]*-->\n).*?(<!-- /{marker} -->)"
    replaced, count = re.subn(pattern, lambda m: f"{m[1]}{body}\n{m[2]}", text, flags=re.DOTALL)
    if count != 1:
        raise SystemExit(f"markers of {marker!r} must stand once in the text; found {count} times")
    return replaced


def pages() -> dict[Path, str]:
    """Every generated file with what it must hold."""
    readme = ROOT / "README.md"
    choice = "\n" + catalogue.choice_table().strip() + "\n"
    return {
        readme: between(readme.read_text(), "choice", choice),
        ROOT / "docs/losses.md": catalogue.as_markdown().rstrip() + "\n",
        ROOT / "docs/rules.md": rules_page(),
        ROOT / "docs/arguments.md": arguments_page(),
    }


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text)
