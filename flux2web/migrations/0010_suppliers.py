"""What callbacks are signed with, what an attempt was told, how large a callback was."""

from django.db import migrations, models
from django.db.models import OuterRef, Subquery
from django.db.models.functions import Coalesce, Length


def measure(apps, schema_editor):
    """And whose address it was, which is known of all that are kept so far."""
    attempts = apps.get_model("flux2web", "Attempt").objects.filter(pk=OuterRef("attempt"))
    provider = Coalesce(Subquery(attempts.values("account__provider")[:1]), "provider")
    apps.get_model("flux2web", "Callback").objects.update(size_bytes=Length("body"), provider=provider)


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
