//! Ways of waiting, and CPUs to keep to.

use std::time::{Duration, Instant};

use rsecho::server::Wait;

use crate::helper::*;

fn every_way_of_waiting_echoes_keeps_deadlines_and_stops(engine: Engine) {
    for wait in [Wait::Balanced, Wait::Latency, Wait::Busy] {
        let server = serve(engine, |config| {
            config.wait = wait;
            config.idle_timeout = Some(Duration::from_millis(300));
        });
        let client = connect(server.address());
        for number in 0..100u8 {
            exchange(&client, &[number; 3]);
        }
        // Nothing is ready any more, so only the wait itself can see the deadline.
        eventually("it is idle", || server.stats().reason("idle") == 1);
        assert!(is_over(&client));
        let start = Instant::now();
        server.stop(LONG).unwrap();
        assert!(start.elapsed() < Duration::from_secs(1), "{wait:?}");
        assert_balance(&server);
    }
}

/// The CPUs that threads of this name may use.
#[cfg(target_os = "linux")]
fn cpus_of_threads(name: &str) -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let statuses =
        tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("status")).ok());
    let own = statuses.filter(|status| {
        status
            .lines()
            .next()
            .is_some_and(|line| line.contains(name))
    });
    let cpus = own.filter_map(|status| {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
        Some(line.trim().to_owned())
    });
    cpus.collect()
}

#[cfg(target_os = "linux")]
fn workers_keep_to_their_cpus(engine: Engine) {
    let server = serve(engine, |config| config.cpus = vec![0]);
    exchange(&connect(server.address()), b"it runs, so it has settled");
    assert!(cpus_of_threads("rsecho-tcp").iter().any(|cpus| cpus == "0"));
}

on_both_engines!(
    every_way_of_waiting_echoes_keeps_deadlines_and_stops,
    workers_keep_to_their_cpus,
);
