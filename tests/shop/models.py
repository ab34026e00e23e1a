"""The tables of the shop."""

from tortoise import Model, fields


class Tag(Model):
    name = fields.CharField(max_length=20, primary_key=True)

    orders: fields.ManyToManyRelation["Order"]

    class Meta:
        table = "shop tags"


class Order(Model):
    id = fields.BigIntField(primary_key=True)
    customer = fields.CharField(max_length=40, unique=True)
    job = fields.CharField(max_length=36, null=True)
    paid = fields.BooleanField(default=False)
    total = fields.DecimalField(max_digits=9, decimal_places=2, default=0)
    wishes = fields.JSONField[dict[str, object] | int](null=True)
    at = fields.DatetimeField(auto_now_add=True)

    tags: fields.ManyToManyRelation[Tag] = fields.ManyToManyField(
        "tests_shop.Tag", related_name="orders", through="shop_order_tags"
    )
    lines: fields.ReverseRelation["Line"]

    class Meta:
        table = "shop_orders"


class Line(Model):
    id = fields.UUIDField(primary_key=True)
    order: fields.ForeignKeyRelation[Order] = fields.ForeignKeyField("tests_shop.Order", related_name="lines")
    above: fields.ForeignKeyNullableRelation["Line"] = fields.ForeignKeyField("tests_shop.Line", null=True)
    article = fields.CharField(max_length=40)
    picture = fields.BinaryField(null=True)
    day = fields.DateField(null=True)
    weight = fields.FloatField(null=True)

    class Meta:
        table = "shop_lines"
