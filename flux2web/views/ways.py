"""Ways back to the page that a press was on, also for whoever has to sign in first."""

from __future__ import annotations

from urllib.parse import urlsplit

from django.contrib import messages
from django.contrib.auth.middleware import LoginRequiredMiddleware
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponseRedirect
from django.utils.http import url_has_allowed_host_and_scheme

SIGNED_OUT = "You were signed out, so nothing was sent. Sign in, then press once more."


def own_path(request: HttpRequest) -> str:
    """A path of this site out of `next`; "" for anything else."""
    return _local(request.POST.get("next", "") or request.GET.get("next", ""))


def came_from(request: HttpRequest) -> str:
    """The page of this site that a press was on; "" where the browser does not say."""
    page = request.headers.get("Referer", "")
    is_here = url_has_allowed_host_and_scheme(page, {request.get_host()}, require_https=request.is_secure())
    return _local(urlsplit(page)._replace(scheme="", netloc="", fragment="").geturl()) if is_here else ""


def _local(path: str) -> str:
    is_ours = path.startswith("/") and url_has_allowed_host_and_scheme(path, allowed_hosts=None)
    return path if is_ours and path.isprintable() else ""


class SignInFirst(LoginRequiredMiddleware):
    """Whoever was signed out meanwhile comes back to the page that they pressed on: the address of a press shows none."""

    def handle_no_permission(self, request: HttpRequest, view_func) -> HttpResponseRedirect:
        if request.method in ("GET", "HEAD"):
            return super().handle_no_permission(request, view_func)
        messages.warning(request, SIGNED_OUT)
        login, field = self.get_login_url(view_func), self.get_redirect_field_name(view_func)
        return redirect_to_login(came_from(request) or "/", login, field)
