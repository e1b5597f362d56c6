"""The history's filters, as an address has them: what is wrong is said and left out, the rest still counts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from django import forms
from django.core.exceptions import ValidationError
from django.db.models import Exists, OuterRef, Q
from django.http import QueryDict
from django.utils import timezone

from . import access, providers, search
from .cards import shortened
from .fields import DayField
from .history import SEARCH_SORTS, Filters
from .models import Membership, SavedSearch, State, Tag, User, write
from .money import CREDITS_MAX, credits_text, format_credits
from .search import Words

TEXT_MAX, LONG = 10_000, 200  # characters of a search
TAGS_MAX = 20
SAVED_MAX = 50  # searches that one member may keep in a team
QUERY_MAX = 1000  # as long as SavedSearch has room for

TABS = {"team": "Team", "mine": "Mine", "favourites": "Favourites", "trash": "Trash"}
FAMILIES = {"pro": "Pro", "flex": "Flex"}
MODES = {"text-to-image": "From text", "image-to-image": "From images"}
RESOLUTIONS = {"1K": "1K", "2K": "2K"}
RATIOS = {ratio: ratio for ratio in ("1:1", "4:3", "3:4", "16:9", "9:16", "3:2", "2:3")} | {"auto": "Auto"}
STATES = {state.value: str(state.label) for state in State}
SORTS = {"newest": "Newest", "oldest": "Oldest", "hearts": "Most liked", "cost": "Highest cost"}
REFS = {"yes": "With images", "no": "Without images"}
SPOKEN, LOWER = ("q", "person", "since", "collection", "tag"), ("mode", "state", "refs")
PLAIN = {"family": FAMILIES, "mode": MODES, "resolution": RESOLUTIONS, "ratio": RATIOS, "state": STATES, "refs": REFS}


def _choice(label: str, choices: dict[str, str], what: str) -> forms.ChoiceField:
    message = f"There is no {what} “%(value).40s”. Choose one of: {', '.join(choices.values())}."
    return forms.ChoiceField(
        label=label, required=False, choices=list(choices.items()), error_messages={"invalid_choice": message}
    )


def _number(text: str) -> int | None:
    """A row's id out of an address, or None."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


class CostField(forms.CharField):
    """Whole credits, 0 included."""

    widget = forms.TextInput(attrs={"inputmode": "numeric", "autocomplete": "off"})

    def clean(self, value: object) -> int | None:
        text = super().clean(value).strip().replace(",", "").replace(" ", "")
        if not text:
            return None
        if not (text.isascii() and text.isdigit()):
            raise ValidationError("Write a whole number of credits, for example 24.")
        if len(text) > 13 or int(text) > CREDITS_MAX:
            raise ValidationError(f"At most {format_credits(CREDITS_MAX)} credits.")
        return int(text)


def _spelled(words: Words) -> str:
    """A search that finds the same."""
    return " ".join(f'"{" ".join(phrase)}"' if len(phrase) > 1 else phrase[0] for phrase in words.phrases)


@dataclass(frozen=True)
class Chip:
    """One filter that is set: what it says, and the address of the same list without it."""

    name: str
    label: str
    without: str


