"""Pages for administrators about people: the list, one person, invitations."""

from __future__ import annotations

from typing import Any

from allauth.mfa.models import Authenticator
from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import Q, QuerySet
from django.http import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_POST, require_safe

from accounts.domain.invitations import create_invitation, visible_invitations, withdraw_invitation
from accounts.domain.leaving import activate_user, deactivate_user, delete_user
from accounts.domain.people import change_role, find_user, get_user, set_password
from accounts.domain.rights import is_manager_of_people, require_admin
from accounts.domain.teams import find_team
from accounts.enums import Role
from accounts.errors import InvalidPerson, NotAllowed
from accounts.forms import InvitationForm, add_refusal
from accounts.models import User
from accounts.pages import UNUSABLE, PageRequest, account_page, page_actor
from accounts.resending import note_sent, was_sent
from accounts.signin.account import require_confirmation
from accounts.signin.second_factor import forget_second_factors
from accounts.views.teams import render_team

PAGE = 100
STATES = {
    "active": ("Active", Q(is_active=True)),
    "waiting": ("Waiting for approval", Q(is_active=False, awaits_approval=True)),
    "inactive": ("Deactivated", Q(is_active=False, awaits_approval=False)),
}


@account_page
@require_safe
def show_list(request: PageRequest) -> HttpResponseBase:
    """Show people, searched and filtered as the query says, who waits first, and open invitations."""
    return render_people(request)


def render_people(request: PageRequest, invite: InvitationForm | None = None) -> HttpResponseBase:
    """Show the list, and an invitation in which something was wrong, if it was."""
    actor = page_actor(request)
    require_admin(actor)
    query = {name: request.GET.get(name, "").replace("\0", "").strip()[:100] for name in ("q", "role", "state")}
    found = filter_people(User.objects.all(), **query).order_by("-awaits_approval", "username")
    context = {
        "page": Paginator(found, PAGE).get_page(request.GET.get("page")),
        "total": User.objects.count(),
        "query": query,
        "roles": Role.choices,
        "states": [(name, label) for name, (label, _) in STATES.items()],
        "invitations": visible_invitations(actor).open(),
        "invite": invite or InvitationForm(),
    }
    return render(request, "accounts/people.html", context, status=UNUSABLE if invite else 200)


def filter_people(people: QuerySet[User], *, q: str, role: str, state: str) -> QuerySet[User]:
    """Return the people with these words in name or address, in a role and a state (any, when it is none)."""
    if role in Role.values:
        people = people.filter(role=role)
    if state in STATES:
        people = people.filter(STATES[state][1])
    for word in q.split()[:8]:
        people = people.filter(
            Q(username__icontains=word)
            | Q(first_name__icontains=word)
            | Q(last_name__icontains=word)
            | Q(email__icontains=word)
        )
    return people


@account_page
@require_safe
def show_person(request: PageRequest, user_id: int) -> HttpResponseBase:
    """Show one person and what can be done."""
    someone = get_user(page_actor(request), user_id)
    context = {
        "person": someone,
        "teams": someone.groups.order_by("name"),
        "roles": Role.choices,
        "heirs": User.objects.filter(is_active=True).exclude(pk=someone.pk).order_by("username"),
        "has_second_factor": Authenticator.objects.filter(user=someone).exists(),
        "key_count": someone.api_keys.usable().count(),
    }
    return render(request, "accounts/person.html", context)


@account_page
@require_POST
def save_role(request: PageRequest, user_id: int) -> HttpResponseBase:
    """Give a person another role."""
    actor = page_actor(request)
    someone, role = get_user(actor, user_id), request.POST.get("role", "")
    if role not in Role.values:
        raise InvalidPerson(f"role: one of {', '.join(Role.values)}.")
    change_role(actor=actor, user=someone, role=Role(role))
    return tell(request, someone, f"{someone} is {Role(role).label.lower()} now.")


@account_page
@require_POST
def activate(request: PageRequest, user_id: int) -> HttpResponseBase:
    """Let a person in."""
    actor = page_actor(request)
    someone = get_user(actor, user_id)
    activate_user(actor=actor, user=someone)
    return tell(request, someone, f"{someone} can sign in now.")


