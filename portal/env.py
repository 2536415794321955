"""Every setting of Corral: its name, type, default, meaning, and how it is read.

A setting ``port`` is the environment variable ``CORRAL_PORT``, the file named by ``CORRAL_PORT_FILE``, or ``port:`` /
``CORRAL_PORT:`` in ``corral.yaml``; the environment wins. This module imports nothing of Django, so that the process
manager can read settings without paying for it.
"""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, get_args

import msgspec
import yaml
from msgspec import Meta

from accounts.oidc import OidcProvider
from instances.domain.groups import Group
from instances.domain.matrix import MatrixOptions
from portal.env_checks import check_values, parse_port_range
from portal.settings_error import SettingsError

__all__ = ["PREFIX", "Settings", "SettingsError", "load_settings", "setting_meta", "unknown_variables"]
PREFIX = "CORRAL_"

#: How a type is called in messages; the first that occurs in the type's own name counts.
TYPE_WORDS = {
    "list": "a list",
    "dict": "pairs such as name=value,name=value",
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "Path": "a path",
    "str": "a text",
}

Port = Annotated[int, Meta(ge=1, le=65535)]
Count = Annotated[int, Meta(ge=0)]
Limit = Annotated[int, Meta(ge=-1)]
Days = Annotated[int, Meta(ge=0, le=36500)]
Seconds = Annotated[float, Meta(ge=0)]
Patience = Annotated[float, Meta(ge=0, le=60)]


def doc(description: str, *, alias: str = "", secret: bool = False, example: str = "") -> Meta:
    """Describe a setting; ``alias`` is llamactl's variable for the same thing, ``secret`` hides the value.

    ``example`` is given for a value with parts of its own: in a variable it is written as JSON.
    """
    return Meta(description=description, extra={"alias": alias, "secret": secret, "example": example})


