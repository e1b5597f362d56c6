"""An account remembers its last calls: no window of time has more of them than allowed."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("flux2web", "0014_lost_files"),
    ]

    operations = [
        migrations.RemoveField("provideraccount", "next_call_at"),
        migrations.AddField("provideraccount", "calls", models.JSONField(blank=True, db_default=[], default=list)),
    ]
