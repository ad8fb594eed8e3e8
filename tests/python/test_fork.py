"""Fault 44: after a fork the child's handles are dead and say so, the parent's live on."""

from __future__ import annotations

import pytest
from support import run

FORK = """
    import os, socket, sys, traceback
    import rsecho

    def in_child(work):
        # Tells of the child by a pipe; everything else of it would be the parent's.
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                text = repr(work())
            except BaseException as error:
                text = "".join(traceback.format_exception(error))
            os.write(writer, text.encode())
            os._exit(0)
        os.close(writer)
        with open(reader) as pipe:
            text = pipe.read()
        assert os.waitpid(child, 0)[1] == 0
        return text
"""

KINDS = [("UdpServer", "UdpClient"), ("TcpServer", "TcpClient")]


@pytest.mark.parametrize(("server", "client"), KINDS)
def test_f44_the_childs_handle_is_dead_and_says_so(server: str, client: str) -> None:
    result = run(
        FORK
        + f"""
    server = rsecho.{server}("127.0.0.1")
    server.start()

    def use():
        told = [repr(server).split()[-3:], server.is_running]
        for use in (server.start, server.stop, server.stats, lambda: server.wait(0)):
            try:
                use()
            except rsecho.StateError as error:
                told.append("fork" in str(error))
        server.close()
        return told

    print(in_child(use))
    with rsecho.{client}(*server.address) as client:
        print(client.request(b"the parent's"))
    server.stop()
    print(server.wait().name)
    """
    )
    assert result.stderr == ""
    assert result.stdout.splitlines() == [
        "[['of', 'another', 'process>'], False, True, True, True, True]",
        'b"the parent\'s"',
        "stopped",
    ]


@pytest.mark.parametrize(("server", "client"), KINDS)
def test_f44_a_child_keeps_no_port_of_its_parents(server: str, client: str) -> None:
    result = run(
        FORK
        + f"""
    import signal, time
    server = rsecho.{server}("127.0.0.1")
    server.start()
    address = server.address
    child = os.fork()
    if child == 0:
        signal.pause()
    # The child has let go before fork returned there; it may not have run yet, though.
    server.stop()
    for _ in range(1000):
        try:
            with rsecho.{server}(*address, reuse_address=False):
                with rsecho.{client}(*address) as client:
                    print(client.request(b"again"))
            break
        except OSError:
            time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    """
    )
    assert (result.stdout, result.stderr) == ("b'again'\n", "")


@pytest.mark.parametrize(("server", "client"), KINDS)
def test_f44_a_child_may_have_servers_of_its_own(server: str, client: str) -> None:
    result = run(
        FORK
        + f"""
    import logging, io
    log = io.StringIO()
    logging.basicConfig(level=logging.INFO, stream=log, format="%(message)s")
    old = rsecho.{server}("127.0.0.1")
    old.start()

    def own():
        with rsecho.{server}("127.0.0.1") as server, rsecho.{client}(*server.address) as client:
            reply = client.request(b"mine")
        from rsecho import _lifecycle
        _lifecycle.pump().finish(10)
        return reply, f"stopped {{server.url}}" in log.getvalue()

    print(in_child(own))
    print(in_child(lambda: in_child(own)))
    with rsecho.{client}(*old.address) as client:
        print(client.request(b"old"))
    """
    )
    assert result.stderr == ""
    assert result.stdout.splitlines() == ["(b'mine', True)", "\"(b'mine', True)\"", "b'old'"]


def test_f44_a_child_that_ends_as_usual_ends_well() -> None:
    result = run(
        """
    import os
    import rsecho
    with rsecho.UdpServer("127.0.0.1") as server:
        if os.fork() == 0:
            # Through the with block, the collector and atexit.
            raise SystemExit(3)
        print(os.waitstatus_to_exitcode(os.wait()[1]))
        with rsecho.UdpClient(*server.address) as client:
            print(client.request(b"x"))
    """
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "3\nb'x'\n", "")


def test_f44_fork_while_others_wait() -> None:
    result = run(
        FORK
        + """
    import threading
    peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    peer.bind(("127.0.0.1", 0))
    client = rsecho.UdpClient(*peer.getsockname(), timeout=None)
    client.send(b"waiting")
    replies = []
    thread = threading.Thread(target=lambda: replies.append(client.receive()))
    thread.start()

    def end_at_once():
        from rsecho import _rsecho
        # The parent's waiting thread is not here to be waited for.
        return _rsecho.shut_down()

    print(in_child(end_at_once))
    peer.sendto(b"at last", client.address)
    thread.join()
    print(replies)
    peer.close()
    """
    )
    assert (result.stdout, result.stderr) == ("True\n[b'at last']\n", "")


