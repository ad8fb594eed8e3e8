"""Wrong inputs, and what the one line about each must say: its source, the reason, the way out.

`{udp}` and `{tcp}` stand for ports that are in use, `{dir}` for an empty directory, `{file}` for
the configuration file, `{dead}` for a port that refuses.
"""

from __future__ import annotations

from typing import NamedTuple

USAGE, CANNOT_START, RUN_TIME = 2, 3, 1

LISTEN = "serve --udp 127.0.0.1:0 --tcp 127.0.0.1:0 "
SEND = "send 127.0.0.1:{dead} "
PUSH = "push {dir}/there 127.0.0.1:{dead} "
PULL = "pull 127.0.0.1:{dead} "


class Wrong(NamedTuple):
    """One command line."""

    given: str
    """As a shell would split it."""
    says: tuple[str, ...]
    status: int = USAGE
    variables: tuple[str, ...] = ()
    """NAME=VALUE of the environment."""
    toml: str | None = None
    """The configuration file, named by RSECHO_CONFIG."""
    data: bytes = b""
    """Standard input."""


def flag(options: str, *says: str, status: int = USAGE) -> Wrong:
    """Of `rsecho serve` with a listener of each protocol."""
    return Wrong(LISTEN + options, says, status)


def variable(variables: str, *says: str, given: str = LISTEN, status: int = USAGE) -> Wrong:
    """By one variable; its name is said."""
    name = variables.partition("=")[0]
    return Wrong(given, (name, *says), status, variables=(variables,))


def entry(toml: str, *says: str, given: str = LISTEN, status: int = USAGE) -> Wrong:
    """By the file; it is named."""
    return Wrong(given, ("{file}", *says), status, toml=toml)


COMMANDS = [
    Wrong("serv", ("there is no command serv", "did you mean serve?", "serve, send, ping, push")),
    Wrong("help", ("there is no command help", "write `rsecho --help`")),
    Wrong("serve help", ('unexpected argument "help"', "write `rsecho serve --help`")),
    Wrong("serve --port 7", ("no option --port", "write --udp HOST:PORT or --tcp HOST:PORT")),
    Wrong("serve -v", ("no option -v", "write --log-level debug")),
    Wrong("send a:1 -c 5", ("no option -c", "write --count")),
    Wrong("9999", ("there is no command 9999", "the commands are serve, send")),
    Wrong("--nope", ("no option --nope", "`rsecho --help` shows all")),
    Wrong("--udp 9999", ("no option --udp before the command", "rsecho serve --udp")),
    Wrong("--config", ("--config needs a value", "write --config FILE")),
    Wrong("--config /nonesuch info", ("--config", "'/nonesuch' does not exist")),
    Wrong("--config {file} info --config {file}", ("--config", "both", "leave one out"), toml=""),
    Wrong("info --version", ("--version goes before the command", "rsecho --version")),
    Wrong("serve 7000", ('unexpected argument "7000"', "--udp 7000 or --tcp 7000")),
    Wrong("serve --upd 7000", ("no option --upd", "did you mean --udp", "serve --help")),
    Wrong("serve --expect x", ("no option --expect", "`rsecho send` has one")),
    Wrong("serve --udp", ("--udp needs a value", "[HOST:]PORT")),
    Wrong("serve --json=yes", ("--json takes no value", "write it alone")),
    Wrong("completion", ("SHELL is missing", "{{bash|zsh|fish}}")),
    Wrong("completion csh", ("SHELL", "'csh' is not one of", "'fish'")),
    Wrong("completion bash zsh", ('unexpected argument "zsh"', "write `rsecho completion")),
    Wrong("info extra", ('unexpected argument "extra"', "write `rsecho info [OPTIONS]`")),
    Wrong("info --recv-buffer much", ("--recv-buffer", "'much' is not a size", "write bytes")),
    Wrong("info --recv-buffer 3G", ("--recv-buffer 3221225472", "at most 2147483647")),
    Wrong("info --force-buffers", ("--force-buffers needs --recv-buffer or --send-buffer",)),
    Wrong("info --jsonl", ("no option --jsonl", "did you mean --json?")),
]

