"""The built-in world: a synthetic encyclopaedia of any size, with multi-hop questions."""

from exsearch.world.entity import SPLITS, Split
from exsearch.world.world import MIN_PASSAGES, World, write_questions

__all__ = ["MIN_PASSAGES", "SPLITS", "Split", "World", "write_questions"]
