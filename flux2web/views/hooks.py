"""Where providers ring. Any method, any body: keep it, look, answer at once. Nothing in it is believed."""

from __future__ import annotations

import structlog
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse, JsonResponse, RawPostDataException, UnreadablePostError
from django.views.decorators.csrf import csrf_exempt

from .. import access, actors, lifecycle

log = structlog.get_logger(__name__)


@csrf_exempt
@access.public
def ring(request: HttpRequest, provider: str, secret: str) -> HttpResponse:
    """200 to whoever knows an attempt's secret, 404 to everyone else, 503 while our database is down."""
    try:
        found = lifecycle.ring(provider, secret, request.method or "", _body(request), request.headers)
    except DatabaseError as error:
        log.error("callback not kept", error=repr(error))
        return HttpResponse("Try again later.", status=503, content_type="text/plain")
    if found is None:
        return HttpResponse("Not found.", status=404, content_type="text/plain")
    actors.kick(*found)
    # kie's own sample receiver answers this (docs.kie.ai, 2026-11); the others look at the status alone.
    return JsonResponse({"code": 200, "msg": "success"})


def _body(request: HttpRequest) -> bytes:
    try:
        return request.body
    except (UnreadablePostError, RawPostDataException):
        return b""
