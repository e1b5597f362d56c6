"""The site admin's forms: teams and their credits, rules, providers. Each one's save() is its verb."""

from __future__ import annotations

import math
import re
import zoneinfo
from datetime import date, timedelta
from functools import cache
from urllib.parse import urlsplit

from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from . import ledger, lifecycle, periods, providers
from .accounts import set_account
from .fields import CreditsField, DayField
from .models import Act, Budget, Callback, Entry, ProviderAccount, Role, RoutingRule, Task, Team, User, write
from .models.base import new_token
from .money import credits_text, format_credits, parse_credits
from .orders import Refusal
from .providers.base import Account, Provider
from .teams import make_owner, new_invite, open_team

COUNT_MAX = 10**6  # calls or tasks at once: more is a slip of the finger

# --- Teams ---------------------------------------------------------------------------------------------------------


class OwnerForm(forms.Form):
    """Who looks after a team: somebody who is here, by address, else whoever opens a link."""

    owner = forms.EmailField(
        label="Owner's email",
        required=False,
        max_length=254,
        widget=forms.EmailInput(attrs={"autocomplete": "off"}),
        help_text="Nobody here has this address, or it is empty? Then you get a link to pass on.",
    )

    def appoint(self, team: Team, by: User) -> str | None:
        """Make them the owner; or the token of an invitation that will, where nobody has that address."""
        email = self.cleaned_data["owner"].lower()
        user = User.objects.filter(email__iexact=email, is_active=True).first() if email else None
        if user is None:
            return new_invite(team, by, role=Role.ADMIN, email=email)[1]
        make_owner(team, user, by=by)
        return None


class TeamForm(OwnerForm):
    """A new team, its first credits, and who looks after it."""

    name = forms.CharField(label="Name", max_length=80)
    credits = CreditsField(label="Credits", initial=settings.FIRST_TEAM_CREDITS)
    key = forms.CharField(max_length=60, required=False, initial=new_token, widget=forms.HiddenInput)
    field_order = ("name", "credits", "owner")

    def save(self, by: User) -> tuple[Team, str | None]:
        """The team, and the token of its owner's invitation where one is needed. Sent twice, it is one team."""
        given = self.cleaned_data
        key = f"first:{given['key'] or new_token()}"
        with write():
            User.objects.select_for_update().get(
                pk=by.pk
            )  # one form is one person's: their presses wait for each other
            lately = timezone.now() - timedelta(days=1)
            first = Entry.objects.select_related("team").filter(key=key, team__created__gte=lately).first()
            if first:
                return first.team, None
            team = open_team(given["name"], given["credits"], by=by, reason="to begin with", key=key)
            return team, self.appoint(team, by)


# --- Credits -------------------------------------------------------------------------------------------------------

GRANT, REVOKE, ADJUST, REFUND = (
    kind.value for kind in (Entry.Kind.GRANT, Entry.Kind.REVOKE, Entry.Kind.ADJUST, Entry.Kind.REFUND)
)
DID = {GRANT: "granted", REVOKE: "took back", ADJUST: "corrected", REFUND: "refunded"}
MINUS = "-\N{MINUS SIGN}"


