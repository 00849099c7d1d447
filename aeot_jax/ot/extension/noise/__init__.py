"""New codes from kernels, by the place of a sample in its cell."""
