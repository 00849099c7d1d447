"""Data sets: toy densities with known modes, and images from files."""
