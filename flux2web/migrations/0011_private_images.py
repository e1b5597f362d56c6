"""Images that only their author sees, and those whose files are gone."""

import re

from django.db import migrations, models

NAME = re.compile(r"picture-(\d{1,18})\.\w+")  # what an image was called that was made from a picture


def hide(apps, schema_editor):
    """Those made so far from what its author keeps private, as far as their names still tell."""
    task = apps.get_model("flux2web", "Task").objects
    rows = apps.get_model("flux2web", "Reference").objects.filter(name__startswith="picture-")
    for row in rows.iterator():
        made_from = NAME.fullmatch(row.name)
        if made_from and task.filter(pk=made_from[1], team=row.team_id, user=row.user_id, private=True).exists():
            rows.filter(pk=row.pk).update(private=True)


class Migration(migrations.Migration):
    dependencies = [
        ("flux2web", "0010_suppliers"),
    ]

    operations = [
        migrations.AddField(
            model_name="reference",
            name="private",
            field=models.BooleanField(db_default=False, default=False),
        ),
        migrations.AddField(
            model_name="reference",
            name="purged_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.RunPython(hide, migrations.RunPython.noop),
    ]