class GrantForm(forms.Form):
    """Give a team credits, take some back, correct a mistake, or refund a picture.

    `key` is made when the form is shown: sent twice, it counts once.
    """

    kind = forms.ChoiceField(
        label="What",
        choices=[(GRANT, "Grant"), (REVOKE, "Take back"), (ADJUST, "Correct"), (REFUND, "Refund")],
        initial=GRANT,
        widget=forms.RadioSelect,
    )
    amount = forms.CharField(
        label="Credits",
        help_text="Of a correction with its sign: +120 or -120.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    expires = forms.BooleanField(
        label="Until the period ends", required=False, help_text="Of a grant: what is unused then goes."
    )
    task = forms.CharField(
        label="Task",
        required=False,
        max_length=18,
        help_text="Of a refund: the number of the picture it is for.",
        widget=forms.TextInput(attrs={"inputmode": "numeric", "autocomplete": "off"}),
    )
    reason = forms.CharField(
        label="Reason",
        max_length=200,
        help_text="The team reads it.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    key = forms.CharField(max_length=60, initial=new_token, widget=forms.HiddenInput)

    def clean_amount(self) -> int:
        text = self.cleaned_data["amount"].strip()
        if self.cleaned_data.get("kind") != ADJUST:
            return _credits(text)
        if text[:1] not in f"+{MINUS}":
            raise ValidationError("Write which way: +120 to add credits, -120 to take them off.")
        return _credits(text[1:]) * (-1 if text[0] in MINUS else 1)

    def clean_expires(self) -> bool:
        if self.cleaned_data["expires"] and self.cleaned_data.get("kind", GRANT) != GRANT:
            raise ValidationError("Only a grant can end with the period. Untick this, or choose Grant.")
        return self.cleaned_data["expires"]

    def save(self, team: Team, by: User) -> Entry | None:
        """The entry, new or that of the first sending; None after a refusal, which is then in the form."""
        with write():
            return self._write(team, by)

    def preview(self, team: Team, by: User) -> Entry | None:
        """The entry as it would be: written, looked at and undone, so that it can promise nothing else."""
        with write():
            entry = self._write(team, by)
            transaction.set_rollback(True)
        return entry

    def _write(self, team: Team, by: User) -> Entry | None:
        """The entry and the act, or neither. One admin at a time: of two sendings one writes, the other finds it written."""
        Team.objects.select_for_update(no_key=True).get(pk=team.pk)
        known = Entry.objects.filter(team=team, key=self._key).exists()
        entry = self._enter(team, by)
        if isinstance(entry, Refusal):
            self.add_error(entry.field or None, entry.message)
            return None
        if not known:
            self._record(entry, by)
        return entry

    @property
    def _key(self) -> str:
        return f"console:{self.cleaned_data['key']}"

    def _enter(self, team: Team, by: User) -> Entry | Refusal:
        given = self.cleaned_data
        why = {"actor": by, "reason": given["reason"], "key": self._key}
        if given["kind"] == GRANT:
            return ledger.grant(team, given["amount"], expires=given["expires"], **why)
        if given["kind"] != REFUND:
            verb = ledger.revoke if given["kind"] == REVOKE else ledger.adjust
            return verb(team, given["amount"], **why)
        number = given["task"].strip()
        is_id = number.isascii() and number.isdigit()
        task = Task.objects.for_team(team).filter(pk=int(number)).first() if is_id else None
        if task is None:
            return Refusal("input", "task", f"{team} has no such task. Its number stands in the ledger.")
        return lifecycle.refund(task, given["amount"], **why)

    def _record(self, entry: Entry, by: User) -> None:
        sign = "+" if entry.kind == ADJUST and entry.amount > 0 else ""
        until = " until the period ends" if entry.period_id else ""
        before, after = format_credits(entry.available_after - change(entry)), format_credits(entry.available_after)
        note = f"{sign}{credits_text(entry.amount)}{until}: {entry.reason}. Available {before} → {after}"
        about = f"task {entry.task_id}" if entry.task_id else str(entry.team)
        Act.objects.record(by, DID[entry.kind], team=entry.team, about=about, note=note)


def _credits(text: str) -> int:
    try:
        return parse_credits(text)
    except ValueError as error:
        raise ValidationError(str(error)) from None


def change(entry: Entry) -> int:
    """What an admin's entry did to the credits available."""
    return -entry.amount if entry.kind == REVOKE else entry.amount


# --- Rules ---------------------------------------------------------------------------------------------------------


class RulesForm(forms.Form):
    """When a team's period begins, and what comes with it.

    `seen` is the rules as they were when the form was shown: of two admins at once the second is asked to look again.
    """

    allowance = forms.CharField(
        label="Credits each period",
        required=False,
        help_text="Granted by itself when a period begins. Empty or 0: none.",
        widget=forms.TextInput(attrs={"inputmode": "numeric", "autocomplete": "off"}),
    )
    rolls_over = forms.BooleanField(
        label="Rolls over",
        required=False,
        help_text="Ticked: what is unused stays. If not, it goes when the period ends.",
    )
    start_day = forms.CharField(
        label="Begins on day",
        help_text="Of the month, 1 to 28.",
        widget=forms.TextInput(attrs={"inputmode": "numeric", "autocomplete": "off"}),
    )
    time_zone = forms.CharField(
        label="Time zone",
        max_length=64,
        help_text="Periods begin at midnight there, for example Europe/Berlin.",
        widget=forms.TextInput(attrs={"list": "time-zones", "autocomplete": "off", "spellcheck": "false"}),
    )
    seen = forms.CharField(required=False, max_length=200, widget=forms.HiddenInput)

    def __init__(self, data=None, *, budget: Budget) -> None:
        shown = {
            "allowance": format_credits(budget.allowance) if budget.allowance else "",
            "rolls_over": budget.rolls_over,
            "start_day": budget.start_day,
            "time_zone": budget.time_zone,
            "seen": _rules(budget),
        }
        super().__init__(data, initial=shown)
        self.zones = time_zones()

    def clean_allowance(self) -> int:
        text = self.cleaned_data["allowance"].strip()
        return _credits(text) if text not in ("", "0") else 0

    def clean_start_day(self) -> int:
        text = self.cleaned_data["start_day"].strip()
        if not (text.isascii() and text.isdigit() and len(text) < 3 and int(text) in periods.DAYS):
            raise ValidationError("Choose a day from 1 to 28: not every month has the others.")
        return int(text)

    def clean_time_zone(self) -> str:
        name = self.cleaned_data["time_zone"].strip()
        if name not in time_zones():
            raise ValidationError(
                f"There is no time zone “{name}”. Choose one from the list, for example Europe/Berlin or UTC."
            )
        return name

    def save(self, team: Team, by: User) -> bool:
        """Whether the rules hold now; if not, the form says what somebody else has made of them meanwhile."""
        given = dict(self.cleaned_data)
        seen = given.pop("seen")
        with write():
            now_set = _rules(Budget.objects.select_for_update().get(pk=team.pk))
            if seen in ("", now_set):
                ledger.set_rules(team, actor=by, now=timezone.now(), **given)
                return True
        self.add_error(
            None, f"Somebody has changed the rules meanwhile, to: {now_set}. Load the page again to see them."
        )
        return False


def _rules(budget: Budget) -> str:
    over = "rolls over" if budget.rolls_over else "does not roll over"
    return f"{credits_text(budget.allowance)}, day {budget.start_day}, {budget.time_zone}, {over}"


@cache
def time_zones() -> tuple[str, ...]:
    """All that this machine knows, which has to ask the file system for each."""
    return tuple(sorted(zoneinfo.available_timezones()))


# --- Looking back --------------------------------------------------------------------------------------------------


DAYS_MAX = 2 * 366  # more bars than that are no chart


def _team_field() -> forms.ModelChoiceField:
    return forms.ModelChoiceField(
        Team.objects.order_by("name", "id"),
        to_field_name="slug",
        required=False,
        empty_label="All teams",
        error_messages={"invalid_choice": "There is no such team. Choose one of the list."},
    )


class SpendForm(forms.Form):
    """Whose spend to show, and of which days (in UTC, as they are summed)."""

    period = forms.ChoiceField(
        choices=[
            ("month", "This month"),
            ("last", "Last month"),
            ("30", "Last 30 days"),
            ("90", "Last 90 days"),
            ("days", "From … to …"),
        ],
        required=False,
        error_messages={"invalid_choice": "Choose one of the list."},
    )
    since = DayField(label="From", required=False)
    until = DayField(label="To", required=False)
    team = _team_field()

    def clean(self) -> None:
        given = self.cleaned_data
        today = timezone.now().date()
        named = given.get("period") not in ("", "days")
        has_days = bool(given.get("since") or given.get("until"))
        if named and has_days and "period" in given:
            self.add_error("period", "To see the days written beside it, choose “From … to …”, or clear them.")
        elif has_days or given.get("period") == "days":
            given["until"] = given.get("until") or today
            self._check_days(given.get("since"), given["until"])
        elif not self.errors:
            given["since"], given["until"] = days_of(given["period"], today)

    def _check_days(self, since: date | None, until: date) -> None:
        if since is None:
            if "since" not in self.errors:
                self.add_error("since", "Choose the first day too.")
        elif since > until:
            self.add_error("since", "The first day is after the last. Exchange them.")
        elif (until - since).days >= DAYS_MAX:
            self.add_error("since", "At most two years at once. Choose a later first day.")

    @property
    def since_day(self) -> date:
        return self.cleaned_data["since"]

    @property
    def until_day(self) -> date:
        return self.cleaned_data["until"]


def days_of(period: str, today: date) -> tuple[date, date]:
    """The first and the last day of a named stretch of time."""
    month = today.replace(day=1)
    if period == "last":
        last = month - timedelta(days=1)
        return last.replace(day=1), last
    if period in ("30", "90"):
        return today - timedelta(days=int(period) - 1), today
    return month, today


class ActsForm(forms.Form):
    """Which of the acts to show."""

    team = _team_field()
    who = forms.CharField(label="Person", required=False, max_length=80)
    what = forms.CharField(label="What", required=False, max_length=40)

    def rows(self) -> QuerySet[Act]:
        given = self.cleaned_data
        rows = Act.objects.filter(verb__icontains=given["what"]) if given["what"] else Act.objects.all()
        if given["who"]:
            rows = rows.filter(Q(actor_label__icontains=given["who"]) | Q(about__icontains=given["who"]))
        return rows.filter(team=given["team"]) if given["team"] else rows

    @property
    def has_words(self) -> bool:
        return bool(self.cleaned_data["who"] or self.cleaned_data["what"])


# How one is called that is no ring for its task and can be read all the same: then it names another.
NAMES_NONE = "Names no task of this address"
VERDICTS = dict(Callback.Verdict.choices) | {
    Callback.Verdict.MALFORMED: f"{Callback.Verdict.MALFORMED.label}, or {NAMES_NONE[0].lower()}{NAMES_NONE[1:]}"
}


class CallbacksForm(forms.Form):
    """Which of the callbacks to show."""

    verdict = forms.ChoiceField(
        label="Verdict",
        required=False,
        choices=[("", "All"), *VERDICTS.items()],
        error_messages={"invalid_choice": "Choose one of the list."},
    )
    provider = forms.ChoiceField(
        label="Provider", required=False, error_messages={"invalid_choice": "Choose one of the list."}
    )

    def __init__(self, data=None) -> None:
        super().__init__(data)
        names = [(slug, adapter.name) for slug, adapter in providers.ALL.items()]
        self.fields["provider"].choices = [("", "All"), *names]  # type: ignore[attr-defined]

    def rows(self) -> QuerySet[Callback]:
        asked = {name: value for name, value in self.cleaned_data.items() if value}
        return Callback.objects.filter(**asked)


# --- Providers -----------------------------------------------------------------------------------------------------


class PauseForm(forms.Form):
    """How long an account rests."""

    minutes = forms.ChoiceField(choices=[("5", "5 minutes"), ("60", "1 hour")])


class PercentField(forms.CharField):
    """A whole percentage, as people write it."""

    widget = forms.TextInput(attrs={"inputmode": "numeric", "autocomplete": "off"})

    def __init__(self, *, highest: int, **kwargs) -> None:
        self.highest = highest
        super().__init__(max_length=20, **kwargs)

    def clean(self, value: object) -> int:
        text = super().clean(value).removesuffix("%").strip()
        if not (text.isascii() and text.isdigit()) or len(text) > 4 or int(text) > self.highest:
            raise ValidationError(f"Write a whole number from 0 to {self.highest:,}.")
        return int(text)


class RoutingForm(forms.Form):
    """What “auto” may do. The form carries what its reader had in sight."""

    premium_percent = PercentField(
        label="Premium, %",
        highest=1000,
        help_text="How much dearer than the cheapest a healthy provider may be and still be asked first. 0: never dearer.",
    )
    healthy_percent = PercentField(
        label="Healthy from, %",
        highest=100,
        help_text="So many of its tasks of the last 24 hours must have ended well. Fewer than five tasks say nothing.",
    )
    seen = forms.CharField(required=False, max_length=40, widget=forms.HiddenInput)

    def __init__(self, data=None) -> None:
        rule = RoutingRule.current()
        shown = {"premium_percent": rule.premium_percent, "healthy_percent": rule.healthy_percent, "seen": _seen(rule)}
        super().__init__(data, initial=shown)

    def save(self, by: User) -> bool:
        """Whether the rule holds now; if not, the form says what somebody else has made of it meanwhile."""
        given = dict(self.cleaned_data)
        seen = given.pop("seen")
        with write():
            RoutingRule.objects.get_or_create(pk=1)
            now_set = RoutingRule.objects.select_for_update().get(pk=1)
            if seen in ("", _seen(now_set)):
                _set_rule(now_set, RoutingRule(pk=1, **given), by)
                return True
        self.add_error(None, f"Somebody has changed the rule meanwhile, to: {now_set}. Load the page again to see it.")
        return False


def _seen(rule: RoutingRule) -> str:
    return f"{rule.premium_percent}/{rule.healthy_percent}"


def _set_rule(was: RoutingRule, rule: RoutingRule, by: User) -> None:
    if _seen(was) != _seen(rule):
        rule.save(force_update=True)
        Act.objects.record(by, "changed the provider rule of", about="auto", note=f"{rule} (was: {was})")


class ProviderForm(forms.Form):
    """The real account with one provider. The key goes in and never comes out; left empty, the one we have stays."""

    enabled = forms.BooleanField(
        label="Switched on", required=False, help_text="Off: no new tasks; running ones finish."
    )
    key = forms.CharField(
        label="API key",
        required=False,
        max_length=500,
        widget=forms.PasswordInput(attrs={"autocomplete": "off"}),
    )
    base_url = forms.CharField(label="Address", max_length=200, widget=forms.TextInput(attrs={"inputmode": "url"}))
    rate = forms.CharField(
        label="Calls",
        max_length=20,
        help_text="At most so many creates in so many seconds, for example 20/10.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    concurrent = forms.IntegerField(
        label="Tasks at once",
        required=False,
        min_value=1,
        max_value=COUNT_MAX,
        help_text="Empty: no ceiling.",
    )

    callback_secret = forms.CharField(
        label="Secret of its callbacks",
        required=False,
        max_length=500,
        widget=forms.PasswordInput(attrs={"autocomplete": "off"}),
    )
    unsigned = forms.BooleanField(label="Check signatures no more", required=False)

    def __init__(self, data=None, *, adapter: Provider, account: ProviderAccount | None) -> None:
        super().__init__(data, initial=_as_typed(adapter, account))
        self.adapter, self.account = adapter, account
        if not adapter.capabilities(Account("", adapter.base_url)).signs_callbacks:
            del self.fields["callback_secret"], self.fields["unsigned"]
        for name, values in adapter.options.items():
            self.fields[f"option_{name}"] = _option_field(name, values)

    @property
    def options(self) -> list[forms.BoundField]:
        """The adapter's own settings, for the template."""
        return [self[f"option_{name}"] for name in self.adapter.options]

    def clean_key(self) -> str:
        key = clean_secret(self.cleaned_data["key"], "key")
        if not key and not (self.account and self.account.key_version):
            raise ValidationError("Enter the key that this provider gave you.")
        return key

    def clean_callback_secret(self) -> str:
        return clean_secret(self.cleaned_data["callback_secret"], "secret")

    def clean_base_url(self) -> str:
        return clean_address(self.cleaned_data["base_url"])

    def clean_rate(self) -> tuple[int, float]:
        return parse_rate(self.cleaned_data["rate"])

    def save(self, by: User) -> ProviderAccount:
        given = self.cleaned_data
        return set_account(
            self.adapter.slug,
            key=given["key"] or None,
            base_url=given["base_url"],
            enabled=given["enabled"],
            options={name: given[f"option_{name}"] for name in self.adapter.options},
            rate=given["rate"],
            concurrent=given["concurrent"],
            callback_secret="" if given.get("unsigned") else given.get("callback_secret") or None,
            by=by,
        )


def _as_typed(adapter: Provider, account: ProviderAccount | None) -> dict:
    """The account's settings as the form shows them; the adapter's own advice where there is no account yet."""
    options = dict(account.options) if account else {}
    chosen = {f"option_{name}": options.get(name, values[:1] and values[0]) for name, values in adapter.options.items()}
    if account:
        rate = f"{account.rate_count}/{account.rate_s:g}"
        return chosen | {
            "enabled": account.enabled,
            "base_url": account.base_url,
            "rate": rate,
            "concurrent": account.concurrent,
        }
    advice = adapter.capabilities(Account("", adapter.base_url)).throttle
    rate = f"{advice.count}/{advice.per_s:g}"
    return chosen | {"enabled": True, "base_url": adapter.base_url, "rate": rate, "concurrent": advice.concurrent}


def _option_field(name: str, values: tuple[str, ...]) -> forms.Field:
    """One of several values; free text where the adapter names only its default (or none)."""
    label = name.replace("_", " ").capitalize()
    if len(values) > 1:
        choices = [(value, value or "not sent") for value in values]
        return forms.ChoiceField(label=label, choices=choices, required=False)
    help_text = f"Usually {values[0]}" if values else ""
    return forms.CharField(label=label, required=False, max_length=120, help_text=help_text)


def clean_secret(text: str, what: str) -> str:
    secret = text.strip()
    if not (secret.isascii() and secret.isprintable()) or " " in secret:
        raise ValidationError(f"A {what} has no spaces, line breaks or accents. Was something else copied with it?")
    return secret


def clean_address(text: str) -> str:
    """An http(s) address with a plain path and nothing else, without the last slash: what we append must stay below it."""
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValidationError("This is no web address.") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ValidationError("Write an address that begins with https:// (or http:// on your own network).")
    if (
        parts.username is not None
        or parts.password is not None
        or parts.query
        or parts.fragment
        or "?" in text
        or "#" in text
    ):
        raise ValidationError("Only scheme, host, port and path, please: no name, password, ? or #.")
    path = parts.path.rstrip("/")
    plain_host = re.fullmatch(r"[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]", parts.netloc.removesuffix(f":{parts.port}"))
    if not plain_host or not re.fullmatch(r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._~-]+)*", path):
        raise ValidationError("The host and path may hold letters, digits, dots and hyphens only, and no .. parts.")
    return f"{parts.scheme}://{parts.netloc}{path}"


def parse_rate(text: str) -> tuple[int, float]:
    """ "20/10" is 20 calls in 10 seconds."""
    found = re.fullmatch(r"([0-9]{1,7})\s*/\s*([0-9]{1,6}(?:\.[0-9]{1,3})?)", text.strip())
    count, seconds = (int(found[1]), float(found[2])) if found else (0, 0.0)
    if not 1 <= count <= COUNT_MAX or not (math.isfinite(seconds) and seconds > 0):
        raise ValidationError("Write calls/seconds, for example 20/10 for 20 calls in 10 seconds.")
    return count, seconds
