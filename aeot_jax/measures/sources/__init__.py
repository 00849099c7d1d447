"""The sources of this package, one per file; ``aeot_jax/measures/public.py`` lists them."""