def default_data_dir() -> Path:
    """Return the platform's folder for a user's application data."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "corral"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "corral"


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The settings of one Corral installation. Field order is the order of the table in docs/settings.md."""

    # Server
    host: Annotated[str, doc("Address the web server listens on.", alias="LLAMACTL_HOST")] = "127.0.0.1"
    port: Annotated[Port, doc("Port of the web server: pages, APIs and inference.", alias="LLAMACTL_PORT")] = 8080
    web_workers: Annotated[Annotated[int, Meta(ge=1, le=64)], doc("Number of web server processes.")] = 1
    data_dir: Annotated[
        Path, doc("Folder for the database, logs, run state and secrets.", alias="LLAMACTL_DATA_DIRECTORY")
    ] = msgspec.field(default_factory=default_data_dir)
    database_url: Annotated[
        str,
        doc("Database, for example postgres://user:password@host/name; empty: SQLite in the data folder.", secret=True),
    ] = ""
    redis_url: Annotated[
        str, doc("Redis or Valkey; empty: `corral up` starts a private Valkey in the data folder.", secret=True)
    ] = ""
    secret_key: Annotated[
        str, doc("Signing key of sessions and run keys; empty: one is made and kept in the data folder.", secret=True)
    ] = ""
    node: Annotated[str, doc("Name of this host among the nodes.", alias="LLAMACTL_LOCAL_NODE")] = "main"
    allowed_hosts: Annotated[list[str], doc("Host names the pages answer to; `*` accepts any.")] = msgspec.field(
        default_factory=lambda: ["*"]
    )
    trusted_origins: Annotated[
        list[str], doc("Origins (https://name) of a TLS proxy in front, for form posts and WebSockets.")
    ] = msgspec.field(default_factory=list)
    allowed_origins: Annotated[
        list[str], doc("CORS: origins whose pages may call the APIs with a key.", alias="LLAMACTL_ALLOWED_ORIGINS")
    ] = msgspec.field(default_factory=lambda: ["*"])
    trusted_proxies: Annotated[
        list[str],
        doc("Networks (10.0.0.0/8) of reverse proxies whose X-Forwarded-For, -Proto and -Host are believed."),
    ] = msgspec.field(default_factory=list)
    https: Annotated[bool, doc("Corral is reached over HTTPS: cookies are Secure, HSTS is sent.")] = False
    debug: Annotated[bool, doc("Django's debug pages. Never on a shared host.")] = False
    log_level: Annotated[str, doc("DEBUG, INFO, WARNING or ERROR.", alias="LLAMACTL_LOG_LEVEL")] = "INFO"
    time_zone: Annotated[str, doc("Time zone of the pages.")] = "UTC"

    # First administrator
    admin_user: Annotated[str, doc("Name of the first administrator, made once at start.")] = ""
    admin_password: Annotated[str, doc("Password of the first administrator.", secret=True)] = ""
    management_key: Annotated[
        str, doc("A management key, made once at start.", secret=True, alias="LLAMACTL_MANAGEMENT_KEYS")
    ] = ""
    require_inference_auth: Annotated[
        bool, doc("Inference routes need a key.", alias="LLAMACTL_REQUIRE_INFERENCE_AUTH")
    ] = True
    require_management_auth: Annotated[
        bool, doc("Management routes need a management key or a login.", alias="LLAMACTL_REQUIRE_MANAGEMENT_AUTH")
    ] = True

    # People
    registration: Annotated[
        str, doc("Whether people may make accounts without an invitation: off, approval (by an administrator) or open.")
    ] = "off"
    session_hours: Annotated[
        Annotated[int, Meta(ge=1, le=8760)], doc("Hours after which people must sign in again.")
    ] = 336
    oidc_providers: Annotated[
        list[OidcProvider],
        doc(
            "Providers to sign in by (OpenID Connect) as JSON; docs/people.md says what each may have.",
            secret=True,
            example='[{"id": "acme", "name": "Acme", "server_url": "https://id.acme.example", "client_id": "corral", '
            '"client_secret": "...", "roles": {"it": "admin"}}]',
        ),
    ] = msgspec.field(default_factory=list)

    # Engines
    backends_llama_cpp_command: Annotated[
        str, doc("Executable of llama.cpp's server.", alias="LLAMACTL_LLAMACPP_COMMAND")
    ] = "llama-server"
    backends_llama_cpp_args: Annotated[
        list[str], doc("Arguments before every instance's own.", alias="LLAMACTL_LLAMACPP_ARGS")
    ] = msgspec.field(default_factory=list)
    backends_llama_cpp_environment: Annotated[
        dict[str, str], doc("Environment of every llama.cpp instance.", alias="LLAMACTL_LLAMACPP_ENV")
    ] = msgspec.field(default_factory=dict)
    backends_llama_cpp_docker_enabled: Annotated[
        bool, doc("Run llama.cpp in Docker by default.", alias="LLAMACTL_LLAMACPP_DOCKER_ENABLED")
    ] = False
    backends_llama_cpp_docker_image: Annotated[
        str, doc("Image of llama.cpp's server.", alias="LLAMACTL_LLAMACPP_DOCKER_IMAGE")
    ] = "ghcr.io/ggml-org/llama.cpp:server"
    backends_llama_cpp_docker_args: Annotated[
        list[str], doc("Arguments of `docker` before the image.", alias="LLAMACTL_LLAMACPP_DOCKER_ARGS")
    ] = msgspec.field(default_factory=lambda: ["run", "--rm", "--network", "host", "--gpus", "all"])
    backends_llama_cpp_docker_environment: Annotated[
        dict[str, str], doc("Environment inside llama.cpp containers.", alias="LLAMACTL_LLAMACPP_DOCKER_ENV")
    ] = msgspec.field(default_factory=dict)
    backends_vllm_command: Annotated[str, doc("Executable of vLLM.", alias="LLAMACTL_VLLM_COMMAND")] = "vllm"
    backends_vllm_args: Annotated[
        list[str], doc("Arguments before every instance's own.", alias="LLAMACTL_VLLM_ARGS")
    ] = msgspec.field(default_factory=lambda: ["serve"])
    backends_vllm_environment: Annotated[
        dict[str, str], doc("Environment of every vLLM instance.", alias="LLAMACTL_VLLM_ENV")
    ] = msgspec.field(default_factory=dict)
    backends_vllm_docker_enabled: Annotated[
        bool, doc("Run vLLM in Docker by default.", alias="LLAMACTL_VLLM_DOCKER_ENABLED")
    ] = False
    backends_vllm_docker_image: Annotated[str, doc("Image of vLLM.", alias="LLAMACTL_VLLM_DOCKER_IMAGE")] = (
        "vllm/vllm-openai:latest"
    )
    backends_vllm_docker_args: Annotated[
        list[str], doc("Arguments of `docker` before the image.", alias="LLAMACTL_VLLM_DOCKER_ARGS")
    ] = msgspec.field(default_factory=lambda: ["run", "--rm", "--network", "host", "--gpus", "all", "--shm-size", "1g"])
    backends_vllm_docker_environment: Annotated[
        dict[str, str], doc("Environment inside vLLM containers.", alias="LLAMACTL_VLLM_DOCKER_ENV")
    ] = msgspec.field(default_factory=dict)
    backends_mlx_command: Annotated[str, doc("Executable of MLX's server.", alias="LLAMACTL_MLX_COMMAND")] = (
        "mlx_lm.server"
    )
    backends_mlx_args: Annotated[
        list[str], doc("Arguments before every instance's own.", alias="LLAMACTL_MLX_ARGS")
    ] = msgspec.field(default_factory=list)
    backends_mlx_environment: Annotated[
        dict[str, str], doc("Environment of every MLX instance.", alias="LLAMACTL_MLX_ENV")
    ] = msgspec.field(default_factory=dict)
    models_dirs: Annotated[
        list[Path], doc("Folders whose model files operators may run; empty: `models` in the data folder.")
    ] = msgspec.field(default_factory=list)

    # Defaults and limits of instances
    port_range: Annotated[str, doc("First and last port given to engines.", alias="LLAMACTL_INSTANCE_PORT_RANGE")] = (
        "8000-9000"
    )
    max_instances: Annotated[
        Limit, doc("How many instances may exist; -1: no limit.", alias="LLAMACTL_MAX_INSTANCES")
    ] = -1
    max_running_instances: Annotated[
        Limit, doc("How many may run at once on a node; -1: no limit.", alias="LLAMACTL_MAX_RUNNING_INSTANCES")
    ] = -1
    group_limits: Annotated[
        dict[str, int], doc("How many of a group may run at once on a node.", alias="LLAMACTL_GROUP_LIMITS")
    ] = msgspec.field(default_factory=dict)
    enable_lru_eviction: Annotated[
        bool,
        doc("Stop the least recently used instance when a start needs room.", alias="LLAMACTL_ENABLE_LRU_EVICTION"),
    ] = True
    groups: Annotated[
        dict[str, Group],
        doc(
            "Swap groups as JSON, by the instances' option `group`: `swap` (true: one member at a time), `exclusive` "
            "(true: a member stops what runs outside) and `persistent` (false; true: other groups stop no member).",
            example='{"big": {"swap": true, "exclusive": true, "persistent": false}}',
        ),
    ] = msgspec.field(default_factory=dict)
    matrix: Annotated[
        MatrixOptions,
        doc(
            "Instead of groups: which instances run together, as JSON with `sets`, `vars` (short names) and "
            "`evict_costs`.",
            example='{"vars": {"g": "gemma"}, "evict_costs": {"g": 5}, "sets": {"day": "(g | qwen) & whisper"}}',
        ),
    ] = MatrixOptions()
    swap_patience: Annotated[
        Patience,
        doc("Seconds for which a busy instance still takes new requests once another waits for its place."),
    ] = 2
    start_on_create: Annotated[bool, doc("Creating an instance starts it unless the call says otherwise.")] = True
    default_idle_timeout: Annotated[
        Count,
        doc("Minutes without a request until an instance stops; 0: never.", alias="LLAMACTL_DEFAULT_IDLE_TIMEOUT"),
    ] = 30
    default_auto_restart: Annotated[
        bool, doc("Restart an instance that crashed.", alias="LLAMACTL_DEFAULT_AUTO_RESTART")
    ] = True
    default_max_restarts: Annotated[Count, doc("How often in a row.", alias="LLAMACTL_DEFAULT_MAX_RESTARTS")] = 3
    default_restart_delay: Annotated[
        Count, doc("Seconds before a restart.", alias="LLAMACTL_DEFAULT_RESTART_DELAY")
    ] = 5
    default_on_demand_start: Annotated[
        bool, doc("A request starts a stopped instance.", alias="LLAMACTL_DEFAULT_ON_DEMAND_START")
    ] = True
    on_demand_start_timeout: Annotated[
        Seconds, doc("Seconds a request waits for its instance.", alias="LLAMACTL_ON_DEMAND_START_TIMEOUT")
    ] = 120
    queue_limit: Annotated[Count, doc("How many requests may wait for one instance, over all web processes.")] = 100
    send_loading_state: Annotated[
        bool, doc("A streaming chat that waits for a start is told so, unless its instance says otherwise.")
    ] = False
    preload: Annotated[
        list[str], doc("Instances (names or aliases) started when Corral starts, besides those with `preload`.")
    ] = msgspec.field(default_factory=list)
    start_timeout: Annotated[Seconds, doc("Seconds an engine may take to become ready before it is stopped.")] = 900
    stop_timeout: Annotated[Seconds, doc("Seconds between TERM and KILL when an engine is stopped.")] = 30
    drain_timeout: Annotated[Seconds, doc("Seconds a stop waits for requests in flight; a swap waits for all.")] = 30
    healthy_after: Annotated[Seconds, doc("Seconds of ready time after which the restart count begins anew.")] = 60
    log_rotation_enabled: Annotated[bool, doc("Rotate engine logs.", alias="LLAMACTL_LOG_ROTATION_ENABLED")] = True
    log_rotation_max_size: Annotated[
        Annotated[int, Meta(ge=1)],
        doc("Megabytes of a log file before it rotates.", alias="LLAMACTL_LOG_ROTATION_MAX_SIZE"),
    ] = 100
    log_rotation_max_files: Annotated[Count, doc("Rotated files kept for each run.")] = 5
    log_rotation_compress: Annotated[
        bool, doc("Compress rotated files with gzip.", alias="LLAMACTL_LOG_ROTATION_COMPRESS")
    ] = False
    log_runs_kept: Annotated[Annotated[int, Meta(ge=1)], doc("Runs of an instance whose logs are kept.")] = 10
    activity_days: Annotated[
        Days, doc("Days for which each request is kept in the activity; 0: for ever. Hourly sums stay for good.")
    ] = 30
    audit_days: Annotated[Days, doc("Days for which an audit entry (who changed what) is kept; 0: for ever.")] = 365
    metrics: Annotated[bool, doc("Count requests, sample hosts and GPUs, and answer `/metrics` for Prometheus.")] = True

    # Downloads
    hf_endpoint: Annotated[str, doc("Hugging Face endpoint (also HF_ENDPOINT).", alias="HF_ENDPOINT")] = (
        "https://huggingface.co"
    )
    hf_token: Annotated[str, doc("Hugging Face token (also HF_TOKEN).", secret=True, alias="HF_TOKEN")] = ""

    @property
    def ports(self) -> range:
        """The ports engines may be given, both ends included."""
        first, last = parse_port_range(self.port_range)
        return range(first, last + 1)

    @property
    def valkey_socket(self) -> Path:
        """Unix socket of the embedded Valkey; outside the data folder when that path is too long for a socket."""
        socket = self.data_dir / "run" / "valkey.sock"
        if len(os.fsencode(socket)) < 100:
            return socket
        import hashlib  # noqa: PLC0415  only for data folders with very long names

        digest = hashlib.sha256(os.fsencode(self.data_dir)).hexdigest()[:16]
        return Path("/tmp") / f"corral-{os.getuid()}-{digest}" / "valkey.sock"  # noqa: S108  the folder is made 0700

    @property
    def effective_redis_url(self) -> str:
        """The URL every process connects to: the configured one or the embedded server's socket."""
        return self.redis_url or f"unix://{self.valkey_socket}"

    @property
    def model_roots(self) -> list[Path]:
        """Resolved folders from which model files may be taken."""
        return [path.expanduser().resolve() for path in (self.models_dirs or [self.data_dir / "models"])]


