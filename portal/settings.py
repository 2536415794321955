"""Django's settings, derived from Corral's own (``portal.env``); docs/settings.md has what an administrator sets."""

from __future__ import annotations

import sys
from pathlib import Path

import dj_database_url
from csp.constants import NONE, SELF

from accounts.oidc import allauth_apps
from portal import __version__
from portal.env import SettingsError, load_settings
from portal.secret_key import read_or_create_secret_key

BASE_DIR = Path(__file__).resolve().parent.parent
CORRAL = load_settings()
CORRAL_VERSION = __version__

# Identity and security
SECRET_KEY = CORRAL.secret_key or read_or_create_secret_key(CORRAL.data_dir)
DEBUG = CORRAL.debug
LOOPBACK = ["localhost", "127.0.0.1", "[::1]"]  # what health checks on this machine call it
ALLOWED_HOSTS = CORRAL.allowed_hosts if "*" in CORRAL.allowed_hosts else [*CORRAL.allowed_hosts, *LOOPBACK]
CSRF_TRUSTED_ORIGINS = CORRAL.trusted_origins
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = CORRAL.https
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_AGE = CORRAL.session_hours * 3600
SECURE_SSL_REDIRECT = False  # the proxy that ends TLS redirects; Corral itself listens on plain HTTP
SECURE_HSTS_SECONDS = 31536000 if CORRAL.https else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = CORRAL.https
SECURE_PROXY_SSL_HEADER = None  # portal.edge says in the scope what a trusted proxy says
CSRF_COOKIE_HTTPONLY = True  # forms carry the token themselves
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
SILENCED_SYSTEM_CHECKS = ["security.W008"]  # SSL redirect: see SECURE_SSL_REDIRECT above
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "connect-src": [SELF],
        "object-src": [NONE],
        "base-uri": [SELF],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
    }
}

# Applications
INSTALLED_APPS = [
    # daphne takes over `runserver`; it brings Twisted (25 MB in every process), so only that command loads it
    *(["daphne"] if sys.argv[1:2] == ["runserver"] else []),
    "portal.admin_app.CorralAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "channels",
    "csp",
    "django_htmx",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.socialaccount",
    "allauth.socialaccount.providers.openid_connect",
    "accounts",
    "gallery",
    "instances",
    "portal",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "portal.middleware.secure_cookies",
    "portal.middleware.explain_methods",
    "csp.middleware.CSPMiddleware",
    "accounts.middleware.note_origin",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "accounts.middleware.SessionUse",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]
ROOT_URLCONF = "portal.urls"
ASGI_APPLICATION = "portal.asgi.application"
APPEND_SLASH = False  # a redirect would lose the body of a POST; routes accept both forms instead
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]
DATA_UPLOAD_MAX_MEMORY_SIZE = 10 * 2**20
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Database: SQLite takes one writer at a time, so writers queue (IMMEDIATE) instead of failing half-way.
# Under ASGI every request has its own thread: connections are pooled (PostgreSQL) or short-lived, never a thread's own.
try:
    DATABASES = {
        "default": dj_database_url.parse(CORRAL.database_url or f"sqlite:///{CORRAL.data_dir / 'corral.sqlite3'}")
    }
except ValueError as error:
    raise SettingsError("CORRAL_DATABASE_URL must look like postgres://user:password@host:5432/name.") from error
DATABASES["default"]["CONN_MAX_AGE"] = 0
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA foreign_keys=ON;",
    }
else:
    DATABASES["default"]["OPTIONS"] = {"pool": {"min_size": 0, "max_size": 20, "timeout": 10}}

# People
AUTH_USER_MODEL = "accounts.User"
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "instance-list"
LOGOUT_REDIRECT_URL = "login"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]

AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
ACCOUNT_ADAPTER = "accounts.signin.account.AccountAdapter"
ACCOUNT_FORMS = {"login": "accounts.forms.SignInForm"}
ACCOUNT_LOGIN_METHODS = {"username"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "email", "password1*"]
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_REAUTHENTICATION_METHODS = ["password", "mfa"]
ACCOUNT_SESSION_REMEMBER = True  # SESSION_COOKIE_AGE alone decides
ACCOUNT_RATE_LIMITS = {
    "login": "30/m/ip",
    "login_failed": "20/m/ip,5/300s/key",  # the key is the account; an office may share one address
    "signup": "20/m/ip",
    "reauthenticate": "10/m/user",
}
MFA_ADAPTER = "accounts.signin.second_factor.SecondFactorAdapter"
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_FORMS = {
    "add_webauthn": "accounts.signin.passkeys.AddForm",
    "login_webauthn": "accounts.signin.passkeys.SignInForm",
    "authenticate_webauthn": "accounts.signin.passkeys.SecondStepForm",
    "reauthenticate_webauthn": "accounts.signin.passkeys.ConfirmForm",
}
MFA_RECOVERY_CODES_SHOW_ONCE = True
MFA_ALLOW_UNVERIFIED_EMAIL = True  # no address is verified, and none needed
MFA_WEBAUTHN_ALLOW_INSECURE_ORIGIN = not CORRAL.https  # browsers allow it on localhost only
SOCIALACCOUNT_ADAPTER = "accounts.signin.providers.ProviderAdapter"
SOCIALACCOUNT_PROVIDERS = {"openid_connect": {"APPS": allauth_apps(CORRAL.oidc_providers)}}
SOCIALACCOUNT_LOGIN_ON_GET = True  # a form may not lead to another site under our content security policy
SOCIALACCOUNT_EMAIL_VERIFICATION = "none"

# Language and time
LANGUAGE_CODE = "en"
TIME_ZONE = CORRAL.time_zone
USE_I18N = False
USE_TZ = True

# Static files: collected once per version by `corral prepare`, then served by portal.static in front of Django
STATIC_URL = "/static/"
STATIC_ROOT = CORRAL.data_dir / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}

# Redis: counts of sign-in attempts, broker, results, channel layer, log streams
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": CORRAL.effective_redis_url,
        "KEY_PREFIX": "corral",
    }
}
CELERY_BROKER_URL = CORRAL.effective_redis_url.replace("unix://", "redis+socket://")
CELERY_RESULT_BACKEND = CELERY_BROKER_URL
CELERY_TASK_SERIALIZER = CELERY_RESULT_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_IGNORE_RESULT = True
CELERY_RESULT_EXPIRES = 600
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_POOL = "threads"
CELERY_WORKER_CONCURRENCY = 8
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT = 5
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = True
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TASK_DEFAULT_QUEUE = f"node.{CORRAL.node}"
CELERY_TIMEZONE = "UTC"
CELERY_BEAT_SCHEDULE = {  # each entry names its queue: beat itself loads no tasks
    "sweep files": {
        "task": "instances.sweep",
        "schedule": 3600,
        "options": {"queue": CELERY_TASK_DEFAULT_QUEUE, "expires": 3600},
    },
    "delete old activity": {
        "task": "accounts.delete_old_activity",
        "schedule": 3600,
        "options": {"queue": CELERY_TASK_DEFAULT_QUEUE, "expires": 3600},
    },
    "clear sessions": {
        "task": "accounts.clear_sessions",
        "schedule": 86400,
        "options": {"queue": CELERY_TASK_DEFAULT_QUEUE, "expires": 86400},
    },
}
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {"hosts": [CORRAL.effective_redis_url], "prefix": "corral"},
    }
}

# REST
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "accounts.authentication.ApiKeyAuthentication",
        "accounts.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["accounts.permissions.CanManage"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["accounts.api.parsers.AnyTypeJSONParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "accounts.api.errors.handle_exception",
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Corral",
    "DESCRIPTION": "Management and inference API of Corral: llamactl's and llama-swap's contracts and additions.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "portal.openapi.add_gateway_routes",
    ],
}

# Logging: one line per edge of a life, to stderr; the process manager labels it
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "filters": {"refused_host": {"()": "portal.refused_hosts.RefusedHost"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": CORRAL.log_level.upper()},
    "loggers": {
        "django.request": {"level": "ERROR"},
        "django.security.DisallowedHost": {"filters": ["refused_host"]},
        "celery.worker.strategy": {"level": "WARNING"},
        "celery.app.trace": {"level": "WARNING"},
        "daphne": {"level": "WARNING"},
        "httpx": {"level": "WARNING"},
    },
}
