"""The settings: flag > environment > file > default, validated together; the only reader of the environment.

Owns names, defaults, units and the text of configuration faults. Knows no store and opens no connection. A secret lives in
a `SecretStr`, may come from the file named by its `…_FILE` variable, and never shows in a repr or a message.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import unquote, urlsplit, urlunsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from segue.errors import ConfigError
from segue.model import (
    AgentKind,
    AgentMapping,
    ColumnSource,
    Encoding,
    KeyType,
    Metric,
    PropertyType,
    RedisType,
    RowsOf,
    StorageMode,
)

DEFAULT_PATH = Path("segue.toml")

PLAIN_VARIABLES = {
    "NEO4J_URI": ("neo4j", "uri"),
    "NEO4J_USERNAME": ("neo4j", "username"),
    "NEO4J_DATABASE": ("neo4j", "database"),
    "MILVUS_URI": ("milvus", "uri"),
    "REDIS_USERNAME": ("redis", "username"),
    "PGUSER": ("postgres", "username"),
    "SEGUE_STATE_PATH": ("state", "path"),
    "SEGUE_WORKERS": ("backfill", "workers"),
    "SEGUE_BATCH_SIZE": ("backfill", "batch_size"),
    "SEGUE_PATIENCE_SECONDS": ("backfill", "patience_seconds"),
    "SEGUE_RAY": ("backfill", "ray"),
    "STORAGE_MODE": ("application", "storage_mode"),
    "STORAGE_MODE_FILE": ("application", "storage_mode_file"),
}
"""Environment names that set one setting each: the stores' own customary ones, and `SEGUE_…`."""

SECRET_VARIABLES = {
    "NEO4J_PASSWORD": ("neo4j", "password"),
    "MILVUS_TOKEN": ("milvus", "token"),
    "REDIS_PASSWORD": ("redis", "password"),
    "REDIS_SENTINEL_PASSWORD": ("redis", "sentinel_password"),
    "PGPASSWORD": ("postgres", "password"),
}
"""Secrets: each also as `…_FILE`, the path of a file that holds it."""

ADDRESS_VARIABLES = {
    "REDIS_URL": ("redis", "url"),
    "DATABASE_URL": ("postgres", "url"),
}
"""Addresses that customarily hold credentials, which are taken out of them; each also as `…_FILE`."""


@dataclass(frozen=True, slots=True)
class Unit:
    """What a setting counts, for its reference."""

    name: str


class _Section(BaseModel):
    # The text below a setting is its description, from which docs/configuration.md is made.
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


_SECRETIVE = re.compile(r"(?i)(^|[&;])[^=&;]*(token|passw|pwd|secret|key|auth|user)[^=&;]*=")
"""A parameter of an address that is likely to hold what nobody else may see."""


def _without_credentials(uri: str) -> str:
    parts = urlsplit(uri)
    # Also where something is missing before the @: the password would show in the message that says so.
    if ("@" in uri and not uri.endswith(".db")) or _SECRETIVE.search(parts.query):
        message = "an address must not hold credentials, which would show in messages; set them on their own"
        raise ValueError(message)
    return uri


def _over_http(uri: str) -> str:
    if urlsplit(uri).scheme not in {"http", "https"} or not urlsplit(uri).hostname:
        message = "must be http://HOST:PORT/PATH or https://"
        raise ValueError(message)
    return uri


Uri = Annotated[str, AfterValidator(_without_credentials)]
"""An address, free of credentials, since addresses are shown in messages."""

HttpUri = Annotated[str, AfterValidator(_without_credentials), AfterValidator(_over_http)]

Seconds = Annotated[float, Field(gt=0), Unit("seconds")]
SecondsFromZero = Annotated[float, Field(ge=0), Unit("seconds")]
Share = Annotated[float, Field(ge=0, le=1), Unit("share")]
Gib = Annotated[float, Field(ge=0), Unit("GiB")]


