from tortoise import migrations
from tortoise.migrations import operations as ops


class Migration(migrations.Migration):
    dependencies = [("quart_async_api", "0001_tables")]  # noqa: RUF012
    operations = [  # noqa: RUF012
        ops.RunSQL("INSERT INTO parent (name) VALUES ('p1'), ('p2')"),
        ops.RunSQL("INSERT INTO child (parent_id) VALUES (1), (1), (2)"),
    ]
