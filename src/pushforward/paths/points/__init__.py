"""Paths of vectors to the points that stand for tokens."""

from .base import TokenPoints as TokenPoints
from .embedded import EmbeddedTokens as EmbeddedTokens
from .simplex import SimplexTokens as SimplexTokens

__all__ = ["EmbeddedTokens", "SimplexTokens", "TokenPoints"]
