"""What moves a file: the programs that are compared, and how each is started."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parents[1]
AIOQUIC = "aioquic==1.7.2"
# What QUIC's certificate is made out to.
NAME = "bench.test"
# In IPv4, UDP and TFTP headers an Ethernet packet; TFTP's default is 512 (RFC 1350).
TFTP_BLOCK_BYTES = 1468


class MoverError(Exception):
    """A program is missing or cannot be built; printed without a traceback."""


@dataclass(frozen=True)
class Mover:
    """A server that receives one file, and a client that sends it.

    Words in braces are filled in: host, port, file (to send), folder and name (where it is to
    arrive), and what `prepare` found.
    """

    meaning: str
    protocol: str
    server: str
    client: str
    # Which of the functions below have to run first.
    needs: tuple[str, ...] = ()
    # The server ends when it has the file.
    ends: bool = True


BUFFERS = "--recv-buffer 4M --send-buffer 4M --force-buffers"
MOVERS = {
    "rsecho": Mover(
        "rsecho push",
        "udp",
        "{rsecho} serve --udp {host}:{port} --transfer {folder} " + BUFFERS,
        "{rsecho} push --quiet {file} {host}:{port} --name {name} " + BUFFERS,
        needs=("rsecho",),
        ends=False,
    ),
    "tcp": Mover(
        "a plain loop over TCP, CUBIC",
        "tcp",
        "{plain_tcp} receive {host} {port} {folder}/{name}",
        "{plain_tcp} send {host} {port} {file} cubic",
        needs=("plain_tcp",),
    ),
    "tcp_bbr": Mover(
        "the same, BBR",
        "tcp",
        "{plain_tcp} receive {host} {port} {folder}/{name}",
        "{plain_tcp} send {host} {port} {file} bbr",
        needs=("plain_tcp", "bbr"),
    ),
    "socat": Mover(
        "socat over TCP, CUBIC",
        "tcp",
        "{socat} -u TCP-LISTEN:{port},bind={host},reuseaddr CREATE:{folder}/{name}",
        # IPPROTO_TCP, TCP_CONGESTION: a namespace cannot make it the default where the host
        # keeps it to those with CAP_NET_ADMIN (tcp_allowed_congestion_control).
        "{socat} -u FILE:{file} TCP:{host}:{port},setsockopt-string=6:13:cubic",
        needs=("socat",),
    ),
    "quinn": Mover(
        "QUIC by quinn, CUBIC; windows of 64 MiB, socket buffers of 4 MiB",
        "udp",
        "{quinn} receive {host}:{port} {folder}/{name} {certificate} {key}",
        "{quinn} send {host}:{port} {file} {certificate}",
        needs=("quinn", "certificate"),
    ),
    "quinn_jumbo": Mover(
        "the same, told to search for an MTU up to 65,000",
        "udp",
        "{quinn} receive {host}:{port} {folder}/{name} {certificate} {key} 65000",
        "{quinn} send {host}:{port} {file} {certificate} 65000",
        needs=("quinn", "certificate"),
    ),
    "aioquic": Mover(
        "QUIC by aioquic, CUBIC; windows of 64 MiB",
        "udp",
        "{aioquic} {here}/aioquic_peer.py receive {host} {port} {folder}/{name} {certificate}"
        " {key}",
        "{aioquic} {here}/aioquic_peer.py send {host} {port} {file} {certificate}",
        needs=("aioquic", "certificate"),
    ),
    "tftp": Mover(
        f"TFTP, curl to tftpd-hpa, blocks of {TFTP_BLOCK_BYTES:,} bytes",
        "udp",
        "{tftpd} --foreground --user root --create --secure --address {host}:{port} {folder}",
        "{curl} --silent --show-error --tftp-blksize "
        f"{TFTP_BLOCK_BYTES}" + " --upload-file {file} tftp://{host}:{port}/{name}",
        needs=("tftpd", "curl"),
        ends=False,
    ),
    "tftp_512": Mover(
        "TFTP, tftp-hpa to tftpd-hpa, blocks of 512 bytes",
        "udp",
        "{tftpd} --foreground --user root --create --secure --address {host}:{port} {folder}",
        "{tftp} -m binary {host} {port} -c put {file} {name}",
        needs=("tftpd", "tftp"),
        ends=False,
    ),
}
DEFAULT_MOVERS = ["rsecho", "tcp", "socat", "quinn", "aioquic", "tftp"]


def build_path(profile: str) -> str:
    """The program that stands in for a path."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", PROJECT / "target"))
    words = ["--locked", "--profile", profile, "--example", "path"]
    cargo("the path", *words, "--target-dir", str(target))
    return str(target / profile / "examples" / "path")


