"""Devices in a mesh, and processes that run as one program."""
