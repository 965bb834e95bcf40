"""The layers of normalizing flows: learnt maps, and permutations between them."""
