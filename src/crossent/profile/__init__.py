"""Mergeable facts about labels and scores, for `crossent.rules` to judge. Knows no rule."""

from crossent.profile.profile import KINDS, SENTINELS, Family, Kind, Profile, Severity

__all__ = ["KINDS", "SENTINELS", "Family", "Kind", "Profile", "Severity"]
