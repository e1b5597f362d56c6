"""The one app."""

from django.apps import AppConfig
from django.conf import settings

from . import faults


class Flux2WebConfig(AppConfig):
    name = "flux2web"
    label = "flux2web"
    verbose_name = "flux2web"

    def ready(self) -> None:
        faults.crash_at = settings.CRASH_AT
