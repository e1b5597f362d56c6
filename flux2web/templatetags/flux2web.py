"""What templates may say beyond Django's own: credits, times, icons."""

from __future__ import annotations

from datetime import datetime

from django import template
from django.templatetags.static import static
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from .. import pricing, references
from ..money import credits_text, format_credits, usd_text

register = template.Library()
STEPS = ((60, 1, "s"), (3600, 60, "min"), (86400, 3600, "h"), (7 * 86400, 86400, "d"))  # below this, by this, called so

register.filter("credits", credits_text)  # 24 -> "24 credits"
register.filter("amount", format_credits)  # 4120 -> "4,120"
register.filter("usd", usd_text)  # 12.3 -> "$12.30"
register.filter("dollars", pricing.dollars)  # 0.025 -> "0.025", 0.1 -> "0.10"
register.filter("terms", pricing.terms)  # a Price -> "10 credits and 6 a reference, about $0.03"
register.filter("moment", pricing.moment)  # "1 December 2026, 00:00 UTC"


@register.filter
def signed(amount: int) -> str:
    """12 -> "+12", -1200 -> "−1,200", 0 -> "0"."""
    return f"{'+' if amount > 0 else '−' if amount < 0 else ''}{format_credits(abs(amount))}"


@register.simple_tag
def icon(name: str, kind: str = "") -> SafeString:
    """A decorative icon from the sprite; the words beside it, or an aria-label on the button, say what it means."""
    markup = '<svg class="{}" aria-hidden="true"><use href="{}#{}"/></svg>'
    return format_html(markup, f"icon {kind}".strip(), static("icons.svg"), name)


@register.simple_tag
def upload_limits() -> references.Limits:
    """What an upload may be, for pages to say before anything is sent."""
    return references.LIMITS


@register.simple_tag
def ago(when: datetime) -> SafeString:
    """ "4 min ago", the exact time in the title. app.js keeps it true while the page is open."""
    return format_html('<time datetime="{}" title="{}" data-ago>{}</time>', when.isoformat(), exact(when), spoken(when))


@register.filter
def exact(when: datetime) -> str:
    return timezone.localtime(when).strftime("%-d %B %Y, %H:%M:%S %Z")


def spoken(when: datetime) -> str:
    age_s = max(0, int((timezone.now() - when).total_seconds()))
    if age_s < 5:
        return "just now"
    for below_s, unit_s, unit in STEPS:
        if age_s < below_s:
            return f"{age_s // unit_s} {unit} ago"
    return timezone.localtime(when).strftime("%-d %b %Y")


@register.filter
def clock(seconds: float) -> str:
    """74 -> "1:14"."""
    minutes, rest = divmod(max(0, int(seconds)), 60)
    return f"{minutes}:{rest:02}"


@register.filter
def megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 2**20:.1f} MB" if size_bytes >= 2**20 else f"{max(1, size_bytes // 1024)} KB"


@register.filter
def day(when: datetime) -> str:
    """ "Today", "Yesterday", "Thursday 19 November"."""
    date, today = timezone.localtime(when).date(), timezone.localdate()
    near = {0: "Today", 1: "Yesterday"}.get((today - date).days)
    return near or date.strftime("%A %-d %B" if date.year == today.year else "%-d %B %Y")
