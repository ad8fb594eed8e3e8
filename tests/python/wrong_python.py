"""Wrong calls of the package, and what the error must say: the argument, the reason, the way out.

`HOST` is 127.0.0.1; `udp`, `tcp`, `guard`, `policy`, `mover` and `receiver` make what their names
say; `asks` and `talks` are clients of the running servers `echo` and `stream`; `f` is a callable.
"""

from __future__ import annotations

from typing import NamedTuple


class Call(NamedTuple):
    """One call."""

    expression: str
    error: str
    """The name of the exception's class."""
    says: tuple[str, ...]


def call(expression: str, error: str, *says: str) -> Call:
    """A row."""
    return Call(expression, error, says)


SERVERS = [
    call("rsecho.UdpServer('nonesuch.invalid', 0)", "gaierror", "nonesuch", "check the spelling"),
    call(
        "rsecho.UdpServer('127.0.0.1:7', 0)", "gaierror", "not a host alone", "the port by itself"
    ),
    call("rsecho.UdpServer('[::1]', 0)", "gaierror", "not a host alone", "without brackets"),
    call("rsecho.UdpServer('192.0.2.1', 7)", "OSError", "udp://192.0.2.1:7", "`ip address`"),
    call("rsecho.UdpServer(HOST, taken_udp)", "OSError", "already in use", "`ss -lunp"),
    call("rsecho.TcpServer(HOST, taken_tcp)", "OSError", "already in use", "another port"),
    call("rsecho.UdpServer('fe80::1', 0)", "ValueError", "fe80::1", "as in fe80::1%"),
    call("rsecho.UdpServer('::1', 0, family=4)", "gaierror", "no IPv4", "allow IPv6"),
    call("rsecho.UdpServer(5, 0)", "TypeError", "host=5", "it takes a str"),
    call("rsecho.UdpServer((HOST, 0))", "TypeError", "host=('127.0.0.1', 0)", "it takes a str"),
    call("rsecho.UdpServer(HOST, '9999')", "TypeError", "port='9999'", "a whole number"),
    call("rsecho.TcpServer(HOST, 70000)", "ValueError", "port 70000", "0 to 65535"),
    call("udp(timeout=5)", "TypeError", "'timeout'", "did you mean", "idle_timeout"),
    call("udp(backlog=5)", "TypeError", "'backlog'", "option of rsecho.TcpServer"),
    call("tcp(max_datagram_bytes=5)", "TypeError", "'max_datagram_bytes'", "of rsecho.UdpServer"),
    call("udp(rate_per_source=5)", "TypeError", "'rate_per_source'", "option of rsecho.Guard"),
    call("udp(quota_bytes=5)", "TypeError", "'quota_bytes'", "of rsecho.transfer.Policy"),
    call("udp(zzz=5)", "TypeError", "'zzz'", "its options are", "recv_buffer_bytes"),
    call("udp(recv_buffer_bytes='64K')", "TypeError", "recv_buffer_bytes='64K'", "whole number"),
    call("udp(recv_buffer_bytes=-1)", "ValueError", "recv_buffer_bytes=-1", "not negative"),
    call("udp(recv_buffer_bytes=1 << 40)", "ValueError", "recv_buffer_bytes=", "2147483647"),
    call("udp(send_buffer_bytes=1.5)", "TypeError", "send_buffer_bytes=1.5", "a whole number"),
    call("udp(force_buffers=True)", "ValueError", "force_buffers", "set one of them"),
    call("udp(idle_timeout=-1)", "ValueError", "idle_timeout=-1", "0 or more"),
    call("udp(idle_timeout=0)", "ValueError", "idle_timeout=0", "None turns it off"),
    call("udp(idle_timeout='5s')", "TypeError", "idle_timeout='5s'", "a number of seconds"),
    call("udp(send_timeout=nan)", "ValueError", "send_timeout=", "a number of seconds"),
    call("tcp(max_connection_seconds=inf)", "ValueError", "max_connection_seconds=", "seconds"),
    call("udp(workers=0)", "ValueError", "workers=0", "1 to 1024"),
    call("udp(workers=True)", "TypeError", "workers=True", "a whole number"),
    call("udp(workers=2, reuse_port=False)", "ValueError", "workers=2", "leave reuse_port out"),
    call("udp(engine='fast')", "ValueError", "engine='fast'", "'portable'"),
    call("udp(wait='never')", "ValueError", "wait='never'", "'busy'"),
    call("udp(cpus=[60000])", "ValueError", "cpus=60000", "taskset(1)"),
    call("udp(cpus='0')", "TypeError", "cpus='0'", "a list of whole numbers"),
    call("udp(ttl=0)", "ValueError", "ttl=0", "1 to 255"),
    call("udp(dscp=64)", "ValueError", "dscp=64", "0 to 63"),
    call("udp(family=5)", "ValueError", "family=5", "4"),
    call("udp(ipv6_only=True)", "ValueError", "ipv6_only", "leave it out"),
    call("udp(bind_to_device='nonesuch')", "OSError", "bind_to_device", "this machine has lo"),
    call("udp(bind_to_device='')", "ValueError", "bind_to_device", "1 to 15 bytes"),
    call("tcp(congestion='nonesuch')", "FileNotFoundError", "congestion", "it has", "modprobe"),
    call("tcp(congestion='')", "OSError", "congestion", "no such algorithm", "it has"),
    call("tcp(keep_alive=5)", "TypeError", "keep_alive=5", "a tuple"),
    call("tcp(keep_alive=(0, 5, 3))", "ValueError", "keep_alive", "more than 0 seconds"),
    call("tcp(linger=5)", "ValueError", "linger=5", "take 0 to reset connections"),
    call("tcp(backlog=-1)", "ValueError", "backlog=-1", "0 or more"),
    call("tcp(max_connections=0)", "ValueError", "max_connections=0", "leave it out"),
    call("tcp(min_rate_window=5)", "ValueError", "min_rate_window", "min_bytes_per_second"),
    call("udp(max_datagram_bytes=70000)", "ValueError", "max_datagram_bytes=70000", "65507"),
    call("udp(broadcast_delay=1)", "ValueError", "broadcast_delay", "answer_broadcast=True"),
    call("udp(responder='nonesuch')", "ValueError", 'responder="nonesuch"', "prefix=TEXT"),
    call("udp(responder=5)", "TypeError", "responder=5", "a str or a callable"),
    call("udp(responder='python=os')", "ValueError", "responder=", "write python=module:function"),
    call("udp(responder='python=nonesuch:f')", "ValueError", "responder=", "on PYTHONPATH?"),
    call("udp(responder='python=os:sep')", "ValueError", "responder=", "name a function"),
    call("udp(error_reply=b'x')", "ValueError", "error_reply=", "give a callable as responder="),
    call("udp(error_reply='x', responder=f)", "TypeError", "error_reply='x'", "it takes bytes"),
    call("tcp(framing='lines')", "ValueError", "framing='lines'", "set another responder="),
    call("tcp(framing='words', responder='upper')", "ValueError", "framing=", "'lines'"),
    call("tcp(framing='records', responder=f)", "ValueError", "framing=", "give it as unpack="),
    call("udp(impair='dely 5ms')", "ValueError", "impair", '"dely"', "there are delay"),
    call("tcp(impair='loss 5%')", "ValueError", "impair", '"loss"', "take latency"),
    call("udp(unpack='Z')", "FormatError", "unpack=", "'Z' at position 0", "the codes are"),
    call("udp(on_record=print)", "ValueError", "on_record=", "as unpack="),
    call("udp(transfer={})", "TypeError", "transfer={}", "a rsecho.transfer.Policy"),
    call("udp(guard=5)", "TypeError", "guard=5", "a rsecho.Guard"),
    call("udp(guard=guard(connections_per_source=5))", "ValueError", "this server is UDP", "only("),
    call("tcp(guard=guard(rate_per_source=5))", "ValueError", "this server is TCP", 'only("tcp")'),
    call("rsecho.UdpServer(sock=sock_tcp)", "ValueError", "it is a TCP socket", "SOCK_DGRAM"),
    call("rsecho.TcpServer(sock=sock_udp)", "ValueError", "it is a UDP socket", "SOCK_STREAM"),
    call("rsecho.UdpServer(sock=sock_unbound)", "ValueError", "not bound", "bind it first"),
    call("rsecho.TcpServer(sock=sock_unix)", "ValueError", "UNIX socket", "pass a UDP or TCP"),
    call("rsecho.UdpServer(sock=60000)", "OSError", "descriptor 60000", "one that is open"),
    call("rsecho.UdpServer(sock=file)", "OSError", "not a socket", "pass a UDP or TCP socket"),
    call("rsecho.UdpServer(HOST, 0, sock=sock_udp)", "ValueError", "host=", "leave host and port"),
    call("rsecho.UdpServer(sock=sock_udp, family=4)", "ValueError", "family=4", "leave family out"),
    call("echo.start()", "StateError", "it is running", "make a new one"),
    call("echo.stop(drain_timeout=-1)", "ValueError", "drain_timeout=-1", "0 or more"),
    call("echo.wait(timeout='x')", "TypeError", "timeout='x'", "a number of seconds"),
    call("echo.impair('dely')", "ValueError", "impair", '"dely"', "there are delay"),
    call("echo.impair('delay 5ms', record=-1)", "ValueError", "record=-1", "not negative"),
    call("echo.impair(replay='x')", "ValueError", "trace at line 1", "recorded by rsecho"),
]

