"""Creating and changing an instance: one form, shown until what it holds can be saved."""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings
from django.contrib import messages
from django.http import HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from accounts.domain.actors import Actor
from accounts.pages import UNUSABLE, PageRequest, page_actor
from gallery.domain.files import list_model_files
from instances.backends.base import OptionError, ParseError
from instances.domain.access import find_instance, require_creator, require_level, visible_instances
from instances.domain.descriptions import describe_options
from instances.domain.lifecycle import create_instance, start_instance, update_instance
from instances.domain.names import find_name_fault
from instances.domain.options import read_options
from instances.domain.preview import lacks_model, preview_command
from instances.draft import ADDRESS, Draft, join_words
from instances.enums import ShareLevel
from instances.errors import InstanceError
from instances.imports import InvalidImport, read_definition
from instances.models import Instance
from instances.views.answers import go_to, instance_page, render_part, status_of, tell


@instance_page
@require_http_methods(["GET", "HEAD", "POST"])
def create(request: PageRequest) -> HttpResponseBase:
    """Create an instance: from nothing, as a copy (``?copy=name``), from a file, or from a pasted command."""
    actor = page_actor(request)
    require_creator(actor)
    if request.method == "POST":
        return go_on(request, actor, None)
    if source := request.GET.get("copy"):
        original = find_instance(actor, source)
        require_level(actor, original, ShareLevel.MANAGE)
        options = describe_options(original, with_secrets=True)
        options["backend_options"] = {k: v for k, v in options["backend_options"].items() if k != "port"}
        options.pop("aliases", None)  # they are the original's
        draft = Draft.from_options(options, actor=actor, name=f"{source}-copy")
        withhold(request, draft)
    else:
        engine = request.GET.get("engine")
        draft = Draft.from_options({"backend_type": engine} if engine else {}, actor=actor)
    return show(request, actor, None, draft)


@instance_page
@require_http_methods(["GET", "HEAD", "POST"])
def edit(request: PageRequest, name: str) -> HttpResponseBase:
    """Change an instance."""
    actor = page_actor(request)
    instance = find_instance(actor, name)
    require_level(actor, instance, ShareLevel.MANAGE)
    if request.method == "POST":
        return go_on(request, actor, instance)
    return show(request, actor, instance, Draft.from_options(instance.options, actor=actor, instance=instance))


def go_on(request: PageRequest, actor: Actor, instance: Instance | None) -> HttpResponseBase:
    """Do what the pressed button says; one without a name saves."""
    steps: dict[str, Callable[[PageRequest, Actor, Instance | None], HttpResponseBase]] = {
        "engine": change_engine,
        "command": read_command,
        "import": import_definition,
        "preview": preview,
    }
    return steps.get(request.POST.get("action", ""), save)(request, actor, instance)


def change_engine(request: PageRequest, actor: Actor, instance: Instance | None) -> HttpResponseBase:
    """Show the form for another engine; what both have keeps its value."""
    return show(request, actor, instance, Draft.from_post(request.POST, actor=actor, check=False))


def read_command(request: PageRequest, actor: Actor, instance: Instance | None) -> HttpResponseBase:
    """Fill the form from a pasted command line."""
    draft = Draft.from_post(request.POST, actor=actor, check=False)
    try:
        parsed = draft.backend.parse_command(draft.command_line)
        # Sorts catalogued options out of the extra arguments, where llamactl's answers have vLLM's newer ones.
        options = draft.backend.normalize_options(parsed.options).options
    except (ParseError, OptionError) as error:
        draft.faults["command_line"] = str(error)
        return show(request, actor, instance, draft, status=UNUSABLE)
    environment = parsed.environment if actor.is_admin else {}
    count = draft.merge_command(options, environment)
    left = count - withhold(request, draft)
    messages.success(request, f"Read {left} value{'' if left == 1 else 's'} from the command.")
    if parsed.environment and not actor.is_admin:
        messages.warning(request, "Its variables were left out: only administrators may set the environment.")
    if left_out := " and ".join(f"{name} {parsed.options[name]}" for name in ADDRESS if name in parsed.options):
        verb = "were" if " and " in left_out else "was"
        sentence = f"{left_out} {verb} left out: Corral chooses where an engine listens."
        messages.info(request, sentence[0].upper() + sentence[1:])
    return show(request, actor, instance, draft)


def import_definition(request: PageRequest, actor: Actor, instance: Instance | None) -> HttpResponseBase:
    """Fill the form from an exported file. Port and node are left out: they belong to the original."""
    try:
        name, options = read_definition(request.FILES.get("definition"))
    except InvalidImport as error:
        draft = Draft.from_post(request.POST, actor=actor, check=False)
        draft.faults["definition"] = str(error)
        return show(request, actor, instance, draft, status=UNUSABLE)
    messages.success(request, "Read the file. Look through the values, then save.")
    draft = Draft.from_options(options, actor=actor, name=name)
    withhold(request, draft)
    return show(request, actor, instance, draft)


