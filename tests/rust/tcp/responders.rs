//! Connections whose requests are answered: what is a request, and the order of replies.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use rsecho::respond::{
    Choice, Completions, Framing, MakeResponder, Outcome, Replies, Request, Respond,
};
use rsecho::server::Server;
use rsecho::worker::Finish;

use crate::helper::*;

fn make(choice: &str) -> Option<MakeResponder> {
    choice.parse::<Choice>().unwrap().make()
}

fn serve_choice(engine: Engine, choice: &str) -> Server {
    serve(engine, |config| config.responder = make(choice))
}

/// Sends `data` and wants exactly `reply`.
#[track_caller]
fn ask(mut stream: &TcpStream, data: &[u8], reply: &[u8]) {
    stream.write_all(data).unwrap();
    expect(stream, reply);
}

#[track_caller]
fn expect(mut stream: &TcpStream, reply: &[u8]) {
    let mut back = vec![0; reply.len()];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(
        back.escape_ascii().to_string(),
        reply.escape_ascii().to_string()
    );
}

fn lines_are_answered_each_with_the_end_it_had(engine: Engine) {
    let server = serve_choice(engine, "prefix=Echo: ");
    let client = connect(server.address());
    ask(&client, b"one\n", b"Echo: one\n");
    ask(
        &client,
        b"two\r\nthree\n\n",
        b"Echo: two\r\nEcho: three\nEcho: \n",
    );
    // In pieces, which are one line.
    for piece in [&b"fo"[..], b"u", b"r\r"] {
        (&client).write_all(piece).unwrap();
    }
    ask(&client, b"\n", b"Echo: four\r\n");
    ask(&client, b"\xff\xfe\n", b"Error: Invalid encoding\n");
    // The last line may lack its end, and has to be answered before the stream ends.
    (&client).write_all(b"five\nlast").unwrap();
    end_output(&client);
    assert_eq!(read_to_end(&client), b"Echo: five\nEcho: last");
    eventually("it ended", || server.stats().reason("peer") == 1);
    let stats = server.stats();
    assert_eq!((stats.get("requests"), stats.get("replies")), (8, 7));
    assert_eq!(stats.get("error_replies"), 1);
    assert_eq!(stats.get("pending_bytes"), 0);
    assert_eq!(stats.get("discarded_bytes"), 0);
    assert_books(&server);
}

fn commands_are_answered_by_line(engine: Engine) {
    let server = serve_choice(engine, "command");
    let client = connect(server.address());
    let me = client.local_addr().unwrap().to_string();
    let it = server.address().to_string();
    ask(&client, b"ECHO Hello World\r\n", b"Hello World\r\n");
    ask(&client, b"CLIENTIP\n", format!("{me}\n").as_bytes());
    ask(&client, b" SERVERADDRESS \n", format!("{it}\n").as_bytes());
    ask(&client, b"no such thing\n", b"Unknown command\n");
    // An error is not answered with an error.
    ask(&client, b"Unknown command\nECHO next\n", b"next\n");
    assert_eq!(server.stats().get("silent_requests"), 1);
    assert_books(&server);
}

fn f24_a_long_conversation_is_answered_whole_after_shut_wr(engine: Engine) {
    let server = serve_choice(engine, "upper");
    let client = connect(server.address());
    let line = b"a line of some words, neither long nor short\r\n";
    let data = line.repeat(100_000);
    let back = thread::scope(|scope| {
        scope.spawn(|| {
            (&client).write_all(&data).unwrap();
            end_output(&client);
        });
        read_to_end(&client)
    });
    assert!(back == data.to_ascii_uppercase(), "{} bytes", back.len());
    assert_eq!(server.stats().get("replies"), 100_000);
    assert_books(&server);
}

fn records_and_chunks_go_back_as_they_are(engine: Engine) {
    let server = serve(engine, |config| {
        config.responder = make("upper");
        config.framing = Framing::Records(4);
    });
    let client = connect(server.address());
    ask(&client, b"abcdef", b"ABCD");
    ask(&client, b"gh\nj", b"EFGH");
    end_output(&client);
    assert_eq!(read_to_end(&client), b"", "half a record is none");
    eventually("it ended", || server.stats().get("discarded_bytes") == 2);
    assert_books(&server);

    let server = serve(engine, |config| {
        config.responder = make("upper");
        config.framing = Framing::Chunks;
    });
    let client = connect(server.address());
    ask(&client, b"no line\nno end", b"NO LINE\nNO END");
    assert_books(&server);
}

