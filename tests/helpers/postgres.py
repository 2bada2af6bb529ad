"""Run a PostgreSQL cluster in a temporary folder on a free port, with the installed binaries."""

import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg

from tests.helpers.processes import free_port

USER = "modeltrace"


class NoPostgresError(Exception):
    """PostgreSQL is not installed; the message says how to install it."""


@dataclass(frozen=True)
class Postgres:
    """A running cluster with password authentication."""

    port: int
    password: str
    folder: Path
    binaries: Path

    def url(self, database: str, password: str | None = None) -> str:
        """Return the URL of a database."""
        return f"postgresql+psycopg://{USER}:{password or self.password}@127.0.0.1:{self.port}/{database}"

    def create_database(self) -> str:
        """Create an empty database, and return its name."""
        name = f"test_{secrets.token_hex(4)}"
        with psycopg.connect(self.dsn("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return name

    def query(self, database: str, sql: str) -> list[tuple[object, ...]]:
        """Run a query with psycopg, without code of Modeltrace."""
        with psycopg.connect(self.dsn(database)) as connection:
            return connection.execute(sql.encode()).fetchall()

    def start(self) -> None:
        """Start the cluster, and wait until it accepts connections."""
        options = f"-p {self.port} -h 127.0.0.1 -k {self.folder}"
        self.pg_ctl("start", "-w", "-l", str(self.folder / "log"), "-o", options)

    def promote(self) -> None:
        """Turn a standby into a primary."""
        self.pg_ctl("promote", "-w")

    def stop(self) -> None:
        """Stop the cluster immediately, like a crash."""
        self.pg_ctl("stop", "-m", "immediate")

    def pg_ctl(self, *arguments: str) -> None:
        """Run `pg_ctl`."""
        _run(self.binaries / "pg_ctl", "-D", str(self.folder / "data"), *arguments)

    def dsn(self, database: str) -> str:
        """Return the libpq connection string of a database."""
        return f"host=127.0.0.1 port={self.port} dbname={database} user={USER} password={self.password}"


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """Run a cluster until the end of the block.

    Raises:
        NoPostgresError: PostgreSQL is not installed.
    """
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("pg_ctl")
    if not installed and on_path is None:
        raise NoPostgresError("PostgreSQL is not installed (Debian: apt install postgresql)")
    binaries = installed[-1].parent if installed else Path(on_path or "").parent
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")  # PostgreSQL does not run as root
    cluster = Postgres(free_port(), secrets.token_hex(16), folder, binaries)
    try:
        password_file = folder / "password"
        password_file.touch(mode=0o644)
        password_file.write_text(cluster.password)
        _run(
            binaries / "initdb", "-D", str(folder / "data"), "-U", USER, f"--pwfile={password_file}",
            "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8",
        )  # fmt: skip
        cluster.start()
        try:
            yield cluster
        finally:
            if (folder / "data" / "postmaster.pid").exists():  # a test may have stopped it
                cluster.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def running_standby(primary: Postgres) -> Iterator[Postgres]:
    """Run a standby of a cluster until the end of the block. A commit of the primary then waits for the standby."""
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
    standby = replace(primary, port=free_port(), folder=folder)
    try:
        source = primary.dsn("postgres")
        _run(primary.binaries / "pg_basebackup", "-D", str(folder / "data"), "-R", "-c", "fast", "-d", source)
        standby.start()
        try:
            with psycopg.connect(source, autocommit=True) as connection:
                connection.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
                connection.execute("SELECT pg_reload_conf()")
            yield standby
        finally:
            standby.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def failover_url(primary: Postgres, standby: Postgres, database: str) -> str:
    """Return a URL with both hosts, of which the one that accepts writes is used."""
    hosts = f"host=127.0.0.1:{primary.port}&host=127.0.0.1:{standby.port}"
    return f"postgresql+psycopg://{USER}:{primary.password}@/{database}?{hosts}&target_session_attrs=read-write"


def _run(program: Path, *arguments: str) -> None:
    user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    process = subprocess.run(
        [*user, str(program), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,  # not a pipe, which the running server would keep open
        stderr=subprocess.DEVNULL,
        cwd="/",
        check=False,
        timeout=120,
    )
    assert process.returncode == 0, f"{program.name} {' '.join(arguments)}: exit code {process.returncode}"