def withhold(request: PageRequest, draft: Draft) -> int:
    """Empty what the person may not set, say so, and return how many values that were."""
    if names := draft.withhold():
        listed = list(dict.fromkeys(names))
        were, them = ("were", "them") if len(listed) > 1 else ("was", "it")
        sentence = f"{join_words(listed)} {were} left out: only administrators may set {them}."
        messages.warning(request, sentence[0].upper() + sentence[1:])
    return len(names)


def preview(request: PageRequest, actor: Actor, instance: Instance | None) -> HttpResponseBase:
    """Show the command line the form leads to, or why there is none yet."""
    draft = Draft.from_post(request.POST, actor=actor, check=True)
    command = fault = ""
    port_is_open = False
    try:
        options = draft.to_options(actor=actor, instance=instance)
        if options is None:
            fault = next(f"{label}: {what}" for _, label, what in draft.summary)
        else:
            wanted = read_options(options)
            if instance is not None and not wanted.port:
                options["backend_options"]["port"] = instance.port
                wanted = read_options(options)
            port_is_open = not wanted.port
            command = preview_command(name=instance.name if instance else draft.name, wanted=wanted)
    except InstanceError as error:
        fault = str(error)
    context = {"command": command, "fault": fault, "port_is_open": port_is_open}
    if request.htmx and request.htmx.target == "command-preview":
        return render_part(request, "instances/_preview.html", context)
    return show(request, actor, instance, draft, command=command, preview_fault=fault)


def save(request: PageRequest, actor: Actor, instance: Instance | None) -> HttpResponseBase:
    """Save, and start when asked to; show the form again with every fault at its place when that isn't possible."""
    draft = Draft.from_post(request.POST, actor=actor, check=True)
    if instance is None and (fault := find_name_fault(draft.name)):
        draft.faults["name"] = fault[0].upper() + fault[1:] + "."
    options = draft.to_options(actor=actor, instance=instance)
    if options is None:
        return show(request, actor, instance, draft, status=UNUSABLE)
    if instance is not None and request.POST.get("version") != version_of(instance):
        draft.general.append("Somebody else changed this instance meanwhile. Saving again replaces their changes.")
        return show(request, actor, instance, draft, status=409)
    starts = request.POST.get("action") == "start"
    try:
        if instance is None:
            created = create_instance(actor=actor, name=draft.name, options=options, start=starts)
            instance, warnings = created.instance, created.warnings
        else:
            updated = update_instance(actor=actor, instance=instance, options=options, merge=False)
            instance, warnings = updated.instance, updated.warnings
            if starts and not instance.disabled:
                warnings = [*warnings, *start_or_explain(actor, instance)]
    except InstanceError as error:
        draft.add_error(error)
        return show(request, actor, instance, draft, status=status_of(error))
    messages.success(request, f"{instance.name} was saved.")
    if starts and lacks_model(instance):
        warnings = [*warnings, "It names no model: llama.cpp runs as a router without models. Edit it to choose one."]
    for warning in warnings:
        messages.warning(request, warning.strip().partition("\n")[0])
    return go_to(request, reverse("instance-detail", kwargs={"name": instance.name}))


def start_or_explain(actor: Actor, instance: Instance) -> list[str]:
    """Start a saved instance; return why that failed, since the saving did not."""
    try:
        start_instance(actor=actor, instance=instance)
    except InstanceError as error:
        return [f"It was saved but not started. {tell(error, instance.name)}"]
    return []


def version_of(instance: Instance) -> str:
    """Return which change of the definition the form shows."""
    latest = instance.events.filter(kind="updated").values_list("pk", flat=True).first()
    return str(latest or 0)


def show(
    request: PageRequest,
    actor: Actor,
    instance: Instance | None,
    draft: Draft,
    *,
    status: int = 200,
    command: str = "",
    preview_fault: str = "",
) -> HttpResponseBase:
    """Return the page, or the form alone where a script asks for it."""
    if instance is not None:
        draft.form.fields["port"].widget.attrs["placeholder"] = str(instance.port)
    draft.offer_engines(actor)
    used = visible_instances(actor).exclude(group="").values_list("group", flat=True).distinct()
    groups = sorted({*used, *settings.CORRAL.groups, *settings.CORRAL.group_limits})
    context = {
        "draft": draft,
        "form": draft.form,
        "instance": instance,
        "is_admin": actor.is_admin,
        "version": version_of(instance) if instance else "",
        "model_files": list_model_files(settings.CORRAL.model_roots),
        "model_roots": settings.CORRAL.model_roots,
        "groups": groups,
        "kept": draft.tell_granted(instance),
        "command": command,
        "preview_fault": preview_fault,
        "several_nodes": len(draft.form.fields["node"].choices) > 1,  # type: ignore[attr-defined]  # a ChoiceField
    }
    if request.htmx and request.htmx.target == "instance-form":
        return render_part(request, "instances/_form.html", context, status=status)
    return render(request, "instances/form.html", context, status=status)
