"""The site's table of contents (design: addresses are stable). Every view carries an access marker; a test sees to it."""

from django.urls import include, path

from .views import accounts, console, health, history, hooks, images, setup, studio, tasks, teams

team_urls = [
    path("", studio.page, name="studio"),
    path("quote/", studio.quote, name="quote"),
    path("tasks/", studio.create, name="create"),
    path("tasks/<int:task_id>/", tasks.page, name="task"),
    path("tasks/<int:task_id>/card/", tasks.card, name="card"),
    path("tasks/<int:task_id>/cancel/", tasks.cancel, name="cancel"),
    path("tasks/<int:task_id>/retry/", tasks.retry, name="retry"),
    path("tasks/<int:task_id>/check/", tasks.check, name="check"),
    path("cards/", tasks.cards, name="cards"),
    path("live/", tasks.live, name="live"),
    path("history/", history.page, name="history"),
    path("references/", images.references, name="references"),
    path("references/<int:reference_id>/<str:variant>", images.reference, name="reference"),
    path("results/<int:task_id>/<str:variant>", images.result, name="result"),
    path("balance/", teams.balance, name="balance"),
    path("budget/", teams.budget, name="budget"),
    path("members/", teams.members, name="members"),
    path("members/invite/", teams.invite, name="invite"),
    path("members/invites/<int:invite_id>/revoke/", teams.revoke_invite, name="revoke-invite"),
    path("members/<int:membership_id>/role/", teams.set_role, name="set-role"),
    path("members/<int:membership_id>/remove/", teams.remove_member, name="remove-member"),
]
console_urls = [
    path("", console.page, name="console"),
    path("teams/", console.make_team, name="make-team"),
    path("teams/<slug:team>/", console.team, name="console-team"),
    path("teams/<slug:team>/grant/", console.grant, name="grant"),
    path("providers/", console.providers, name="providers"),
    path("providers/<slug:provider>/", console.provider, name="provider"),
    path("prices/", console.prices, name="prices"),
]
urlpatterns = [
    path("", accounts.home, name="home"),
    path("setup/<str:token>/", setup.page, name="setup"),
    path("accounts/", include("allauth.urls")),
    path("invites/<str:token>/", teams.accept_invite, name="accept-invite"),
    path("t/<slug:team>/", include(team_urls)),
    path("console/", include(console_urls)),
    path("hooks/<slug:provider>/<str:secret>/", hooks.ring, name="hook"),
    path("i/<str:name>", images.hosted, name="hosted"),
    path("health/live", health.live, name="health-live"),
    path("health/ready", health.ready, name="health-ready"),
]
handler400 = "flux2web.views.errors.bad_request"
handler403 = "flux2web.views.errors.forbidden"
handler404 = "flux2web.views.errors.not_found"
handler500 = "flux2web.views.errors.server_error"
