"""llama-swap's routes on a real Corral: checklist items 13, 16, 19 and 20 of its reference, and who may call them."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest

from tests.system.stack import ADMIN, PASSWORD, Stack, poll, texts

pytestmark = pytest.mark.any_database


def test_load_running_health_and_unload_speak_the_contracts_words(corral: Stack) -> None:
    corral.create("m", aliases=["org/model"])
    loaded = corral.api.get("/upstream/org/model/load")
    assert (loaded.status_code, loaded.text) == (200, '{"status":"ok","message":"org/model is ready"}')
    assert corral.api.get("/upstream/m/load").text == '{"status":"ok","message":"m is ready"}'
    assert corral.api.get("/running").text == '{"running":["m"]}'
    health = corral.api.get("/health")
    pid = health.json()["models"]["m"]["pid"]
    assert health.text == f'{{"status":"ok","models":{{"m":{{"status":"running","pid":{pid}}}}}}}'
    assert psutil.pid_exists(pid)
    detail = corral.api.get("/running?detail=1").json()["running"][0]
    assert (detail["model"], detail["state"]) == ("m", "ready")
    assert "--api-key" not in detail["cmd"]

    unloaded = corral.api.delete("/upstream/m")
    assert (unloaded.status_code, unloaded.text) == (200, '{"status":"ok","message":"m stopped"}')
    assert not psutil.pid_exists(pid)
    again = corral.api.delete("/upstream/m")
    assert (again.status_code, again.text) == (409, '{"status":"error","message":"m is not running"}')
    assert corral.api.get("/running").text == '{"running":[]}'


def test_unload_answers_after_everything_has_stopped_and_requests_were_finished(corral: Stack) -> None:
    corral.run_now("a", flags={"stream_tokens": 8, "every": 0.1})
    corral.run_now("b")
    pieces: list[str] = []
    with ThreadPoolExecutor(1) as pool, corral.stream("a") as lines:
        pieces.append(next(piece for piece in lines if piece))
        unloading = pool.submit(corral.api.post, "/api/models/unload", timeout=60)
        pieces.extend(texts(lines))
        answer = unloading.result()
    assert pieces[-1] == "[DONE]"
    assert (answer.status_code, answer.json()) == (200, {"msg": "ok"})
    assert {corral.get(name)["state"] for name in ("a", "b")} == {"stopped"}


def is_stopping(corral: Stack) -> bool:
    running = corral.api.get("/running?detail=1").json()["running"]
    return [model["state"] for model in running] == ["stopping"]


def test_a_request_during_an_unload_is_served_after_a_restart(corral: Stack) -> None:
    """llama-swap issue 946: the two deadlocked."""
    corral.run_now("m", flags={"ignore_term": True})
    stopping = threading.Thread(target=corral.api.post, args=("/api/models/unload/m",), kwargs={"timeout": 60})
    stopping.start()
    poll(lambda: is_stopping(corral), what="the gateway's news of the stop")  # before, the old process serves it
    answer = corral.chat("m")
    stopping.join(30)
    assert answer.status_code == 200
    assert corral.get("m")["state"] == "ready"


def test_a_key_may_come_as_the_password_of_basic_authentication(corral: Stack) -> None:
    corral.run_now("m")
    with httpx.Client(base_url=corral.api.base_url, auth=(ADMIN, PASSWORD)) as stranger:
        assert stranger.get("/running").status_code == 401
        assert stranger.delete("/upstream/m").status_code == 401
    with httpx.Client(base_url=corral.api.base_url, auth=("anything", corral.management_key)) as basic:
        assert basic.get("/running").json() == {"running": ["m"]}
        assert basic.post("/upstream/m/v1/chat/completions", json={"messages": []}).status_code == 200
        assert basic.get("/upstream/m", follow_redirects=False).headers["location"] == "/upstream/m/"
