"""Maps between data and the space of a model: without parameters to learn, set once from training rows."""
