"""The tables."""

from tortoise import Model, fields


class Article(Model):
    """What the shop sells: `price` in cents, `weight` in grams. At night, `stock` is filled up to `full`."""

    sku = fields.CharField(max_length=20, primary_key=True)
    name = fields.CharField(max_length=80)
    price = fields.IntField()
    weight = fields.IntField()
    stock = fields.IntField()
    full = fields.IntField()

    class Meta:
        table = "shop_article"


class Order(Model):
    """`run` is the run of the task that placed it, `packing` the job that packs it, `parcel` None until it is packed."""

    id = fields.BigIntField(primary_key=True)
    run = fields.CharField(max_length=36, unique=True)
    customer = fields.BigIntField()
    country = fields.CharField(max_length=2)
    price = fields.IntField()
    weight = fields.IntField()
    packing = fields.CharField(max_length=36, null=True)
    parcel = fields.CharField(max_length=40, null=True)
    lines: fields.ReverseRelation["Line"]

    class Meta:
        table = "shop_order"


class Line(Model):
    order: fields.ForeignKeyRelation[Order] = fields.ForeignKeyField("shop.Order", related_name="lines")
    article: fields.ForeignKeyRelation[Article] = fields.ForeignKeyField("shop.Article", on_delete=fields.RESTRICT)
    article_id: str
    count = fields.IntField()

    class Meta:
        table = "shop_line"
