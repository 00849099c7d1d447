"""Files of models, solutions and extensions, and runs that can be resumed."""
