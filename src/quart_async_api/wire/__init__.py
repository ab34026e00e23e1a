"""ASGI without routing: the layers around every connection and request, under any server."""
