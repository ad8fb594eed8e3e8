//! What is promised of files that are received, whatever ends their transfer, and
//! whatever other programs write there.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::destination::Destination;
use super::directory::{Directory, Settings};
use super::inbox::{Inbox, overhead_bytes};
use super::temporary::Temporary;
use super::{Name, Offer, Opened, Sink, Source, Storage};
use crate::transfer::budget::Budget;
use crate::transfer::failure::{Failure, Reason};

pub(super) const SETTINGS: Settings = Settings {
    receives: true,
    shares: true,
    overwrites: false,
    quota_bytes: None,
};

const DIGEST: [u8; 32] = [9; 32];

pub(super) fn open(here: &Temporary, settings: Settings) -> Directory {
    Directory::open(here.path(), settings).unwrap()
}

pub(super) fn name(path: &str) -> Name {
    Name::new(path.split('/').map(str::to_owned).collect()).unwrap()
}

pub(super) fn offer(path: &str, length: impl Into<Option<u64>>) -> Offer {
    Offer {
        peer: SocketAddr::from(([192, 0, 2, 1], 9)),
        id: 5,
        name: name(path),
        length: length.into(),
        identity: [3; 16],
        digest: None,
        replaces: false,
    }
}

pub(super) fn sink(storage: &dyn Storage, offer: &Offer) -> Result<Box<dyn Sink>, Failure> {
    match storage.open_sink(offer)? {
        Opened::Sink(sink) => Ok(sink),
        Opened::Compare(_) => panic!("{:?} is to be compared", offer.name),
    }
}

fn reason(result: Result<impl Sized, Failure>) -> Reason {
    let failure = result.err().expect("a failure");
    assert!(!failure.text.contains(['\n', '\u{1b}']), "{}", failure.text);
    failure.reason
}

/// A whole file at once.
fn receive(storage: &dyn Storage, offer: &Offer, data: &[u8]) -> Result<(), Failure> {
    let mut sink = sink(storage, offer)?;
    sink.append(data)
        .map_err(|error| Failure::io("receive", &error))?;
    sink.finish(&DIGEST)
}

fn read_all(source: &mut dyn Source) -> Vec<u8> {
    let mut room = vec![0; 1 << 20];
    let count = source.read(0, &mut room).unwrap();
    room[..count].to_vec()
}

#[test]
fn a_file_has_its_name_once_it_is_whole() {
    let here = Temporary::new();
    let directory = open(&here, SETTINGS);
    let mut sink = sink(&directory, &offer("a", 6)).unwrap();
    sink.append(b"abc").unwrap();
    let mut room = [0; 9];
    assert_eq!(sink.read_back(1, &mut room).unwrap(), 2);
    sink.append(b"def").unwrap();
    assert_eq!(sink.length(), 6);
    assert_eq!(here.names(), [".part"]);
    sink.finish(&DIGEST).unwrap();
    assert_eq!(sink.length(), 6);
    assert_eq!(here.all(), [("a".to_owned(), Some(b"abcdef".to_vec()))]);
    // As other programs' files: what the umask leaves of 0666.
    fs::write(here.join("other"), "").unwrap();
    let mode = |name| fs::metadata(here.join(name)).unwrap().permissions().mode();
    assert_eq!(mode("a"), mode("other"));
    drop(sink);
    assert_eq!(here.names(), ["a", "other"]);
}

#[test]
fn an_empty_file_and_one_of_many_buffers_arrive() {
    let here = Temporary::new();
    let directory = open(&here, SETTINGS);
    receive(&directory, &offer("empty", 0), b"").unwrap();
    let data: Vec<u8> = (0..20_000_000u32).map(|at| (at % 251) as u8).collect();
    let mut sink = sink(&directory, &offer("large", 20_000_000)).unwrap();
    let mut rest = &data[..];
    // Packets, trains, and what came early.
    for length in [1, 1_452, 65_000, 256 << 10, 1 << 20].iter().cycle() {
        let (piece, more) = rest.split_at(rest.len().min(*length));
        sink.append(piece).unwrap();
        rest = more;
        if rest.is_empty() {
            break;
        }
    }
    sink.finish(&DIGEST).unwrap();
    assert!(fs::read(here.join("large")).unwrap() == data);
    assert_eq!(fs::read(here.join("empty")).unwrap(), b"");
}

