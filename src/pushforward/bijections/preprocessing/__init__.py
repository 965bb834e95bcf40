"""Maps between data and the space of a model, without learnt parameters, fitted once to training rows."""

#: What it holds is public as `pushforward.bijections` shows it.
__all__: list[str] = []
