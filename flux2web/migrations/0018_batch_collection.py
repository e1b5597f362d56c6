"""The collection that a batch's pictures are made for."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("flux2web", "0017_image_origin"),
    ]

    operations = [
        migrations.AddField(
            "batch",
            "collection",
            models.ForeignKey(
                blank=True,
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="+",
                to="flux2web.collection",
            ),
        ),
    ]
