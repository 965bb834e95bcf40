"""Maps between data and the space of a model, without learnt parameters, fitted once to training rows."""