fn discard_takes_everything_and_says_nothing(engine: Engine) {
    let server = serve_choice(engine, "discard");
    let client = connect(server.address());
    (&client).write_all(&vec![b'x'; 1 << 20]).unwrap();
    end_output(&client);
    assert_eq!(read_to_end(&client), b"");
    eventually("it ended", || server.stats().reason("peer") == 1);
    let stats = server.stats();
    assert_eq!(stats.get("consumed_bytes"), 1 << 20);
    assert_eq!(stats.get("requests"), stats.get("silent_requests"));
    assert_books(&server);
}

fn daytime_and_time_speak_first_and_close(engine: Engine) {
    let server = serve_choice(engine, "daytime");
    let line = read_to_end(&connect(server.address()));
    let line = String::from_utf8(line).unwrap();
    assert!(line.ends_with("\r\n") && line.contains('T'), "{line:?}");
    // Also to somebody who has said something, whom a reset would take the answer from.
    let client = connect(server.address());
    (&client).write_all(&[b'?'; 4096]).unwrap();
    assert_eq!(read_to_end(&client).len(), line.len());
    drop(client);
    eventually("both ended", || server.stats().reason("finished") == 2);
    assert_books(&server);

    let server = serve_choice(engine, "time");
    let four = read_to_end(&connect(server.address()));
    let since_1900 = u32::from_be_bytes(four.try_into().unwrap());
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() + 2_208_988_800;
    assert!((now as u32).wrapping_sub(since_1900) < 60);
}

/// A peer that keeps its side open is not kept for ever.
fn a_peer_that_does_not_leave_is_left(engine: Engine) {
    let server = serve_choice(engine, "daytime");
    let client = connect(server.address());
    assert!(!read_to_end(&client).is_empty());
    eventually("it was left", || server.stats().reason("finished") == 1);
    assert_eq!(server.stats().get("active_connections"), 0);
}

fn a_line_that_is_too_long_ends_the_connection(engine: Engine) {
    let server = serve(engine, |config| {
        config.responder = make("upper");
        config.max_line_bytes = 10;
    });
    let client = connect(server.address());
    (&client).write_all(b"0123456789\nshort\n").unwrap();
    (&client).write_all(&[b'x'; 100_000]).unwrap();
    assert_eq!(
        read_to_end(&client),
        b"0123456789\nSHORT\nError: Line too long\n"
    );
    end_output(&client);
    eventually("it ended", || server.stats().reason("finished") == 1);
    let stats = server.stats();
    assert_eq!((stats.get("requests"), stats.get("error_replies")), (3, 1));
    assert_books(&server);
}

/// One who answers as the test says, and notes what it was asked with, call by call.
#[derive(Default)]
struct Script {
    calls: Mutex<Vec<Vec<Vec<u8>>>>,
    later: Arc<Completions>,
    tickets: AtomicUsize,
}

struct Scripted(Arc<Script>);

