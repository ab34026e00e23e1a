"""ASGI without routing: what is done to every connection and request, under any server."""
