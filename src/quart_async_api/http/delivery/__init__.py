"""Delivery of a task's outcome to its caller: waiting, polling, streaming or a callback."""
