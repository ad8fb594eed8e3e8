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
                told.append("before fork" in str(error))
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
