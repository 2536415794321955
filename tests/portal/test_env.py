"""How settings are read: variables, files, corral.yaml, llamactl's names, and the sentences for mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from instances.domain.groups import Group
from portal.env import Settings, SettingsError, load_settings, unknown_variables
from portal.settings_table import run_settings


def load(tmp_path: Path, content: str = "", **variables: str) -> Settings:
    """Read settings from these variables and this corral.yaml alone."""
    path = tmp_path / "corral.yaml"
    path.write_text(content)
    return load_settings({"CORRAL_CONFIG": str(path), "HOME": str(tmp_path), **variables})


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    assert load(tmp_path, "port: 9000").port == 9000
    assert load(tmp_path, "CORRAL_PORT: 9000").port == 9000
    assert load(tmp_path, "port: 9000", CORRAL_PORT="9001").port == 9001


def test_llamactls_variable_is_read_when_there_is_no_other(tmp_path: Path) -> None:
    assert load(tmp_path, LLAMACTL_PORT="9002").port == 9002
    assert load(tmp_path, "port: 9000", LLAMACTL_PORT="9002").port == 9000


def test_a_secret_comes_from_a_mounted_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from a file\n")
    assert load(tmp_path, CORRAL_SECRET_KEY_FILE=str(tmp_path / "key")).secret_key == "from a file"
    with pytest.raises(SettingsError, match="CORRAL_SECRET_KEY_FILE"):
        load(tmp_path, CORRAL_SECRET_KEY_FILE=str(tmp_path / "nothing"))


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), ("1", True), ("on", True), ("false", False), ("no", False)]
)
def test_truth_values_have_their_usual_words(tmp_path: Path, text: str, value: bool) -> None:
    assert load(tmp_path, CORRAL_HTTPS=text).https is value


def test_lists_and_maps_are_read_from_one_line(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        CORRAL_ALLOWED_HOSTS="a.example, b.example",
        CORRAL_BACKENDS_VLLM_ARGS="serve --seed -1",
        CORRAL_GROUP_LIMITS="big=1,small=3",
        CORRAL_MODELS_DIRS="/models,/more models",
    )
    assert settings.allowed_hosts == ["a.example", "b.example"]
    assert settings.backends_vllm_args == ["serve", "--seed", "-1"]
    assert settings.group_limits == {"big": 1, "small": 3}
    assert settings.models_dirs == [Path("/models"), Path("/more models")]


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("CORRAL_PORT", "eighty", "'eighty'"),
        ("CORRAL_PORT", "0", "a whole number from 1 to 65535"),
        ("CORRAL_GROUP_LIMITS", "big", "name=value"),
        ("CORRAL_PORT_RANGE", "1-2-3", "8000-9000"),
        ("CORRAL_LOG_LEVEL", "loud", "WARNING"),
        ("CORRAL_NODE", "../../etc", "letters"),
        ("CORRAL_TIME_ZONE", "Mars/Base", "Europe/Berlin"),
        ("CORRAL_REDIS_URL", "localhost", "redis://"),
        ("CORRAL_DATABASE_URL", "mysql://x", "postgres://"),
        ("CORRAL_STOP_TIMEOUT", "-1", "a number, at least 0"),
        ("CORRAL_GROUPS", "big=1", "must be JSON such as"),
        ("CORRAL_GROUPS", '{"big": {"swop": true}}', "swop"),
        ("CORRAL_GROUPS", '{"big": {"swap": 2}}', "swap"),
        ("CORRAL_GROUPS", '["big"]', "must look like"),
        ("CORRAL_GROUPS", '{"a b": {}}', "'a b' that no instance can belong to"),
        ("CORRAL_MATRIX", '{"vars": {"g": "gemma"}}', "there are no sets"),
        ("CORRAL_MATRIX", '{"sets": {"day": "a &"}}', "set day"),
        ("CORRAL_MATRIX", '{"sets": {"a": "+b", "b": "+a"}}', "refers to itself: a -> b -> a"),
        ("CORRAL_SWAP_PATIENCE", "61", "a number from 0 to 60"),
    ],
)
def test_a_mistake_is_one_sentence_with_the_name_and_what_is_expected(
    tmp_path: Path, name: str, value: str, hint: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, **{name: value})
    assert name in str(caught.value)
    assert hint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_groups_are_json_in_a_variable_and_a_map_in_the_file(tmp_path: Path) -> None:
    expected = {"big": Group(), "small": Group(swap=False, persistent=True)}
    text = '{"big": {}, "small": {"swap": false, "persistent": true}}'
    assert load(tmp_path, CORRAL_GROUPS=text).groups == expected
    assert load(tmp_path, "groups:\n  big: {}\n  small: {swap: false, persistent: true}").groups == expected


def test_the_sets_of_a_matrix_keep_their_order(tmp_path: Path) -> None:
    matrix = load(tmp_path, "matrix:\n  sets: {late: a & b, early: c}\n  evict_costs: {a: 3}").matrix
    assert list(matrix.sets) == ["late", "early"]
    assert matrix.evict_costs == {"a": 3}


def test_groups_and_a_matrix_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="CORRAL_GROUPS and CORRAL_MATRIX"):
        load(tmp_path, "groups: {big: {}}\nmatrix: {sets: {day: a}}")


def test_a_bad_secret_is_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, CORRAL_REDIS_URL="rediss//:geheim@host")
    assert "geheim" not in str(caught.value)


def test_an_unknown_name_in_the_file_suggests_the_known_one(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="Did you mean data_dir"):
        load(tmp_path, "data_dirr: /tmp")


def test_a_file_that_is_no_map_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="must hold names and values"):
        load(tmp_path, "- port")


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="can't be read"):
        load_settings({"CORRAL_CONFIG": str(tmp_path / "nothing.yaml")})


def test_variables_that_nothing_reads_are_found() -> None:
    assert unknown_variables({"CORRAL_PROT": "1", "CORRAL_PORT": "1", "CORRAL_SECRET_KEY_FILE": "x"}) == ["CORRAL_PROT"]


def test_the_socket_of_a_long_data_folder_is_short_enough_for_the_kernel(tmp_path: Path) -> None:
    settings = load(tmp_path, CORRAL_DATA_DIR="/" + "long/" * 40)
    assert len(str(settings.valkey_socket)) < 100


def test_registration_is_off_however_yaml_reads_it(tmp_path: Path) -> None:
    assert load(tmp_path, "registration: off").registration == "off"
    assert load(tmp_path, "registration: approval").registration == "approval"
    with pytest.raises(SettingsError, match="CORRAL_REGISTRATION must be off, approval or open"):
        load(tmp_path, CORRAL_REGISTRATION="maybe")


def test_providers_come_from_yaml_or_json(tmp_path: Path) -> None:
    text = (
        '[{"id": "acme", "name": "Acme", "server_url": "https://id.example", "client_id": "x", "client_secret": "y"}]'
    )
    for found in (load(tmp_path, CORRAL_OIDC_PROVIDERS=text), load(tmp_path, f"oidc_providers: {text}")):
        (provider,) = found.oidc_providers
        assert (provider.id, provider.client_secret, provider.default_role) == ("acme", "y", "member")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[{}]", "missing required field `id`"),
        ("nonsense", "must be JSON"),
        (
            '[{"id": "a", "name": "A", "server_url": "https://x", "client_id": "x", "roles": {"g": "god"}}]',
            "Invalid enum value",
        ),
        ('[{"id": "A", "name": "A", "server_url": "https://x", "client_id": "x"}]', "small letters"),
    ],
)
def test_a_provider_that_will_not_do_is_named(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(SettingsError, match="CORRAL_OIDC_PROVIDERS") as caught:
        load(tmp_path, CORRAL_OIDC_PROVIDERS=text)
    assert sentence in str(caught.value)


def test_secrets_of_providers_are_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = '[{"id": "a", "name": "A", "server_url": "https://x", "client_id": "x", "client_secret": "hush"}]'
    monkeypatch.setenv("CORRAL_OIDC_PROVIDERS", text)
    assert run_settings([]) == 0
    shown = capsys.readouterr().out
    assert "CORRAL_OIDC_PROVIDERS=***" in shown
    assert "hush" not in shown
