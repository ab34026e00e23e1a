from tortoise import migrations
from tortoise.migrations import operations as ops
from tortoise import fields

class Migration(migrations.Migration):
    initial = True

    operations = [
        ops.CreateModel(
            name='Greeting',
            fields=[
                ('id', fields.BigIntField(generated=True, primary_key=True, unique=True, db_index=True)),
                ('name', fields.CharField(unique=True, max_length=100)),
                ('text', fields.TextField(unique=False)),
            ],
            options={'table': 'starter_greetings', 'app': 'starter', 'pk_attr': 'id'},
            bases=['Model'],
        ),
    ]
