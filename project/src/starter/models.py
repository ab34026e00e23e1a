"""The tables. After a change: make migration NAME=what_changes"""

from tortoise import Model, fields


class Greeting(Model):
    id = fields.BigIntField(primary_key=True)
    name = fields.CharField(max_length=100, unique=True)
    text = fields.TextField()

    class Meta:
        table = "starter_greetings"
