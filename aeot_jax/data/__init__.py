"""Data sets: images and tables from files and downloads, and toy densities with known modes."""
