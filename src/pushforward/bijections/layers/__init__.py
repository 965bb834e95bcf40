"""Learnt maps, and the rearrangements between them, of which normalizing flows are made."""
