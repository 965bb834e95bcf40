"""The layers of normalizing flows: learnt maps, and permutations between them."""

#: What it holds is public as `pushforward.bijections` shows it.
__all__: list[str] = []
