"""The Apache Kafka jars: where they are kept, and how Maven brings them.

The cache lies outside the source tree: ``$APACHE_KAFKA_CACHE``, or ``dp_kafka`` in the user's cache
directory. ``$APACHE_KAFKA_VERSION`` chooses another release of Kafka.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
import zlib
from pathlib import Path

from .errors import ApacheKafkaError, MissingToolError

#: Release of Apache Kafka that the tests run on. Brokers of 4.x need Java 17.
DEFAULT_VERSION = "4.4.0"
_SCALA = "2.13"
#: Kafka 4.x logs through slf4j 1.7; the simple backend writes to stdout and needs no configuration file.
_SLF4J_SIMPLE = "1.7.36"
_DEPENDENCY_PLUGIN = "2.8"
_MIN_JAVA = 17
#: Seconds for Maven to bring about 45 MB.
_MAVEN_TIMEOUT = 600.0

_POM = """\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>dp-kafka</groupId><artifactId>test-broker</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_{scala}</artifactId><version>{version}</version>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>{slf4j}</version>
    </dependency>
  </dependencies>
</project>
"""


def version() -> str:
    """The release of Apache Kafka in use."""
    return os.environ.get("APACHE_KAFKA_VERSION") or DEFAULT_VERSION


def cache_dir() -> Path:
    """The directory that keeps the jars of all releases."""
    if own := os.environ.get("APACHE_KAFKA_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "dp_kafka"


def _home() -> Path:
    return cache_dir() / f"kafka-{version()}"


def find_java() -> str:
    """Path of a Java that runs brokers; raises MissingToolError when there is none or it is too old."""
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=str(Path(home) / "bin")) if home else shutil.which("java")
    if java is None:
        where = f"in JAVA_HOME ({home})" if home else "on PATH"
        raise MissingToolError(
            f"no java {where}: install a JDK {_MIN_JAVA} or newer (Debian: openjdk-{_MIN_JAVA}-jdk-headless)"
        )
    found = re.search(r'version "(?:1\.)?(\d+)', _java_version(java))
    if found is None or int(found[1]) < _MIN_JAVA:
        what = f"is version {found[1]}" if found else "does not tell its version"
        raise MissingToolError(f"{java} {what}: Apache Kafka {version()} needs Java {_MIN_JAVA} or newer")
    return java


def _java_version(java: str) -> str:
    """What it says of itself, on stderr: openjdk version "17.0.15" …"""
    return subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30, check=False).stderr


def missing() -> str | None:
    """What has to be installed before brokers can run, as a sentence; None when nothing is missing."""
    try:
        find_java()
        if not _home().is_dir():
            _find_maven()
    except MissingToolError as error:
        return str(error)
    return None


def _find_maven() -> str:
    maven = shutil.which("mvn")
    if maven is None:
        raise MissingToolError(
            f"no mvn on PATH, and Apache Kafka {version()} is not in {cache_dir()}: "
            "install Maven 3 (Debian: maven), it brings the brokers from Maven Central"
        )
    return maven


def fetch() -> Path:
    """Directory with the jars; brings them with Maven (minutes at worst) unless they are there already.

    Several processes may call it at once: one brings the jars, the others wait for it.
    Raises MissingToolError without java or mvn, ApacheKafkaError when Maven fails.
    """
    find_java()
    home = _home()
    if home.is_dir():
        return home
    maven = _find_maven()
    cache_dir().mkdir(parents=True, exist_ok=True)
    with (cache_dir() / "fetch.lock").open("w") as lock:
        # Bounded by the other's Maven timeout; the system frees the lock of a process that dies.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not home.is_dir():
            _fetch_into(home, maven)
    return home


def _fetch_into(home: Path, maven: str) -> None:
    work = Path(tempfile.mkdtemp(prefix=f"{home.name}.", dir=home.parent))
    try:
        pom = work / "pom.xml"
        pom.write_text(_POM.format(scala=_SCALA, version=version(), slf4j=_SLF4J_SIMPLE))
        jars = work / "libs"
        goal = f"org.apache.maven.plugins:maven-dependency-plugin:{_DEPENDENCY_PLUGIN}:copy-dependencies"
        options = [f"-DoutputDirectory={jars}", "-DincludeScope=runtime"]
        try:
            done = subprocess.run(
                [maven, "-B", "-q", "-f", str(pom), goal, *options],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=_MAVEN_TIMEOUT,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ApacheKafkaError(
                f"Maven did not bring Apache Kafka {version()} within {_MAVEN_TIMEOUT:g} s: check the network"
            ) from error
        if done.returncode != 0:
            tail = "\n".join(done.stdout.splitlines()[-15:])
            raise ApacheKafkaError(
                f"Maven could not bring Apache Kafka {version()}, exit code {done.returncode}:\n{tail}"
            )
        if not (jars / f"kafka_{_SCALA}-{version()}.jar").is_file():
            raise ApacheKafkaError(f"Maven left no kafka_{_SCALA}-{version()}.jar: the release may not exist")
        jars.rename(home)  # in one step: a directory of that name is always whole
    finally:
        shutil.rmtree(work, ignore_errors=True)


def class_archive(java: str) -> Path:
    """Where the class archive of this Java and these jars is, once it has been recorded."""
    return cache_dir() / f"kafka-{version()}.{zlib.crc32(_java_version(java).encode()):08x}.jsa"


def class_path(jars: Path) -> str:
    """The class path of a broker."""
    return os.pathsep.join(str(jar) for jar in sorted(jars.glob("*.jar")))