#[test]
fn an_interrupted_file_is_gone_on_with() {
    let here = Temporary::new();
    let directory = open(&here, SETTINGS);
    let mut first = sink(&directory, &offer("d/a", 6)).unwrap();
    first.append(b"abc").unwrap();
    drop(first);
    assert_eq!(here.names(), ["d", ".part"]);
    for directory in [&directory, &open(&here, SETTINGS)] {
        let mut again = sink(directory, &offer("d/a", 6)).unwrap();
        assert_eq!(again.length(), 3);
        let mut room = [0; 9];
        assert_eq!(again.read_back(0, &mut room).unwrap(), 3);
        assert_eq!(&room[..3], b"abc");
    }
    let mut last = sink(&directory, &offer("d/a", 6)).unwrap();
    last.append(b"def").unwrap();
    last.finish(&DIGEST).unwrap();
    assert_eq!(fs::read(here.join("d/a")).unwrap(), b"abcdef");
    assert_eq!(here.names(), ["d", "d/a"]);
}

#[test]
fn another_file_of_the_same_name_begins_anew_and_tidies_up() {
    let here = Temporary::new();
    let directory = open(&here, SETTINGS);
    for other in ["a", "b"] {
        let mut old = sink(&directory, &offer(other, 6)).unwrap();
        old.append(b"abc").unwrap();
    }
    assert_eq!(here.names(), [".part", ".part"]);
    let changed = Offer {
        identity: [4; 16],
        ..offer("a", 6)
    };
    // In this process, and in one that has to look first.
    for directory in [&directory, &open(&here, SETTINGS)] {
        let mut new = sink(directory, &changed).unwrap();
        assert_eq!(here.names(), [".part", ".part"], "the one of b stays");
        new.append(b"x").unwrap();
        drop(new);
        let mut old = sink(directory, &offer("a", 6)).unwrap();
        assert_eq!(old.length(), 0);
        old.append(b"abc").unwrap();
    }
    assert_eq!(sink(&directory, &offer("b", 6)).unwrap().length(), 3);
}

#[test]
fn what_cannot_be_told_apart_is_not_gone_on_with() {
    let here = Temporary::new();
    let directory = open(&here, SETTINGS);
    let unknown = Offer {
        identity: [0; 16],
        ..offer("a", 6)
    };
    for offer in [unknown, offer("a", None)] {
        let mut sink = sink(&directory, &offer).unwrap();
        assert_eq!(sink.length(), 0);
        sink.append(b"abc").unwrap();
        assert_eq!(sink.read_back(0, &mut [0; 9]).unwrap(), 3);
        // A crash leaves it, until somebody else writes to that name.
        let crashed = here.after_a_crash();
        assert_eq!(crashed.names(), [".part"]);
        drop(sink);
        assert_eq!(here.names(), [""; 0]);
        let restarted = open(&crashed, SETTINGS);
        receive(&restarted, &offer, b"abcdef").unwrap();
        assert_eq!(crashed.names(), ["a"]);
    }
}

#[test]
fn who_sends_nothing_leaves_nothing() {
    let here = Temporary::new();
    let directory = open(&here, SETTINGS);
    let first = sink(&directory, &offer("x/y/a", 6)).unwrap();
    let mut second = sink(&directory, &offer("x/b", 6)).unwrap();
    assert_eq!(here.names(), ["x", ".part", "x/y", ".part"]);
    drop(first);
    assert_eq!(here.names(), ["x", ".part"]);
    second.append(b"abc").unwrap();
    second.discard();
    // The directory was made for the first, which could not remove it then.
    assert_eq!(here.names(), ["x"]);
}

#[test]
fn directories_that_vanish_at_the_wrong_moment_are_made_again() {
    let here = Temporary::new();
    let directory = open(&here, SETTINGS);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let directory = &directory;
            scope.spawn(move || {
                for number in 0..100 {
                    let offer = offer(&format!("x/y/{thread}-{number}"), 1);
                    let mut sink = sink(directory, &offer).unwrap();
                    if number % 2 == 0 {
                        sink.append(b"z").unwrap();
                        sink.discard();
                    }
                }
            });
        }
    });
    assert!(here.all().iter().all(|(_, data)| data.is_none()));
}

