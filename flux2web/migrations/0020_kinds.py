"""Which kinds of picture a team makes."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("flux2web", "0019_image_origins"),
    ]

    operations = [
        migrations.AddField("budget", "kinds", models.CharField(blank=True, db_default="", default="", max_length=40)),
    ]
