from tortoise import fields, migrations
from tortoise.migrations import operations as ops


class Migration(migrations.Migration):
    dependencies = [("quart_async_api", "0002_rows")]  # noqa: RUF012
    operations = [  # noqa: RUF012
        ops.AlterField(model_name="Parent", name="name", field=fields.CharField(max_length=50, null=True)),
    ]