#[test]
fn nothing_is_overwritten_unless_both_sides_want_it() {
    let here = Temporary::new();
    for overwrites in [false, true] {
        let directory = open(
            &here,
            Settings {
                overwrites,
                ..SETTINGS
            },
        );
        for replaces in [false, true] {
            fs::write(here.join("a"), "old").unwrap();
            let offer = Offer {
                replaces,
                ..offer("a", 5)
            };
            let result = receive(&directory, &offer, b"newer");
            let is_replaced = overwrites && replaces;
            assert_eq!(result.is_ok(), is_replaced);
            let wanted = if is_replaced { "newer" } else { "old" };
            assert_eq!(fs::read_to_string(here.join("a")).unwrap(), wanted);
            if let Err(failure) = result {
                assert_eq!(failure.reason, Reason::Exists);
            }
        }
    }
    assert_eq!(here.names(), ["a"]);
}

#[test]
fn a_file_of_the_same_length_is_told_by_its_digest() {
    let here = Temporary::new();
    let directory = open(&here, SETTINGS);
    fs::write(here.join("a"), "abc").unwrap();
    assert_eq!(reason(directory.open_sink(&offer("a", 4))), Reason::Exists);
    assert_eq!(
        reason(directory.open_sink(&offer("a", None))),
        Reason::Exists
    );
    assert_eq!(
        reason(directory.open_sink(&offer("a", 3))),
        Reason::ExistsAlike
    );
    let with_digest = Offer {
        digest: Some(DIGEST),
        ..offer("a", 3)
    };
    for _ in 0..2 {
        let Opened::Compare(mut source) = directory.open_sink(&with_digest).unwrap() else {
            panic!("there is nothing to be sent")
        };
        assert_eq!(source.length(), Some(3));
        assert_eq!(read_all(&mut *source), b"abc");
    }
}

#[test]
fn whatever_else_has_the_name_stays() {
    let here = Temporary::new();
    let outside = Temporary::new();
    fs::write(outside.join("target"), "abc").unwrap();
    fs::create_dir(here.join("directory")).unwrap();
    symlink(outside.join("target"), here.join("link")).unwrap();
    symlink(outside.join("nothing"), here.join("dangling")).unwrap();
    symlink(outside.path(), here.join("away")).unwrap();
    let socket = std::os::unix::net::UnixListener::bind(here.join("socket")).unwrap();
    for overwrites in [false, true] {
        let directory = open(
            &here,
            Settings {
                overwrites,
                ..SETTINGS
            },
        );
        for other in ["directory", "link", "dangling", "away", "socket"] {
            let offer = Offer {
                replaces: true,
                digest: Some(DIGEST),
                ..offer(other, 3)
            };
            assert_eq!(
                reason(directory.open_sink(&offer)),
                Reason::Exists,
                "{other}"
            );
            let source = directory.open_source(&name(other));
            assert_eq!(reason(source), Reason::NotFound, "{other}");
        }
        for through in ["away/target", "away/new", "link/x", "away/x/y"] {
            assert_eq!(
                reason(directory.open_sink(&offer(through, 3))),
                Reason::BadName,
                "{through}"
            );
            let source = directory.open_source(&name(through));
            assert_eq!(reason(source), Reason::NotFound, "{through}");
        }
    }
    drop(socket);
    assert_eq!(outside.names(), ["target"]);
    assert_eq!(here.all().len(), 5);
}

