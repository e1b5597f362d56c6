"""The first administrator: one page, open until there is one."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth import login
from django.core import signing
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache

from .. import access
from ..forms_people import SetupForm
from ..models import User

SALT = "flux2web.setup"


def setup_path() -> str:
    """The page's address, signed with our secret: whoever reads what `up` printed may open it."""
    return reverse("setup", args=[signing.dumps("setup", salt=SALT)])


@access.public
@never_cache
def page(request: HttpRequest, token: str) -> HttpResponse:
    require_ours(token)
    if User.objects.exists():
        return done(request)
    form = SetupForm(request.POST or None)
    if not form.is_valid():
        return render(request, "setup/page.html", {"form": form}, status=422 if form.is_bound else 200)
    user = form.save()
    if user is None:
        return done(request)
    login(request, user, backend=settings.AUTHENTICATION_BACKENDS[0])
    return redirect("home")


def require_ours(token: str) -> None:
    try:
        signing.loads(token, salt=SALT)
    except signing.BadSignature:
        raise Http404("This is not the link that `up` printed. Copy it whole.") from None


def done(request: HttpRequest) -> HttpResponse:
    return render(request, "setup/done.html", status=410)
