"""What a route says of itself, and the OpenAPI document that is made of it."""
