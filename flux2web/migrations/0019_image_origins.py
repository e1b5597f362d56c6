"""Of the images made so far: which picture they were made from. Apart from the column, so that no table is locked meanwhile."""

import re

from django.db import migrations

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
    atomic = False
    dependencies = [
        ("flux2web", "0018_batch_collection"),
    ]

    operations = [migrations.RunPython(remember, migrations.RunPython.noop)]