def setting_meta(field: msgspec.structs.FieldInfo) -> Meta:
    """Return the ``doc()`` of a settings field (the outermost annotation)."""
    return next(m for m in reversed(get_args(field.type)) if isinstance(m, Meta) and m.description)


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from the environment and corral.yaml; raise SettingsError naming the first bad one."""
    environ = os.environ if environ is None else environ
    fields = {field.name: field for field in msgspec.structs.fields(Settings)}
    values: dict[str, Any] = read_config_file(environ, fields)
    for name, field in fields.items():
        text = read_variable(environ, PREFIX + name.upper())
        alias = (setting_meta(field).extra or {})["alias"]
        if text is None and alias and name not in values:
            text = environ.get(alias)
        if text is not None and (text != "" or is_text(field)):
            values[name] = text
    settings = Settings(**{name: convert(fields[name], value) for name, value in values.items()})
    check_values(settings)
    data_dir = settings.data_dir.expanduser().absolute()
    return msgspec.structs.replace(settings, data_dir=data_dir)


def is_text(field: msgspec.structs.FieldInfo) -> bool:
    """Tell whether an empty variable is a value of this field (text) or means "not set"."""
    return bool(get_args(field.type)[0] is str)


def read_variable(environ: Mapping[str, str], name: str) -> str | None:
    """Return a variable, or the content of the file that ``<name>_FILE`` names (for mounted secrets)."""
    if name in environ:
        return environ[name]
    path = environ.get(f"{name}_FILE")
    if not path:
        return None
    try:
        return Path(path).read_text().strip()
    except OSError as error:
        raise SettingsError(f"{name}_FILE names {path}, which can't be read: {error.strerror}.") from error


def read_config_file(environ: Mapping[str, str], fields: Mapping[str, object]) -> dict[str, Any]:
    """Return the settings of corral.yaml by field name; an explicit ``CORRAL_CONFIG`` must exist."""
    explicit = environ.get("CORRAL_CONFIG")
    home = Path(environ.get("HOME", "/nonexistent"))
    places = [Path("corral.yaml"), home / ".config/corral/corral.yaml", Path("/etc/corral/corral.yaml")]
    path = Path(explicit) if explicit else next((place for place in places if place.is_file()), None)
    if path is None:
        return {}
    try:
        content = yaml.safe_load(path.read_text()) or {}
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"The settings file {path} can't be read: {error}.") from error
    except yaml.YAMLError as error:
        where = f" in line {mark.line + 1}" if (mark := getattr(error, "problem_mark", None)) else ""
        problem = getattr(error, "problem", None) or "it can't be parsed"
        raise SettingsError(f"The settings file {path} is not valid YAML{where}: {problem}.") from error
    if not isinstance(content, dict):
        raise SettingsError(f"The settings file {path} must hold names and values, such as `port: 8080`.")
    values = {}
    for key, value in content.items():
        name = str(key).removeprefix(PREFIX).lower()
        if name not in fields:
            near = difflib.get_close_matches(name, fields, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise SettingsError(f"The settings file {path} has an unknown setting {key}.{hint}")
        values[name] = value
    return values


def convert(field: msgspec.structs.FieldInfo, value: object) -> Any:
    """Turn text or YAML into the field's type; raise SettingsError naming the variable and what it expects."""
    name = PREFIX + field.name.upper()
    kind = str(field.type)
    if example := (setting_meta(field).extra or {})["example"]:
        return convert_parts(name, field, value, example)
    if isinstance(value, str):
        if "list[" in kind:
            words = value.split() if field.name.endswith("_args") else value.split(",")
            value = [word.strip() for word in words if word.strip()]
        elif "dict[" in kind:
            pairs = [pair for pair in value.split(",") if pair.strip()]
            if any("=" not in pair for pair in pairs):
                raise SettingsError(f"{name} must look like name=value,name=value.")  # its values may be secrets
            value = {key.strip(): text.strip() for key, text in (pair.split("=", 1) for pair in pairs)}
        elif "bool" in kind:
            value = {
                "1": True,
                "t": True,
                "yes": True,
                "on": True,
                "0": False,
                "f": False,
                "no": False,
                "off": False,
            }.get(value.lower(), value)
    elif field.name == "registration" and value is False:  # what YAML makes of `off`
        value = "off"
    elif field.name == "port_range" and isinstance(value, list):
        value = "-".join(str(part) for part in value)
    try:
        return msgspec.convert(value, field.type, strict=False, dec_hook=to_path)
    except msgspec.ValidationError:
        secret = (setting_meta(field).extra or {})["secret"]
        shown = "the value given" if secret else repr(value)
        raise SettingsError(f"{name} must be {describe_type(field)}, not {shown}.") from None


