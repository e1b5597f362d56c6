"""The one app."""

from django.apps import AppConfig


class Flux2WebConfig(AppConfig):
    name = "flux2web"
    label = "flux2web"
    verbose_name = "flux2web"
