"""Numerics of bijections: roots, reflections, bounded slopes, checks of shapes."""

#: What it holds is public as `pushforward.bijections` shows it.
__all__: list[str] = []
