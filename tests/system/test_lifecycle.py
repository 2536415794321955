"""An instance's life as a user sees it, with the fake engine under the real supervisor."""

from __future__ import annotations

from pathlib import Path

import httpx
import psutil

from tests.system.stack import Stack, poll, texts


def test_an_instance_is_created_started_used_and_stopped(corral: Stack) -> None:
    made = corral.create("plain")
    assert (made["status"], made["state"], made["status_code"]) == ("stopped", "stopped", 0)
    started = corral.act("plain", "start").json()
    assert (started["status"], started["status_code"]) == ("running", 1)
    ready = corral.wait_for("plain", "ready")
    assert ready["ready"] is True
    assert corral.chat("plain").status_code == 200
    stopped = corral.act("plain", "stop").json()
    assert (stopped["status"], stopped["state"]) == ("stopped", "stopped")
    assert not psutil.pid_exists(ready["pid"])
    assert corral.states("plain") == ["starting", "ready", "stopping", "stopped"]


def test_creating_starts_when_asked(corral: Stack) -> None:
    assert corral.create("eager", start=True)["status"] == "running"
    corral.wait_for("eager", "ready")


def test_starting_and_stopping_twice_changes_nothing(corral: Stack) -> None:
    corral.run_now("twice")
    pid = corral.get("twice")["pid"]
    assert corral.act("twice", "start").status_code == 200
    assert corral.get("twice")["pid"] == pid
    corral.act("twice", "stop")
    assert corral.act("twice", "stop").json()["state"] == "stopped"


def test_a_restart_brings_a_new_process_on_the_same_port(corral: Stack) -> None:
    before = corral.run_now("again")
    assert corral.act("again", "restart").status_code == 200
    after = corral.wait_for("again", "ready")
    assert after["pid"] != before["pid"]
    assert after["port"] == before["port"]


def test_restarting_a_stopped_instance_starts_it(corral: Stack) -> None:
    corral.create("idle")
    assert corral.act("idle", "restart").json()["status"] == "running"
    corral.wait_for("idle", "ready")


def test_new_options_of_a_running_instance_reach_a_new_process(corral: Stack) -> None:
    before = corral.run_now("changing", flags={"model": "first"})
    answer = corral.api.patch(
        "/api/v1/instances/changing", json={"backend_options": {"extra_args": {"stream_tokens": "2"}}}
    )
    assert answer.status_code == 200, answer.text
    poll(lambda: corral.get("changing")["pid"] not in (None, before["pid"]), what="a new process")
    corral.wait_for("changing", "ready")
    with corral.stream("changing") as lines:
        assert len(texts(lines)) == 3  # two tokens and the end


def test_a_moved_port_is_where_requests_go(corral: Stack) -> None:
    """llamactl 11.2-1: after a change of the port, requests went to the old one, even to another instance."""
    first = corral.run_now("mover")
    free = first["port"] + 50
    options = {"backend_type": "llama_cpp", "backend_options": {"model": "fake.gguf", "port": free}}
    assert corral.api.put("/api/v1/instances/mover", json=options).status_code == 200
    poll(lambda: corral.get("mover")["pid"] not in (None, first["pid"]), what="a new process")
    assert corral.wait_for("mover", "ready")["port"] == free
    corral.run_now("heir", backend_options={"port": first["port"]}, flags={"alias": "heir"})
    answer = corral.api.get("/api/v1/instances/mover/proxy/v1/models")
    assert answer.json()["data"][0]["id"] != "heir"


def test_deleting_a_running_instance_stops_it_first(corral: Stack) -> None:
    pid = corral.run_now("doomed")["pid"]
    assert corral.api.delete("/api/v1/instances/doomed").status_code == 204
    assert not psutil.pid_exists(pid)
    assert corral.api.get("/api/v1/instances/doomed").status_code == 404


def test_a_failed_start_says_why_at_once(corral: Stack) -> None:
    corral.create("broken", auto_restart=False, flags={"crash_at_start": True, "say": "no such tensor"})
    answer = corral.act("broken", "start")
    assert answer.status_code == 500
    assert answer.json()["error"] == "start_failed"
    assert "no such tensor" in answer.json()["details"]
    assert corral.get("broken")["status"] == "failed"


def test_a_missing_program_is_named(corral: Stack) -> None:
    corral.create("missing", auto_restart=False, command_override="/no/such/engine")
    answer = corral.act("missing", "start")
    assert answer.status_code == 500
    assert "/no/such/engine" in answer.json()["details"]


def test_a_failed_instance_starts_again_when_asked(corral: Stack) -> None:
    corral.create("fixed", auto_restart=False, flags={"crash_at_start": True})
    corral.act("fixed", "start")
    options = {"backend_type": "llama_cpp", "backend_options": {"model": "fake.gguf"}}
    corral.api.put("/api/v1/instances/fixed", json=options)
    assert corral.act("fixed", "start").json()["status"] == "running"
    corral.wait_for("fixed", "ready")


