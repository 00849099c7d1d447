"""Ways to move the heights; ``table.py`` lists them."""
