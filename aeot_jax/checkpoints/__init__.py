"""Models, solutions and extensions in files, and runs that can be resumed."""