ADDRESSES = [
    Wrong("serve --udp localhost", ("--udp", '"localhost"', "has no port", "write HOST:PORT")),
    Wrong("serve --tcp 127.0.0.1:http", ("--tcp", 'port "http"', "0 to 65535")),
    Wrong("serve --udp 127.0.0.1:65536", ("--udp", 'port "65536"', "0 to 65535")),
    Wrong("serve --udp 127.0.0.1:-1", ("--udp", 'port "-1"', "0 to 65535")),
    Wrong("serve --udp ''", ("--udp", 'port ""', "0 to 65535")),
    Wrong("serve --udp ::1:7", ("--udp", '"::1:7"', "needs brackets", "[IPv6]:PORT")),
    Wrong("serve --udp [::1", ("--udp", "bracket is not closed", "[IPv6]:PORT")),
    Wrong("serve --udp [::1]", ("--udp", "port must follow the bracket", "[IPv6]:PORT")),
    Wrong("serve --udp 7002-7000", ("--udp", "7002-7000", "write the smaller first")),
    Wrong("serve --udp 1-65535", ("--udp", "range of 65535 ports", "at most 1024")),
    Wrong("serve --udp tcp://127.0.0.1:0", ("--udp", "listens on udp://", "write --tcp")),
    Wrong("serve --tcp http://127.0.0.1:0", ("--tcp", "not on http://", "write tcp://")),
    Wrong("serve --udp nonesuch.invalid:7", ("--udp", "nonesuch.invalid", "check the spelling")),
    Wrong("serve -6 --udp 127.0.0.1:0", ("--udp", "no IPv6 address", "leave out --ipv6")),
    Wrong("serve -4 --tcp [::1]:0", ("--tcp", "no IPv4 address", "leave out --ipv4")),
    Wrong("serve -4 -6", ("--ipv4 and --ipv6", "exclude each other", "leave both out")),
    Wrong("serve --udp [fe80::1]:7", ("fe80::1", "name of its interface", "as in fe80::1%")),
    Wrong("serve --udp [fe80::1%nonesuch]:7", ("no interface", "nonesuch", "`ip link`")),
    Wrong("serve --udp 192.0.2.1:7", ("udp://192.0.2.1:7", "`ip address`"), CANNOT_START),
    Wrong("serve --udp 127.0.0.1:{udp}", ("udp://127.0.0.1:{udp}", "in use", "`ss "), CANNOT_START),
    Wrong(
        "serve --tcp 127.0.0.1:{tcp} --reuse-port",
        ("tcp://127.0.0.1:{tcp}", "every socket on a shared port needs --reuse-port"),
        CANNOT_START,
    ),
    Wrong(
        "serve --udp 0.0.0.0:7 --udp [::]:7",
        ("udp://0.0.0.0:7 and udp://[::]:7", "accepts IPv4 as well", "--ipv6-only", "alone"),
    ),
    Wrong("serve --tcp 7 --tcp 7", ("tcp://127.0.0.1:7 twice", "leave one out")),
    Wrong("serve --udp 7 --udp 0.0.0.0:7", ("includes the other", "udp://0.0.0.0:7 alone")),
    Wrong("serve --udp 127.0.0.1:0 --ipv6-only", ("--ipv6-only is for IPv6", "leave it out")),
]

