"""A fit: its input, its stages, what it reports, and the folder that it writes to."""
