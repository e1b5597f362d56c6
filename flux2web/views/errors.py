"""When there is no page. Rendered without request, session or database: these must work when little else does."""

from __future__ import annotations

from django.core.exceptions import RequestDataTooBig, TooManyFieldsSent
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string

NOT_FOUND = "There is nothing at this address, or you may not see it. It may have been moved or deleted."
BROKEN = "Something broke on our side. What you sent may not have arrived; nothing is charged for a picture that does not come."
BAD_REQUEST = "The server could not read what your browser sent. Go back, reload the page and try again."
TOO_MUCH = "These were too many things at once, so none of it was done. Go back, choose fewer and do it in parts."


def answer(status: int, title: str, text: str) -> HttpResponse:
    page = render_to_string("errors/page.html", {"status": status, "title": title, "text": text})
    return HttpResponse(page, status=status)


def bad_request(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    if isinstance(exception, TooManyFieldsSent | RequestDataTooBig):
        return answer(400, "Too much at once", TOO_MUCH)
    return answer(400, "That did not make sense", BAD_REQUEST)


def forbidden(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return answer(403, "Not for you", str(exception or "") or "You may not do this here.")


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return answer(404, "Nothing here", NOT_FOUND)


def server_error(request: HttpRequest) -> HttpResponse:
    return answer(500, "Something broke", BROKEN)
