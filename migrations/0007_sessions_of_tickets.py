from tortoise import migrations
from tortoise.migrations import operations as ops
from tortoise import fields


class Migration(migrations.Migration):
    dependencies = [("quart_async_api", "0006_callback_queues")]

    initial = False

    operations = [
        ops.AddField(
            model_name="AccessToken",
            name="session",
            field=fields.CharField(null=True, max_length=64),
        ),
    ]