GUARDS = [
    call("guard(rate_per_source=0)", "ValueError", "rate_per_source=0", "leave it out"),
    call("guard(rate_per_source=nan)", "ValueError", "rate_per_source=", "more than 0 per second"),
    call("guard(rate_per_source='5')", "TypeError", "rate_per_source", "a number per second"),
    call("guard(rate_per_source=(5,))", "TypeError", "rate_per_source", "a pair"),
    call("guard(rate_total=(5, 0))", "ValueError", "rate_total: a burst of 0", "take 1 or more"),
    call("guard(connection_rate_per_source=True)", "TypeError", "connection_rate", "a number per"),
    call("guard(allow='10.0.0.0/8')", "TypeError", "allow='10.0.0.0/8'", "write ['10.0.0.0/8']"),
    call("guard(allow=['10.0.0.0/40'])", "ValueError", "allow=", "write ADDRESS/BITS"),
    call("guard(deny=['10.0.0.1/8'])", "ValueError", "deny=", "write 10.0.0.0/8"),
    call("guard(max_amplification=0.5)", "ValueError", "max_amplification=0.5", "leave it out"),
    call("guard(max_amplification='3')", "TypeError", "max_amplification", "it is a number"),
    call("guard(loop_guard=5)", "TypeError", "loop_guard", "True or False"),
    call("guard(connections_per_source=-1)", "ValueError", "connections_per_source=-1", "0 for no"),
    call("guard().only('sctp')", "ValueError", "'sctp'", "'udp' or 'tcp'"),
]

