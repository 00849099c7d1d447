"""The kernel on a GPU with tensor cores."""
