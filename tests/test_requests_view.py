"""Asking from the studio and from My usage, the team's inbox, and the answers there."""

from __future__ import annotations

import re

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from flux2web import audit, ledger, requests
from flux2web.models import Act, Budget, CreditRequest, Membership, Role, Task, Team
from flux2web.orders import Cell

from . import factories
from .pictures import picture, upload
from .road import order

STUDIO, ASK, INBOX, USAGE = "/t/north/", "/t/north/ask/", "/t/north/requests/", "/t/north/usage/"
HTMX = {"HX-Request": "true"}
DRAFT = {
    "prompt": "A quiet harbour at dawn",
    "family": "pro",
    "aspect_ratio": "4:3",
    "resolution": "1K",
    "count": "8",
    "provider": "",
    "price": "80",
    "key": "press-1",
}
WISH = {"amount": "30", "reason": "the series", "sends_itself": "on", "short": "30"}
NONSENSE = ["-5", "0", str(2**63), "1e9", "1,5", "NaN", "١٢٣٤٥٦٧٨", ""]


@pytest.fixture(autouse=True)
def revid(db):
    """Pro 1K at 10 credits."""
    return factories.make_account("revid")


@pytest.fixture
def capped(cleo, north, membership):
    """Cleo, who may use 50 a period."""
    Membership.objects.filter(user=cleo).update(cap=50)
    return membership(cleo, north)


@pytest.fixture
def ask(client_for, capped, ben):
    """ask(amount="40") is cleo asking from the studio, her browser with JavaScript unless told otherwise."""

    def do(user=None, *, htmx: bool = True, **given):
        client = client_for(user or capped.user)
        given = {name: value for name, value in {**DRAFT, **WISH, **given}.items() if value is not None}
        return client.post(ASK, given, headers=HTMX if htmx else {})

    return do


@pytest.fixture
def request_of(capped, ben):
    """request_of() is an open request of cleo's with a draft of eight."""
    keys = iter(range(10_000))

    def do(**given):
        given = {"limit": "cap", "amount": 30, "reason": "", "sends_itself": True, "draft": order(count=8)} | given
        return requests.ask(capped, key=f"r{next(keys)}", price_seen=80, **given)

    return do


@pytest.fixture
def decide(client_for, ben):
    def do(request, user=None, **given):
        form = {"verdict": "approve", "amount": str(request.amount), "lasts": "period", "note": ""} | given
        return client_for(user or ben).post(f"{INBOX}{request.pk}/decide/", form)

    return do


def text(answer) -> str:
    return answer.content.decode()


def plain(html: str) -> str:
    return re.sub(r"<[^>]+>|\s+", " ", html)


def room(member: Membership) -> int:
    return ledger.left(Membership.objects.get(pk=member.pk)).least


# --- Asking -----------------------------------------------------------------------------------------------------------


def test_asking_keeps_the_draft_and_says_who_was_asked(ask, capped):
    answer = ask()
    page = text(answer)
    assert answer.status_code == 200
    assert (answer["HX-Retarget"], answer["HX-Reswap"]) == ("#compose", "outerHTML")
    assert "Asked Ben for 30 credits." in page
    assert 'href="/t/north/usage/#requests"' in page
    assert ">\nA quiet harbour at dawn" in page
    assert 'value="press-1"' not in page  # the next press is another one
    row = CreditRequest.objects.get()
    assert (row.amount, row.reason, row.limit, row.price_seen, row.sends_itself) == (
        30,
        "the series",
        "member",
        80,
        True,
    )
    assert requests.order_of(row.draft) == order(count=8)
    assert not Task.objects.exists()


def test_without_javascript_it_is_the_whole_studio_still_filled(ask):
    page = text(ask(htmx=False))
    assert "<html" in page
    assert "Asked Ben for 30 credits." in page
    assert re.search(r'name="count" value="8" checked', page)


def test_what_is_not_to_send_itself_needs_no_prompt(ask):
    assert ask(prompt="", sends_itself=None).status_code == 200
    row = CreditRequest.objects.get()
    assert (row.draft, row.sends_itself) == (None, False)


def test_what_is_to_send_itself_must_be_right(ask):
    answer = ask(prompt="ab")
    assert answer.status_code == 422
    assert "Write at least 3 characters" in text(answer)
    assert re.search(r'name="reason"[^>]*value="the series"', text(answer))
    assert not CreditRequest.objects.exists()


def test_images_go_with_it(ask, settings):
    settings.PUBLIC_URL = "https://studio.example.com"
    assert ask(files=[upload(picture("teal"))]).status_code == 200
    assert len(CreditRequest.objects.get().draft["references"]) == 1


@pytest.mark.parametrize("amount", NONSENSE)
def test_an_amount_that_is_none_is_refused_at_its_field(ask, amount):
    answer = ask(amount=amount)
    page = text(answer)
    assert answer.status_code == 422
    assert 'id="ask-amount-error"' in page
    assert f'name="amount" inputmode="numeric" autocomplete="off" value="{amount}"' in page
    assert '<details class="more asking" id="asking" open>' in page
    assert not CreditRequest.objects.exists()


