"""Forms of the pages about people. Whether names and passwords will do is the domain's to say."""

from __future__ import annotations

from typing import Any

from allauth.account.forms import LoginForm
from django import forms
from django.core.exceptions import ValidationError

from accounts.domain.invitations import DEFAULT_DAYS, LONGEST_DAYS
from accounts.domain.teams import LARGEST_ID
from accounts.enums import QuotaUnit, QuotaWindow, Role
from accounts.models import Team
from accounts.sentences import as_sentence


class SignInForm(LoginForm):  # type: ignore[misc]  # allauth has no types
    """Name and password."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["login"].label = "User name"
        self.fields["login"].widget.attrs |= {"autocapitalize": "none", "autofocus": True}
        for field in self.fields.values():
            field.widget.attrs.pop("placeholder", None)
            field.help_text = ""


class NewPasswordForm(forms.Form):
    """A new password, twice."""

    password = forms.CharField(
        label="Password",
        strip=False,
        help_text="At least 10 characters, and not a common one.",
        widget=forms.PasswordInput(render_value=True, attrs={"autocomplete": "new-password"}),
    )
    password_again = forms.CharField(
        label="Password, once more",
        strip=False,
        widget=forms.PasswordInput(render_value=True, attrs={"autocomplete": "new-password"}),
    )

    def clean_password_again(self) -> str:
        """Refuse a second password that differs from the first."""
        again: str = self.cleaned_data["password_again"]
        if again != self.cleaned_data.get("password", again):
            raise forms.ValidationError("The two passwords differ. Write the same one twice.")
        return again


class QuotaForm(forms.Form):
    """A limit to set. Whether it can be is the domain's to say."""

    user = forms.CharField(
        label="Person",
        required=False,
        max_length=150,
        widget=forms.TextInput(attrs={"class": "form-control", "autocomplete": "off", "list": "limit-people"}),
    )
    team = forms.CharField(
        label="or team",
        required=False,
        max_length=150,
        help_text="Neither: each person who has no limit of that kind.",
        widget=forms.TextInput(attrs={"class": "form-control", "autocomplete": "off", "list": "limit-teams"}),
    )
    limit = forms.IntegerField(
        label="Limit",
        required=False,
        min_value=0,
        help_text="Empty: this person is not limited.",
        widget=forms.NumberInput(attrs={"class": "form-control", "autocomplete": "off"}),
    )
    unit = forms.ChoiceField(label="Of", choices=QuotaUnit.choices, widget=forms.Select(attrs={"class": "form-select"}))
    window = forms.ChoiceField(
        label="Per", choices=QuotaWindow.choices, widget=forms.Select(attrs={"class": "form-select"})
    )


class NewAccountForm(NewPasswordForm):
    """Name and password of somebody new."""

    username = forms.CharField(
        label="User name",
        max_length=150,
        widget=forms.TextInput(attrs={"autocomplete": "username", "autocapitalize": "none", "autofocus": True}),
    )
    field_order = ("username", "email", "password", "password_again")


class JoinForm(NewAccountForm):
    """Name, password and perhaps an e-mail address of somebody new."""

    email = forms.EmailField(
        label="E-mail address (optional)", required=False, widget=forms.EmailInput(attrs={"autocomplete": "email"})
    )

    @property
    def account(self) -> dict[str, str]:
        """What the domain makes an account of."""
        return {name: self.cleaned_data[name] for name in ("username", "password", "email")}


class ChangePasswordForm(NewPasswordForm):
    """The old password and a new one."""

    old_password = forms.CharField(
        label="Present password",
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
    )
    field_order = ("old_password", "password", "password_again")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["password"].label = "New password"
        self.fields["password_again"].label = "New password, once more"


class DetailsForm(forms.Form):
    """Who somebody is."""

    first_name = forms.CharField(label="First name", required=False, max_length=150)
    last_name = forms.CharField(label="Last name", required=False, max_length=150)
    email = forms.EmailField(label="E-mail address", required=False)


class TeamField(forms.ModelChoiceField):  # type: ignore[type-arg]  # Django's class takes none at run time
    """Choice of a team; a number that is no id of any is a wrong choice."""

    def to_python(self, value: Any) -> Team | None:
        """Return the team, None for none; raise ValidationError."""
        text = str(value or "")
        if text and not (text.isascii() and text.isdigit() and int(text[:11]) <= LARGEST_ID):
            raise ValidationError(self.error_messages["invalid_choice"], code="invalid_choice")
        team: Team | None = super().to_python(value)
        return team


class TeamNameForm(forms.Form):
    """What a team is called."""

    name = forms.CharField(
        label="Name", required=False, widget=forms.TextInput(attrs={"maxlength": 100, "required": True})
    )


class MemberForm(forms.Form):
    """Whom to put into a team."""

    username = forms.CharField(
        label="Add a member",
        required=False,
        widget=forms.TextInput(
            attrs={
                "maxlength": 150,
                "required": True,
                "list": "others",
                "autocomplete": "off",
                "placeholder": "User name",
            }
        ),
    )


class InvitationForm(forms.Form):
    """Whom to invite, as what and for how long."""

    note = forms.CharField(label="For whom", required=False, max_length=100, help_text="A note for yourself.")
    role = forms.ChoiceField(choices=Role.choices, initial=Role.MEMBER)
    team = TeamField(Team.objects.select_related("group"), required=False, empty_label="No team")
    days = forms.IntegerField(label="Days the link is good", min_value=1, max_value=LONGEST_DAYS, initial=DEFAULT_DAYS)


def add_refusal(form: forms.Form, error: Exception) -> None:
    """Put what the domain refuses beside the field that it begins with (``name: there is one already``)."""
    field = str(error).partition(": ")[0]
    form.add_error(field if field in form.fields else None, as_sentence(error))


def add_errors(form: forms.Form, error: ValidationError) -> None:
    """Put the domain's complaints beside the fields they are about; those without a name are about the password."""
    faults = error.message_dict if hasattr(error, "error_dict") else {"password": error.messages}
    for name, sentences in faults.items():
        for sentence in sentences:
            form.add_error(name if name in form.fields else None, sentence)
