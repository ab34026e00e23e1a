"""The routes, one blueprint for each resource."""
