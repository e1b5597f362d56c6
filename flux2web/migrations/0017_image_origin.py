"""The picture that an image was made from."""

import re

import django.db.models.deletion
from django.db import migrations, models

NAME = re.compile(r"picture-(\d{1,18})\.\w+")  # what an image is called that was made from a picture


def remember(apps, schema_editor):
    """Of those made so far, as far as their names still tell."""
    task = apps.get_model("flux2web", "Task").objects
    rows = apps.get_model("flux2web", "Reference").objects.filter(name__startswith="picture-")
    for row in rows.iterator():
        made_from = NAME.fullmatch(row.name)
        if made_from and task.filter(pk=made_from[1], team=row.team_id, state="done").exists():
            rows.filter(pk=row.pk).update(made_from=made_from[1])


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
        migrations.RunPython(remember, migrations.RunPython.noop),
    ]
