"""Since when storage has not had the file of a picture."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("flux2web", "0013_batch_numbers"),
    ]

    operations = [
        migrations.AddField("result", "lost_at", models.DateTimeField(blank=True, null=True)),
    ]