def test_asked_twice_it_is_one_request(ask):
    for _ in range(2):
        assert ask().status_code == 200
    assert CreditRequest.objects.count() == 1


def test_a_price_that_rose_meanwhile_is_said_before_anything_is_asked(ask):
    answer = ask(price="40")
    assert answer.status_code == 422
    assert "from 40 to 80 credits" in text(answer)


def test_a_sixth_open_request_is_refused_in_words(ask, request_of):
    for _ in range(5):
        request_of()
    answer = ask()
    assert answer.status_code == 422
    assert "5 of your requests wait" in text(answer)


def test_the_teams_budget_is_asked_of_the_site_admins(ask, sam, north):
    Budget.objects.filter(team=north).update(granted=20)
    assert "Asked Sam for 60 credits." in text(ask(amount="60"))
    assert CreditRequest.objects.get().limit == "team"


def test_ones_own_limit_is_ones_own_to_change(ask, capped):
    Membership.objects.filter(pk=capped.pk).update(own_limit=10)
    answer = ask()
    assert answer.status_code == 422
    assert not CreditRequest.objects.exists()


def test_from_my_usage_it_needs_no_draft(client_for, capped, ben):
    answer = client_for(capped.user).post(ASK, {"amount": "30", "reason": "", "key": "k"}, follow=True)
    assert "Asked Ben for 30 credits." in text(answer)
    refused = client_for(capped.user).post(ASK, {"amount": "many", "reason": "why", "key": "k2"})
    assert refused.status_code == 422
    assert 'value="many"' in text(refused)


def test_who_may_not_make_pictures_asks_for_nothing(ask, eve, zoe):
    assert ask(eve).status_code == 403
    assert ask(zoe).status_code == 404


# --- The inbox --------------------------------------------------------------------------------------------------------


def test_the_inbox_shows_what_one_needs_to_decide(client_for, ben, request_of, north, settings):
    settings.PUBLIC_URL = "https://studio.example.com"
    reference = factories.make_reference(north)
    request_of(amount=1234, reason="the series", draft=order(count=8, references=(reference.pk,)))
    factories.make_task(north, user=CreditRequest.objects.get().user, state="done", price=20)
    page = text(client_for(ben).get(INBOX))
    said = plain(page)
    for words in ("Cleo asks for 1,234 credits", "20 used of 50 this period", "the series", "A quiet harbour at dawn"):
        assert words in said
    assert "8 pictures" in said
    assert f"/t/north/references/{reference.pk}/thumb" in page
    assert re.search(r'name="amount" value="1234"', page)
    assert re.search(r'name="lasts" value="period" checked', page)


@pytest.mark.parametrize(
    ("private", "by_default", "is_hidden"), [(True, False, True), (None, True, True), (False, True, False)]
)
def test_what_is_for_its_author_alone_is_not_shown_to_who_decides(
    client_for, ben, sam, north, request_of, decide, private, by_default, is_hidden
):
    Team.objects.update(private_by_default=by_default)
    asked = order(count=8, private=private, references=(factories.make_reference(north).pk,))
    request = request_of(draft=asked)
    open_one = request_of(draft=asked)
    console = request_of(limit="team", draft=asked)
    shown = text(client_for(ben).get(INBOX))
    assert ("/thumb" in shown) is not is_hidden
    requests.withdraw(open_one, Membership.objects.get(user=open_one.user, team=north))
    decide(request, verdict="decline")
    for page in (client_for(ben).get(INBOX), client_for(sam).get("/console/requests/")):
        assert ("A quiet harbour" in text(page)) is not is_hidden
        assert ("its author keeps these pictures to themselves" in text(page)) is is_hidden
        assert "8 pictures" in text(page)
    assert client_for(sam).get("/console/requests/").content.decode().count(f"request-{console.pk}-title")


def test_whoever_asked_sees_what_for(client_for, ben, north, membership):
    requests.ask(
        membership(ben, north),
        key="own",
        price_seen=80,
        limit="team",
        amount=30,
        reason="",
        sends_itself=False,
        draft=order(count=8, private=True),
    )
    assert "A quiet harbour" in text(client_for(ben).get(INBOX))


def test_of_a_matrix_every_picture_is_counted(request_of, client_for, ben):
    request_of(draft=order(count=2, rest=(Cell("A heron", "pro", "1:1"), Cell("An owl", "pro", "1:1"))))
    assert "6 pictures" in text(client_for(ben).get(INBOX))


def test_open_ones_come_first_and_the_decided_below(client_for, ben, request_of):
    declined = request_of(amount=11)
    waiting = request_of(amount=12)
    requests.decline(declined, by=ben, note="later")
    page = text(client_for(ben).get(INBOX))
    assert page.index(f"request-{waiting.pk}") < page.index(f"request-{declined.pk}")
    assert "“later”" in page


def test_approving_gives_tells_and_sends(decide, request_of, capped, client_for):
    row = request_of()
    assert decide(row).status_code == 302
    row.refresh_from_db()
    assert (row.state, row.granted, row.lasts) == ("granted", 30, False)
    assert row.send_due_at
    assert room(capped) == 80
    requests.send_due(row.pk)
    assert Task.objects.count() == 8
    assert audit.ledger() == []


