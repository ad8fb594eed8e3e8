//! A process may end at any moment: what it received is equal, or it is a part to go on with.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use proptest::prelude::*;

use super::directory::Directory;
use super::directory_tests::{SETTINGS, name, offer, open, sink};
use super::temporary::Temporary;
use super::{Offer, Opened, Sink, Storage};

/// What may happen to a file on its way.
#[derive(Debug, Clone)]
enum Step {
    Append(usize),
    /// Its bytes from before are read again, as for a digest.
    ReadBack,
    /// Its transfer ends, and is begun again.
    Drop,
    /// The process ends, and whatever it had not written is lost.
    Crash,
    /// Its sender begins with other contents.
    Change,
    Finish,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0usize..400_000).prop_map(Step::Append),
        1 => Just(Step::ReadBack),
        1 => Just(Step::Drop),
        1 => Just(Step::Crash),
        1 => Just(Step::Change),
        1 => Just(Step::Finish),
    ]
}

fn contents(version: u8, length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| (at as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0] ^ version)
        .collect()
}

fn offered(version: u8, length: usize) -> Offer {
    Offer {
        identity: [version; 16],
        ..offer("d/file", length as u64)
    }
}

/// The prefix that is there is of these contents.
fn check(sink: &mut dyn Sink, wanted: &[u8]) {
    let length = sink.length() as usize;
    let mut room = vec![0; wanted.len() + 1];
    let count = sink.read_back(0, &mut room).unwrap();
    assert_eq!(count, length);
    assert!(room[..count] == wanted[..count]);
}

/// Under its name a file is whole, and beside it there is one part at most.
fn check_names(here: &Temporary, whole: Option<&[u8]>) {
    let files: Vec<_> = here
        .all()
        .into_iter()
        .filter(|(_, data)| data.is_some())
        .collect();
    let (parts, others): (Vec<_>, Vec<_>) = files
        .into_iter()
        .partition(|(name, _)| name.ends_with(".part"));
    assert!(parts.len() <= 1);
    match whole {
        None => assert_eq!(others.len(), 0),
        Some(whole) => {
            assert_eq!(others.len(), 1);
            assert!(others[0].0 == "d/file" && others[0].1.as_deref() == Some(whole));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_happens_a_file_is_equal_or_a_part(
        length in 0usize..1_000_000,
        steps in prop::collection::vec(step(), 1..24),
    ) {
        let mut here = Temporary::new();
        let mut directory = open(&here, SETTINGS);
        let mut version = 1;
        let mut wanted = contents(version, length);
        let mut current = sink(&directory, &offered(version, length)).unwrap();
        for step in steps {
            let at = current.length() as usize;
            match step {
                Step::Append(count) => {
                    let end = wanted.len().min(at + count);
                    current.append(&wanted[at..end]).unwrap();
                    prop_assert_eq!(current.length(), end as u64);
                }
                Step::ReadBack => check(&mut *current, &wanted),
                Step::Drop => {
                    drop(current);
                    current = sink(&directory, &offered(version, length)).unwrap();
                    prop_assert_eq!(current.length() as usize, at, "nothing is lost");
                    check(&mut *current, &wanted);
                }
                Step::Crash => {
                    let after = here.after_a_crash();
                    drop(current);
                    directory = open(&after, SETTINGS);
                    here = after;
                    check_names(&here, None);
                    current = sink(&directory, &offered(version, length)).unwrap();
                    // No more than was kept in the buffer.
                    prop_assert!(current.length() as usize + (256 << 10) >= at);
                    check(&mut *current, &wanted);
                }
                Step::Change => {
                    drop(current);
                    version = version.wrapping_add(1).max(1);
                    wanted = contents(version, length);
                    current = sink(&directory, &offered(version, length)).unwrap();
                    prop_assert_eq!(current.length(), 0);
                }
                Step::Finish => {
                    let result = current.finish(&[0; 32]);
                    prop_assert_eq!(result.is_ok(), at == length);
                    if at == length {
                        check_names(&here, Some(&wanted));
                        check_names(&here.after_a_crash(), Some(&wanted));
                        // It is there: nothing is to be sent again.
                        let again = Offer { digest: Some([0; 32]), ..offered(version, length) };
                        let opened = directory.open_sink(&again).unwrap();
                        prop_assert!(matches!(opened, Opened::Compare(_)));
                        return Ok(());
                    }
                }
            }
            check_names(&here, None);
        }
    }
}

const WHERE: &str = "RSECHO_TEST_STORE";
const PATIENCE: Duration = Duration::from_secs(10);

/// Not a test of its own: the process that is killed. It receives file upon file, and says so.
#[test]
fn child_process() {
    let Ok(path) = std::env::var(WHERE) else {
        return;
    };
    let directory = Directory::open(path.as_ref(), SETTINGS).unwrap();
    let end = std::time::Instant::now() + PATIENCE;
    for number in 0.. {
        // Should nobody kill it.
        assert!(std::time::Instant::now() < end);
        let length = 100_000;
        let data = contents(number as u8, length);
        let offer = offer(&format!("file-{number}"), length as u64);
        let Ok(Opened::Sink(mut sink)) = directory.open_sink(&offer) else {
            continue;
        };
        let there = sink.length() as usize;
        for piece in data[there..].chunks(30_000) {
            sink.append(piece).unwrap();
            // Writes what is kept, so that a part is there.
            sink.read_back(0, &mut [0; 1]).unwrap();
        }
        sink.finish(&[0; 32]).unwrap();
        println!("received {number}");
    }
}

#[test]
fn a_process_that_is_killed_leaves_whole_files_and_a_part() {
    let here = Temporary::new();
    let mut whole = 0;
    for round in 0..10 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["transfer::store::crash_tests::child_process", "--exact"])
            .arg("--nocapture")
            .env(WHERE, here.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // Whenever that is: right after a file was finished, the next is on its way.
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut received = lines
            .map_while(Result::ok)
            .filter(|line| line.contains("received"));
        // Its output stays open: a child that cannot write to it would end in an orderly way.
        assert_eq!(received.by_ref().take(3).count(), 3, "the child ended");
        std::thread::sleep(Duration::from_micros(150 * round));
        // SIGKILL: no destructor runs.
        child.kill().unwrap();
        let status = child.wait().unwrap();
        assert_eq!(status.signal(), Some(9), "it was killed in the midst");

        let mut parts = 0;
        for (file, data) in here.all() {
            let data = data.unwrap();
            let Some(number) = file.strip_prefix("file-") else {
                assert!(file.ends_with(".part"));
                parts += 1;
                continue;
            };
            let number: usize = number.parse().unwrap();
            assert!(data == contents(number as u8, 100_000), "{file} is whole");
        }
        assert!(parts <= 1);
        let count = here.names().len() - parts;
        assert!(count >= whole + 3);
        whole = count;
    }
    // Its locks ended with it: what it left is gone on with.
    let directory = open(&here, SETTINGS);
    let next = format!("file-{whole}");
    let sink = sink(&directory, &offer(&next, 100_000)).unwrap();
    let left = fs::read_dir(here.path()).unwrap().count() - whole;
    assert_eq!(left, 1, "{:?} has the only part", name(&next));
    drop(sink);
}