impl Respond for Scripted {
    fn respond(&mut self, requests: &[Request<'_>], replies: &mut Replies) {
        let data = requests.iter().map(|request| request.data.to_vec());
        self.0.calls.lock().unwrap().push(data.collect());
        for request in requests {
            match request.data {
                b"later" => {
                    let ticket = self.0.tickets.fetch_add(1, Ordering::SeqCst);
                    replies.end(Outcome::Later(ticket as u64));
                }
                b"fail" => replies.end(Outcome::Failed),
                b"silence" => replies.end(Outcome::Silence),
                b"error" => replies.error(b"Error: as asked"),
                b"large" => replies.reply(&vec![b'l'; 1 << 20]),
                data => replies.reply(data),
            }
        }
    }

    fn completions(&self) -> Option<Arc<Completions>> {
        Some(Arc::clone(&self.0.later))
    }
}

impl Script {
    fn tickets(&self) -> usize {
        self.tickets.load(Ordering::SeqCst)
    }
}

fn serve_script(engine: Engine) -> (Server, Arc<Script>) {
    let script = Arc::new(Script::default());
    let scripted = Arc::clone(&script);
    let server = serve(engine, |config| {
        config.responder = Some(MakeResponder::new(move |_| {
            Box::new(Scripted(Arc::clone(&scripted)))
        }));
    });
    (server, script)
}

fn late_answers_keep_the_order_of_their_requests(engine: Engine) {
    let (server, script) = serve_script(engine);
    let client = connect(server.address());
    let other = connect(server.address());
    (&client)
        .write_all(b"first\nlater\nsecond\nlater\r\nthird\nlater\nfourth\n")
        .unwrap();
    expect(&client, b"first\n");
    eventually("three tickets", || script.tickets() == 3);
    // Others do not wait.
    ask(&other, b"me\n", b"me\n");
    eventually("all were asked", || server.stats().get("requests") == 8);
    assert_eq!(server.stats().get("pending_requests"), 3);
    assert_books(&server);
    // The last comes first, and waits.
    script.later.complete(2, Outcome::Silence, b"");
    script.later.complete(1, Outcome::Reply, b"B");
    script.later.complete(0, Outcome::Reply, b"A");
    expect(&client, b"A\nsecond\nB\r\nthird\nfourth\n");
    // Once is enough, and what nobody waits for goes to nobody.
    script.later.complete(0, Outcome::Reply, b"again");
    script.later.complete(77, Outcome::Reply, b"who?");
    ask(&client, b"end\n", b"end\n");
    assert_eq!(server.stats().get("silent_requests"), 1);
    assert_eq!(server.stats().get("pending_requests"), 0);
    assert_books(&server);
}

fn late_answers_in_parts_keep_the_order_as_well(engine: Engine) {
    let (server, script) = serve_script(engine);
    let client = connect(server.address());
    (&client).write_all(b"later\nlater\r\nlast\n").unwrap();
    eventually("two tickets", || script.tickets() == 2);
    script.later.complete(1, Outcome::More, b"B1");
    script.later.complete(0, Outcome::More, b"A1");
    expect(&client, b"A1\n");
    assert_eq!(server.stats().get("pending_requests"), 2);
    assert_books(&server);
    script.later.complete(1, Outcome::More, b"B2");
    script.later.complete(0, Outcome::Reply, b"A2");
    expect(&client, b"A2\nB1\r\nB2\r\n");
    // Now it is its turn: what comes goes.
    script.later.complete(1, Outcome::More, b"B3");
    expect(&client, b"B3\r\n");
    script.later.complete(1, Outcome::Silence, b"");
    expect(&client, b"last\n");
    assert_books(&server);
}

fn an_answer_may_end_its_connection(engine: Engine) {
    let (server, script) = serve_script(engine);
    for (round, (outcome, reply)) in [
        (Outcome::Close, &b"bye"[..]),
        (Outcome::Close, b""),
        (Outcome::Reset, b"bye"),
        (Outcome::Reset, b""),
    ]
    .into_iter()
    .enumerate()
    {
        let client = connect(server.address());
        // Two are answered, one is not any more, nor is what it was not asked yet.
        (&client).write_all(b"first\nlater\nmore\nlater\n").unwrap();
        eventually("two tickets", || script.tickets() == 2 * (round + 1));
        script.later.complete(2 * round as u64, outcome, reply);
        expect(&client, b"first\n");
        if !reply.is_empty() {
            expect(&client, b"bye\n");
        }
        if outcome == Outcome::Close {
            (&client).write_all(b"is not listened to\n").unwrap();
            assert_eq!(read_to_end(&client), b"");
        } else {
            let error = (&client).read(&mut [0; 10]).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        }
        drop(client);
        eventually("it ended", || {
            server.stats().reason("finished") == round as u64 + 1
        });
        assert_books(&server);
    }
    let stats = server.stats();
    assert_eq!(stats.get("abandoned_requests"), 4);
    assert_eq!(stats.get("silent_requests"), 2);
    // Others go on.
    ask(&connect(server.address()), b"me\n", b"me\n");
}

fn a_connection_that_waits_for_many_answers_is_not_read(engine: Engine) {
    let (server, script) = serve_script(engine);
    let client = connect(server.address());
    (&client).write_all(&b"later\n".repeat(200)).unwrap();
    end_output(&client);
    eventually("64 tickets", || script.tickets() == 64);
    // Nothing wakes the worker for it, and no ticket more is given.
    thread::sleep(Duration::from_millis(100));
    assert_eq!(script.tickets(), 64);
    assert_eq!(server.stats().get("pending_requests"), 64);
    let mut answered = 0;
    while answered < 200 {
        eventually("one more", || script.tickets() > answered);
        script.later.complete(
            answered as u64,
            Outcome::Reply,
            format!("{answered}").as_bytes(),
        );
        answered += 1;
    }
    let wanted: String = (0..200).map(|number| format!("{number}\n")).collect();
    assert_eq!(String::from_utf8(read_to_end(&client)).unwrap(), wanted);
    eventually("it ended", || server.stats().reason("peer") == 1);
    assert_books(&server);
}

fn a_request_that_fails_is_counted_and_the_connection_goes_on(engine: Engine) {
    let (server, script) = serve_script(engine);
    let client = connect(server.address());
    ask(&client, b"fail\nsilence\nnext\n", b"next\n");
    ask(&client, b"later\nafter\nerror\n", b"");
    eventually("a ticket", || script.tickets() == 1);
    script.later.complete(0, Outcome::Failed, b"");
    expect(&client, b"after\nError: as asked\n");
    let stats = server.stats();
    assert_eq!(stats.get("failed_replies"), 2);
    assert_eq!(stats.get("silent_requests"), 1);
    assert_eq!(stats.get("error_replies"), 1);
    assert_books(&server);
}

fn who_leaves_is_not_answered_late(engine: Engine) {
    let (server, script) = serve_script(engine);
    let client = connect(server.address());
    ask(&client, b"later\nlater\n", b"");
    eventually("two tickets", || script.tickets() == 2);
    reset(client);
    eventually("it ended", || server.stats().reason("reset") == 1);
    assert_eq!(server.stats().get("abandoned_requests"), 2);
    // Its number goes to the next, its answers do not.
    let next = connect(server.address());
    ask(&next, b"here\n", b"here\n");
    script
        .later
        .complete(0, Outcome::Reply, b"for somebody else");
    script
        .later
        .complete(1, Outcome::Reply, b"for somebody else");
    ask(&next, b"still here\n", b"still here\n");
    assert_books(&server);
}

fn a_line_that_was_too_long_and_not_told_so_is_abandoned(engine: Engine) {
    let (server, script) = serve_script(engine);
    let client = connect(server.address());
    ask(&client, b"later\n", b"");
    eventually("a ticket", || script.tickets() == 1);
    (&client).write_all(&[b'x'; 70_000]).unwrap();
    eventually("it was too long", || server.stats().get("requests") == 2);
    server.stop(Duration::ZERO).unwrap();
    let stats = server.stats();
    assert_eq!(stats.get("abandoned_requests"), 2);
    assert_eq!(stats.get("pending_requests"), 0);
    assert_books(&server);
}

fn one_call_answers_all_that_came_in_a_round(engine: Engine) {
    let script = Arc::new(Script::default());
    let scripted = Arc::clone(&script);
    let server = bind(engine, |config| {
        config.responder = Some(MakeResponder::new(move |_| {
            Box::new(Scripted(Arc::clone(&scripted)))
        }));
    });
    // All of it is there before the worker is.
    let clients: Vec<TcpStream> = (0..20).map(|_| connect(server.address())).collect();
    for mut client in &clients {
        client.write_all(b"hello\n").unwrap();
    }
    server.start().unwrap();
    clients.iter().for_each(|client| expect(client, b"hello\n"));
    let calls = script.calls.lock().unwrap().clone();
    assert_eq!(calls.iter().map(Vec::len).sum::<usize>(), 20);
    assert!(calls.len() <= 3, "{} calls", calls.len());
}

/// A peer that asks and does not read: replies stop where the kernel's buffers end.
fn f28_who_does_not_read_is_not_read(engine: Engine) {
    let (server, _) = serve_script(engine);
    let client = connect(server.address());
    (&client).write_all(&b"large\n".repeat(100)).unwrap();
    let mut before = u64::MAX;
    eventually("it stalled", || {
        thread::sleep(Duration::from_millis(50));
        let now = server.stats().get("requests");
        now > 0 && std::mem::replace(&mut before, now) == now
    });
    let stats = server.stats();
    assert!(stats.get("requests") < 50, "{stats:?}");
    // One answer at a time, as they are large.
    assert!(stats.get("pending_bytes") <= (1 << 20) + 1000, "{stats:?}");
    ask(&connect(server.address()), b"others\n", b"others\n");
    // All it asked has come long ago: nothing but its own turns brings the rest.
    let mut back = vec![0; 100 * ((1 << 20) + 1)];
    (&client).read_exact(&mut back).unwrap();
    assert_eq!(server.stats().get("replies"), 100 + 1);
    assert_books(&server);
}

fn f27_stopping_waits_for_late_answers(engine: Engine) {
    let (server, script) = serve_script(engine);
    let client = connect(server.address());
    ask(&client, b"later\nnow\nunfinished", b"");
    eventually("a ticket", || script.tickets() == 1);
    server.request_stop(LONG).unwrap();
    assert_eq!(server.wait(Duration::from_millis(300)).unwrap(), None);
    script.later.complete(0, Outcome::Reply, b"at last");
    assert_eq!(read_to_end(&client), b"at last\nnow\n");
    drop(client);
    assert_eq!(server.wait(LONG).unwrap(), Some(Finish::Stopped));
    let stats = server.stats();
    assert_eq!(stats.get("discarded_bytes"), b"unfinished".len() as u64);
    assert_eq!(stats.get("pending_requests"), 0);
    assert_books(&server);
}

fn f27_late_answers_are_not_waited_for_beyond_the_deadline(engine: Engine) {
    let (server, script) = serve_script(engine);
    let client = connect(server.address());
    ask(&client, b"later\n", b"");
    eventually("a ticket", || script.tickets() == 1);
    server.stop(Duration::from_millis(200)).unwrap();
    assert_eq!(server.stats().get("abandoned_requests"), 1);
    assert!(is_over(&client));
    assert_books(&server);
}

/// Whoever answers may look at the statistics of the server that asks.
fn a_responder_may_read_the_statistics(engine: Engine) {
    struct Curious(Arc<OnceLock<Server>>, Arc<AtomicBool>);
    impl Respond for Curious {
        fn respond(&mut self, requests: &[Request<'_>], replies: &mut Replies) {
            let stats = self.0.get().unwrap().stats();
            self.1
                .store(stats.get("pending_requests") > 0, Ordering::SeqCst);
            requests
                .iter()
                .for_each(|request| replies.reply(request.data));
        }
    }
    let (server, saw) = (Arc::new(OnceLock::new()), Arc::new(AtomicBool::new(false)));
    let (asked, seen) = (Arc::clone(&server), Arc::clone(&saw));
    let bound = bind(engine, |config| {
        config.responder = Some(MakeResponder::new(move |_| {
            Box::new(Curious(Arc::clone(&asked), Arc::clone(&seen)))
        }));
    });
    let server = server.get_or_init(|| bound);
    server.start().unwrap();
    ask(&connect(server.address()), b"look\n", b"look\n");
    assert!(saw.load(Ordering::SeqCst), "the request was pending");
    server.stop(LONG).unwrap();
}

fn each_worker_has_its_own_responder(engine: Engine) {
    let made = Arc::new(Mutex::new(Vec::new()));
    let numbers = Arc::clone(&made);
    let server = serve(engine, |config| {
        config.workers = 3;
        config.responder = Some(MakeResponder::new(move |number| {
            numbers.lock().unwrap().push(number);
            Choice::Upper.make().unwrap().make(number)
        }));
    });
    for _ in 0..20 {
        ask(&connect(server.address()), b"a\n", b"A\n");
    }
    assert_eq!(*made.lock().unwrap(), [0, 1, 2]);
}

fn an_unfinished_line_does_not_outlive_the_idle_timeout(engine: Engine) {
    let server = serve(engine, |config| {
        config.responder = make("upper");
        config.idle_timeout = Some(Duration::from_millis(200));
    });
    let client = connect(server.address());
    (&client).write_all(b"and then").unwrap();
    assert!(is_over(&client));
    assert_eq!(server.stats().reason("idle"), 1);
    assert_books(&server);
}

on_both_engines!(
    lines_are_answered_each_with_the_end_it_had,
    commands_are_answered_by_line,
    f24_a_long_conversation_is_answered_whole_after_shut_wr,
    records_and_chunks_go_back_as_they_are,
    discard_takes_everything_and_says_nothing,
    daytime_and_time_speak_first_and_close,
    a_peer_that_does_not_leave_is_left,
    a_line_that_is_too_long_ends_the_connection,
    late_answers_keep_the_order_of_their_requests,
    late_answers_in_parts_keep_the_order_as_well,
    an_answer_may_end_its_connection,
    a_connection_that_waits_for_many_answers_is_not_read,
    a_request_that_fails_is_counted_and_the_connection_goes_on,
    who_leaves_is_not_answered_late,
    a_line_that_was_too_long_and_not_told_so_is_abandoned,
    one_call_answers_all_that_came_in_a_round,
    f28_who_does_not_read_is_not_read,
    f27_stopping_waits_for_late_answers,
    f27_late_answers_are_not_waited_for_beyond_the_deadline,
    a_responder_may_read_the_statistics,
    each_worker_has_its_own_responder,
    an_unfinished_line_does_not_outlive_the_idle_timeout,
);
