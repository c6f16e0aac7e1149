"""Which loss a task calls for: answers, the tree over them, and the answers that labels give."""

from crossent.decision.answers import Answers, missing
from crossent.decision.gathering import Gathered, gather
from crossent.decision.recommendation import Recommendation, make_recommendation

__all__ = ["Answers", "Gathered", "Recommendation", "gather", "make_recommendation", "missing"]
