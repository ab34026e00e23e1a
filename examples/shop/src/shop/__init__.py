"""Sells tea: an example of a service on quart-async-api, with tables, a pool and a schedule of its own."""