def convert_parts(name: str, field: msgspec.structs.FieldInfo, value: object, example: str) -> Any:
    """Turn JSON text or YAML into a type with parts; raise SettingsError saying which part is wrong."""
    try:
        return msgspec.convert(msgspec.json.decode(value) if isinstance(value, str) else value, field.type)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{name} must look like {example}. {error}.") from None
    except msgspec.DecodeError as error:
        raise SettingsError(f"{name} must be JSON such as {example}. {error}.") from None


def describe_type(field: msgspec.structs.FieldInfo) -> str:
    """Say in words what values a setting takes."""
    kind = str(get_args(field.type)[0])
    bounds = [meta for meta in get_args(field.type) if isinstance(meta, Meta)]
    lowest = next((meta.ge for meta in bounds if meta.ge is not None), None)
    highest = next((meta.le for meta in bounds if meta.le is not None), None)
    words = next(text for name, text in TYPE_WORDS.items() if name in kind)
    if lowest is None:
        return words
    return f"{words} from {lowest:g} to {highest:g}" if highest is not None else f"{words}, at least {lowest:g}"


def to_path(kind: type, value: object) -> Path:
    """Make a path of text; the only type of the settings that msgspec does not know itself."""
    if kind is not Path or not isinstance(value, str) or not value:
        raise msgspec.ValidationError(f"Expected a path, got {value!r}")
    return Path(value)


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """Return CORRAL_* variables that no setting reads, so that a typing error does not stay silent."""
    known = {PREFIX + field.name.upper() for field in msgspec.structs.fields(Settings)}
    known |= {f"{name}_FILE" for name in known} | {"CORRAL_CONFIG"}
    return sorted(
        name
        for name in environ
        if name.startswith(PREFIX) and name not in known and not name.startswith("CORRAL_TEST_")
    )
