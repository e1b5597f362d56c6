"""Whose turn a task in line waits for; how often looks failed."""

import django.db.models.deletion
from django.db import migrations, models
from django.utils import timezone


def look_again(apps, schema_editor):
    """Who stood in line, of which only the quoted provider was known, says anew where."""
    apps.get_model("flux2web", "Task").objects.filter(in_line=True).update(due_at=timezone.now())


class Migration(migrations.Migration):
    dependencies = [
        ("flux2web", "0011_private_images"),
    ]

    operations = [
        migrations.RunPython(look_again, migrations.RunPython.noop),
        migrations.RemoveIndex(model_name="task", name="task_in_line"),
        migrations.RemoveField(model_name="task", name="in_line"),
        migrations.AddField(
            model_name="task",
            name="waits_for",
            field=models.ForeignKey(
                blank=True,
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="waiting",
                to="flux2web.provideraccount",
            ),
        ),
        migrations.AddIndex(
            model_name="task",
            index=models.Index(
                condition=models.Q(("waits_for__isnull", False)),
                fields=["waits_for", "team", "user", "id"],
                name="task_in_line",
            ),
        ),
        migrations.CreateModel(
            name="Failures",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("hour", models.DateTimeField()),
                ("kind", models.CharField(max_length=16)),
                ("total", models.PositiveIntegerField(default=0)),
                (
                    "account",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="looks_failed",
                        to="flux2web.provideraccount",
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("account", "hour", "kind"), name="failures_counted_once")
                ],
            },
        ),
    ]