class Neo4jSettings(_Section):
    """Where the source is."""

    uri: Uri = "bolt://localhost:7687"
    """The address: `bolt://`, `neo4j://`, or with TLS `bolt+s://`, `neo4j+s://`, `…+ssc://`."""
    username: str = "neo4j"
    """The user."""
    password: SecretStr | None = None
    """The user's password."""
    database: str = "neo4j"
    """The database that holds the items."""
    connect_timeout_seconds: Seconds = 10.0
    """How long a connection may take to open."""
    request_timeout_seconds: Seconds = 60.0
    """How long a page may take to arrive; a query that reads a whole label has ten times as long."""


class MilvusSettings(_Section):
    """Where the sink is: an http(s) address, or the path of a Milvus Lite file ending in `.db`."""

    uri: Uri = "http://localhost:19530"
    """The address, or the path of a Milvus Lite file."""
    token: SecretStr | None = None
    """`USER:PASSWORD`, or an API key."""
    database: str = "default"
    """The database that holds the collections."""
    ca_file: Path | None = None
    """The certificates that are trusted in place of the system's, a PEM file."""
    request_timeout_seconds: Seconds = 60.0
    """How long one request may take; must be shorter than `relay.landing_seconds`."""


def _taken_apart(values: object) -> object:
    """Move the credentials out of a section's `url`, where customs put them, into settings that are not shown."""
    if not isinstance(values, dict) or not isinstance(values.get("url"), str):
        return values
    address = urlsplit(values["url"])
    if "@" not in address.netloc:
        return values
    held, _, netloc = address.netloc.rpartition("@")
    username, _, password = held.partition(":")
    found = {"username": unquote(username), "password": unquote(password)}
    given = {name: value for name, value in found.items() if value and not values.get(name)}
    return {**values, **given, "url": urlunsplit(address._replace(netloc=netloc))}


class RedisSettings(_Section):
    """Where agent state is."""

    url: str = "redis://localhost:6379/0"
    """The address of a server of its own, of any node of a cluster, or of a Sentinel: the server says which it is.
    Credentials in it are taken out and kept like the settings beside it."""
    username: str | None = None
    """The user, where Redis has users."""
    password: SecretStr | None = None
    """The user's password, or the server's."""
    databases: tuple[Annotated[int, Field(ge=0)], ...] = ()
    """The logical databases that are looked at; none: the one that the address names."""
    ca_file: Path | None = None
    """The certificates that are trusted in place of the system's, a PEM file."""
    sentinel_master: str | None = None
    """Which one is meant, where a Sentinel watches over several."""
    sentinel_password: SecretStr | None = None
    """The Sentinel's own password."""
    max_ops: Annotated[int, Field(ge=1), Unit("keys a second")] | None = None
    """How many keys and pieces of large keys are read a second at most; none: as many as Redis gives."""
    connect_timeout_seconds: Seconds = 10.0
    """How long a connection may take to open."""
    request_timeout_seconds: Seconds = 60.0
    """How long one command may take."""

    _apart = model_validator(mode="before")(_taken_apart)

    @field_validator("url")
    @classmethod
    def _of_redis(cls, url: str) -> str:
        address = urlsplit(url)
        if address.scheme not in {"redis", "rediss"} or not address.hostname:
            message = "an address of Redis is redis://HOST:PORT/DATABASE, or rediss:// for TLS"
            raise ValueError(message)
        if address.path.strip("/") and not address.path.strip("/").isdigit():
            message = f"behind the last slash stands the logical database's number, not {address.path.strip('/')!r}"
            raise ValueError(message)
        return url

    @property
    def chosen_databases(self) -> tuple[int, ...]:
        """The logical databases that are looked at, each once."""
        return tuple(dict.fromkeys(self.databases)) or (int(urlsplit(self.url).path.strip("/") or 0),)


