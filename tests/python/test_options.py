"""An option is stated at few places, and they agree: the typed keywords, the native half, the
flags of `rsecho serve`."""

import dataclasses
import inspect
import pydoc
import re
from collections.abc import Callable

import click
import pytest
import rsecho
from rsecho import _lifecycle, _rsecho, sockets, transfer
from rsecho.cli.options import Option
from rsecho.cli.pull import command as pull
from rsecho.cli.push import command as push
from rsecho.cli.serve import command
from rsecho.guard import RULES_OF

# What Python makes something else of, and what it adds.
PYTHON = {"unpack", "on_record", "upper", "error_reply", "responder_takes", "log_payload_bytes"}
NATIVE = {"host", "port", "sock", "record_bytes"}

# Without a flag: what only a sender has use for. With one of another kind: -4 and -6, --timeout,
# --unpack with --names, a text, a `Guard`, a `Policy`.
OTHER_FLAGS = {"family", "recv_timeout", "send_timeout", "unpack", "on_record", "error_reply"}
OTHER_FLAGS |= {"guard", "broadcast", "transfer"}

SERVERS = [("udp", sockets.UdpServerOptions), ("tcp", sockets.TcpServerOptions)]


def native_names(make: Callable[[], object]) -> set[str]:
    """The names that it says it has."""
    with pytest.raises(TypeError, match="no such option: nonesuch; there are ") as raised:
        make()
    return set(re.split(", ", str(raised.value).partition("there are ")[2]))


@pytest.mark.parametrize(("protocol", "typed"), SERVERS)
def test_servers_and_their_native_halves_have_the_same_options(protocol: str, typed: type) -> None:
    make = getattr(_rsecho.Server, protocol)
    native = native_names(lambda: make({"nonesuch": 1}, _lifecycle.pump().queue))
    # The options of all sockets are in one table there: those of the other protocol, too.
    other = set(native_names(lambda: _rsecho.SocketOptions(nonesuch=1)))
    assert set(typed.__annotations__) - PYTHON <= native - NATIVE
    assert native - NATIVE - other <= set(typed.__annotations__)


def test_every_socket_option_is_some_servers_keyword() -> None:
    typed = {name for _, each in SERVERS for name in each.__annotations__}
    assert native_names(lambda: _rsecho.SocketOptions(nonesuch=1)) <= typed


def test_guards_and_their_native_halves_have_the_same_rules() -> None:
    fields = {field.name for field in dataclasses.fields(rsecho.Guard)}
    assert fields == native_names(lambda: _rsecho.GuardPolicy(nonesuch=1)) == flags("guard")
    types = {field.name: field.type for field in dataclasses.fields(rsecho.Guard)}
    typed = sockets.GuardOptions.__annotations__
    assert types == {name: kind.__forward_arg__ for name, kind in typed.items()}


def test_a_guards_flags_are_for_the_protocols_of_their_rules() -> None:
    rules = [each for each in command.params if isinstance(each, Option) and "guard" in each.owners]
    for each in rules:
        others = [name for name, own in RULES_OF.items() if each.keyword in own]
        assert each.protocols == frozenset(others or RULES_OF), each.keyword


def test_help_tells_every_rule_with_its_type_its_meaning_and_where_it_is_counted() -> None:
    text = pydoc.render_doc(rsecho.Guard, renderer=pydoc.TextDoc())
    counted = {field.name for field in dataclasses.fields(rsecho.TcpStats)}
    counted |= set(rsecho.UdpServer("127.0.0.1").stats().dropped)
    for name, kind in sockets.GuardOptions.__annotations__.items():
        start = re.escape(f"{name} ({kind.__forward_arg__}): ")
        told = re.search(rf"^ +\|? +{start}(.*?)\[(`[^\]]+)\]$", text, re.MULTILINE | re.DOTALL)
        assert told is not None, name
        meaning, counts = told.groups()
        assert re.match("UDP: |TCP: |Both protocols: ", meaning), name
        assert "Default: " in meaning, name
        assert set(re.findall("`(\\w+)`", counts)) <= counted, name


def test_policies_and_their_native_halves_have_the_same_limits() -> None:
    fields = {field.name: field.type for field in dataclasses.fields(transfer.Policy)}
    typed = sockets.TransferOptions.__annotations__
    assert fields == {name: kind.__forward_arg__ for name, kind in typed.items()}
    # --transfer-access sets both.
    assert set(fields) == flags("policy") | {"receives", "shares"}
    # What somebody takes is for a `Receiver` to say, and for no user.
    assert set(fields) | {"takes"} == native_names(lambda: _rsecho.TransferPolicy(nonesuch=1))


def test_every_option_of_transfers_has_a_flag() -> None:
    # What only who binds a port has use for, and -4 and -6.
    others = {"reuse_address", "reuse_port", "ipv6_only", "broadcast", "family"}
    typed = set(sockets.TransferClientOptions.__annotations__) - others
    assert flags("client", push) | flags("mover", push) == typed
    # Whoever fetches does not send.
    typed -= {"rate", "wire", "chunk_bytes"}
    assert flags("client", pull) | flags("mover", pull) == typed


@pytest.mark.parametrize(("protocol", "typed"), SERVERS)
def test_every_option_of_servers_has_a_flag(protocol: str, typed: type) -> None:
    assert flags(protocol) == set(typed.__annotations__) - OTHER_FLAGS


def flags(owner: str, of: click.Command = command) -> set[str]:
    options = [each for each in of.params if isinstance(each, Option)]
    return {each.keyword for each in options if owner in each.owners}


@pytest.mark.parametrize(
    ("one", "typed"),
    [
        (rsecho.UdpServer, sockets.UdpServerOptions),
        (rsecho.TcpServer, sockets.TcpServerOptions),
        (rsecho.UdpClient, sockets.UdpClientOptions),
        (rsecho.TcpClient, sockets.TcpClientOptions),
        (transfer.Client, sockets.TransferClientOptions),
        (transfer.Receiver, sockets.ReceiverOptions),
    ],
)
def test_help_tells_every_keyword_with_its_type_and_meaning(one: type, typed: type) -> None:
    text = pydoc.render_doc(one, renderer=pydoc.TextDoc())
    told = set(inspect.signature(one).parameters)
    assert told >= {"host", "port", *typed.__annotations__} and "options" not in told
    for name in typed.__annotations__:
        # More than the name and the type: what it means.
        assert re.search(rf"^ +\|? +{name} \([^\n]+\): \S", text, re.MULTILINE), name
    assert "**options" not in (one.__doc__ or "")

    class Derived(one):  # type: ignore[misc]
        """Takes something else."""

        def __init__(self, count: int) -> None: ...

    assert Derived.__doc__ == "Takes something else."
    assert list(inspect.signature(Derived).parameters) == ["count"]
