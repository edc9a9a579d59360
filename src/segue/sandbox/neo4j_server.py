"""Neo4j Community from Maven Central, in two release lines, with APOC triggers on."""

from __future__ import annotations

import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

from segue.sandbox import settings, system_programs
from segue.sandbox.downloads import installed, maven_jars
from segue.sandbox.endpoint import Endpoint
from segue.sandbox.java import Java, java_for
from segue.sandbox.processes import Command, run_tool

# The newest APOC on Maven Central for either line; Neo4j 2026 warns about it in its log, and its triggers work there.
_APOC_VERSION = "5.26.12"
_OPENED_PACKAGES = ("java.nio", "java.io", "sun.nio.ch", "java.util.concurrent")
_VECTOR_MODULE = "jdk.incubator.vector"

_NEO4J_CONF = """server.default_listen_address=127.0.0.1
server.bolt.listen_address=127.0.0.1:{bolt}
server.bolt.advertised_address=127.0.0.1:{bolt}
server.http.listen_address=127.0.0.1:{http}
server.http.advertised_address=127.0.0.1:{http}
server.directories.plugins={plugins}
server.memory.pagecache.size={page_cache}
db.tx_log.preallocate=false
db.tx_log.rotation.retention_policy=512M size
dbms.security.procedures.unrestricted=apoc.*
dbms.usage_report.enabled=false
"""
_APOC_CONF = "apoc.trigger.enabled=true\napoc.trigger.refresh=1000\n"


@dataclass(frozen=True)
class Neo4jServer:
    """One release line: which version it is, what starts it, and which Java versions it wants."""

    service: str
    release: str
    main_class: str
    oldest_java: int
    newest_supported_java: int
    java_flags: tuple[str, ...] = ()

    username: str = "neo4j"
    port_purposes: tuple[str, ...] = ("bolt", "http")
    polite_signal: signal.Signals = signal.SIGTERM
    stop_patience_seconds: float = 5  # It takes 10 s to stop in order; `down` throws the data away, so a kill costs nothing.
    start_patience_seconds: float = 300

    def java(self) -> Java:
        """The Java it runs on; may install one."""
        return java_for(self.oldest_java, self.newest_supported_java)

    def version(self) -> str:
        """The pinned release."""
        return self.release

    def install(self) -> None:
        """Get Java, Maven, the server's jars and APOC's."""
        self._jars()
        self._plugins()

    def new_home(self, root: Path) -> Path:
        """A folder under the sandbox's root."""
        home = root / self.service
        (home / "conf").mkdir(parents=True)
        return home

    def uri(self, port: int) -> str:
        """Bolt on loopback."""
        return f"bolt://127.0.0.1:{port}"

    def initialise(self, endpoint: Endpoint) -> None:
        """Store the password's hash by the server's own tool, which reads it from a file: `ps` shows arguments."""
        secret = endpoint.home / "password.args"
        secret.touch(mode=0o600)
        tool = "org.neo4j.server.startup.Neo4jAdminCommand dbms set-initial-password"
        secret.write_text(f'-cp "{self._jars()}/*"\n{tool} {endpoint.password}\n', encoding="utf-8")
        environment = {"NEO4J_HOME": str(endpoint.home), "NEO4J_CONF": str(endpoint.home / "conf")}
        try:
            run_tool(
                Command([self.java().program, f"@{secret}"], endpoint.home, environment),
                purpose=f"setting the password of {self.service}",
            )
        finally:
            secret.unlink()

    def command(self, endpoint: Endpoint) -> Command:
        """Write the configuration for its ports; the server's main class on all jars."""
        conf = endpoint.home / "conf"
        settings_text = _NEO4J_CONF.format(
            bolt=endpoint.ports["bolt"],
            http=endpoint.ports["http"],
            plugins=self._plugins(),
            page_cache=settings.neo4j_page_cache(),
        )
        (conf / "neo4j.conf").write_text(settings_text, encoding="utf-8")
        (conf / "apoc.conf").write_text(_APOC_CONF, encoding="utf-8")
        heap = settings.neo4j_heap()
        java = self.java()
        arguments = [java.program, "-XX:+UseG1GC", f"-Xms{heap}", f"-Xmx{heap}", *self.java_flags]
        arguments += [f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in _OPENED_PACKAGES]
        if java.has_module(_VECTOR_MODULE):
            arguments.append(f"--add-modules={_VECTOR_MODULE}")
        # APOC belongs on the class path as well as into the plugins folder: without, the server refuses its extension.
        arguments += ["-cp", f"{self._jars()}/*:{self._plugins()}/*:{conf}", self.main_class]
        arguments += [f"--home-dir={endpoint.home}", f"--config-dir={conf}", "--console-mode"]
        return Command(arguments, endpoint.home)

    def query(self, endpoint: Endpoint) -> None:
        """Run a query on database `neo4j`, which opens later than the port."""
        from neo4j import GraphDatabase  # noqa: PLC0415 - `down` and `env` need no client

        auth = (endpoint.username, endpoint.password)
        with GraphDatabase.driver(endpoint.uri, auth=auth, connection_timeout=5) as driver:
            driver.verify_connectivity()
            with driver.session(database="neo4j") as session:
                session.run("RETURN 1").consume()

    def _jars(self) -> Path:
        coordinates = [f"org.neo4j:neo4j:{self.release}", f"org.neo4j.app:neo4j-server:{self.release}"]
        return installed(f"neo4j-{self.release}", lambda folder: self._resolve(folder, coordinates))

    def _plugins(self) -> Path:
        coordinates = [f"org.neo4j.procedure:{name}:{_APOC_VERSION}" for name in ("apoc-core", "apoc-common")]
        return installed(f"apoc-{_APOC_VERSION}", lambda folder: self._resolve(folder, coordinates))

    def _resolve(self, folder: Path, coordinates: list[str]) -> None:
        mvn = system_programs.required("mvn", "maven")
        # The system's Java, which came with Maven, trusts the certificates of this machine; one from PyPI does not.
        java_home = None if shutil.which("java") else self.java().home
        maven_jars(folder, coordinates, mvn=mvn, java_home=java_home)


NEO4J_5 = Neo4jServer(
    service="neo4j-5.26",
    release="5.26.12",
    main_class="org.neo4j.server.CommunityEntryPoint",
    oldest_java=17,
    newest_supported_java=21,
)
NEO4J_2026 = Neo4jServer(
    service="neo4j-2026",
    release="2026.08.1",
    main_class="org.neo4j.server.Neo4jCommunity",
    oldest_java=21,
    newest_supported_java=25,
    java_flags=("--enable-native-access=ALL-UNNAMED",),
)
