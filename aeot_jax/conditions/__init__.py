"""Transport under conditions: labels or vectors that belong to the targets."""
