"""Calls to other services, with deadlines, retries and limits."""
