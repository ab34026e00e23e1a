from tortoise import migrations
from tortoise.migrations import operations as ops
from tortoise import fields


class Migration(migrations.Migration):
    dependencies = [("quart_async_api", "0007_sessions_of_tickets")]

    initial = False

    operations = [
        ops.AddField(
            model_name="IdempotencyKey",
            name="bytes",
            field=fields.BigIntField(db_default=0),
        ),
        ops.AddField(
            model_name="IdempotencyKey",
            name="owner",
            field=fields.CharField(db_default="", max_length=36),
        ),
    ]
