"""Ways to draw the samples that move the heights; ``table.py`` lists them."""
