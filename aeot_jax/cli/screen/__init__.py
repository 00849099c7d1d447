"""What the command line shows: help texts, progress, warnings, a summary, interrupts."""
