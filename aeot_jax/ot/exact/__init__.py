"""Exact references on the line and in the plane, float64 on the host."""
