"""What users hand in beside arrays and numbers: pixels, tables, functions, words, libraries.

``nearest``, ``extras`` and ``pixels`` import no JAX: a help text and a reader of data need none.
"""
