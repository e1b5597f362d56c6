"""Ways back: who was signed out comes back to the page that they pressed on, and nowhere outside of this site."""

from __future__ import annotations

import pytest

from . import factories

CREATE, STUDIO = "/t/north/tasks/", "/t/north/"


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("referer", "next_"),
    [
        ("http://testserver/t/north/?like=4", "/t/north/%3Flike%3D4"),
        ("http://testserver/t/north/#cards", "/t/north/"),
        ("", "/"),
        ("https://evil.example/t/north/", "/"),
        ("http://testserver//evil.example/", "/"),
        ("javascript:alert(1)", "/"),
        ("http://[", "/"),
    ],
)
def test_a_press_by_who_is_signed_out_leads_back_to_its_page(client, north, referer, next_):
    answer = client.post(CREATE, {"prompt": "A quiet harbour"}, headers={"Referer": referer})
    assert (answer.status_code, answer["Location"]) == (302, f"/accounts/login/?next={next_}")
    said = client.get(answer["Location"]).content.decode()
    assert "You were signed out, so nothing was sent. Sign in, then press once more." in said


@pytest.mark.django_db
def test_a_page_asked_for_by_who_is_signed_out_comes_after_signing_in(client, north):
    assert client.get(STUDIO)["Location"] == "/accounts/login/?next=/t/north/"
    assert "signed out" not in client.get("/accounts/login/?next=/t/north/").content.decode()


@pytest.mark.django_db
def test_signing_in_after_such_a_press_ends_on_a_page(client, north, membership, cleo):
    factories.make_account("revid")
    membership(cleo, north)
    cleo.set_password("a long pass phrase 1")
    cleo.save()
    login = client.post(CREATE, {}, headers={"Referer": f"http://testserver{STUDIO}"})["Location"]
    answer = client.post(login, {"login": cleo.email, "password": "a long pass phrase 1"}, follow=True)
    assert (answer.status_code, answer.request["PATH_INFO"]) == (200, STUDIO)
