"""Callbacks: signed webhooks, stored in the database and retried until their target accepts them."""
