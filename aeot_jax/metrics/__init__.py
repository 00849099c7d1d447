"""Measures of quality for generated samples; arrays in, numbers out."""
