"""A Django with nothing around its one view."""

from django.http import HttpResponse
from django.urls import path

from flux2web.settings import *  # noqa: F403

MIDDLEWARE = []
ROOT_URLCONF = "tests.bench.settings_bare"
urlpatterns = [path("bare/", lambda request: HttpResponse(b"ok"))]
