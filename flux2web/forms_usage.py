"""Forms about what a member may use: asking for more, answering that, a limit of one's own. Each one's save() is its verb."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms

from . import bus, requests
from .fields import CreditsField, LimitField
from .models import CreditRequest, Membership, User, write
from .orders import Order, Refusal

GOOD = [("period", "Until the period ends"), ("lasts", "For good")]


def _line(**attrs: str) -> forms.TextInput:
    return forms.TextInput(attrs={"autocomplete": "off", **attrs})


class AskForm(forms.Form):
    """How much more, and what for. Stands inside the compose form, whose key it shares."""

    amount = CreditsField(label="Credits", error_messages={"required": "Say how many credits."})
    reason = forms.CharField(label="What for", required=False, max_length=200, widget=_line())
    sends_itself = forms.BooleanField(label="Send this when granted", required=False)
    key = forms.CharField(max_length=60, error_messages={"required": "Load the page again."})

    def save(
        self,
        member: Membership,
        limit: str,
        draft: Order | None = None,
        price: int | None = None,
        written: Mapping[str, Any] | None = None,
    ) -> CreditRequest | Refusal:
        """`written`: the compose form that the draft was read from."""
        given = self.cleaned_data
        return requests.ask(
            member,
            limit=limit,
            amount=given["amount"],
            reason=given["reason"],
            key=given["key"],
            draft=draft,
            price_seen=price,
            sends_itself=given["sends_itself"],
            form=written,
        )


class DecisionForm(forms.Form):
    """An answer to a request: its button says which. Declining asks for no amount."""

    verdict = forms.ChoiceField(choices=[("approve", "Approve"), ("decline", "Decline")])
    amount = CreditsField(label="Credits", required=False)
    lasts = forms.ChoiceField(
        label="For how long", choices=GOOD, required=False, initial="period", widget=forms.RadioSelect
    )
    note = forms.CharField(label="Note", required=False, max_length=200, widget=_line())

    def __init__(self, data: Any = None, *, request: CreditRequest) -> None:
        super().__init__(data, initial={"amount": request.amount}, auto_id=f"request-{request.pk}-%s")
        self.request = request

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        if given.get("verdict") == "approve" and "amount" in given and given["amount"] is None:
            self.add_error("amount", "Say how many credits.")
        if given.get("verdict") == "decline":
            self.errors.pop("amount", None)
        return given

    def save(self, by: User) -> CreditRequest | Refusal:
        """The decided request; a refusal is in the form too."""
        given = self.cleaned_data
        if given["verdict"] == "decline":
            outcome = requests.decline(self.request, by=by, note=given["note"])
        else:
            lasts = given["lasts"] == "lasts"
            outcome = requests.approve(self.request, by=by, amount=given["amount"], lasts=lasts, note=given["note"])
        if isinstance(outcome, Refusal):
            self.add_error(outcome.field or None, outcome.message)
        return outcome


class OwnLimitForm(forms.Form):
    """What a member allows themselves in a period."""

    own_limit = LimitField(
        label="My own limit", required=False, help_text="Credits a period. 0 stops you now; empty removes it."
    )

    def save(self, member: Membership) -> int | None:
        limit = self.cleaned_data["own_limit"]
        with write():
            Membership.objects.filter(pk=member.pk).update(own_limit=limit)
            bus.publish_balance(member.team_id)
        return limit