def test_another_amount_for_good(decide, request_of, capped):
    decide(request_of(), amount="1,000", lasts="lasts")
    assert Membership.objects.get(pk=capped.pk).cap == 1050


def test_declining_needs_no_amount(decide, request_of, capped, client_for):
    row = request_of()
    assert decide(row, verdict="decline", amount="", note="wait").status_code == 302
    assert "wait" in text(client_for(capped.user).get(USAGE))


@pytest.mark.parametrize("amount", NONSENSE)
def test_nonsense_is_refused_at_its_field_and_stays_there(decide, request_of, amount):
    row = request_of()
    answer = decide(row, amount=amount, note="typed")
    page = text(answer)
    assert answer.status_code == 422
    assert f'id="request-{row.pk}-amount_error"' in page
    assert 'value="typed"' in page
    assert CreditRequest.objects.get().state == "open"


def test_nonsense_instead_of_a_verdict_moves_nothing(decide, request_of):
    assert decide(request_of(), verdict="maybe").status_code == 422
    assert CreditRequest.objects.get().state == "open"


def test_the_second_of_two_admins_is_told_who_was_first(decide, request_of, ana, capped):
    row = request_of()
    decide(row, ana, amount="20")
    answer = decide(row)
    assert answer.status_code == 409
    assert "Ana granted 20 credits already. Nothing was changed." in plain(text(answer))
    assert room(capped) == 70


def test_the_same_answer_posted_twice_is_no_conflict(decide, request_of, capped):
    row = request_of()
    assert [decide(row).status_code for _ in range(2)] == [302, 302]
    assert room(capped) == 80
    assert Act.objects.count() == 1


def test_a_request_about_the_team_waits_for_a_site_admin(decide, request_of, client_for, ben, ana, north):
    row = request_of(limit="team", amount=300)
    page = text(client_for(ben).get(INBOX))
    assert "a site admin decides" in page
    assert "/decide/" not in page
    assert decide(row).status_code == 403
    ana.is_site_admin = True
    ana.save()
    assert decide(row, ana).status_code == 302
    assert Budget.objects.get(team=north).granted == 1300


def test_the_inbox_is_the_admins(client_for, decide, request_of, cast):
    row = request_of()
    for name, status in {"cleo": 403, "eve": 403, "zoe": 404, "sam": 404}.items():
        assert client_for(cast[name]).get(INBOX).status_code == status
        assert decide(row, cast[name]).status_code == status
    assert CreditRequest.objects.get().state == "open"


def test_a_request_of_another_team_is_not_there(decide, request_of, south, zoe, client_for):
    row = request_of()
    assert client_for(zoe).post(f"/t/south/requests/{row.pk}/decide/", {"verdict": "approve"}).status_code == 404
    assert client_for(zoe).post(f"/t/south/requests/{row.pk}/withdraw/").status_code == 404


def test_only_who_asked_withdraws(client_for, request_of, capped, dan, ben):
    row = request_of()
    for other in (dan, ben):
        assert client_for(other).post(f"{INBOX}{row.pk}/withdraw/").status_code == 404
    for said in ("You do not ask for 30 credits any more", "You do not ask for 30 credits any more"):
        assert said in text(client_for(capped.user).post(f"{INBOX}{row.pk}/withdraw/", follow=True))
    row.refresh_from_db()
    assert row.state == "withdrawn"


def test_too_late_to_withdraw_is_said(client_for, request_of, capped, decide):
    row = request_of()
    decide(row)
    assert "Ben granted 30 credits already" in text(
        client_for(capped.user).post(f"{INBOX}{row.pk}/withdraw/", follow=True)
    )


def test_the_inbox_takes_as_many_queries_for_thirty_as_for_three(client_for, ben, north):
    client = client_for(ben)

    def queries_with(number: int) -> int:
        for _ in range(number):
            member = factories.make_member(north, role=Role.MEMBER)
            given = {"limit": "cap", "amount": 30, "reason": "", "sends_itself": False, "price_seen": 80}
            for key in ("open", "decided"):
                reference = factories.make_reference(north)
                row = requests.ask(member, key=key, draft=order(references=(reference.pk,)), **given)
            requests.decline(row, by=ben, note="no")
        client.get(INBOX)  # warms caches
        with CaptureQueriesContext(connection) as seen:
            assert client.get(INBOX).status_code == 200
        return len(seen)

    assert queries_with(3) == queries_with(12)


def test_the_decided_are_paged(client_for, ben, request_of):
    for _ in range(35):
        requests.decline(request_of(), by=ben, note="no")
    page = text(client_for(ben).get(INBOX))
    older = re.search(r'rel="next" href="([^"]+)"', page)[1].replace("&amp;", "&")
    assert page.count('<tr id="request-') == 30
    assert text(client_for(ben).get(INBOX + older)).count('<tr id="request-') == 5
    assert client_for(ben).get(INBOX + "?before=nonsense").status_code == 200