@account_page
@require_POST
def deactivate(request: PageRequest, user_id: int) -> HttpResponseBase:
    """Shut a person out."""
    actor = page_actor(request)
    someone = get_user(actor, user_id)
    deactivate_user(actor=actor, user=someone)
    return tell(request, someone, f"{someone} is signed out and can't come in any more. Their keys open nothing.")


def refuse_oneself(request: PageRequest, someone: User) -> None:
    """Raise NotAllowed for one's own account: there the profile asks for the password first."""
    if request.user == someone:
        raise NotAllowed("Use your profile for your own account; it asks for your password first.")


@account_page
@sensitive_post_parameters("password")
@require_POST
def reset_password(request: PageRequest, user_id: int) -> HttpResponseBase:
    """Give a person a new password."""
    actor = page_actor(request)
    someone = get_user(actor, user_id)
    refuse_oneself(request, someone)
    set_password(actor=actor, user=someone, password=request.POST.get("password", ""))
    return tell(request, someone, f"{someone} has a new password and is signed out everywhere.")


@account_page
@require_POST
def remove_second_factors(request: PageRequest, user_id: int) -> HttpResponseBase:
    """Help somebody who has lost their app, passkeys and recovery codes, after confirming who asks."""
    actor = page_actor(request)
    someone = get_user(actor, user_id)
    refuse_oneself(request, someone)
    require_confirmation(request)
    forget_second_factors(actor=actor, user=someone)
    return tell(request, someone, f"{someone} signs in with the password alone now.")


@account_page
@require_POST
def delete(request: PageRequest, user_id: int) -> HttpResponseBase:
    """Delete a person; what they own passes to the chosen heir."""
    actor = page_actor(request)
    someone, name = get_user(actor, user_id), request.POST.get("heir", "")
    heir = find_user(name) if name else None
    if name and heir is None:
        raise InvalidPerson(f"heir: there is no user {name}.")
    delete_user(actor=actor, user=someone, heir=heir)
    messages.success(request, f"{someone} was deleted.")
    return redirect("people")


@account_page
@require_POST
def invite(request: PageRequest) -> HttpResponseBase:
    """Make an invitation and show its link, this once; a wrong one is shown again where it was written."""
    actor, form = page_actor(request), InvitationForm(request.POST)
    if was_sent(request):
        messages.info(request, "This invitation was made already. Its link was shown once only.")
        return redirect("people" if is_manager_of_people(actor) else "teams")
    if not form.is_valid():
        return show_invitation_again(request, form)
    chosen: dict[str, Any] = {**form.cleaned_data, "role": Role(form.cleaned_data["role"])}
    try:
        invitation, token = create_invitation(actor=actor, **chosen)
    except InvalidPerson as error:
        add_refusal(form, error)
        return show_invitation_again(request, form)
    note_sent(request)
    link = request.build_absolute_uri(reverse("invitation", args=[token]))
    return render(request, "accounts/invited.html", {"invitation": invitation, "link": link})


def show_invitation_again(request: PageRequest, form: InvitationForm) -> HttpResponseBase:
    """Show the page of the team or of people with what is wrong."""
    number = request.POST.get("team", "")
    if request.POST.get("page") == "team" and number.isascii() and number.isdigit():
        return render_team(request, find_team(page_actor(request), int(number[:19])), invite=form)
    return render_people(request, invite=form)


@account_page
@require_POST
def withdraw(request: PageRequest, invitation_id: int) -> HttpResponseBase:
    """End an invitation."""
    actor = page_actor(request)
    invitation = visible_invitations(actor).filter(pk=invitation_id).select_related("team").first()
    withdraw_invitation(actor=actor, invitation_id=invitation_id)
    messages.success(request, "The invitation is withdrawn.")
    return redirect("team", team_id=invitation.team_id) if invitation and invitation.team_id else redirect("people")


def tell(request: PageRequest, someone: User, sentence: str) -> HttpResponseBase:
    """Go back to the person's page with a message."""
    messages.success(request, sentence)
    return redirect("person", user_id=someone.pk)
