"""The price list as a form: one row a picture, all of them saved or none."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils import timezone

from . import accounts, pricing, providers
from .fields import CreditsField
from .models import Act, Price, ProviderAccount, User, write
from .pricing import FAMILIES, RESOLUTIONS, Line, Place, Terms, terms
from .providers.base import Provider

CREDITS_MAX = 10**9  # a picture: more is a slip of the finger
REFERENCE_CREDITS_MAX = 10**6
AHEAD_MAX = timedelta(days=2 * 366)
PAST_SHOWN = 12


# --- Fields --------------------------------------------------------------------------------------------------------


class EachField(forms.CharField):
    """Credits for each reference: a whole number, 0 where nothing is written."""

    widget = forms.TextInput(attrs={"inputmode": "numeric", "autocomplete": "off"})

    def clean(self, value: object) -> int:
        text = super().clean(value)
        if not re.fullmatch(r"[0-9]{0,7}", text) or int(text or 0) > REFERENCE_CREDITS_MAX:
            raise ValidationError(f"Write whole credits, 0 to {REFERENCE_CREDITS_MAX:,}, or leave it empty.")
        return int(text or 0)


class UsdField(forms.CharField):
    """About what the provider takes, in US dollars; empty where nobody knows."""

    widget = forms.TextInput(attrs={"inputmode": "decimal", "autocomplete": "off"})

    def clean(self, value: object) -> Decimal | None:
        text = super().clean(value).removeprefix("$")
        if not text:
            return None
        if not re.fullmatch(r"[0-9]{1,5}(\.[0-9]{1,4})?", text):
            raise ValidationError("Write US dollars with a point and at most four places, for example 0.025.")
        return Decimal(text)


class MomentField(forms.CharField):
    """A moment to come, written and meant in UTC."""

    widget = forms.DateTimeInput(attrs={"type": "datetime-local", "autocomplete": "off"})

    def clean(self, value: object) -> datetime | None:
        text = super().clean(value)
        if not text:
            return None
        found = re.fullmatch(r"([0-9]{4}-[0-9]{2}-[0-9]{2})(?:[T ]([0-9]{2}:[0-9]{2})(?::[0-9]{2})?)?", text)
        try:
            moment = datetime.fromisoformat(f"{found[1]}T{found[2] or '00:00'}") if found else None
        except ValueError:
            moment = None
        if moment is None:
            raise ValidationError("Write a date and time in UTC like 2027-01-31 00:00, or leave it empty for now.")
        return _to_come(moment.replace(tzinfo=UTC))


def _to_come(moment: datetime) -> datetime:
    now = timezone.now()
    if moment <= now:
        raise ValidationError(f"This has passed: it is {now:%Y-%m-%d %H:%M} UTC. Leave it empty for now.")
    if moment > now + AHEAD_MAX:
        raise ValidationError("This is more than two years away. Choose a nearer day.")
    return moment


# --- One row -------------------------------------------------------------------------------------------------------


class PriceForm(forms.Form):
    """What one picture costs a team. The form carries which prices its reader had in sight: `seen`."""

    credits = CreditsField(label="Credits a picture", required=False)
    each = EachField(label="Credits an image", required=False)
    usd = UsdField(label="US dollars, about", required=False)
    confirmed = forms.BooleanField(label="Confirm", required=False)
    withdrawn = forms.BooleanField(label="Take the planned price back", required=False)

    def __init__(self, data=None, *, line: Line) -> None:
        self.line = line
        self.overtaken: Price | None = None  # what somebody else set since this form was shown
        self.overtaken_by = ""
        shown = _shown(terms(line.current)) if line.current else {}
        super().__init__(data, prefix="-".join(line.place), initial=shown)
        self._saw: str | None = data.get(self.add_prefix("seen")) if data else None
        for name in ("credits", "each", "usd"):
            self.fields[name].widget.attrs["aria-label"] = f"{self.fields[name].label}, {line.place.title}"

    def clean_credits(self) -> int | None:
        credits = self.cleaned_data["credits"]
        if credits is None and self._seen():
            raise ValidationError("Enter a price. To offer it no more, switch the provider off.")
        if credits is not None and credits > CREDITS_MAX:
            raise ValidationError(f"At most {CREDITS_MAX:,} credits a picture.")
        return credits

    @property
    def typed(self) -> Terms | None:
        """None where no price is written."""
        credits = self.cleaned_data["credits"]
        return Terms(credits, self.cleaned_data["each"], self.cleaned_data["usd"]) if credits else None

    @property
    def seen(self) -> str:
        """What the reader had in sight, until they are told that it has changed."""
        return self._sight if self._saw is None or self.overtaken else self._saw

    @property
    def _sight(self) -> str:
        return "-".join(str(row.pk) if row else "" for row in (self.line.current, self.line.planned))

    @property
    def is_assumed(self) -> bool:
        row = self.line.current
        return row is not None and not (row.published or row.confirmed_at)

    @property
    def past(self) -> list[Price]:
        return self.line.past[:PAST_SHOWN]

    def wants(self) -> bool:
        """Whether its reader changed anything in it, compared with what was shown to them."""
        seen = self._seen()
        shown = terms(seen) if seen else None
        return self.typed != shown or self.cleaned_data["confirmed"] or self.cleaned_data["withdrawn"]

    def _seen(self) -> Price | None:
        """The price that the reader had in sight; rows stay, so it is still known."""
        if self._saw is None:
            return self.line.current
        named = self._saw.partition("-")[0]
        return next((row for row in (self.line.current, *self.line.past) if row and str(row.pk) == named), None)

    def meet(self, line: Line, valid_from: datetime | None) -> None:
        """Is the list still what the reader saw? What they want and somebody else has just done is no conflict."""
        self.line = line
        if self._saw in (None, self._sight) or self._is_so(valid_from):
            return
        self.overtaken = self._newer()
        last = Act.objects.filter(team=None, about=line.place.title).order_by("-pk").first()
        self.overtaken_by = last.actor_label if last else "Somebody"

    def _is_so(self, valid_from: datetime | None) -> bool:
        if self.cleaned_data["withdrawn"] and self.line.planned:
            return False
        row = self.line.planned if valid_from else self.line.current
        return row is not None and self.typed == terms(row) and valid_from in (None, row.valid_from)

    def _newer(self) -> Price | None:
        """Of what holds and what is planned, the one that was not in sight."""
        current, _, planned = (self._saw or "").partition("-")
        pairs = ((self.line.current, current), (self.line.planned, planned))
        return next((row for row, named in pairs if row and str(row.pk) != named), None)

    def save(self, actor: User, valid_from: datetime | None) -> bool:
        """Do what is wanted, in the caller's transaction. False where it was so already."""
        withdrawn = self.cleaned_data["withdrawn"] and pricing.withdraw(self.line, actor=actor)
        if (
            self.typed
            and not self._is_so(valid_from)
            and self.typed != (self.line.current and terms(self.line.current))
        ):
            pricing.change(self.line, self.typed, actor=actor, valid_from=valid_from)
            return True
        return (self.cleaned_data["confirmed"] and pricing.confirm(self.line, actor=actor)) or withdrawn


