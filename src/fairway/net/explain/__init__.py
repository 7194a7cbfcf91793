"""What becomes of a packet, and why: snapshots of the hosts in, the tree of stages out. Nothing is sent or read."""

from fairway.net.explain.explain import Place, Question, explain
from fairway.net.explain.text import text_of
from fairway.net.explain.tree import Direction, Explanation, Stage, Verdict

__all__ = ["Direction", "Explanation", "Place", "Question", "Stage", "Verdict", "explain", "text_of"]