def cargo(what: str, *words: str) -> None:
    """Builds something."""
    program = os.environ.get("CARGO", "cargo")
    if shutil.which(program) is None:
        raise MoverError(f"{program} is not found: {what} is built with it (set CARGO)")
    done = subprocess.run([program, "build", "--quiet", *words], cwd=PROJECT, check=False)
    if done.returncode != 0:
        raise MoverError(f"{what} cannot be built; cargo says above why")


def found(program: str, package: str) -> str:
    """An installed program."""
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin")
    if path is None:
        raise MoverError(f"{program} is not found: install {package}")
    return path


def prepare_rsecho(folder: Path) -> dict[str, str]:
    """The command beside this interpreter."""
    path = Path(sys.executable).with_name("rsecho")
    if not path.exists():
        raise MoverError(f"rsecho is not installed beside {sys.executable}: make build")
    done = subprocess.run([path, "push", "--help"], capture_output=True, check=False)
    if done.returncode != 0:
        raise MoverError("this rsecho has no push")
    return {"rsecho": str(path)}


def prepare_plain_tcp(folder: Path) -> dict[str, str]:
    """Compiles the plain loop."""
    compiler = found(os.environ.get("CC", "gcc"), "a C compiler, or set CC")
    program = folder / "plain_tcp"
    words = [compiler, "-O2", "-Wall", "-o", str(program), str(HERE / "plain_tcp.c")]
    if subprocess.run(words, check=False).returncode != 0:
        raise MoverError("plain_tcp.c cannot be compiled")
    return {"plain_tcp": str(program)}


def prepare_bbr(folder: Path) -> dict[str, str]:
    """Whether the kernel has it."""
    available = Path("/proc/sys/net/ipv4/tcp_available_congestion_control").read_text()
    if "bbr" not in available.split():
        raise MoverError("this kernel has no BBR: modprobe tcp_bbr")
    return {}


def prepare_quinn(folder: Path) -> dict[str, str]:
    """Builds it, in a package of its own."""
    manifest = str(HERE / "quinn" / "Cargo.toml")
    words = ["--release", "--locked", "--manifest-path", manifest]
    cargo("quinn", *words, "--target-dir", str(folder / "quinn"))
    return {"quinn": str(folder / "quinn" / "release" / "rsecho-bench-quinn")}


def prepare_aioquic(folder: Path) -> dict[str, str]:
    """Installs it, in an environment of its own."""
    home = folder / "aioquic"
    python = home / "bin" / "python"
    if not python.exists():
        venv.create(home, with_pip=True)
    words = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    words.append(AIOQUIC)
    if subprocess.run(words, check=False).returncode != 0:
        raise MoverError(f"{AIOQUIC} cannot be installed; pip says above why")
    return {"aioquic": str(python), "here": str(HERE)}


def prepare_certificate(folder: Path) -> dict[str, str]:
    """One that is its own authority."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    words = [found("openssl", "openssl"), "req", "-x509", "-newkey", "ec", "-nodes", "-days", "30"]
    words += ["-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", f"/CN={NAME}"]
    words += ["-addext", f"subjectAltName=DNS:{NAME}"]
    words += ["-addext", "basicConstraints=critical,CA:FALSE"]
    words += ["-out", str(certificate), "-keyout", str(key)]
    if subprocess.run(words, check=False, stderr=subprocess.DEVNULL).returncode != 0:
        raise MoverError("openssl cannot make a certificate")
    return {"certificate": str(certificate), "key": str(key)}


PREPARATIONS: dict[str, Callable[[Path], dict[str, str]]] = {
    "rsecho": prepare_rsecho,
    "plain_tcp": prepare_plain_tcp,
    "bbr": prepare_bbr,
    "quinn": prepare_quinn,
    "aioquic": prepare_aioquic,
    "certificate": prepare_certificate,
    "socat": lambda _: {"socat": found("socat", "socat")},
    "curl": lambda _: {"curl": found("curl", "curl")},
    "tftp": lambda _: {"tftp": found("tftp", "tftp-hpa")},
    "tftpd": lambda _: {"tftpd": found("in.tftpd", "tftpd-hpa")},
}


def prepare(
    names: list[str], folder: Path, troubles: list[str]
) -> tuple[list[str], dict[str, str]]:
    """Of these movers those that can be had here, and the words to fill in."""
    words: dict[str, str] = {}
    done: dict[str, str | None] = {}
    able = []
    for name in names:
        for need in MOVERS[name].needs:
            if need not in done:
                try:
                    words |= PREPARATIONS[need](folder)
                    done[need] = None
                except MoverError as error:
                    done[need] = str(error)
        reasons = [reason for need in MOVERS[name].needs if (reason := done[need])]
        if reasons:
            troubles.append(f"{name} is left out: {reasons[0]}")
        else:
            able.append(name)
    return able, words