def _shown(price: Terms) -> dict[str, Any]:
    usd = "" if price.usd is None else pricing.dollars(price.usd)
    return {"credits": price.credits, "each": price.each or "", "usd": usd}


# --- The list ------------------------------------------------------------------------------------------------------


class FromForm(forms.Form):
    """From when the changes hold."""

    valid_from = MomentField(
        label="Valid from", required=False, help_text="In UTC. Empty: from now on. For all changes made here."
    )


class PriceList:
    """Every picture that a provider can make or that has a price, and from when the changes shall hold."""

    def __init__(self, data: Mapping | None = None) -> None:
        lines = pricing.book(timezone.now())
        self.head = FromForm(data)
        self.rows = [PriceForm(data, line=lines.get(place, Line(place))) for place in _places(set(lines))]

    def is_valid(self) -> bool:
        return all([form.is_valid() for form in (self.head, *self.rows)])  # noqa: C419 each of them says what it has

    @property
    def groups(self) -> list[tuple[Provider, list[PriceForm]]]:
        found = [
            (adapter, [row for row in self.rows if row.line.place.provider == slug])
            for slug, adapter in providers.ALL.items()
        ]
        return [(adapter, rows) for adapter, rows in found if rows]

    @property
    def off(self) -> list[Place]:
        """What could be made and has no price."""
        return [row.line.place for row in self.rows if row.line.current is None]

    @property
    def typed(self) -> dict[Place, Terms]:
        return {row.line.place: row.typed for row in self.rows if row.typed}

    def save(self, actor: User) -> int | None:
        """All changes, or none. How many; None where somebody else was faster with one of them."""
        valid_from = self.head.cleaned_data["valid_from"]
        wanted = [row for row in self.rows if row.wants()]
        with write():
            pricing.one_at_a_time()
            fresh = pricing.book(timezone.now())
            for row in wanted:
                row.meet(fresh.get(row.line.place, Line(row.line.place)), valid_from)
            if any(row.overtaken for row in wanted):
                return None
            return sum(row.save(actor, valid_from) for row in wanted)


def _places(known: set[Place]) -> list[Place]:
    real = {account.provider: account for account in ProviderAccount.objects.real()}
    everything = (
        Place(slug, family, resolution) for slug in providers.ALL for family in FAMILIES for resolution in RESOLUTIONS
    )
    return [place for place in everything if place in known or _can_make(real.get(place.provider), place)]


def _can_make(account: ProviderAccount | None, place: Place) -> bool:
    account = account or ProviderAccount(provider=place.provider, base_url=providers.get(place.provider).base_url)
    able = accounts.capabilities(account)
    return place.family in able.families and place.resolution in able.resolutions
