"""Jobs: runs of tasks that survive the process. Their rows, their queue, and the engine that runs them."""
