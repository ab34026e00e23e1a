"""How the outcome of a task reaches its caller: waited for, polled, streamed or called back."""