CLIENTS = [
    call("rsecho.UdpClient(HOST, 0)", "ValueError", "port 0", "the port of the server"),
    call("rsecho.UdpClient('nonesuch.invalid', 9)", "gaierror", "nonesuch", "check the spelling"),
    call("rsecho.UdpClient(HOST, 9, timeout=-1)", "ValueError", "timeout=-1", "0 or more"),
    call("rsecho.UdpClient(HOST, 9, timeout='1s')", "TypeError", "timeout='1s'", "of seconds"),
    call(
        "rsecho.UdpClient(HOST, 9, congestion='x')",
        "TypeError",
        "'congestion'",
        "of rsecho.TcpClient",
    ),
    call("rsecho.UdpClient('255.255.255.255', 9)", "PermissionError", "broadcast", "ask one host"),
    call("rsecho.TcpClient(HOST, dead)", "ConnectionRefusedError", "tcp://", "check the port"),
    call("rsecho.TcpClient(HOST, taken_tcp, congestion='x')", "OSError", "congestion", "it has"),
    call("asks.request('text')", "TypeError", "data='text'", "it takes bytes"),
    call("asks.request(bytes(70000))", "OSError", "message too long", "send less"),
    call("asks.exchange(b'x', expected='y')", "TypeError", "expected='y'", "it takes bytes"),
    call(
        "asks.exchange(b'x', expected=b'y', takes_any=True)", "ValueError", "takes_any", "expected"
    ),
    call("talks.receive(-1)", "ValueError", "max_bytes=-1", "not negative"),
    call("talks.receive_exactly(-1)", "ValueError", "count=-1", "not negative"),
    call("talks.exchange_line(b'a\\nb')", "ValueError", "line=b'a\\nb'", "one line per call"),
    call("talks.send_all('x')", "TypeError", "data='x'", "it takes bytes"),
    call("rsecho.flush_logs(-1)", "ValueError", "timeout=-1", "0 or more"),
    call("rsecho.flush_logs('x')", "TypeError", "timeout='x'", "a number of seconds"),
    call("rsecho.responders.load_callable(5)", "TypeError", "path=5", "it takes a str"),
]

LAYOUTS = [
    call("rsecho.RecordLayout(5)", "TypeError", "format of type int", "pass a str"),
    call("rsecho.RecordLayout('I')", "FormatError", "native sizes", "start it with"),
    call("rsecho.RecordLayout('!Z')", "FormatError", "'Z' at position 1", "the codes are"),
    call("rsecho.RecordLayout('')", "FormatError", "no value", "name at least one code"),
    call("rsecho.RecordLayout('!I', names=['a', 'b'])", "FormatError", "2 names", "one name for"),
    call("rsecho.RecordLayout('!II', names='a a')", "FormatError", "'a' occurs twice", "unique"),
    call("rsecho.RecordLayout('!I', names=[5])", "TypeError", "names=[5]", "a list of str"),
    call("rsecho.RecordLayout('!I', names=5)", "TypeError", "names=5", "a list of str"),
    call("rsecho.RecordLayout('!I').unpack(b'1')", "RecordError", "1 bytes", "exactly one record"),
    call("rsecho.RecordLayout('!I').pack(-1)", "RecordError", "-1 is outside", "a wider code"),
    call("rsecho.RecordLayout('!I').pack('x')", "RecordError", "needs an integer", "int() first"),
    call("rsecho.RecordLayout('!I').pack()", "RecordError", "0 values", "one for each field"),
    call("rsecho.RecordLayout('!I').unpack_many(b'12345')", "RecordError", "5 bytes", "whole"),
]