#[test]
fn names_are_never_paths_and_may_be_anything_else() {
    for (none, why) in [
        ("..", "the parent"),
        (".", "itself"),
        ("", "nothing"),
        ("a/b", "a path"),
        ("a\0", "a NUL"),
        (&"x".repeat(256), "too long"),
    ] {
        assert_eq!(Name::new(vec![none.to_owned()]), None, "{why}");
    }
    let here = Temporary::new();
    let directory = open(&here, SETTINGS);
    let deep = ["d"; 15].join("/") + "/end";
    assert!(Name::new(vec!["d".to_owned(); 17]).is_none());
    let longest = "x".repeat(255);
    for fine in [
        "line\nbreak",
        "\u{1b}[31mred",
        "-rf",
        "~",
        "...",
        " ",
        "\u{202e}txt",
        &longest,
        &deep,
    ] {
        receive(&directory, &offer(fine, 3), b"abc").unwrap();
        assert_eq!(fs::read(here.join(fine)).unwrap(), b"abc");
        let mut source = directory.open_source(&name(fine)).unwrap();
        assert_eq!(read_all(&mut *source), b"abc");
        // Reports are one line, whatever the name.
        assert_eq!(reason(directory.open_sink(&offer(fine, 4))), Reason::Exists);
    }
}

#[test]
fn parts_are_nobody_s_to_write_or_pull() {
    let here = Temporary::new();
    let directory = open(&here, SETTINGS);
    drop({
        let mut part = sink(&directory, &offer("a", 6)).unwrap();
        part.append(b"abc").unwrap();
        part
    });
    let part = here.all()[0].0.clone();
    for kept in [&part, ".rsecho-", ".RSECHO-x", ".rsecho-x/a"] {
        assert_eq!(
            reason(directory.open_sink(&offer(kept, 3))),
            Reason::BadName
        );
        assert_eq!(reason(directory.open_source(&name(kept))), Reason::BadName);
    }
    assert_eq!(here.all().len(), 1);
}

#[test]
fn a_directory_does_only_what_it_is_for() {
    let here = Temporary::new();
    let only_out = open(
        &here,
        Settings {
            receives: false,
            ..SETTINGS
        },
    );
    let only_in = open(
        &here,
        Settings {
            shares: false,
            ..SETTINGS
        },
    );
    assert_eq!(reason(only_out.open_sink(&offer("a", 3))), Reason::Refused);
    receive(&only_in, &offer("a", 3), b"abc").unwrap();
    assert_eq!(reason(only_in.open_source(&name("a"))), Reason::Refused);
    assert_eq!(
        read_all(&mut *only_out.open_source(&name("a")).unwrap()),
        b"abc"
    );
    assert_eq!(reason(only_out.open_source(&name("b"))), Reason::NotFound);
    assert_eq!(reason(only_out.open_source(&name("b/c"))), Reason::NotFound);
    let nameless = Offer {
        name: Name::none(),
        ..offer("a", 3)
    };
    assert_eq!(reason(only_in.open_sink(&nameless)), Reason::BadName);
    assert_eq!(reason(only_out.open_source(&Name::none())), Reason::BadName);
}

#[test]
fn one_writes_to_a_name_at_a_time() {
    let here = Temporary::new();
    let directory = open(&here, SETTINGS);
    let mut first = sink(&directory, &offer("a", 6)).unwrap();
    first.append(b"abc").unwrap();
    let other = Offer {
        identity: [4; 16],
        ..offer("a", 7)
    };
    for offer in [offer("a", 6), other.clone()] {
        assert_eq!(reason(directory.open_sink(&offer)), Reason::TooMany);
    }
    // Another process knows of it by the lock alone, and leaves alone what is locked.
    let elsewhere = open(&here, SETTINGS);
    assert_eq!(reason(elsewhere.open_sink(&offer("a", 6))), Reason::TooMany);
    let mut second = sink(&elsewhere, &other).unwrap();
    second.append(b"another").unwrap();
    assert_eq!(here.names(), [".part", ".part"]);
    first.append(b"def").unwrap();
    first.finish(&DIGEST).unwrap();
    // Whoever is whole first has the name.
    assert_eq!(reason(second.finish(&DIGEST)), Reason::Exists);
    drop((first, second));
    assert_eq!(here.all(), [("a".to_owned(), Some(b"abcdef".to_vec()))]);
    assert_eq!(
        reason(directory.open_sink(&offer("a", 6))),
        Reason::ExistsAlike
    );
}

