"""Which of how many a task is, of those that were sent together."""

from django.db import migrations, models
from django.db.models import Count, OuterRef, Subquery
from django.db.models.functions import Cast

WHOLE = models.SmallIntegerField()


def number(apps, schema_editor):
    task = apps.get_model("flux2web", "Task")
    mates = task.objects.filter(batch=OuterRef("batch")).order_by().values("batch")

    def counted(rows):
        return Subquery(rows.annotate(number=Cast(Count("pk"), WHOLE)).values("number"))

    several = task.objects.filter(pk__in=_of_several(task))
    several.update(batch_size=counted(mates), batch_number=counted(mates.filter(pk__lte=OuterRef("pk"))))


def _of_several(task):
    batches = task.objects.order_by().values("batch").annotate(number=Count("pk")).filter(number__gt=1)
    return task.objects.filter(batch__in=batches.values("batch")).values("pk")


class Migration(migrations.Migration):
    dependencies = [
        ("flux2web", "0012_lines"),
    ]

    operations = [
        migrations.AddField("task", "batch_number", models.SmallIntegerField(default=1, db_default=1)),
        migrations.AddField("task", "batch_size", models.SmallIntegerField(default=1, db_default=1)),
        migrations.RunPython(number, migrations.RunPython.noop),
    ]