def test_zero_and_false_values_reach_the_engine(corral: Stack) -> None:
    """llamactl 11.2-23: zeros were lost on the way."""
    ready = corral.run_now("zeros", backend_options={"gpu_layers": 0, "temp": 0, "seed": 0, "mmap": False})
    words = psutil.Process(ready["pid"]).cmdline()
    for flag in ("--gpu-layers", "--temp", "--seed"):
        assert words[words.index(flag) + 1] in ("0", "0.0")
    assert "--no-mmap" in words


def test_the_environment_reaches_the_engine_and_corrals_own_does_not(corral: Stack) -> None:
    ready = corral.run_now("env", environment={"CUDA_VISIBLE_DEVICES": "0"})
    environ = psutil.Process(ready["pid"]).environ()
    assert environ["CUDA_VISIBLE_DEVICES"] == "0"
    assert not any(name.startswith("CORRAL_") and name != "CORRAL_RUN_TOKEN" for name in environ)


def test_the_engine_demands_a_key_that_only_the_gateway_knows(corral: Stack) -> None:
    """llamactl 11.2-24, 34: the client's key was forwarded, and an engine's own key could not be used."""
    ready = corral.run_now("guarded")
    body = {"messages": [{"role": "user", "content": "hello"}]}
    direct = corral.api.post(f"http://127.0.0.1:{ready['port']}/v1/chat/completions", json=body)
    assert direct.status_code == 401
    assert corral.chat("guarded").status_code == 200
    assert corral.management_key not in " ".join(psutil.Process(ready["pid"]).cmdline())


def test_a_key_of_the_users_own_still_opens_the_engine_and_the_gateway_needs_none(corral: Stack) -> None:
    """llamactl 11.2-34: an engine with a key of its own could not be used behind the proxy."""
    ready = corral.run_now("keyed", backend_options={"api_key": "users-own"})
    assert corral.chat("keyed").status_code == 200
    address = f"http://127.0.0.1:{ready['port']}/v1/chat/completions"
    body = {"messages": [{"role": "user", "content": "hello"}]}
    direct = corral.api.post(address, json=body, headers={"Authorization": "Bearer users-own"})
    assert direct.status_code == 200


def test_a_key_in_the_query_is_written_into_no_log(corral: Stack) -> None:
    """llamactl 11.2-24: `?api_key=` was forwarded, and written to the access log."""
    corral.run_now("discreet", flags={"log_requests": True})
    key = corral.management_key
    body = {"model": "discreet", "messages": [{"role": "user", "content": "hello"}]}
    for path in ("/v1/chat/completions?mark=seen", "/api/v1/instances/discreet/proxy/v1/chat/completions?mark=seen"):
        answer = httpx.post(f"{corral.api.base_url}{path}&api_key={key}", json=body)
        assert answer.status_code == 200, answer.text
    assert httpx.get(f"{corral.api.base_url}/api/v1/instances?api_key={key}").status_code == 200
    log = corral.api.get("/api/v1/instances/discreet/logs").text
    assert log.count("mark=seen") == 2
    assert key not in log
    assert key not in corral.said()


def test_an_impossible_status_of_an_engine_is_a_bad_gateway(corral: Stack) -> None:
    corral.run_now("odd")
    answer = corral.api.get("/api/v1/instances/odd/proxy/status/999")
    assert (answer.status_code, answer.json()["error"]) == (502, "bad_gateway")


def test_an_edited_preset_is_written_for_the_next_run(corral: Stack) -> None:
    """llamactl 11.2-18: an edited preset was not written, a cleared one stayed."""

    def preset(ready: dict[str, int]) -> str | None:
        words = psutil.Process(ready["pid"]).cmdline()
        if "--models-preset" not in words:
            return None
        return Path(words[words.index("--models-preset") + 1]).read_text()

    first = corral.run_now("preset", preset_ini="[one]\nctx-size = 1\n")
    assert "[one]" in (preset(first) or "")
    corral.api.patch("/api/v1/instances/preset", json={"preset_ini": "[two]\nctx-size = 2\n"})
    corral.act("preset", "restart")
    assert "[two]" in (preset(corral.wait_for("preset", "ready")) or "")
    corral.api.patch("/api/v1/instances/preset", json={"preset_ini": ""})
    corral.act("preset", "restart")
    assert preset(corral.wait_for("preset", "ready")) is None


def test_a_command_of_the_users_own_runs_with_its_stop_command(corral: Stack) -> None:
    import sys

    from tests.system.stack import FAKE_ENGINE

    options = {
        "backend_type": "command",
        "backend_options": {"command": f"{sys.executable} -I -S {FAKE_ENGINE} --port ${{PORT}} --alias ${{MODEL_ID}}"},
    }
    answer = corral.api.post("/api/v1/instances/own", params={"start": "true"}, json=options)
    assert answer.status_code == 201, answer.text
    corral.wait_for("own", "ready")
    assert corral.chat("own").status_code == 200
