"""The picture that an image was made from."""

import django.db.models.deletion
from django.db import migrations, models

class Migration(migrations.Migration):
    dependencies = [
        ("flux2web", "0016_confirm_above"),
    ]

    operations = [
        migrations.AddField(
            "reference",
            "made_from",
            models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="images",
                to="flux2web.task",
            ),
        ),
    ]
