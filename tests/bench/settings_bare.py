"""A Django with nothing around its one view."""

from django.http import HttpResponse
from django.urls import path

from flux2web.settings import *  # noqa: F403
from flux2web.settings import INSTALLED_APPS

INSTALLED_APPS = [name for name in INSTALLED_APPS if not name.startswith("allauth")]  # which insist on a middleware
MIDDLEWARE = []
ROOT_URLCONF = "tests.bench.settings_bare"
urlpatterns = [path("bare/", lambda request: HttpResponse(b"ok"))]