FLAGS = [
    flag("--json --jsonl", "--json and --jsonl", "exclude each other"),
    Wrong("serve --tcp 0 --rate-limit 5", ("--rate-limit limits UDP", "--connection-rate-limit")),
    Wrong("serve --tcp 0 --broadcast", ("--broadcast is for UDP", "only --tcp", "add --udp")),
    Wrong("serve --udp 0 --backlog 5", ("--backlog is for TCP", "only --udp", "add --tcp")),
    Wrong("serve --udp 0 --congestion reno", ("--congestion is for TCP", "leave it out")),
    Wrong("serve --udp 0 --max-connections 5", ("--max-connections limits TCP", "add --tcp")),
    flag("--broadcast-delay 1s", "--broadcast-delay needs --broadcast"),
    flag("--min-rate-window 1s", "--min-rate-window needs --min-rate"),
    flag("--framing lines", "--framing needs a --responder other than echo"),
    flag("--names a", "--names needs --unpack FORMAT"),
    flag("--log-payload 5", "--log-payload needs --log-level debug"),
    flag("--transfer-quota 1G", "--transfer-quota needs --transfer DIR"),
    flag("--idle-timeout nan", "--idle-timeout", "'nan' is not a duration", "200ms"),
    flag("--timeout inf", "--timeout", "'inf' is not a duration", "200ms"),
    flag("--drain-timeout -1", "--drain-timeout", "'-1' is not a duration", "200ms"),
    flag("--drain-timeout 99999999h", "--drain-timeout", "too long", "at most 1000000h"),
    flag("--stats 1ms", "--stats", "at least 10ms", "leave it out"),
    flag("--recv-buffer 1.5M", "--recv-buffer", "'1.5M' is not a size", "write bytes"),
    flag("--send-buffer 99999999999G", "--send-buffer", "too large", "less than"),
    flag("--max-datagram 0", "--max-datagram 0", "1 to 65507"),
    flag("--max-line 0 --responder upper", "--max-line 0", "1 to 16777216"),
    flag("--ttl 0", "--ttl", "'0'", "from 1 to 255"),
    flag("--dscp 64", "--dscp", "'64'", "from 0 to 63"),
    flag("--workers 9999", "--workers", "'9999'", "from 1 to 1024"),
    flag("--cpus 60000", "--cpus 60000", "may not use that CPU", "taskset(1)"),
    flag("--cpus a", "--cpus", "'a' is not a list of CPUs", "write 0,2-3"),
    flag("--backlog -1", "--backlog", "'-1'", "from 0"),
    flag("--keep-alive 0", "--keep-alive", "'0'", "1s to 32767s"),
    flag("--keep-alive 30s,5s,500", "--keep-alive", "1 to 127"),
    flag("--linger 5", "--linger 5", "take 0 to reset connections"),
    flag("--engine fast", "--engine", "'fast' is not one of", "'portable'"),
    flag("--wait never", "--wait", "'never' is not one of", "'busy'"),
    flag("--congestion nonesuch", "--congestion", "it has", "modprobe", status=CANNOT_START),
    flag("--congestion ''", "--congestion", "no such algorithm", "it has", status=CANNOT_START),
    flag("--bind-to-device nonesuch", "--bind-to-device", "has lo", status=CANNOT_START),
    flag("--bind-to-device ''", "--bind-to-device", "1 to 15 bytes", "`ip link`"),
    flag("--rate-limit nan", "--rate-limit", "'nan' is not a rate", "write 1000"),
    flag("--rate-limit 0", "--rate-limit 0", "more than 0 per second", "leave it out"),
    flag("--rate-limit 5:0", "--rate-limit", "burst", "take 1 or more"),
    flag("--max-amplification 0.5", "--max-amplification", "'0.5'", "1 or more"),
    flag("--allow 10.0.0.0/40", "--allow", "10.0.0.0/40", "0 to 32 bits", "write ADDRESS/BITS"),
    flag("--deny somewhere", "--deny", "somewhere", "write ADDRESS/BITS"),
    flag("--allow 10.0.0.0/8,::/0", "--allow", "more than one network", "each by itself"),
    flag("--keep-alive on", "--keep-alive", "'on'", "as in 30s,5s,3"),
    flag("--allow 10.0.0.1/8", "--allow", "behind its prefix", "write 10.0.0.0/8"),
    flag("--impair 'dely 5ms'", "--impair: ", '"dely"', "there are delay"),
    flag("--impair-udp 'delay 5'", "--impair-udp: ", "without a unit", "write 5ms"),
    flag("--impair-udp 'loss 101%'", "--impair-udp: ", '"101%"', "0% to 100%"),
    flag("--impair-udp 'loss 1%' --impair-tcp 'loss 1%'", "--impair-tcp: ", "take latency"),
    flag("--impair 'delay 5ms seed x'", "--impair: ", '"x"', "not a whole number", "write 7"),
    flag("--responder nonesuch", '--responder "nonesuch"', "prefix=TEXT", "python=module:function"),
    flag("--responder python=os", "--responder", "python=os", "write python=module:function"),
    flag("--responder python=nonesuch:f", "--responder", "'nonesuch'", "on PYTHONPATH?"),
    flag("--responder python=os:nonesuch", "--responder", "os has no nonesuch", "write python="),
    flag("--responder python=os:sep", "--responder", "type str", "name a function"),
    flag("--responder python=broken_responder:f", "--responder", "KeyError", "`python -c"),
    flag("--unpack '!Z'", "--unpack: ", "'Z' at position 1", "the codes are"),
    flag("--unpack I", "--unpack: ", "native sizes", "start it with"),
    flag("--unpack '!I' --names 'a b'", "--names: ", "2 names", "one name for each value"),
    flag("--log-level loud", "--log-level", "'loud' is not one of", "'debug'"),
    flag("--log-config /nonesuch", "--log-config", "/nonesuch", "does not exist"),
    flag("--log-config {dir}/there", "cannot configure logging by {dir}/there"),
    flag("--transfer /nonesuch", "--transfer", "/nonesuch", "does not exist"),
    flag("--transfer {dir} --max-message 1M", "--max-message needs --echo-transfers"),
    flag("--transfer {dir} --progress-timeout 0", "--progress-timeout 0", "more than 0 seconds"),
    flag(
        "--echo-transfers --max-total 1M --max-message 2M",
        "--max-message 2097152", "more than --max-total", "raise that, or take less",
    ),
]  # fmt: skip

