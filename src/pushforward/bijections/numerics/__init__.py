"""Numerics of bijections: roots, reflections, bounded slopes, checks of shapes."""
