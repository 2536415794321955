"""The life of an instance, driven by a browser."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import OpenPage
from tests.system.stack import Stack


def test_an_instance_is_created_started_watched_and_deleted(page: Page, corral: Stack) -> None:
    page.get_by_role("link", name="Create your first instance").click()
    page.get_by_label("Name", exact=True).fill("first")
    page.get_by_label("Model", exact=True).fill("fake.gguf")
    page.get_by_label("Context size").fill("4096")
    expect(page.get_by_label("Command line")).to_contain_text("--ctx-size 4096")
    page.get_by_role("button", name="Save and start").click()

    page.wait_for_url("**/instances/first/")
    expect(page.locator("#status [data-state]")).to_have_text("Ready")
    expect(page.locator("[data-log-view]")).to_contain_text("listening on 127.0.0.1")
    assert corral.get("first")["options"]["backend_options"]["ctx_size"] == 4096

    page.get_by_role("button", name="Stop first").click()
    expect(page.locator("#status [data-state]")).to_have_text("Stopped")
    expect(page.locator("#toasts")).to_contain_text("first is stopped.")
    expect(page.locator("#history")).to_contain_text("user:admin")

    page.locator("summary", has_text="More").click()
    page.get_by_role("link", name="Delete").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Delete first?")
    dialog.get_by_role("button", name="Delete first").click()
    page.wait_for_url(re.compile(r"/$"))
    expect(page.locator("#toasts")).to_contain_text("first was deleted.")
    expect(page.get_by_text("No instances yet")).to_be_visible()


def test_the_list_follows_what_happens_elsewhere_without_a_reload(page: Page, corral: Stack) -> None:
    """llamactl 10.3: the list was fetched once; what others did was never seen."""
    expect(page.get_by_text("No instances yet")).to_be_visible()
    corral.create("elsewhere")
    row = page.locator("tr", has_text="elsewhere")
    expect(row.locator("[data-state]")).to_have_text("Stopped")
    corral.act("elsewhere", "start")
    expect(row.locator("[data-state]")).to_have_text("Ready")
    corral.remove("elsewhere")
    expect(page.get_by_text("No instances yet")).to_be_visible()


def test_a_failed_start_says_why_and_leaves_the_list_alone(page: Page, corral: Stack) -> None:
    """llamactl 10.3: any failure replaced the whole list."""
    corral.create("fine")
    corral.create("broken", auto_restart=False, flags={"crash_at_start": True, "say": "no such tensor"})
    page.get_by_role("button", name="Start broken").click()
    expect(page.get_by_role("alert")).to_contain_text("broken: The engine ended with exit code 1")
    expect(page.locator("tr", has_text="broken").locator("[data-state]")).to_have_text("Failed")
    expect(page.get_by_role("link", name="fine")).to_be_visible()
    page.get_by_role("link", name="broken").click()
    expect(page.get_by_label("Why")).to_contain_text("no such tensor")


def test_search_filter_and_order_survive_a_reload(page: Page, corral: Stack) -> None:
    for name in ("anna", "bert", "berta"):
        corral.create(name, group="large" if name == "anna" else "")
    page.reload()
    page.get_by_label("Search instances").fill("bert")
    expect(page.locator(".instance-name")).to_have_text(["bert", "berta"])
    expect(page).to_have_url(re.compile("q=bert"))
    page.reload()
    expect(page.locator(".instance-name")).to_have_text(["bert", "berta"])
    page.get_by_label("Search instances").fill("large")
    expect(page.locator(".instance-name")).to_have_text(["anna"])
    page.get_by_label("State", exact=True).select_option("ready")
    expect(page.get_by_text("No instance matches")).to_be_visible()


def test_a_faulty_form_keeps_what_was_typed_and_points_at_the_fault(page: Page, corral: Stack) -> None:
    """llamactl 10.5: the dialog closed at once; errors appeared elsewhere and the data were lost."""
    corral.create("taken")
    page.goto("/instances/new/")
    page.get_by_label("Name", exact=True).fill("taken")
    page.get_by_label("Model", exact=True).fill("fake.gguf")
    page.get_by_label("Context size").fill("many")
    page.locator("summary", has_text="All options of").click()
    page.get_by_label("Search options").fill("-t")
    page.locator("#id_option-threads").fill("3")
    page.get_by_label("Variable").fill("CUDA_VISIBLE_DEVICES")
    page.get_by_label("Value").last.fill("1")
    page.get_by_role("button", name="Save", exact=True).click()
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text('Context size: "many" is not a whole number')
    expect(alert).to_be_focused()

    page.get_by_label("Context size").fill("32")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator("#id_name_fault")).to_have_text("This name is taken.")
    expect(page.get_by_label("Name", exact=True)).to_have_attribute("aria-invalid", "true")
    expect(page.locator("#id_option-threads")).to_have_value("3")

    page.get_by_label("Name", exact=True).fill("free")
    page.get_by_role("button", name="Save", exact=True).click()
    page.wait_for_url("**/instances/free/")
    options = corral.get("free")["options"]
    assert options["backend_options"] | {"port": 0} == {"model": "fake.gguf", "ctx_size": 32, "threads": 3, "port": 0}
    assert options["environment"] == {"CUDA_VISIBLE_DEVICES": "1"}


def test_a_resized_input_does_not_offend_the_content_security_policy(page: Page) -> None:
    """What the console says fails the test: browsers keep a new height in a style attribute, which htmx copied."""
    page.goto("/instances/new/")
    page.locator("#id_preset_ini").evaluate("(area) => { area.style.height = '9rem'; }")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_role("alert")).to_be_visible()
    page.wait_for_timeout(200)


@pytest.mark.parametrize("width", [1280, 390])
def test_messages_cover_no_button_of_the_form(open_page: OpenPage, width: int) -> None:
    page = open_page(viewport={"width": width, "height": 800})
    page.goto("/instances/new/")
    page.get_by_text("Paste a command", exact=True).click()
    page.get_by_label("Command", exact=True).fill("llama-server -m a.gguf --port 9999 --host 0.0.0.0")
    page.get_by_role("button", name="Fill the form from it").first.click()
    expect(page.locator(".toast")).to_have_count(2)
    last, bar = page.locator(".toast").last.bounding_box(), page.locator(".form-buttons").bounding_box()
    assert last
    assert bar
    assert last["y"] + last["height"] < bar["y"]


def test_a_pasted_command_fills_the_form(page: Page, corral: Stack) -> None:
    page.goto("/instances/new/")
    page.get_by_label("Name", exact=True).fill("pasted")
    page.get_by_text("Paste a command", exact=True).click()
    page.get_by_label("Command", exact=True).fill('llama-server -m "/m/a b.gguf" -ngl 0 --seed -1 --new-flag x')
    page.get_by_role("button", name="Fill the form from it").first.click()
    expect(page.get_by_label("Model", exact=True)).to_have_value("/m/a b.gguf")
    expect(page.get_by_label("GPU layers")).to_have_value("0")
    expect(page.get_by_label("Name", exact=True)).to_have_value("pasted")
    page.get_by_label("Command", exact=True).fill('llama-server -m "unclosed')
    page.get_by_role("button", name="Fill the form from it").first.click()
    expect(page.locator("#id_command_line_fault")).to_be_visible()
    expect(page.get_by_label("Model", exact=True)).to_have_value("/m/a b.gguf")
    page.get_by_role("button", name="Save", exact=True).click()
    page.wait_for_url("**/instances/pasted/")
    engine = corral.get("pasted")["options"]["backend_options"]
    assert (engine["gpu_layers"], engine["seed"], engine["extra_args"]) == (0, -1, {"new_flag": "x"})


def test_changing_the_engine_keeps_what_both_have(page: Page) -> None:
    page.goto("/instances/new/")
    page.get_by_label("Name", exact=True).fill("switching")
    page.get_by_label("Model", exact=True).fill("some/model")
    page.get_by_label("Engine", exact=True).select_option("vllm")
    expect(page.get_by_label("Tensor parallel size")).to_be_visible()
    expect(page.get_by_label("Model", exact=True)).to_have_value("some/model")
    expect(page.get_by_label("Name", exact=True)).to_have_value("switching")


def test_model_files_of_this_host_are_offered(page: Page, live_corral: Stack) -> None:
    page.goto("/instances/new/")
    offered = page.locator("#model-files option").evaluate_all("options => options.map((o) => o.value)")
    assert [Path(path).name for path in offered] == ["alpha-q4.gguf", "beta-q8.gguf"]


def test_a_copy_and_an_exported_file_make_the_same_instance(page: Page, corral: Stack, tmp_path: Path) -> None:
    corral.create("original", backend_options={"temp": 0}, flags={"say": "x"}, environment={"A": "1"})
    page.goto("/instances/original/")
    page.locator("summary", has_text="More").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="Export as JSON").click()
    exported = tmp_path / "original.json"
    download.value.save_as(exported)
    assert json.loads(exported.read_text())["name"] == "original"

    page.goto("/instances/new/?copy=original")
    page.get_by_role("button", name="Save", exact=True).click()
    page.wait_for_url("**/instances/original-copy/")

    page.goto("/instances/new/")
    page.get_by_label("An exported instance").set_input_files(exported)
    page.get_by_role("button", name="Fill the form from it").last.click()
    expect(page.get_by_label("Name", exact=True)).to_have_value("original")
    page.get_by_label("Name", exact=True).fill("imported")
    page.get_by_role("button", name="Save", exact=True).click()
    page.wait_for_url("**/instances/imported/")

    def shape(name: str) -> dict[str, object]:
        options = corral.get(name)["options"]
        return {**options, "backend_options": {k: v for k, v in options["backend_options"].items() if k != "port"}}

    assert shape("original") == shape("original-copy") == shape("imported")


def test_editing_shows_and_keeps_every_value(page: Page, corral: Stack) -> None:
    corral.create(
        "full",
        backend_options={
            "mmap": False, "lora": ["a", "b"], "grammar": 'root ::= "x"\n  | "y"', "reverse_prompt": " User:",
        },
        flags={"bare": True, "say": "x"},
        idle_timeout=7,
        preset_ini="[a]\nctx-size = 1\n",
        group="g",
        pinned=True,
    )  # fmt: skip
    before = corral.get("full")["options"]
    page.goto("/instances/full/edit/")
    page.get_by_role("button", name="Save", exact=True).click()
    page.wait_for_url("**/instances/full/")
    assert corral.get("full")["options"] == before


def test_somebody_elses_change_is_not_overwritten_unseen(page: Page, corral: Stack) -> None:
    corral.create("shared")
    page.goto("/instances/shared/edit/")
    corral.api.patch("/api/v1/instances/shared", json={"group": "theirs"})
    page.get_by_label("Group").fill("mine")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("Somebody else changed this instance")
    assert corral.get("shared")["options"]["group"] == "theirs"
    page.get_by_role("button", name="Save", exact=True).click()
    page.wait_for_url("**/instances/shared/")
    assert corral.get("shared")["options"]["group"] == "mine"


def test_the_form_works_without_scripts(open_page: OpenPage, corral: Stack) -> None:
    page = open_page(java_script_enabled=False)
    page.goto("/instances/new/")
    page.get_by_label("Name", exact=True).fill("plain")
    page.get_by_label("Model", exact=True).fill("fake.gguf")
    page.get_by_role("button", name="Save", exact=True).last.click()
    page.wait_for_url("**/instances/plain/")
    page.get_by_role("button", name="Start plain").click()
    expect(page.locator("#toasts")).to_contain_text("plain is")
    corral.wait_for("plain", "ready")
    page.goto("/instances/plain/delete/")
    page.get_by_role("button", name="Delete plain").click()
    expect(page.locator("#toasts")).to_contain_text("plain was deleted.")


def test_a_button_is_busy_while_its_action_runs(page: Page, corral: Stack) -> None:
    corral.run_now("slow", flags={"term_delay": 2})
    page.reload()
    button = page.get_by_role("button", name="Stop slow")
    page.route("**/instances/slow/stop/", lambda route: (page.wait_for_timeout(700), route.continue_()))
    button.click(no_wait_after=True)
    expect(button).to_be_disabled()
    expect(page.locator("tr", has_text="slow").locator("[data-state]")).to_have_text("Stopped")
