"""Every impairment that the documentation gives as an example is understood as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest
import rsecho
from rsecho import pytest_plugin
from rsecho.cli import command

ROOT = Path(__file__).parents[2]
BOOK = (ROOT / "docs/impair.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")

# What an example begins with; other code in the text does not.
BEGINNINGS = re.compile(
    r"(in|out|both|tc|netem|delay|distribution|loss|duplicate|corrupt|truncate|reorder|gap|rate|slot"
    r"|limit|seed|latency|bandwidth|slow_close|timeout|reset_peer|slicer|limit_data|half_close) "
)

# At least so many are found in each, or they are written in another way by now.
LEAST = {"README": 6, "book": 40, "help": 4, "docstring": 21, "plugin": 3}


def in_the_book(text: str) -> list[str]:
    """Code with numbers in it, and the last column of tables of examples."""
    found = [
        code
        for code in re.findall(r"`([^`\n]+)`(?! is refused)", text)
        if BEGINNINGS.match(code)
        and re.search(r" \S*\d", code)
        and not re.search(r"[A-Z\[…]", code)
    ]
    found += re.findall(r"\| `(accept_hang|refuse)` \|$", text, re.MULTILINE)
    return found + re.findall(r"\.impair\(\"([^\"]+)\"", text)


def split(text: str, at: str, pattern: str) -> list[tuple[str, str]]:
    """What is for UDP, before, and for TCP, behind."""
    udp, tcp = text.split(at)
    found = [("udp", each) for each in re.findall(pattern, udp)]
    found += [("tcp", each) for each in re.findall(pattern, tcp)]
    # "" says that it impairs nothing.
    return [(protocol, each) for protocol, each in found if each]


def examples() -> dict[str, list[tuple[str, str]]]:
    """(protocol, text), by where they stand."""
    udp, tcp = BOOK.split("## Streams (TCP)")
    tcp, rest = tcp.split("### Refused for TCP")
    serve = command.get_command(click.Context(command), "serve")
    assert serve is not None
    (option,) = [option for option in serve.params if option.name == "impair"]
    options = (ROOT / "python/rsecho/_options.py").read_text(encoding="utf-8")
    servers = options.partition("    impair: str")[2].partition('."""')[0]
    return {
        "README": re.findall(r"--(udp|tcp) \S+ --impair '([^']+)'", README)
        + [("udp", text) for text in re.findall(r"impair(?:=|\()\"([^\"]+)\"", README)],
        "book": [("udp", text) for text in in_the_book(udp) + in_the_book(rest)]
        + [("tcp", text) for text in in_the_book(tcp)],
        "help": split(getattr(option, "help", ""), "TCP,", "'([^']+)'"),
        "docstring": split(
            " ".join((rsecho.UdpServer.impair.__doc__ or "").partition("Args:")[0].split()),
            "TCP:",
            '"([^"]*)"',
        )
        + [("udp", text) for text in re.findall(r"as in \"([^\"]+)\"", servers)],
        "plugin": [
            ("udp", text)
            for text in re.findall(r"impair\(\"([^\"]+)\"", pytest_plugin.__doc__ or "")
        ],
    }


@pytest.fixture(scope="module", params=list(LEAST))
def place(request: pytest.FixtureRequest) -> str:
    """Where examples stand."""
    where: str = request.param
    return where


def test_each_example_is_understood(place: str) -> None:
    found = examples()[place]
    assert len(found) >= LEAST[place], found
    with rsecho.UdpServer("127.0.0.1", 0) as udp, rsecho.TcpServer("127.0.0.1", 0) as tcp:
        for protocol, text in found:
            server = udp if protocol == "udp" else tcp
            try:
                in_force = server.impair(text)
            except ValueError as error:
                pytest.fail(f"{protocol} {text!r}: {error}")
            # `seed` and zeros alone impair nothing, but are kept; what is printed reads the same.
            assert in_force, text
            assert server.impair(in_force) == in_force, text


def test_what_the_book_says_is_refused_is() -> None:
    with rsecho.UdpServer("127.0.0.1", 0) as udp, rsecho.TcpServer("127.0.0.1", 0) as tcp:
        (text,) = re.findall(r"`([^`\n]+)` is refused", BOOK)
        with pytest.raises(ValueError, match=f"write {text.split()[1]}ms"):
            udp.impair(text)
        table = BOOK.split("| refused |")[1].split("\n\n")[0]
        rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
        refused = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
        assert len(refused) == 8
        for name in refused:
            with pytest.raises(ValueError, match=f'cannot impair with "{name}": .*; '):
                tcp.impair(f"{name} 1")


def test_the_book_has_every_word_of_the_grammars() -> None:
    """By the words that are told to who names another one."""
    with rsecho.UdpServer("127.0.0.1", 0) as udp, rsecho.TcpServer("127.0.0.1", 0) as tcp:
        for server in (udp, tcp):
            with pytest.raises(ValueError, match="there are ") as caught:
                server.impair("colour")
            _, _, told = str(caught.value).partition("there are ")
            words = re.findall(r"[a-z_]{4,}", told.partition(", as in")[0])
            assert len(words) > 8
            for word in words:
                assert re.search(rf"^\| `{word}\b|`{word} \d", BOOK, re.MULTILINE), word


def test_readme_links_to_the_book() -> None:
    assert "(docs/impair.md)" in README


def test_one_line_tells_what_is_wrong() -> None:
    with rsecho.UdpServer("127.0.0.1", 0) as udp:
        for text, said in [
            ("delay 10ms, loss 1%", '"10ms,": options are separated by spaces'),
            ("loss 5 %", '"%": a unit stands behind its number'),
            ("limit -1", '"-1": a number of datagrams'),
            ("off", 'give ""'),
        ]:
            with pytest.raises(ValueError, match=re.escape(said)):
                udp.impair(text)
