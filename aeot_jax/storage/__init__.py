"""Bytes on disk: files written whole, archives, sealed JSON, locks, and the folder of a run."""