CLIENTS = [
    Wrong("send", ("HOST:PORT is missing", "write `rsecho send [OPTIONS] HOST:PORT [TEXT]`")),
    Wrong("send localhost", ("HOST:PORT", "has no port", "write HOST:PORT or [IPv6]:PORT")),
    Wrong("send 7000", ("HOST:PORT", "names no host", "localhost:7000")),
    Wrong("send a:1-3", ("HOST:PORT", "names 3 ports", "write one")),
    Wrong("send http://a:1", ("HOST:PORT", "http://a:1", "udp:// or tcp:// only")),
    Wrong("send 127.0.0.1:0", ("udp://127.0.0.1:0", "port 0", "give the port of the server")),
    Wrong("send nonesuch.invalid:9", ('"nonesuch.invalid"', "check the spelling")),
    Wrong("send -6 127.0.0.1:9", ("127.0.0.1", "no IPv6 address", "leave out --ipv6")),
    Wrong("send [fe80::1]:9", ("fe80::1", "name of its interface", "as in fe80::1%")),
    Wrong("send 255.255.255.255:9", ("broadcast address", "ask one host"), RUN_TIME),
    Wrong(SEND, ("udp://127.0.0.1:{dead}", "nothing listens there", "check the port"), RUN_TIME),
    Wrong(SEND + "--tcp", ("tcp://127.0.0.1:{dead}", "refused", "check the port"), RUN_TIME),
    Wrong(SEND + "a b", ('unexpected argument "b"', "write `rsecho send")),
    Wrong(SEND + "--keep-alive 5", ("no option --keep-alive", "`rsecho serve` has one")),
    Wrong(SEND + "--hex zz", ("--hex", "'z' is not a hex digit", "write two per byte")),
    Wrong(SEND + "--hex 123", ("--hex", "3 digits", "write a leading 0")),
    Wrong(SEND + "text --hex 00", ("TEXT and --hex", "exclude each other")),
    Wrong(SEND + "--file /nonesuch", ("--file", "/nonesuch", "does not exist")),
    Wrong(SEND + "--count 0", ("--count", "'0'", "from 1")),
    Wrong(SEND + "--interval 1s", ("--interval needs --count 2 or more",)),
    Wrong(SEND + "--timeout nan", ("--timeout", "'nan' is not a duration", "200ms")),
    Wrong(SEND + "--expect '\\q'", ("--expect", "is not an escape", "write \\\\")),
    Wrong(SEND + "--line", ("--line needs --tcp",)),
    Wrong(SEND + "--tcp ''", ("TEXT", "is empty", "--line", "--any")),
    Wrong(
        SEND + "--tcp --line --stdin",
        ("standard input", "a line end", "give one line without it"),
        data=b"one\ntwo\n",
    ),
    Wrong("send udp://127.0.0.1:{dead} --tcp", ("--tcp and udp://", "leave one out")),
    Wrong(SEND + "--bind-to-device nonesuch", ("--bind-to-device", "has lo"), RUN_TIME),
    Wrong(SEND + "--recv-buffer 3G", ("--recv-buffer 3221225472", "at most 2147483647")),
    Wrong("push", ("FILE is missing", "write `rsecho push [OPTIONS] FILE HOST:PORT`")),
    Wrong("push /nonesuch 127.0.0.1:{dead}", ("FILE", "/nonesuch", "does not exist")),
    Wrong("push {dir}/there tcp://127.0.0.1:1", ("HOST:PORT", "udp:// only")),
    Wrong(PUSH + "--name ''", ("empty --name", "leave it out")),
    Wrong(PUSH + "--name ../x", ("../x", "a name has up to 16 components")),
    Wrong(PUSH + "--timeout 0", ("--timeout 0", "more than 0", "leave it out for no limit")),
    Wrong(PUSH + "--rate 0", ("--rate 0", "1 or more")),
    Wrong(PUSH + "--chunk 5", ("--chunk needs --wire plain",)),
    Wrong(PUSH + "--chunk 70000 --wire plain", ("--chunk 70000", "1 to 65503")),
    Wrong(PUSH + "--wire gold", ("--wire", "'gold' is not one of", "'plain'")),
    Wrong(PUSH, ("udp://127.0.0.1:{dead}", "nothing listens there"), RUN_TIME),
    Wrong("pull 127.0.0.1:{dead}", ("NAME is missing", "write `rsecho pull")),
    Wrong(PULL + "''", ("NAME is empty", "give the name of a file")),
    Wrong(PULL + "../x {dir}/out", ("../x", "a name has up to 16 components")),
    Wrong(PULL + "x /nonesuch/x", ("/nonesuch", "give one that is there"), RUN_TIME),
    Wrong(PULL + "x - --json", ("--json excludes TO -",)),
    Wrong(PULL + "x - --max-message 0", ("--max-message 0", "1 or more")),
    Wrong("unpack", ("FORMAT is missing", "write `rsecho unpack [OPTIONS] FORMAT [HEX|-]`")),
    Wrong("unpack Z", ("FORMAT: ", "'Z' at position 0", "the codes are")),
    Wrong("unpack '!3' 00", ("FORMAT: ", "the count at position 1", "as in '4s'")),
    Wrong("unpack '!I' --names 'a b'", ("--names: ", "one name for each value")),
    Wrong("unpack '!I' zz", ("HEX", "'z' is not a hex digit", "write two per byte")),
    Wrong("unpack '!I' 1234", ("2 bytes", "pass whole records"), RUN_TIME),
    Wrong("unpack '!I' 00 00", ('unexpected argument "00"', "write `rsecho unpack")),
    Wrong("unpack '!I' --json --jsonl", ("--json and --jsonl", "exclude each other")),
]

