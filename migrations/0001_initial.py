from tortoise import fields, migrations
from tortoise.migrations import operations as ops


class Migration(migrations.Migration):
    initial = True

    operations = [
        ops.CreateModel(
            name="User",
            fields=[
                ("id", fields.BigIntField(generated=True, primary_key=True, unique=True, db_index=True)),
                ("name", fields.CharField(max_length=50)),
                ("email", fields.CharField(max_length=100)),
                ("email_key", fields.CharField(unique=True, max_length=300)),
            ],
            options={"table": "users", "app": "quart_async_api", "pk_attr": "id"},
            bases=["Model"],
        ),
    ]
