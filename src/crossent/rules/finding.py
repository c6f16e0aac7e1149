"""What a rule reports."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from crossent.profile import Severity
from crossent.profile.tallies import Hits


@dataclass(frozen=True)
class Finding:
    """One mistake, with what shows it.

    Attributes:
        code: the rule, e.g. "B3"; stable.
        severity: "E" cannot be right, "W" very likely wrong, "I" worth knowing.
        argument: what it is about: "labels", "logits", "probs", "log_probs", "sample_weight", "ids"
            or "history".
        what: the mistake in one sentence.
        evidence: counts, first rows, values, and every number the decision rests on.
        why: what it does to the loss if it stays.
        fix: the way out, as a call where there is one; nothing is ever applied.
    """

    code: str
    severity: Severity
    argument: str
    what: str
    evidence: Mapping[str, Any]
    why: str
    fix: str

    def to_dict(self) -> dict[str, Any]:
        """The finding as plain data; infinities and NaN, which JSON lacks, as text."""
        return {
            "code": self.code,
            "severity": self.severity,
            "argument": self.argument,
            "what": self.what,
            "evidence": plain(self.evidence),
            "why": self.why,
            "fix": self.fix,
        }

    def __str__(self) -> str:
        shown = "; ".join(_shown(name, value) for name, value in plain(self.evidence).items())
        head = f"{self.severity} {self.code} {self.what} ({shown})"
        return f"{head}\n    why: {self.why}\n    fix: {self.fix}"


def places(hits: Hits) -> dict[str, Any]:
    """Evidence of where something happened."""
    return {
        "count": hits.count,
        "rows": hits.rows,
        "first_rows": hits.first_rows,
        "first_values": hits.first_values,
    }


def plain(value: Any) -> Any:
    """Numbers to six digits: more would show in which order they were added up."""
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else str(value)
    return value if isinstance(value, int | str | bool | None) else str(value)


def _shown(name: str, value: Any) -> str:
    """One piece of evidence in words."""
    words = name.replace("_", " ")
    if not isinstance(value, Mapping):
        return f"{words} {_short(value)}"
    if value.keys() == {"count", "rows", "first_rows", "first_values"}:
        rows, values = _short(value["first_rows"]), _short(value["first_values"])
        return f"{words} {value['count']}, in {value['rows']} rows, the first {rows} with {values}"
    return f"{words} " + ", ".join(f"{key}: {_short(entry)}" for key, entry in value.items())


def _short(value: Any) -> str:
    if isinstance(value, list):
        parts = [" and ".join(map(_short, v)) if isinstance(v, list) else _short(v) for v in value]
        return ", ".join(parts) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
