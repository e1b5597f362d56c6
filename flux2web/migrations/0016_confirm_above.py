"""What a press may cost before it is asked about."""

from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    dependencies = [
        ("flux2web", "0015_calls"),
    ]

    operations = [
        migrations.AddField("budget", "confirm_above", models.BigIntegerField(blank=True, null=True)),
        migrations.AddConstraint(
            "budget",
            models.CheckConstraint(
                condition=Q(confirm_above=None) | Q(confirm_above__gte=0, confirm_above__lte=10**12),
                name="budget_confirm_above_in_range",
            ),
        ),
    ]
