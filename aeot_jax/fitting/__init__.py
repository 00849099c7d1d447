"""A fit: its input, its stages, its events, and the folder that it writes to."""
