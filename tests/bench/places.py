"""Which pages are measured at depth, and the places on them that depend on the rows."""

from __future__ import annotations

from urllib.parse import quote

from flux2web import history, queries
from flux2web.models import Entry, Task, Team

PAGES = {
    "books": {
        "budget": "/t/{team}/budget/",
        "ledger, charges only": "/t/{team}/budget/?kind=settle",
        "ledger, one person": "/t/{team}/budget/?person={user}",
        "ledger, half-way down": "/t/{team}/budget/?before={middle}",
        "my usage": "/t/{team}/usage/",
        "members": "/t/{team}/members/",
        "console": "/console/",
        "spend": "/console/spend/",
    },
    "history": {
        "first page": "/t/{team}/history/",
        "middle": "/t/{team}/history/?cursor={middle}",
        "90 % down": "/t/{team}/history/?cursor={deep}",
        "search: common word": "/t/{team}/history/?q=harbour",
        "search: rare word": "/t/{team}/history/?q=okapi",
        "search: three letters": "/t/{team}/history/?q=har",
        "search: two words": "/t/{team}/history/?q=harbour+heron",
        "by cost, middle": "/t/{team}/history/?sort=cost&cursor={cost}",
        "mine": "/t/{team}/history/?tab=mine",
    },
}


def of_books(team: Team) -> dict[str, object]:
    rows = Entry.objects.filter(team=team).order_by("id")
    middle = rows[rows.count() // 2]
    return {"user": team.memberships.earliest("pk").user_id, "middle": quote(queries.write_cursor(middle))}


def of_history(team: Team) -> dict[str, object]:
    rows = Task.objects.filter(team=team).order_by("id")
    middle, deep = rows[rows.count() // 2], rows[rows.count() // 10]
    places = {"middle": ("newest", middle), "deep": ("newest", deep), "cost": ("cost", middle)}
    return {name: quote(history.write_place(sort, task)) for name, (sort, task) in places.items()}


PLACES = {"books": of_books, "history": of_history}
