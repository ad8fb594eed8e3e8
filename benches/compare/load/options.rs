//! What the command line says.

use std::net::SocketAddr;
use std::time::Duration;

pub(crate) const USAGE: &str = "\
usage: load udp|tcp --server ADDRESS:PORT [options]
  --pid N            the server's process, whose CPU time is measured
  --clients N        sockets or connections                              [1]
  --window N         messages on the way, each client                    [1]
  --length BYTES     of a message                                        [64]
  --seconds S        measured                                            [1]
  --warmup S         unmeasured before                                   [0.3]
  --sleep            sleep until something comes, instead of asking on
  --send-trains N    UDP: up to N datagrams a send (UDP_SEGMENT)
  --take-trains      UDP: receive trains (UDP_GRO)
  --upper            letters are sent, and must come back in upper case
  --connect          TCP: a connection for each message
  --congestion NAME  TCP: congestion control of the connections
  --watch CPU,CPU    tell how busy others kept these CPUs
  --json             print one JSON object";

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Udp,
    Tcp,
}

pub(crate) struct Options {
    pub(crate) protocol: Protocol,
    pub(crate) server: SocketAddr,
    pub(crate) pid: Option<i32>,
    pub(crate) clients: usize,
    pub(crate) window: usize,
    pub(crate) length: usize,
    pub(crate) measured: Duration,
    pub(crate) warmup: Duration,
    pub(crate) sleeps: bool,
    /// Datagrams a send; 1: no trains.
    pub(crate) send_trains: usize,
    pub(crate) take_trains: bool,
    /// The answer is what was sent in upper case, rather than as it was.
    pub(crate) upper: bool,
    pub(crate) connect: bool,
    pub(crate) congestion: Option<String>,
    pub(crate) watch: Vec<usize>,
    pub(crate) as_json: bool,
}

/// The largest UDP payload over IPv4.
const MAX_DATAGRAM: usize = 65_507;
/// Digits at the head of each datagram that tell it from all others.
pub(crate) const HEADER: usize = 12;
/// What one receive of a TCP connection can bring.
pub(crate) const MAX_MESSAGE: usize = 256 << 10;

/// Reads the words of a command line.
pub(crate) fn read(mut words: impl Iterator<Item = String>) -> Result<Options, String> {
    let protocol = match words.next().as_deref() {
        Some("udp") => Protocol::Udp,
        Some("tcp") => Protocol::Tcp,
        _ => return Err("the first word is udp or tcp".into()),
    };
    let mut server = None;
    let mut options = Options {
        protocol,
        server: SocketAddr::from(([127, 0, 0, 1], 0)),
        pid: None,
        clients: 1,
        window: 1,
        length: 64,
        measured: Duration::from_secs(1),
        warmup: Duration::from_millis(300),
        sleeps: false,
        send_trains: 1,
        take_trains: false,
        upper: false,
        connect: false,
        congestion: None,
        watch: Vec::new(),
        as_json: false,
    };
    while let Some(name) = words.next() {
        let mut value = || words.next().ok_or(format!("{name} needs a value"));
        match name.as_str() {
            "--server" => server = Some(number(&name, &value()?)?),
            "--pid" => options.pid = Some(number(&name, &value()?)?),
            "--clients" => options.clients = number(&name, &value()?)?,
            "--window" => options.window = number(&name, &value()?)?,
            "--length" => options.length = number(&name, &value()?)?,
            "--seconds" => options.measured = seconds(&name, &value()?)?,
            "--warmup" => options.warmup = seconds(&name, &value()?)?,
            "--sleep" => options.sleeps = true,
            "--send-trains" => options.send_trains = number(&name, &value()?)?,
            "--take-trains" => options.take_trains = true,
            "--upper" => options.upper = true,
            "--connect" => options.connect = true,
            "--congestion" => options.congestion = Some(value()?),
            "--watch" => {
                options.watch = value()?
                    .split(',')
                    .map(|cpu| number(&name, cpu))
                    .collect::<Result<_, _>>()?;
            }
            "--json" => options.as_json = true,
            _ => return Err(format!("there is no option {name}")),
        }
    }
    options.server = server.ok_or("--server is needed")?;
    check(&options)?;
    Ok(options)
}

fn check(options: &Options) -> Result<(), String> {
    let lengths = match options.protocol {
        // With letters to turn into upper case, where that is asked for.
        Protocol::Udp => HEADER + usize::from(options.upper)..=MAX_DATAGRAM,
        Protocol::Tcp => 1..=MAX_MESSAGE,
    };
    if !lengths.contains(&options.length) {
        let (least, most) = (lengths.start(), lengths.end());
        return Err(format!("--length is from {least} to {most}"));
    }
    if options.clients == 0 || options.window == 0 || options.send_trains == 0 {
        return Err("--clients, --window and --send-trains are at least 1".into());
    }
    if options.connect && options.window > 1 {
        return Err("--connect has one message a connection: --window 1".into());
    }
    if options.measured.is_zero() {
        return Err("--seconds is more than nothing".into());
    }
    Ok(())
}

fn number<T: std::str::FromStr>(name: &str, text: &str) -> Result<T, String> {
    text.parse()
        .map_err(|_| format!("{name}: {text} is not understood"))
}

fn seconds(name: &str, text: &str) -> Result<Duration, String> {
    Duration::try_from_secs_f64(number(name, text)?)
        .map_err(|_| format!("{name}: {text} is no length of time"))
}
