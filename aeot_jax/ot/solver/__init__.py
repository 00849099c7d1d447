"""The solver: what the user decides, the steps that move the heights, and the certificate."""
