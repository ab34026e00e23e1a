"""Callbacks: signed webhooks that leave the database until their target has them."""
