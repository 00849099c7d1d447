"""The host loop of a solve by sampling: chunks of steps, and what follows from certificates."""
