"""What a release needs before its processes start."""

from django.conf import settings
from django.core.management import BaseCommand, call_command

from flux2web import accounts, pricing
from flux2web.models import User
from flux2web.views.setup import setup_path


class Command(BaseCommand):
    help = (
        "Scaled out: bring database, static files, prices and accounts up to date. Run once before web, workers, clock."
    )

    def handle(self, **_):
        bring_up_to_date()
        self.stdout.write("Database, static files, prices and accounts are up to date.")
        if not User.objects.exists():
            self.stdout.write(f"Nobody is here yet. The first administrator: {settings.PUBLIC_URL}{setup_path()}")


def bring_up_to_date() -> None:
    """Safe at every start: what is there already stays as it is."""
    call_command("migrate", verbosity=0, interactive=False)
    call_command("collectstatic", verbosity=0, interactive=False)
    pricing.seed_prices()
    accounts.seed_from_environment()
