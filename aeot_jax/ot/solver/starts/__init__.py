"""Heights to start from, and the state before the first step."""
