"""Finds a page's broken links: an example of a project on quart-async-api."""