IN_CALLABLE = """
    import logging, multiprocessing, os, socket, subprocess, sys, atexit
    import rsecho
    logging.basicConfig(level=logging.ERROR, format="%(message)s")
    parent = os.getpid()
    # That of the parent is not run by a child that only returned or raised.
    atexit.register(lambda: os.write(1, b"atexit\\n" if os.getpid() == parent else b"child's\\n"))

    def wait(child):
        return str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])).encode()

    def exits(data):
        child = os.fork()
        if child == 0:
            print("in the child", flush=False)
            sys.exit(3)
        return wait(child)

    def says_why(data):
        child = os.fork()
        if child == 0:
            sys.exit("said why")
        return wait(child)

    def returns(data):
        child = os.fork()
        return wait(child) if child else b"child"

    def returns_nothing(data):
        child = os.fork()
        return wait(child) if child else None

    def returns_no_bytes(data):
        child = os.fork()
        return wait(child) if child else 7

    def raises(data):
        child = os.fork()
        if child == 0:
            raise ValueError("in the child")
        return wait(child)

    def stops(data):
        child = os.fork()
        if child == 0:
            try:
                server.stop()
            except rsecho.StateError as error:
                os._exit(4 if "fork" in str(error) else 5)
        return wait(child)

    def leaves(data):
        child = os.fork()
        if child == 0:
            os._exit(6)
        return wait(child)

    def twice(data):
        child = os.fork()
        if child == 0:
            grandchild = os.fork()
            if grandchild == 0:
                return b"grandchild"
            sys.exit(10 + int(wait(grandchild)))
        return wait(child)

    def serves(data):
        child = os.fork()
        if child == 0:
            with rsecho.UdpServer("127.0.0.1", responder=lambda data, peer: data[::-1]) as own:
                with rsecho.UdpClient(*own.address, timeout=10) as client:
                    sys.exit(7 if client.exchange(b"ab").data == b"ba" else 8)
        return wait(child)

    def runs(data):
        return subprocess.run(["echo", "run"], stdout=subprocess.PIPE).stdout.strip()

    def work():
        sys.exit(9)

    def processes(data):
        process = multiprocessing.get_context("fork").Process(target=work)
        process.start()
        process.join()
        return str(process.exitcode).encode()

    def answer(data, peer):
        return globals()[data.strip().decode()](data)
"""

FORKERS = {
    "exits": ("3", "", ["in the child", "child's"]),
    "says_why": ("1", "said why", ["child's"]),
    "returns": ("1", "has returned from it and was ended", []),
    "returns_nothing": ("1", "has returned from it and was ended", []),
    "returns_no_bytes": ("1", "TypeError: a responder returns bytes", []),
    "raises": ("1", "ValueError: in the child", []),
    "stops": ("4", "", []),
    "leaves": ("6", "", []),
    "twice": ("11", "has returned from it and was ended", ["child's"]),
    "serves": ("7", "", ["child's"]),
    "runs": ("run", "", []),
    "processes": ("9", "", None),
}


@pytest.mark.parametrize("name", FORKERS)
@pytest.mark.parametrize(("kind", "options"), [("Udp", ""), ("Tcp", ", framing='lines'")])
@pytest.mark.parametrize("engine", ["auto", "portable"])
def test_f44_a_child_that_a_callable_forks_never_serves_its_parents_clients(
    name: str, kind: str, options: str, engine: str
) -> None:
    status, told, printed = FORKERS[name]
    result = run(
        IN_CALLABLE
        + f"""
    server = rsecho.{kind}Server("127.0.0.1", responder=answer, engine="{engine}"{options})
    server.start()
    kind = socket.SOCK_DGRAM if "{kind}" == "Udp" else socket.SOCK_STREAM
    client, other = (socket.socket(socket.AF_INET, kind) for _ in range(2))
    with client, other:
        for each in (client, other):
            each.settimeout(15)
            each.connect(server.address)
        for _ in range(2):
            client.send(b"{name}\\n")
            print(client.recv(100).strip().decode())
        # Whatever the children were to say would be here by now: they have been waited for.
        other.send(b"leaves\\n")
        print(other.recv(100).strip().decode())
        client.settimeout(0.05)
        try:
            print("more", client.recv(100))
        except TimeoutError:
            pass
    stats = server.stats()
    assert (stats.replies if "{kind}" == "Tcp" else stats.sent_packets) == 3, stats
    server.stop()
    stats = server.stats()
    if "{kind}" == "Udp":
        assert stats.received_packets == stats.sent_packets == 3
    else:
        assert stats.accepted_connections == sum(stats.closed.values()) == 2
    """
    )
    assert result.returncode == 0, result.stderr
    if told:
        assert result.stderr.count(told) == 2, result.stderr
    else:
        assert result.stderr == ""
    lines = result.stdout.splitlines()
    assert [line for line in lines if line in (status, "6")].count(status) >= 2
    assert not [line for line in lines if line.startswith("more")]
    assert lines[-1] == "atexit"
    if printed is not None:
        answers = [status, status, "6", "atexit"]
        assert sorted(lines) == sorted(answers + printed * 2)


def test_f44_a_child_that_on_record_forks_logs_nothing() -> None:
    result = run(
        """
    import logging, os, sys
    import rsecho
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    statuses = []

    def on_record(record):
        child = os.fork()
        if child == 0:
            if record.fields["field_0"] == 0:
                sys.exit(3)
            return
        statuses.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    with rsecho.UdpServer("127.0.0.1", unpack="!B", on_record=on_record) as server:
        with rsecho.UdpClient(*server.address, timeout=10) as client:
            for byte in (b"\\0", b"\\1", b"\\2"):
                client.request(byte)
        rsecho.flush_logs()
    print(statuses)
    """
    )
    assert (result.returncode, result.stdout) == (0, "[3, 1, 1]\n")
    lines = result.stderr.splitlines()
    assert sum("which on_record or a handler of logging forked" in line for line in lines) == 2
    assert sum(" record from " in line for line in lines) == 3
    assert sum(line.startswith("stopped udp://") for line in lines) == 1