TRANSFERS = [
    call("policy(max_message_bytes=0)", "ValueError", "max_message_bytes=0", "1 or more"),
    call(
        "policy(max_total_bytes=5)", "ValueError", "max_message_bytes=16777216", "max_total_bytes"
    ),
    call("policy(receives=False, shares=False)", "ValueError", "receives=False and shares=False"),
    call("policy(directory='/nonesuch')", "FileNotFoundError", "/nonesuch", "one that is there"),
    call("policy(wire='gold')", "ValueError", "wire='gold'", "'plain'"),
    call("policy(progress_timeout=0)", "ValueError", "progress_timeout=0", "take a large number"),
    call("policy(quota_bytes=5)", "ValueError", "quota_bytes=5", "set directory= as well"),
    call("mover(rate=0)", "ValueError", "rate=0", "1 or more"),
    call("mover(timeout=0)", "ValueError", "timeout=0", "None turns it off"),
    call("mover(chunk_bytes=5)", "ValueError", "chunk_bytes=5", "set wire='plain'"),
    call("mover(wire='plain', chunk_bytes=70000)", "ValueError", "chunk_bytes=70000", "65503"),
    call("transfer.send('text', HOST, dead)", "TypeError", "source='text'", "pathlib.Path(...)"),
    call("transfer.send(b'x', HOST, dead, name='../x')", "ValueError", '"../x"', "16 components"),
    call("transfer.send(b'x', HOST, dead, replace=True)", "ValueError", "replace=True", "by name="),
    call("transfer.send(b'x', HOST, dead)", "ConnectionRefusedError", "udp://", "check the port"),
    call("transfer.fetch('', HOST, dead)", "ValueError", "name=''", "the name of a file"),
    call("transfer.fetch('x', HOST, dead, overwrite=True)", "ValueError", "overwrite=True", "to="),
    call("transfer.echo('x', HOST, dead)", "TypeError", "data='x'", "it takes bytes"),
    call("transfer.receive(HOST, 0, timeout=-1)", "ValueError", "timeout=-1", "0 or more"),
    call("receiver(receives=False)", "ValueError", "receives=False", "UdpServer(transfer=Policy("),
]

CALLS = SERVERS + GUARDS + CLIENTS + LAYOUTS + TRANSFERS

# Markers and methods of the pytest plugin: (the decorator, the first line of the test, says).
PLUGIN = [
    ("impair('lozz 5%')", "udp_echo.address", ("lozz", "there are delay")),
    ("impair()", "udp_echo.address", ("its first argument is wrong", "it takes a text")),
    ("impair(5)", "udp_echo.address", ("its first argument is wrong", "it takes a text")),
    ("impair('loss 5%', seed='x')", "udp_echo.address", ("seed='x'", "give a whole number")),
    ("impair('loss 5%', sed=5)", "udp_echo.address", ("no keyword 'sed'", "it takes a text")),
    ("impair('loss 5% seed 3', seed=4)", "udp_echo.address", ("seed=4", "change nothing")),
    ("impair('loss 5%')", "tcp_echo.address", ('"loss"', "take latency")),
    ("impair('loss 5%')", "pass", ("impairs nothing", "use udp_echo", "or remove")),
    ("filterwarnings('error')", "udp_echo.expect(5)", ("5", "bytes")),
    ("filterwarnings('error')", "udp_echo.expect(b'x').reply(5)", ("5", "bytes")),
    ("filterwarnings('error')", "udp_echo.expect(b'x').times(-1)", ("-1", "times")),
    ("filterwarnings('error')", "udp_echo.expect(b'x').delay(-1)", ("-1", "seconds")),
    ("filterwarnings('error')", "udp_echo.wait_for(5)", ("expect 5", "give bytes")),
    ("filterwarnings('error')", "udp_echo.wait_for(b'x', timeout='x')", ("timeout='x'", "seconds")),
    ("filterwarnings('error')", "udp_echo.impair('lozz')", ("lozz", "there are delay")),
    ("filterwarnings('error')", "make_udp_echo(zzz=1)", ("'zzz'", "its options are")),
    ("filterwarnings('error')", "make_udp_echo(impair='lozz')", ("lozz", "there are delay")),
]  # fmt: skip
