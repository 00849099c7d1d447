"""Semi-discrete optimal transport: kernel, solver, map and certificate."""
