"""The player of a report: particles or images that move from the source to the data, in plain JavaScript."""

from .build import Player, make_player

__all__ = ["Player", "make_player"]
