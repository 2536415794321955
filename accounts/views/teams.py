"""Pages about teams."""

from __future__ import annotations

from django.contrib import messages
from django.db.models import Count
from django.http import HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.domain import teams
from accounts.domain.invitations import visible_invitations
from accounts.domain.people import find_user
from accounts.domain.rights import is_manager_of_people, may_manage_team, require_team_manager
from accounts.errors import InvalidPerson, NameTaken, PersonNotFound
from accounts.forms import InvitationForm, MemberForm, TeamNameForm, add_refusal
from accounts.models import Team, User
from accounts.pages import UNUSABLE, PageRequest, account_page, page_actor

WRONG = (InvalidPerson, NameTaken)
"""What the forms of these pages are told about what was typed."""


@account_page
@require_http_methods(["GET", "HEAD", "POST"])
def show_list(request: PageRequest) -> HttpResponseBase:
    """Show the teams the person may see; make one."""
    actor = page_actor(request)
    form = TeamNameForm(request.POST if request.method == "POST" else None)
    if form.is_bound:
        try:
            team = teams.create_team(actor=actor, name=request.POST.get("name", ""))
            messages.success(request, f"Made the team {team.name}.")
            return redirect("team", team_id=team.pk)
        except WRONG as error:
            add_refusal(form, error)
    found = teams.visible_teams(actor).annotate(size=Count("group__user", distinct=True)).prefetch_related("managers")
    context = {"teams": found, "may_create": is_manager_of_people(actor), "form": form}
    return render(request, "accounts/teams.html", context, status=UNUSABLE if form.is_bound else 200)


@account_page
@require_safe
def show(request: PageRequest, team_id: int) -> HttpResponseBase:
    """Show one team."""
    actor = page_actor(request)
    return render_team(request, teams.find_team(actor, team_id))


def render_team(
    request: PageRequest,
    team: Team,
    *,
    naming: TeamNameForm | None = None,
    adding: MemberForm | None = None,
    invite: InvitationForm | None = None,
) -> HttpResponseBase:
    """Show a team, and with which form something was wrong, if it was."""
    actor = page_actor(request)
    may_manage = may_manage_team(actor, team)
    context = {
        "team": team,
        "members": team.members,
        "managers": set(team.managers.values_list("pk", flat=True)),
        "may_manage": may_manage,
        "is_admin": is_manager_of_people(actor),
        "others": User.objects.filter(is_active=True).exclude(groups=team.pk).order_by("username")
        if is_manager_of_people(actor)
        else (),
        "invitations": visible_invitations(actor).open().filter(team=team) if may_manage else (),
        "invite": invite or InvitationForm(initial={"team": team}),
        "naming": naming or TeamNameForm(initial={"name": team.name}),
        "adding": adding or MemberForm(),
    }
    return render(request, "accounts/team.html", context, status=UNUSABLE if naming or adding or invite else 200)


@account_page
@require_POST
def rename(request: PageRequest, team_id: int) -> HttpResponseBase:
    """Give a team another name."""
    actor = page_actor(request)
    team, form = teams.find_team(actor, team_id), TeamNameForm(request.POST)
    try:
        teams.rename_team(actor=actor, team=team, name=request.POST.get("name", ""))
    except WRONG as error:
        add_refusal(form, error)
        return render_team(request, teams.find_team(actor, team_id), naming=form)
    messages.success(request, "Saved.")
    return redirect("team", team_id=team_id)


@account_page
@require_POST
def delete(request: PageRequest, team_id: int) -> HttpResponseBase:
    """Delete a team."""
    actor = page_actor(request)
    team = teams.find_team(actor, team_id)
    teams.delete_team(actor=actor, team=team)
    messages.success(request, f"The team {team.name} was deleted.")
    return redirect("teams")


@account_page
@require_POST
def add_member(request: PageRequest, team_id: int) -> HttpResponseBase:
    """Put a person into a team."""
    actor = page_actor(request)
    team, form = teams.find_team(actor, team_id), MemberForm(request.POST)
    require_team_manager(actor, team)
    try:
        someone = named_user(request.POST.get("username", "").strip())
    except WRONG as error:
        add_refusal(form, error)
        return render_team(request, team, adding=form)
    teams.add_member(actor=actor, team=team, user=someone)
    messages.success(request, f"{someone} is in {team.name} now.")
    return redirect("team", team_id=team_id)


@account_page
@require_POST
def remove_member(request: PageRequest, team_id: int, user_id: int) -> HttpResponseBase:
    """Take a person out of a team; everybody may leave it."""
    actor = page_actor(request)
    team = teams.find_team(actor, team_id)
    someone = team.members.filter(pk=user_id).first()
    if someone is not None:
        teams.remove_member(actor=actor, team=team, user=someone)
        messages.success(request, f"{someone} is no longer in {team.name}.")
    may_still_see = teams.visible_teams(actor).filter(pk=team_id).exists()
    return redirect("team", team_id=team_id) if may_still_see else redirect("teams")


@account_page
@require_POST
def set_manager(request: PageRequest, team_id: int, user_id: int) -> HttpResponseBase:
    """Make a member a manager, or a mere member again."""
    actor = page_actor(request)
    team = teams.find_team(actor, team_id)
    someone = team.members.filter(pk=user_id).first()
    if someone is None:
        raise PersonNotFound(f"There is no user {user_id} in this team.")
    manages = request.POST.get("manages") == "yes"
    teams.set_manager(actor=actor, team=team, user=someone, manages=manages)
    messages.success(request, f"{someone} {'manages' if manages else 'no longer manages'} {team.name}.")
    return redirect("team", team_id=team_id)


def named_user(username: str) -> User:
    """Return the active person with this name; raise InvalidPerson."""
    if not username:
        raise InvalidPerson("username: write the name of a user.")
    someone = find_user(username)
    if someone is None or not someone.is_active:
        raise InvalidPerson(f"username: there is no active user {username[:150]!r}.")
    return someone