class PostgresSettings(_Section):
    """Where agent state goes."""

    url: str = "postgresql://localhost:5432/postgres"
    """The address, with the client's parameters such as `sslmode` behind a `?`. Credentials in it are taken out and kept like
    the settings beside it."""
    username: str | None = None
    """The user."""
    password: SecretStr | None = None
    """The user's password."""
    schema_name: Annotated[str, Field(alias="schema", pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$")] = "public"
    """The schema that holds the tables."""
    connect_timeout_seconds: Seconds = 10.0
    """How long a connection may take to open."""
    request_timeout_seconds: Seconds = 300.0
    """How long one statement may take."""

    _apart = model_validator(mode="before")(_taken_apart)

    @field_validator("url")
    @classmethod
    def _of_postgres(cls, url: str) -> str:
        if urlsplit(url).scheme not in {"postgresql", "postgres"}:
            message = "an address of PostgreSQL is postgresql://HOST:PORT/DATABASE"
            raise ValueError(message)
        return url


class AgentMappingSettings(_Section):
    """One key pattern and what its keys become; see [agent-state.md](agent-state.md)."""

    kind: AgentKind
    """What the keys hold, which is also the table of their rows."""
    key: str
    """The pattern of the keys, with named parts: `agent:{agent}:q:{state}`."""
    type: RedisType
    """The keys' Redis type; a key of another is quarantined."""
    encoding: Encoding
    """What a value's bytes are; of a hash, what a field's are where its column is JSON."""
    columns: dict[str, str]
    """Where each column of the table comes from."""
    rows: RowsOf = RowsOf.KEY
    """Of a hash: whether the whole of it is a row, or each field."""
    member: str | None = None
    """The pattern of the fields of a hash, or of the members of a set or zset, with named parts."""
    document: str | None = None
    """Of a stream's entry or a hash: the field that holds the encoded document."""
    each: str | None = None
    """A path into the document, each end of which is a row: `/{state}/{action}`, or `/*` for an array."""
    deletions: Literal["keep", "mirror"] = "keep"
    """Whether rows that Redis has no more are kept, or count as orphaned."""
    push: Literal["right", "left"] = "right"
    """For the library alone: at which end of a list new elements come in."""
    most: Annotated[int, Field(ge=0), Unit("elements")] = 0
    """For the library alone: how many elements of a list are kept; 0 keeps all."""

    @model_validator(mode="after")
    def _can_be_meant(self) -> Self:
        self.as_mapping()
        return self

    def as_mapping(self) -> AgentMapping:
        """Return the mapping.

        Raises:
            ValueError: With what cannot be meant.
        """
        sources = {name: ColumnSource.parse(text) for name, text in self.columns.items()}
        return AgentMapping(
            kind=self.kind,
            key=self.key,
            type=self.type,
            encoding=self.encoding,
            columns=sources,
            rows=self.rows,
            member=self.member,
            document=self.document,
            each=self.each,
        )


class AgentdbSettings(_Section):
    """Agent state: which keys are what."""

    mappings: tuple[AgentMappingSettings, ...] = ()
    """What keys become; the first one that fits a key counts."""
    ignore: tuple[str, ...] = ()
    """Redis globs of keys that are somebody else's."""
    partitions: Literal["none", "monthly"] = "none"
    """Whether experiences are kept in a table a month."""
    rows_per_batch: Annotated[int, Field(ge=1, le=1_000_000), Unit("rows")] = 20_000
    """How many rows are written in one transaction."""
    shadow_rate: Share = 0.05
    """How many of the library's reads are compared in mode `shadow`."""
    validated_within_seconds: Seconds = 86_400.0
    """How old a clean comparison may be when the mode becomes `postgres`."""


class StateSettings(_Section):
    """Where the tool keeps its own records."""

    path: Path = Path("segue-state.db")
    """The SQLite file of cursors, counts and quarantine; quarantine files are written beside it."""


class BackfillSettings(_Section):
    """How the copy is made."""

    workers: Annotated[int, Field(ge=1, le=64), Unit("threads")] = 4
    """How many ranges are copied at the same time."""
    batch_size: Literal["auto"] | Annotated[int, Field(ge=1, le=5_000), Unit("rows")] = "auto"
    """How many rows one request to Milvus carries; `auto` adapts between 100 and 5000."""
    items_per_range: Annotated[int, Field(ge=1), Unit("items")] = 5_000
    """How large the ranges are that a plan cuts, the units of parallel work."""
    patience_seconds: Seconds = 120.0
    """How long a store may fail to answer before a copy stops, resumable."""
    ray: str | None = None
    """The Ray cluster that copies: ray://HOST:PORT, `auto` for this machine's, `local` for one made here; else threads do."""

    @property
    def fixed_batch_size(self) -> int | None:
        """How many rows a batch has, None where that adapts."""
        return None if self.batch_size == "auto" else self.batch_size


class RelaySettings(_Section):
    """The times of the live protocol."""

    landing_seconds: Seconds = 90.0
    """How long after it was sent a request without an answer may still take effect; must be longer than
    `milvus.request_timeout_seconds`."""
    lease_seconds: Seconds = 150.0
    """How long a relay that died keeps its share; must be longer than `landing_seconds`."""
    window_seconds: Seconds = 10.0
    """How long after its acknowledgement a mark stays open for readers, where the control node does not say."""
    drain_seconds: SecondsFromZero = 10.0
    """How long a relay that is asked to stop still makes equal what is dirty."""


class ValidateSettings(_Section):
    """How both sides are compared."""

    settle_seconds: SecondsFromZero = 30.0
    """How long keys that change while they are looked at, or wait for a relay, are waited for in the end."""
    max_age_seconds: Seconds = 86_400.0
    """How old a clean validation may be when the mode becomes `hybrid`."""
    least_recall: Share = 0.95
    """The mean share of what is truly nearest that Milvus must find in a check of the searches."""


class PreflightSettings(_Section):
    """What a preflight measures against."""

    max_age_seconds: Seconds = 7 * 86_400.0
    """How old a passed preflight may be when the mode becomes `dual_write`."""
    replication: Annotated[int, Field(ge=1), Unit("copies")] = 3
    """How many copies of each byte Milvus's object storage keeps."""
    disk_path: Path | None = None
    """A path on the volume that holds Milvus's data, where this machine has it."""
    disk_free_gib: Gib | None = None
    """How much is free on that volume, where only its operator knows."""
    query_memory_gib: Gib | None = None
    """The memory free for collections on all query nodes, where Milvus does not say."""
    inventory_seconds: Seconds = 20.0
    """How long items are read for the inventory."""
    probe_seconds: Seconds = 5.0
    """How long a probe of the copy runs."""


class ApplicationSettings(_Section):
    """What an instance of the application adds to what the control node says: a mode of its own, or a file that holds one.

    Searches follow the lower of both modes; writes leave marks when either says so. A file is read again while the application
    runs, so that a mounted ConfigMap takes effect without a restart.
    """

    storage_mode: StorageMode | None = None
    """This instance's own mode; none: as the control node says."""
    storage_mode_file: Path | None = None
    """A file that holds it, in place of `storage_mode`."""

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if self.storage_mode is not None and self.storage_mode_file is not None:
            message = "STORAGE_MODE and STORAGE_MODE_FILE are both given; which of them counts cannot be told"
            raise ValueError(message)
        return self


class SearchSettings(_Section):
    """How an application's searches are made, and the times of the read fence.

    `visible_seconds`, `fence_seconds` and `slack_seconds` take effect with a change of mode, for all readers and relays at
    once. `least_shadow_reads`, `least_overlap` and `most_failed` are what `hybrid` asks for; by the last two the store also
    steps back from `shadow_milvus` by itself.
    """

    visible_seconds: Seconds = 5.0
    """How long after its acknowledgement a write may stay invisible to a search of Milvus."""
    fence_seconds: Seconds = 1.0
    """The longest time from sending a search to Milvus until the open marks are there; later ones are not used."""
    slack_seconds: SecondsFromZero = 0.5
    """What clocks and schedulers may add to those two."""
    milvus_seconds: Seconds = 0.5
    """How long Milvus may take before Neo4j answers."""
    neo4j_seconds: Seconds = 10.0
    """How long Neo4j may take."""
    margin: Annotated[int, Field(ge=0, le=1_000), Unit("rows")] = 10
    """How many more rows than wanted Milvus is asked for."""
    most_open: Annotated[int, Field(ge=1), Unit("marks")] = 2_000
    """With more open marks than these Neo4j answers."""
    most_dirty: Annotated[int, Field(ge=1), Unit("marks")] = 200
    """With more marks that are not acknowledged Neo4j answers."""
    bounded_seconds: Seconds = 1.0
    """How old marks kept in memory may be under bounded freshness."""
    ef: Annotated[int, Field(ge=1, le=32_768), Unit("candidates")] | None = None
    """HNSW's search width; none: 64 or twice k, whichever is more."""
    oversample: Annotated[int, Field(ge=0, le=10_000), Unit("rows")] = 0
    """How many more rows than wanted Neo4j's index is asked for, which raises its recall."""
    shadow_rate: Share = 0.05
    """How many searches are asked of both sides in `shadow_milvus`."""
    least_shadow_reads: Annotated[int, Field(ge=1), Unit("searches")] = 200
    """How many shadow reads must have been compared in an epoch before `hybrid`."""
    least_overlap: Share = 0.7
    """The mean overlap of shadow reads below which something is wrong. Right answers reach 0.9 to 1."""
    most_failed: Share = 0.05
    """How many of Milvus's answers may fail."""


class MonitorSettings(_Section):
    """Where `segue monitor` and `segue report` find what processes count."""

    urls: tuple[HttpUri, ...] = ()
    """The /metrics pages of the application's instances, the relays and a running copy, each of which counts its own part."""
    prometheus_url: HttpUri | None = None
    """The Prometheus that scrapes them all, asked in their place."""


ObjectName = Annotated[str, Field(pattern=r"^[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?$")]
"""The name of an object in Kubernetes."""

Namespace = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class EnvFileSettings(_Section):
    """The application is started with an env file: the variable's line in it is replaced."""

    kind: Literal["env-file"]
    """Chooses this way."""
    path: Path
    """The env file."""
    variable: Variable = "STORAGE_MODE"
    """The variable that holds the mode."""


class _KubernetesSettings(_Section):
    """Where in which cluster."""

    namespace: Namespace
    """The object's namespace."""
    name: ObjectName
    """The object's name."""
    context: str | None = None
    """A context of the kubeconfig; none: its current one, or inside a cluster the pod's own account."""
    request_timeout_seconds: Seconds = 5.0
    """How long one request to the API may take."""


class ConfigMapSettings(_KubernetesSettings):
    """Instances read STORAGE_MODE_FILE, a ConfigMap's key mounted as a file."""

    kind: Literal["configmap"]
    """Chooses this way."""
    key: Annotated[str, Field(pattern=r"^[-._a-zA-Z0-9]{1,253}$")] = "mode"
    """The key that holds the mode."""


class DeploymentSettings(_KubernetesSettings):
    """Instances have STORAGE_MODE in their Deployment's environment."""

    kind: Literal["deployment"]
    """Chooses this way."""
    container: Namespace | None = None
    """Which container, where the pod has several."""
    variable: Variable = "STORAGE_MODE"
    """The variable that holds the mode."""
    timeout_seconds: Seconds = 600.0
    """How long a roll-out may take before it is undone."""


RolloutSettings = Annotated[EnvFileSettings | ConfigMapSettings | DeploymentSettings, Field(discriminator="kind")]
"""How a mode gets to where the application is deployed, for instances with a mode of their own."""


class SourceSettings(_Section):
    """Which nodes are items of one collection, and what of them travels."""

    index: str
    """The vector index in Neo4j."""
    label: str
    """The items' label."""
    key: str
    """The property that holds an item's key, under a uniqueness constraint."""
    key_type: KeyType = KeyType.STRING
    """The type of all keys."""
    vector: str
    """The property that holds the embedding."""
    dimension: Annotated[int, Field(ge=1, le=32_768), Unit("elements")]
    """The embeddings' length."""
    metric: Metric = Metric.COSINE
    """How likeness is measured."""
    properties: dict[str, PropertyType] = {}
    """The properties that travel along, each with its type."""


class IndexSettings(_Section):
    """The HNSW index of preset `segue`, built after the load."""

    m: Annotated[int, Field(ge=2, le=2_048), Unit("links")] = 16
    """How many neighbours each row is linked to."""
    ef_construction: Annotated[int, Field(ge=1), Unit("candidates")] = 200
    """How wide the index is searched while it is built."""


class CollectionSettings(_Section):
    """One vector index and the collection it becomes; `segue init` writes them."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,254}$")]
    """The collection's name in Milvus."""
    preset: Literal["segue", "langchain", "llamaindex"] = "segue"
    """For whom its fields are laid out."""
    source: SourceSettings
    """Which nodes are its items."""
    index: IndexSettings = IndexSettings()
    """Its index in Milvus."""
    filters: tuple[dict[str, Any], ...] = ()
    """Filters such as the application's, for a check of its searches."""


class Settings(_Section):
    """Everything Segue is told."""

    neo4j: Neo4jSettings = Neo4jSettings()
    milvus: MilvusSettings = MilvusSettings()
    redis: RedisSettings = RedisSettings()
    postgres: PostgresSettings = PostgresSettings()
    agentdb: AgentdbSettings = AgentdbSettings()
    state: StateSettings = StateSettings()
    backfill: BackfillSettings = BackfillSettings()
    relay: RelaySettings = RelaySettings()
    validation: Annotated[ValidateSettings, Field(alias="validate")] = ValidateSettings()
    preflight: PreflightSettings = PreflightSettings()
    application: ApplicationSettings = ApplicationSettings()
    search: SearchSettings = SearchSettings()
    monitor: MonitorSettings = MonitorSettings()
    rollout: RolloutSettings | None = None
    collections: tuple[CollectionSettings, ...] = ()

    @model_validator(mode="after")
    def _times_in_order(self) -> Self:
        if not self.milvus.request_timeout_seconds < self.relay.landing_seconds < self.relay.lease_seconds:
            message = "milvus.request_timeout_seconds < relay.landing_seconds < relay.lease_seconds must hold"
            raise ValueError(message)
        return self

    @field_validator("collections")
    @classmethod
    def _distinct_names(cls, collections: tuple[CollectionSettings, ...]) -> tuple[CollectionSettings, ...]:
        names = [collection.name for collection in collections]
        if len(set(names)) != len(names):
            message = "two collections have the same name"
            raise ValueError(message)
        return collections

    def chosen(self, name: str | None) -> tuple[CollectionSettings, ...]:
        """Return the collection of that name, or all of them.

        Raises:
            ConfigError: There is none of that name, or none at all.
        """
        if not self.collections:
            msg = "the configuration names no collection"
            raise ConfigError(msg, hint="Run `segue init` to write segue.toml.")
        if name is None:
            return self.collections
        found = tuple(collection for collection in self.collections if collection.name == name)
        if not found:
            known = ", ".join(collection.name for collection in self.collections)
            msg = f"no collection {name!r} in the configuration"
            raise ConfigError(msg, hint=f"Configured: {known}")
        return found


def shown(settings: Settings) -> dict[str, Any]:
    """Return every setting as plain JSON values, secrets left out."""
    found: dict[str, Any] = json.loads(json.dumps(_without_secrets(settings.model_dump(by_alias=True)), default=str))
    return found


def digest(settings: Settings) -> str:
    """Return what names these settings and no others; secrets are no part of it, nor where processes are watched."""
    acted_by = {name: value for name, value in shown(settings).items() if name != "monitor"}
    return hashlib.sha256(json.dumps(acted_by, sort_keys=True).encode()).hexdigest()[:16]


def _without_secrets(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_secrets(each) for name, each in value.items() if not isinstance(each, SecretStr)}
    return [_without_secrets(each) for each in value] if isinstance(value, (list, tuple)) else value


def located(config: str | Path | None = None, environ: Mapping[str, str] = os.environ) -> Path:
    """Return where the configuration is: the path given, else what SEGUE_CONFIG names, else `DEFAULT_PATH`."""
    return Path(config or environ.get("SEGUE_CONFIG") or DEFAULT_PATH)


def load(
    path: Path | None,
    overrides: Mapping[tuple[str, str], Any] = {},
    environ: Mapping[str, str] = os.environ,
) -> Settings:
    """Read the settings from flags (`overrides`), environment, file and defaults, in that order of precedence.

    Args:
        path: The TOML file; None for none.
        overrides: (section, setting) to a flag's value; None means the flag was not given.
        environ: The environment.

    Raises:
        ConfigError: With every fault at once.
    """
    values = _read(path) if path else {}
    given = {place: value for place, value in overrides.items() if value is not None}
    for (section, setting), value in {**_from_environment(environ), **given}.items():
        # A section that is no table is left for the validation to name.
        if isinstance(values.setdefault(section, {}), dict):
            values[section][setting] = value
    try:
        return Settings.model_validate(values)
    except ValidationError as refusal:
        faults = "\n".join(f"  {_place(fault['loc'])}: {_told(fault)}" for fault in refusal.errors(include_input=False))
        message = f"{path or 'the defaults'} and the environment do not make a valid configuration:\n{faults}"
        # The cause would print the rejected input, which may be a secret.
        raise ConfigError(message, hint="A flag goes before the environment, the environment before the file.") from None


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        msg = f"no configuration file {path}"
        raise ConfigError(msg, hint="Run `segue init` to write one, or name it: --config FILE") from None
    except (OSError, UnicodeDecodeError) as fault:
        msg = f"cannot read {path}: {fault}"
        raise ConfigError(msg, hint="Name another file: --config FILE") from fault
    except tomllib.TOMLDecodeError as fault:
        msg = f"{path} is not valid TOML: {fault}"
        raise ConfigError(msg, hint="Mend that line, or write a new file: segue init --force") from fault


def _from_environment(environ: Mapping[str, str]) -> dict[tuple[str, str], str]:
    found = {place: environ[name] for name, place in PLAIN_VARIABLES.items() if environ.get(name)}
    for name, place in {**SECRET_VARIABLES, **ADDRESS_VARIABLES}.items():
        if environ.get(name):
            found[place] = environ[name]
        elif environ.get(f"{name}_FILE"):
            found[place] = _secret(f"{name}_FILE", Path(environ[f"{name}_FILE"]))
    return found


def _secret(name: str, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as fault:
        # Where there is no such file, what stands there may by mistake be the secret itself.
        file = str(path) if path.exists() else "the file that it names"
        msg = f"{name}: cannot read {file}: {getattr(fault, 'strerror', None) or 'it is not UTF-8 text'}"
        raise ConfigError(msg, hint=f"Let {name} name a file that holds the secret and can be read.") from fault


def _told(fault: ErrorDetails) -> str:
    # This one message repeats what was given, which by mistake may be a secret.
    if fault["type"] != "union_tag_invalid":
        return fault["msg"]
    return f"{fault['ctx']['discriminator']} must be one of {fault['ctx']['expected_tags']}"


def _place(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location) or "configuration"