class FilterForm(forms.Form):
    """FilterForm(request.GET, member=member): `.filters()` of what is good, `.errors` by field, `.notes` by field of what
    was changed in passing, `.query()` to find the same again."""

    tab = _choice("Pictures", TABS, "tab")
    q = forms.CharField(label="Words", required=False)
    person = forms.CharField(label="By", required=False)
    family = _choice("Family", FAMILIES, "family")
    mode = _choice("Made", MODES, "mode")
    resolution = _choice("Resolution", RESOLUTIONS, "resolution")
    ratio = _choice("Shape", RATIOS, "shape")
    provider = forms.CharField(label="Provider", required=False)
    state = _choice("State", STATES, "state")
    collection = forms.CharField(label="Collection", required=False)
    tag = forms.Field(label="Tags", required=False, widget=forms.MultipleHiddenInput)
    tags = _choice("Of several tags", {"all": "all of them", "any": "any of them"}, "way to join tags")
    since = DayField(label="From", required=False)
    until = DayField(label="To", required=False)
    refs = _choice("Images", REFS, "choice")
    liked = _choice("Liked", {"yes": "Liked by me"}, "choice")
    unfiled = _choice("Filed", {"yes": "In no collection"}, "choice")
    cost_min = CostField(label="Credits from", required=False)
    cost_max = CostField(label="Credits to", required=False)
    sort = _choice("Order", SORTS, "order")
    on = DayField(label="Go to day", required=False)  # where to begin: no filter

    def __init__(self, data: QueryDict, *, member: Membership) -> None:
        self.member, self.notes = member, dict[str, str]()
        super().__init__(data, auto_id="filter-%s")

    # --- One by one ------------------------------------------------------------------------------------------------------

    def clean_q(self) -> str:
        """Long ones as the words that are looked for: the address must hold them, and every link of the page."""
        text, notes = self.cleaned_data["q"], []
        if len(text) > TEXT_MAX:
            notes.append(f"The search was longer than {TEXT_MAX:,} characters: only these were looked at.")
        words = search.parse(text[:TEXT_MAX])
        if text and not words:
            notes.append("There are no letters or digits in it, so it was left out.")
        if words.cut:
            notes.append(f"Only the first {search.TERMS_MAX} words were looked for, the others are ignored.")
        if notes:
            self.notes["q"] = " ".join(notes)
        return _spelled(words) if words.cut or len(text) > LONG or not words else text

    def clean_person(self) -> User | None:
        """Somebody of the team, or who made something here once."""
        text = self.cleaned_data["person"].strip()
        if not text:
            return None
        made = access.tasks(self.member).filter(user_id=OuterRef("pk"))
        here = Q(memberships__team=self.member.team_id) | Q(Exists(made))
        found = User.objects.filter(here, pk=_number(text) or 0).first()
        if found is None:
            raise ValidationError("Nobody of this number has pictures here. Choose somebody from the list.")
        return found

    def clean_provider(self) -> str:
        slug = self.cleaned_data["provider"].strip()
        if slug and slug not in providers.ALL:
            raise ValidationError(f"There is no provider “{slug[:40]}”. Choose one from the list.")
        return slug

    def clean_collection(self):
        text = self.cleaned_data["collection"].strip()
        found = access.collections(self.member).filter(pk=_number(text) or 0).first() if text else None
        if text and found is None:
            raise ValidationError(
                "There is no such collection, or it is not shared with you. Choose one from the list."
            )
        return found

    def clean_tag(self) -> list[Tag]:
        texts = dict.fromkeys(text for text in self.data.getlist("tag") if text)  # type: ignore[attr-defined]
        if len(texts) > TAGS_MAX:
            raise ValidationError(f"At most {TAGS_MAX} tags at once.")
        ids = [_number(text) for text in texts]
        found = (
            list(Tag.objects.filter(team=self.member.team_id, pk__in=[pk for pk in ids if pk is not None]))
            if ids
            else []
        )
        if len(found) < len(texts):
            raise ValidationError("One of these tags does not exist any more. Choose from the list.")
        return found

    def clean_until(self) -> date | None:
        until, since = self.cleaned_data["until"], self.cleaned_data.get("since")
        if until and since and until < since:
            raise ValidationError("This is before the first day.")
        return until

    def clean_cost_max(self) -> int | None:
        most, least = self.cleaned_data["cost_max"], self.cleaned_data.get("cost_min")
        if most is not None and least is not None and most < least:
            raise ValidationError("This is less than the least.")
        return most

    def clean_sort(self) -> str:
        sort = self.cleaned_data["sort"]
        if sort and sort not in SEARCH_SORTS and Filters(text=self.cleaned_data.get("q", "")).words:
            self.notes["sort"] = "With words, pictures come newest or oldest first: these are the newest."
            return ""
        return sort

    # --- Together --------------------------------------------------------------------------------------------------------

    @cached_property
    def given(self) -> dict[str, Any]:
        """What is good of it."""
        self.errors  # noqa: B018 - looks at all of it, once
        return self.cleaned_data

    @cached_property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.member.team.budget.time_zone)

    def _midnight(self, day: date | None) -> datetime | None:
        return datetime(day.year, day.month, day.day, tzinfo=self.zone) if day else None

    def filters(self) -> Filters:
        given = self.given
        person, collection, until = given.get("person"), given.get("collection"), given.get("until")
        return Filters(
            tab=given.get("tab") or "team",
            text=given.get("q", ""),
            person=person.pk if person else None,
            collection=collection.pk if collection else None,
            tags=tuple(tag.pk for tag in given.get("tag") or []),
            any_tag=given.get("tags") == "any",
            since=self._midnight(given.get("since")),
            until=self._midnight(until + timedelta(days=1)) if until else None,
            references={"yes": True, "no": False}.get(given.get("refs") or ""),
            liked=given.get("liked") == "yes",
            unfiled=given.get("unfiled") == "yes",
            cost_min=given.get("cost_min"),
            cost_max=given.get("cost_max"),
            family=given.get("family") or "",
            mode=given.get("mode") or "",
            resolution=given.get("resolution") or "",
            ratio=given.get("ratio") or "",
            provider=given.get("provider") or "",
            state=given.get("state") or "",
            sort=given.get("sort") or "newest",
        )

    def query(self, **changes: str | None) -> str:
        """What is set and good, in one fixed order, as an address has it; with `changes`, None leaving one out."""
        return urlencode([(name, value) for name, value in self.pairs(**changes) if value != ""])

    def pairs(self, **changes: str | None) -> Iterator[tuple[str, str]]:
        for name in self.fields:
            if name in changes:
                yield name, changes[name] or ""
            else:
                yield from ((name, value) for value in self._said(name))

    def _said(self, name: str) -> list[str]:
        value = self.given.get(name)
        if name == "tag":
            return [str(tag.pk) for tag in value or []]
        if (name, value) in (("tab", "team"), ("sort", "newest"), ("tags", "all")):
            return []
        if name == "tags" and len(self.given.get("tag") or []) < 2:
            return []
        if value is None or value == "" or name == "on":
            return []
        return [str(value.pk if name in ("person", "collection") else value)]

    def hidden(self) -> list[tuple[str, str]]:
        """For a form that asks for words beside what is set."""
        return [(name, value) for name, value in self.pairs(q=None) if value != ""]

    # --- In words --------------------------------------------------------------------------------------------------------

    def chips(self) -> list[Chip]:
        """All that is set, the tab and the order apart."""
        return [Chip(name, label, self.query(**without)) for name, label, without in self._labels()]

    def _labels(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        given = self.given
        if given.get("q"):
            yield "q", f"“{shortened(given['q'], 40)}”", {"q": None}
        if given.get("person"):
            yield "person", f"by {given['person']}", {"person": None}
        for name, words in PLAIN.items():
            if given.get(name):
                yield name, words[given[name]], {name: None}
        if given.get("provider"):
            yield "provider", providers.get(given["provider"]).name, {"provider": None}
        if given.get("collection"):
            yield "collection", f"in {given['collection']}", {"collection": None}
        if given.get("tag"):
            joined = " or " if given.get("tags") == "any" else " and "
            yield "tag", f"tagged {joined.join(map(str, given['tag']))}", {"tag": None, "tags": None}
        if given.get("since") or given.get("until"):
            yield "since", self.days_text, {"since": None, "until": None}
        if given.get("liked"):
            yield "liked", "liked by me", {"liked": None}
        if given.get("unfiled"):
            yield "unfiled", "in no collection", {"unfiled": None}
        if given.get("cost_min") is not None or given.get("cost_max") is not None:
            yield "cost_min", self._cost_text, {"cost_min": None, "cost_max": None}

    @property
    def days_text(self) -> str:
        """ "in June", "on 3 June", "since 3 June", "until 3 June", "3 June to 9 July"."""
        since, until = self.given.get("since"), self.given.get("until")
        if not since or not until:
            return f"since {_day(since)}" if since else f"until {_day(until)}" if until else ""
        if since == until:
            return f"on {_day(since)}"
        if since.day == 1 and until + timedelta(days=1) == (since + timedelta(days=31)).replace(day=1):
            return f"in {since:%B}" if since.year == timezone.now().year else f"in {since:%B %Y}"
        return f"{_day(since)} to {_day(until)}"

    @property
    def _cost_text(self) -> str:
        least, most = self.given.get("cost_min"), self.given.get("cost_max")
        if least is not None and most is not None:
            return f"{format_credits(least)} to {credits_text(most)}"
        return f"{credits_text(least)} or more" if least is not None else f"{credits_text(most or 0)} or less"

    def sentence(self) -> str:
        """ "“owl” by Ana in June, Flex": what nothing matches."""
        chips = self.chips()
        first = [chip.label for name in SPOKEN for chip in chips if chip.name == name]
        rest = [chip.label.lower() if chip.name in LOWER else chip.label for chip in chips if chip.name not in SPOKEN]
        return ", ".join(filter(None, [" ".join(first), *rest]))

    def wrong(self) -> list[tuple[str, str]]:
        """Errors and notes with the names of their fields, for above the pictures."""
        said = [(str(self.fields[name].label), " ".join(map(str, errors))) for name, errors in self.errors.items()]
        return [*said, *((str(self.fields[name].label), note) for name, note in self.notes.items())]


def _day(day: date) -> str:
    return f"{day:%-d %B}" if day.year == timezone.now().year else f"{day:%-d %B %Y}"


class SaveSearchForm(forms.Form):
    """A name for what the address bar has."""

    name = forms.CharField(
        label="Name",
        max_length=60,
        error_messages={"required": "Give it a name.", "max_length": "At most 60 characters."},
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    query = forms.CharField(required=False, max_length=20_000, widget=forms.HiddenInput)

    def __init__(self, data: Any = None, *, member: Membership, query: str = "") -> None:
        super().__init__(data, initial={"query": query}, auto_id="save-search-%s")
        self.member = member

    def clean_query(self) -> str:
        """Cleaned once more: what is kept is what a page would have shown."""
        query = FilterForm(QueryDict(self.cleaned_data["query"].encode()), member=self.member).query()
        if not query:
            raise ValidationError("Nothing is set. Choose filters or write words first, then save them.")
        if len(query) > QUERY_MAX:
            raise ValidationError("This search is too long to save. Use fewer words.")
        return query

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        mine = SavedSearch.objects.filter(team=self.member.team_id, user=self.member.user_id)
        others = mine.exclude(name=given.get("name", ""))
        if len(others[:SAVED_MAX]) >= SAVED_MAX:
            self.add_error("name", f"You have {SAVED_MAX} saved searches. Forget one first.")
        return given

    def save(self) -> SavedSearch:
        """One of the same name is replaced."""
        with write():
            saved, _ = SavedSearch.objects.update_or_create(
                team=self.member.team,
                user_id=self.member.user_id,
                name=self.cleaned_data["name"],
                defaults={"query": self.cleaned_data["query"]},
            )
        return saved
