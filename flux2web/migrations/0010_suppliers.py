"""What callbacks are signed with, what an attempt was told, how large a callback was."""

from django.db import migrations, models
from django.db.models.functions import Length


def measure(apps, schema_editor):
    apps.get_model("flux2web", "Callback").objects.update(size_bytes=Length("body"))


class Migration(migrations.Migration):
    dependencies = [
        ("flux2web", "0009_studio"),
    ]

    operations = [
        migrations.AddField(
            model_name="provideraccount",
            name="sealed_callback_secret",
            field=models.TextField(blank=True, db_default="", default=""),
        ),
        migrations.AddField(
            model_name="attempt",
            name="message",
            field=models.CharField(blank=True, db_default="", default="", max_length=300),
        ),
        migrations.AddField(
            model_name="callback",
            name="size_bytes",
            field=models.PositiveIntegerField(db_default=0, default=0),
        ),
        migrations.RunPython(measure, migrations.RunPython.noop),
    ]
