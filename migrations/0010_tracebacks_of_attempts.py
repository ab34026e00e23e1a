from tortoise import migrations
from tortoise.migrations import operations as ops
from tortoise import fields


class Migration(migrations.Migration):
    dependencies = [("quart_async_api", "0009_partial_indexes_of_jobs")]

    initial = False

    operations = [
        ops.AddField(
            model_name="JobAttempt",
            name="traceback",
            field=fields.TextField(null=True),
        ),
    ]