VARIABLES = [
    variable("RSECHO_UDP=a:b", 'port "b"', "0 to 65535", given="serve"),
    variable("RSECHO_UDP=nonesuch.invalid:7", "check the spelling", given="serve"),
    variable("RSECHO_UDP=127.0.0.1:7 127.0.0.1:7", "twice", "leave one out", given="serve"),
    variable("RSECHO_TCP=127.0.0.1:{tcp}", "in use", "`ss", given="serve", status=CANNOT_START),
    variable("RSECHO_WORKERS=many", "'many'", "from 1 to 1024"),
    variable("RSECHO_RECV_BUFFER=big", "'big' is not a size", "write bytes"),
    variable("RSECHO_IDLE_TIMEOUT=soon", "'soon' is not a duration", "write 1.5"),
    variable("RSECHO_REUSE_PORT=maybe", "'maybe' is neither true nor false", "write 1 or 0"),
    variable("RSECHO_RATE_LIMIT=many", "'many' is not a rate", "write 1000"),
    variable("RSECHO_RATE_LIMIT_TOTAL=0", "more than 0 per second", "leave it out"),
    variable("RSECHO_ALLOW=10.0.0.0/8 there", '"there"', "write ADDRESS/BITS"),
    variable("RSECHO_CPUS=all", "'all' is not a list of CPUs", "write 0,2-3"),
    variable("RSECHO_WAIT=never", "'never' is not one of", "'busy'"),
    variable("RSECHO_KEEP_ALIVE=0", "1s to 32767s"),
    variable("RSECHO_MAX_AMPLIFICATION=nan", "'nan'", "1 or more"),
    variable("RSECHO_IMPAIR=dely 5ms", '"dely"', "there are delay"),
    variable("RSECHO_IMPAIR_TCP=loss 5%", '"loss"', "take latency"),
    variable("RSECHO_UNPACK=!Z", "'Z' at position 1", "the codes are"),
    variable("RSECHO_RESPONDER=nonesuch", '"nonesuch"', "prefix=TEXT"),
    variable("RSECHO_CONGESTION=nonesuch", "it has", "modprobe", status=CANNOT_START),
    variable("RSECHO_TIMEOUT=5s", "is not read", "set RSECHO_SERVE_TIMEOUT instead"),
    variable("RSECHO_TRANSFER=/nonesuch", "does not exist"),
    variable("RSECHO_CONFIG=/nonesuch", "does not exist", given="info"),
    variable("RSECHO_HEX=zz", "'z' is not a hex digit", "write two per byte", given=SEND),
    variable("RSECHO_COUNT=0", "from 1", given=SEND),
    variable("RSECHO_NAMES=a b", "one name for each value", given="unpack '!I'"),
    Wrong(
        "serve",
        ("RSECHO_JSON and RSECHO_JSONL", "exclude each other"),
        variables=("RSECHO_JSON=1", "RSECHO_JSONL=1"),
    ),
]

