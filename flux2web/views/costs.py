"""What a picture costs: each kind at each provider, and what is charged where none comes."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from .. import access, accounts, kinds, pricing, providers
from ..models import Membership, Role


@require_safe
@access.team(Role.VIEWER)
def page(request: HttpRequest, member: Membership) -> HttpResponse:
    slugs = sorted(
        {account.provider for account in accounts.usable()} & pricing.priced(), key=list(providers.ALL).index
    )
    made = kinds.made_in(member.team.budget)
    context = {
        "member": member,
        "kinds": [(kinds.name(kind), kind in made) for kind in pricing.KINDS],
        "rows": pricing.table(slugs),
    }
    return render(request, "costs/page.html", context)
