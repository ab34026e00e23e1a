"""Jobs: runs of tasks that survive a restart. Their rows, their queue, and the engine that runs them."""