#[test]
fn of_eight_that_end_at_once_one_has_the_name() {
    for _ in 0..20 {
        let here = Temporary::new();
        let start = std::sync::Barrier::new(8);
        let wins: Vec<bool> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8u8)
                .map(|number| {
                    let (here, start) = (&here, &start);
                    scope.spawn(move || {
                        // Each as a process of its own, with a part of its own.
                        let directory = open(here, SETTINGS);
                        let mine = Offer {
                            identity: [number + 1; 16],
                            ..offer("a", 8)
                        };
                        // Whoever tidies up locks a part that is just being made for a moment: as
                        // to a sender, that is a reason to ask again.
                        let mut sink = loop {
                            match sink(&directory, &mine) {
                                Err(failure) if failure.reason == Reason::TooMany => {}
                                result => break result.unwrap(),
                            }
                        };
                        sink.append(&[number; 8]).unwrap();
                        start.wait();
                        sink.finish(&DIGEST).is_ok()
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        assert_eq!(wins.iter().filter(|is_won| **is_won).count(), 1);
        let winner = wins.iter().position(|is_won| *is_won).unwrap() as u8;
        assert_eq!(here.all(), [("a".to_owned(), Some(vec![winner; 8]))]);
    }
}

#[test]
fn a_name_that_is_taken_meanwhile_is_left_alone() {
    let here = Temporary::new();
    let directory = open(&here, SETTINGS);
    let mut sink = sink(&directory, &offer("a", 3)).unwrap();
    sink.append(b"abc").unwrap();
    fs::write(here.join("a"), "mine").unwrap();
    assert_eq!(reason(sink.finish(&DIGEST)), Reason::Exists);
    assert_eq!(here.all(), [("a".to_owned(), Some(b"mine".to_vec()))]);
}

#[test]
fn what_does_not_add_up_is_no_file() {
    let here = Temporary::new();
    let directory = open(&here, SETTINGS);
    let mut sink = sink(&directory, &offer("a", 3)).unwrap();
    assert!(sink.append(b"abcd").is_err());
    sink.append(b"ab").unwrap();
    assert_eq!(reason(sink.finish(&DIGEST)), Reason::Io);
    drop(sink);
    assert_eq!(here.names(), [".part"]);
}

#[test]
fn a_part_that_is_too_long_or_has_another_name_is_begun_anew() {
    let here = Temporary::new();
    let directory = open(&here, SETTINGS);
    drop({
        let mut part = sink(&directory, &offer("a", 6)).unwrap();
        part.append(b"abc").unwrap();
        part
    });
    let part = here.join(&here.all()[0].0);
    fs::write(&part, "more than was offered").unwrap();
    assert_eq!(sink(&directory, &offer("a", 6)).unwrap().length(), 0);

    // As a crash between linkat(2) and unlinkat(2) leaves it; then its user moved the file.
    fs::write(here.join("moved"), "abcdef").unwrap();
    fs::hard_link(here.join("moved"), &part).unwrap();
    for directory in [&directory, &open(&here, SETTINGS)] {
        let mut sink = sink(directory, &offer("a", 6)).unwrap();
        assert_eq!(sink.length(), 0);
        sink.append(b"xyz").unwrap();
        sink.discard();
        assert_eq!(fs::read(here.join("moved")).unwrap(), b"abcdef");
    }
    // Whoever looks for parts takes the second name away, also where the file is never offered
    // again.
    fs::hard_link(here.join("moved"), &part).unwrap();
    let with_quota = Settings {
        quota_bytes: Some(10),
        ..SETTINGS
    };
    let directory = open(&here, with_quota);
    assert_eq!(here.names(), ["moved"]);
    drop(sink(&directory, &offer("b", 10)).unwrap());
}

#[test]
fn a_quota_holds_for_files_parts_and_promises_together() {
    let here = Temporary::new();
    let with_quota = Settings {
        quota_bytes: Some(100),
        overwrites: true,
        ..SETTINGS
    };
    let directory = open(&here, with_quota);
    receive(&directory, &offer("a", 30), &[1; 30]).unwrap();
    let mut part = sink(&directory, &offer("d/b", 40)).unwrap();
    assert_eq!(
        reason(directory.open_sink(&offer("c", 31))),
        Reason::TooLarge
    );
    assert_eq!(here.names(), ["a", "d", ".part"]);
    part.append(&[2; 25]).unwrap();
    drop(part);
    // Of the part so much counts as is there.
    drop(sink(&directory, &offer("c", 45)).unwrap());
    assert_eq!(
        reason(directory.open_sink(&offer("c", 46))),
        Reason::TooLarge
    );
    // It is gone on with, and what is there of it does not count twice.
    drop(sink(&directory, &offer("d/b", 70)).unwrap());
    receive(&directory, &offer("d/b", 70), &[2; 70]).unwrap();
    assert_eq!(
        reason(directory.open_sink(&offer("c", 1))),
        Reason::TooLarge
    );
    // What is replaced makes room, once it is.
    let smaller = Offer {
        replaces: true,
        ..offer("a", 0)
    };
    receive(&directory, &smaller, b"").unwrap();
    receive(&directory, &offer("c", 30), &[3; 30]).unwrap();
    assert_eq!(here.names(), ["a", "c", "d", "d/b"]);
}

#[test]
fn a_quota_counts_parts_from_before_wherever_they_are() {
    let here = Temporary::new();
    let before = open(&here, SETTINGS);
    let deep = ["d"; 15].join("/") + "/end";
    for name in ["a", &deep] {
        let mut part = sink(&before, &offer(name, 50)).unwrap();
        part.append(&[1; 40]).unwrap();
    }
    let with_quota = Settings {
        quota_bytes: Some(100),
        ..SETTINGS
    };
    let directory = open(&here, with_quota);
    assert_eq!(
        reason(directory.open_sink(&offer("c", 21))),
        Reason::TooLarge
    );
    drop(sink(&directory, &offer("c", 20)).unwrap());
    for name in ["a", &deep] {
        let mut part = sink(&directory, &offer(name, 50)).unwrap();
        assert_eq!(part.length(), 40);
        part.append(&[1; 10]).unwrap();
        part.finish(&DIGEST).unwrap();
    }
    // A part that somebody else writes to still counts after an offer of it was refused.
    let elsewhere = open(&here, SETTINGS);
    let mut locked = sink(&elsewhere, &offer("e", 100)).unwrap();
    locked.append(&[1; 60]).unwrap();
    locked.read_back(0, &mut [0; 1]).unwrap();
    let directory = open(&here, with_quota);
    assert_eq!(
        reason(directory.open_sink(&offer("e", 100))),
        Reason::TooMany
    );
    assert_eq!(
        reason(directory.open_sink(&offer("f", 41))),
        Reason::TooLarge
    );
}

#[test]
fn without_a_length_the_quota_ends_it_on_the_way() {
    let here = Temporary::new();
    let with_quota = Settings {
        quota_bytes: Some(1_000_000),
        ..SETTINGS
    };
    let directory = open(&here, with_quota);
    let mut pipe = sink(&directory, &offer("pipe", None)).unwrap();
    for _ in 0..100 {
        pipe.append(&[1; 10_000]).unwrap();
    }
    let full = pipe.append(&[1]).unwrap_err();
    let failure = Failure::io("receive", &full);
    assert_eq!(failure.reason, Reason::TooLarge);
    assert_eq!(
        reason(directory.open_sink(&offer("a", 1))),
        Reason::TooLarge
    );
    drop(pipe);
    receive(&directory, &offer("a", 1_000_000), &[1; 1_000_000]).unwrap();
    assert_eq!(here.names(), ["a"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_told_as_such() {
    use std::io::Write;
    let full = fs::OpenOptions::new().write(true).open("/dev/full");
    let error = full.unwrap().write(b"x").unwrap_err();
    let failure = Failure::io("write a", &error);
    assert_eq!(failure.reason, Reason::TooLarge);
    assert_eq!(failure.text, "cannot write a: no space left on device");
}

#[cfg(target_os = "linux")]
#[test]
fn where_nothing_can_be_written_it_says_so() {
    // Nobody can make a file there, not even root.
    let directory = Directory::open(Path::new("/proc/self/net"), SETTINGS).unwrap();
    for path in ["a", "b/c"] {
        let failure = sink(&directory, &offer(path, 3)).err().unwrap();
        assert_eq!(failure.reason, Reason::Io, "{}", failure.text);
        assert!(
            failure.text.starts_with("cannot receive "),
            "{}",
            failure.text
        );
    }
    let none = Directory::open(Path::new("/proc/version"), SETTINGS).unwrap_err();
    let text = none.to_string();
    assert!(
        text.contains("/proc/version") && !text.contains('\n'),
        "{text}"
    );
}

#[test]
fn a_directory_stays_the_one_that_was_opened() {
    let here = Temporary::new();
    fs::create_dir(here.join("x")).unwrap();
    let directory = Directory::open(&here.join("x"), SETTINGS).unwrap();
    fs::rename(here.join("x"), here.join("y")).unwrap();
    fs::create_dir(here.join("x")).unwrap();
    receive(&directory, &offer("a", 3), b"abc").unwrap();
    assert_eq!(here.names(), ["x", "y", "y/a"]);
}

#[test]
fn what_has_come_is_announced_and_waits_for_room_to_be() {
    let here = Temporary::new();
    let room = overhead_bytes(&name("a"));
    let inbox = Inbox::new(Budget::new(room));
    let directory = open(&here, SETTINGS).announcing(inbox.clone());
    let mut first = sink(&directory, &offer("a", 3)).unwrap();
    assert_eq!(reason(directory.open_sink(&offer("b", 3))), Reason::TooMany);
    first.append(b"abc").unwrap();
    first.finish(&DIGEST).unwrap();
    assert_eq!(reason(directory.open_sink(&offer("b", 3))), Reason::TooMany);
    let news = inbox.take(Some(Duration::ZERO)).unwrap();
    assert_eq!((news.name, news.length), (name("a"), 3));
    assert_eq!((news.digest, news.data), (DIGEST, None));
    drop(sink(&directory, &offer("b", 3)).unwrap());
    assert_eq!(inbox.budget().left_bytes(), room);
    assert!(inbox.is_empty(), "what did not come is not announced");
}

#[test]
fn a_pulled_file_goes_where_its_user_says() {
    let here = Temporary::new();
    let path = here.join("chosen");
    let storage = Destination::new(&path, false).unwrap();
    let offered = offer("some/other/name", 6);
    let mut part = sink(&storage, &offered).unwrap();
    part.append(b"abc").unwrap();
    assert_eq!(reason(storage.open_sink(&offered)), Reason::TooMany);
    drop(part);
    assert_eq!(here.names(), [".part"]);
    let mut again = sink(&Destination::new(&path, false).unwrap(), &offered).unwrap();
    assert_eq!(again.length(), 3);
    again.append(b"def").unwrap();
    again.finish(&DIGEST).unwrap();
    assert_eq!(
        here.all(),
        [("chosen".to_owned(), Some(b"abcdef".to_vec()))]
    );

    assert_eq!(reason(storage.open_sink(&offered)), Reason::ExistsAlike);
    let wishful = Offer {
        replaces: true,
        ..offer("x", 3)
    };
    assert_eq!(reason(storage.open_sink(&wishful)), Reason::Exists);
    let storage = Destination::new(&path, true).unwrap();
    receive(&storage, &offer("x", 3), b"new").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
    assert_eq!(
        reason(storage.open_source(&name("chosen"))),
        Reason::Refused
    );
    for none in ["/", "..", "", "/nowhere/at/all"] {
        let error = Destination::new(Path::new(none), false).unwrap_err();
        assert!(!error.to_string().contains('\n'), "{error}");
    }
}

#[test]
fn descriptors_are_let_go_of() {
    let here = Temporary::new();
    let directory = Arc::new(open(&here, SETTINGS));
    let is_open = |device: u64, inode: u64| {
        let Ok(all) = fs::read_dir("/proc/self/fd") else {
            return false;
        };
        all.filter_map(|entry| fs::metadata(entry.ok()?.path()).ok())
            .any(|is| (is.dev(), is.ino()) == (device, inode))
    };
    let mut file = sink(&*directory, &offer("d/a", 3)).unwrap();
    let below = fs::metadata(here.join("d")).unwrap();
    file.append(b"abc").unwrap();
    file.finish(&DIGEST).unwrap();
    let whole = fs::metadata(here.join("d/a")).unwrap();
    drop(file);
    drop(directory.open_source(&name("d/a")).unwrap());
    assert!(!is_open(whole.dev(), whole.ino()));
    assert!(!is_open(below.dev(), below.ino()));
}
