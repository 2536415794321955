"""Forms of the pages about people."""

from __future__ import annotations

from django import forms
from django.contrib.auth.forms import AuthenticationForm

from accounts.enums import QuotaUnit, QuotaWindow


class SignInForm(AuthenticationForm):
    """Name and password."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]  # Django's stubs spell the parameters out
        self.fields["username"].label = "User name"
        for field in self.fields.values():
            field.widget.attrs["class"] = "form-control"


class SetupForm(forms.Form):
    """Name and password of the first administrator. Whether they will do is the domain's to say."""

    username = forms.CharField(
        label="User name",
        max_length=150,
        widget=forms.TextInput(
            attrs={"class": "form-control", "autocomplete": "username", "autocapitalize": "none", "autofocus": True}
        ),
    )
    password = forms.CharField(
        label="Password",
        strip=False,
        help_text="At least 10 characters, and not a common one.",
        widget=forms.PasswordInput(render_value=True, attrs={"class": "form-control", "autocomplete": "new-password"}),
    )
    password_again = forms.CharField(
        label="Password, once more",
        strip=False,
        widget=forms.PasswordInput(render_value=True, attrs={"class": "form-control", "autocomplete": "new-password"}),
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
