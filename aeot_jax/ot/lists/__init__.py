"""Inverted lists: the cells of samples from few of the scores, with a bound on what is wrong."""
