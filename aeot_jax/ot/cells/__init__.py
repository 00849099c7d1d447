"""Which cell holds a sample: the kernel, antithetic samples, and targets in blocks."""
