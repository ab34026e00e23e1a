"""The contract of each route, and the OpenAPI document made of these contracts."""
