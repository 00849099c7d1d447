"""The continuous extension of the map, its singular set, and other extensions."""
