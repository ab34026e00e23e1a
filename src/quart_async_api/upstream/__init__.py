"""Calls to services on the outside. The only room that imports httpx."""
