"""Pairs (x, T(x), index) to train on: any batch at once, in any process."""
