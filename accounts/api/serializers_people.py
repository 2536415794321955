"""The shapes of people, teams and invitations."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from accounts.domain.invitations import DEFAULT_DAYS, LONGEST_DAYS
from accounts.domain.teams import LARGEST_ID
from accounts.enums import Role


class UserSerializer(serializers.Serializer[Any]):
    """A person."""

    id = serializers.IntegerField()
    username = serializers.CharField()
    first_name = serializers.CharField()
    last_name = serializers.CharField()
    email = serializers.CharField()
    role = serializers.ChoiceField(choices=Role.values)
    active = serializers.BooleanField(help_text="Whether they may sign in and their keys open anything.")
    awaits_approval = serializers.BooleanField(help_text="Registered and not let in yet.")
    teams = serializers.ListField(child=serializers.CharField())
    created = serializers.IntegerField(help_text="Unix seconds.")
    last_sign_in = serializers.IntegerField(allow_null=True, help_text="Unix seconds.")


class NewUserSerializer(serializers.Serializer[Any]):
    """A person to make."""

    username = serializers.CharField(max_length=150)
    password = serializers.CharField(
        required=False, trim_whitespace=False, help_text="Absent: they can come in by a provider only."
    )
    role = serializers.ChoiceField(choices=Role.values, default=Role.MEMBER.value)
    email = serializers.EmailField(required=False, allow_blank=True, default="")
    teams = serializers.ListField(
        child=serializers.IntegerField(min_value=1, max_value=LARGEST_ID), default=list, help_text="Ids of teams."
    )


class UserPatchSerializer(serializers.Serializer[Any]):
    """What to change of a person."""

    first_name = serializers.CharField(max_length=150, allow_blank=True)
    last_name = serializers.CharField(max_length=150, allow_blank=True)
    email = serializers.EmailField(allow_blank=True)
    role = serializers.ChoiceField(choices=Role.values)
    active = serializers.BooleanField(help_text="false shuts them out at once; true lets them in, or approves them.")
    password = serializers.CharField(trim_whitespace=False)


class TeamSerializer(serializers.Serializer[Any]):
    """A team."""

    id = serializers.IntegerField()
    name = serializers.CharField()
    members = serializers.IntegerField(help_text="How many.")
    created = serializers.IntegerField(help_text="Unix seconds.")


class TeamNameSerializer(serializers.Serializer[Any]):
    """A team's name."""

    name = serializers.CharField(max_length=100)


class MemberSerializer(serializers.Serializer[Any]):
    """Somebody in a team."""

    id = serializers.IntegerField()
    username = serializers.CharField()
    manager = serializers.BooleanField(help_text="Whether they may add and remove members.")


class MembershipSerializer(serializers.Serializer[Any]):
    """How somebody is in a team."""

    manager = serializers.BooleanField(required=False, help_text="For administrators to set; absent: as it is.")


class InvitationSerializer(serializers.Serializer[Any]):
    """An invitation that nobody has accepted yet."""

    id = serializers.IntegerField()
    role = serializers.ChoiceField(choices=Role.values)
    team = serializers.IntegerField(allow_null=True)
    note = serializers.CharField()
    created_by = serializers.CharField(allow_null=True)
    expires = serializers.IntegerField(help_text="Unix seconds.")


class MadeInvitationSerializer(InvitationSerializer):
    """An invitation with its link, which is shown this once."""

    link = serializers.CharField()


class NewInvitationSerializer(serializers.Serializer[Any]):
    """An invitation to make."""

    role = serializers.ChoiceField(choices=Role.values, default=Role.MEMBER.value)
    team = serializers.IntegerField(required=False, allow_null=True, min_value=1, max_value=LARGEST_ID)
    note = serializers.CharField(required=False, allow_blank=True, max_length=100, default="")
    days = serializers.IntegerField(default=DEFAULT_DAYS, min_value=1, max_value=LONGEST_DAYS)