FILES = [
    entry("[serve", "cannot read", "not TOML", "Expected ']'"),
    entry("workers = 2", "workers is not in a table", "write it below [serve]"),
    entry("[serv]\nworkers = 2", "[serv] is not a command", "the tables are [serve]"),
    entry("serve = 5", "serve is 5, not a table", "write [serve] above it"),
    entry("[[serve]]\nworkers = 5", "serve is a list of tables", "write [serve] above it"),
    entry("[serve]\nworker = 2", "[serve] has no option 'worker'", "did you mean workers?"),
    entry("[serve]\nworkers = 'x'", '[serve] workers is "x"', "write a whole number"),
    entry("[serve]\nworkers = 9999", "[serve] workers", "from 1 to 1024"),
    entry("[serve]\nmax_amplification = nan", "[serve] max_amplification", "1 or more"),
    entry("[serve]\nidle_timeout = 2024-01-01", "[serve] idle_timeout", "write seconds"),
    entry("[serve]\nrecv_buffer = true", "[serve] recv_buffer is true", "a number of bytes"),
    entry("[serve]\nrate_limit = 0", "[serve] rate_limit", "more than 0 per second"),
    entry("[serve]\nallow = ['x']", '[serve] allow = "x"', "write ADDRESS/BITS"),
    entry("[serve]\nimpair = 'dely 5ms'", "[serve] impair: ", '"dely"', "there are delay"),
    entry("[serve]\nunpack = 'Z'", "[serve] unpack: ", "'Z'", "the codes are"),
    entry("[serve]\nresponder = 'no'", '[serve] responder = "no"', "prefix=TEXT"),
    entry("[serve]\nlog_level = 'loud'", "[serve] log_level", "'loud' is not one of"),
    entry("[serve]\njson = true\njsonl = true", "[serve] json", "exclude each other"),
    entry("[serve]\nudp = 'a:b'", "[serve] udp", 'port "b"', "0 to 65535", given="serve"),
    entry("[serve]\nudp = 'nonesuch.invalid:7'", "[serve] udp", "spelling", given="serve"),
    entry(
        "[serve]\ntcp = '127.0.0.1:{tcp}'", "[serve] tcp", "in use",
        given="serve", status=CANNOT_START,
    ),
    entry("[serve]\ntcp = 0\nrate_limit = 5", "[serve] rate_limit limits UDP", given="serve"),
    entry("[send]\nhex = 'zz'", "[send] hex", "'z'", "write two per byte", given=SEND),
    entry("[send]\nlinger = 0", "[send] has no option 'linger'", "send --help", given=SEND),
]  # fmt: skip

LINES = COMMANDS + ADDRESSES + FLAGS + CLIENTS + VARIABLES + FILES
