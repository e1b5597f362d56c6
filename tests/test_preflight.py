"""The check that an image can be fetched from outside, over a real connection: names are judged, certificates read, bytes
compared. Only the network in between is ours: a public address is dialled on loopback."""

from __future__ import annotations

import hashlib

import pytest

from flux2web import references, storage
from flux2web.models import Reference

from . import factories
from .pictures import picture
from .test_http import PUBLIC, authority, dials, http_answer, names, says, scaled, serve, trusting  # noqa: F401

SITE = "studio.example.com"
PICTURE = picture("teal")


@pytest.fixture
def hosting(north, cleo, membership, settings, names):  # noqa: F811
    settings.PUBLIC_URL = f"https://{SITE}"
    names[SITE] = [PUBLIC]
    row = factories.make_reference(north, user=cleo, content=PICTURE)
    Reference.objects.filter(pk=row.pk).update(sha256=hashlib.sha256(PICTURE).hexdigest())
    made = references.open_address(membership(cleo, north), Reference.objects.get(pk=row.pk))
    return made


@pytest.fixture
def check(client_for, cleo, hosting, dials, trusting, scaled):  # noqa: F811
    """check() presses the button on the image's page; what is said there."""

    def press() -> str:
        url = f"/t/north/references/{hosting.reference_id}/addresses/{hosting.pk}/check/"
        answer = client_for(cleo).post(url, headers={"HX-Request": "true"})
        assert answer.status_code == 200
        return answer.content.decode()

    return press


def proxied(hosting):
    """A proxy that passes on what begins with /i/ and nothing else."""
    line = f"GET {storage.hosting_path(hosting)} HTTP/1.1".encode()

    def answer(connection, request):
        connection.sendall(http_answer(PICTURE) if request.startswith(line) else http_answer(b"no", status=404))

    return answer


def test_what_the_world_can_fetch_is_fine(check, hosting, serve, dials, trusting):  # noqa: F811
    dials.server = serve(proxied(hosting), tls=trusting(SITE))
    assert "Fine: the image came, whole, as a provider would fetch it." in check()
    assert dials == [PUBLIC]


def test_a_proxy_that_keeps_it_back_is_named(check, serve, dials, trusting):  # noqa: F811
    dials.server = serve(says(http_answer(b"no", status=404)), tls=trusting(SITE))
    said = check()
    assert f"{SITE} answered 404." in said
    assert "what begins with /i/" in said


def test_a_sign_in_page_in_its_place_is_no_image(check, serve, dials, trusting):  # noqa: F811
    dials.server = serve(says(http_answer(b"<html>Sign in</html>")), tls=trusting(SITE))
    assert "Something else than this image came from its address." in check()


@pytest.mark.parametrize("certificate", [(SITE, "me", None), ("other.example.com",)])
def test_a_certificate_that_nobody_trusts_is_said_to_be_so(check, serve, dials, trusting, certificate):  # noqa: F811
    dials.server = serve(says(http_answer(PICTURE)), tls=trusting(*certificate))
    assert "Its certificate is not one that the world trusts" in check()


def test_a_name_that_leads_into_the_own_network_is_judged_from_elsewhere(check, names, dials):  # noqa: F811
    names[SITE] = ["10.1.2.3"]
    assert "open the address from another network" in check()
    assert dials == []


def test_where_nobody_listens_it_is_said_and_sending_is_not_stopped(check, dials):  # noqa: F811
    said = check()
    assert "providers that fetch images cannot work with them" in said
    assert "Sending is not stopped by this check." in said
