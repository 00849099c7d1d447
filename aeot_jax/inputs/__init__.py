"""Inputs that need more than a type: pixels, tables, functions, misspelt words, libraries.

``nearest``, ``extras`` and ``pixels`` import no JAX: a help text and a reader of data need none.
"""
