"""The density of codes, by kernels around them."""
