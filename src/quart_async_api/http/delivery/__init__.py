"""How the outcome of a task reaches its caller."""
