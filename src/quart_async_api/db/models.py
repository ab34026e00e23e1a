"""The tables. A change here wants a migration: `python -m quart_async_api.db.makemigrations NAME`."""

from tortoise import Model, fields


class User(Model):
    id = fields.BigIntField(primary_key=True)
    name = fields.CharField(max_length=50)
    email = fields.CharField(max_length=100)
    # The casefolded email, which makes the address unique whatever its case. Folding can triple a text's length.
    email_key = fields.CharField(max_length=300, unique=True)

    class Meta:
        table = "users"
