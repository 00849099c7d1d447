"""Samples drawn, counted in the cells, and what the counts tell."""
