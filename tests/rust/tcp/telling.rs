//! What a server tells: events and records.

use std::io::Write;
use std::sync::Arc;

use rsecho::address::Family;
use rsecho::event::{Queue, What};
use rsecho::server::Listen;

use crate::helper::*;

fn queue() -> Arc<Queue> {
    Arc::new(Queue::new(1 << 16).unwrap())
}

/// All that came but the lines of the server's own life.
fn drain(queue: &Queue) -> Vec<What> {
    let events = queue.drain(1 << 16).into_iter().map(|event| event.what);
    events
        .filter(|what| !matches!(what, What::Notice { .. }))
        .collect()
}

fn each_connection_is_told_when_asked_for(engine: Engine) {
    let queue = queue();
    let server = bind_with(engine, Some(Arc::clone(&queue)), |config| {
        // Dual-stack, so that IPv4 peers come as IPv4-mapped addresses.
        config.listen = Listen::At {
            host: "::".into(),
            port: 0,
            family: Family::V6,
        };
        config.socket.ipv6_only = Some(false);
    });
    server.start().unwrap();
    let address = format!("127.0.0.1:{}", server.address().port());
    let address = address.parse().unwrap();
    let silent = connect(address);
    exchange(&silent, b"nobody asked");
    assert!(drain(&queue).is_empty());

    server.set_access(Some(4));
    let client = connect(address);
    let me = client.local_addr().unwrap();
    exchange(&client, b"abcdefgh");
    drop(client);
    let mut told = Vec::new();
    eventually("four events", || {
        told.extend(drain(&queue));
        told.len() >= 4
    });
    match &told[..] {
        [
            What::Opened { peer: opened },
            What::Received {
                peer,
                length,
                data,
                dropped: None,
            },
            What::Answered {
                length: 8,
                dropped: None,
                ..
            },
            What::Closed {
                peer: closed,
                why,
                received_bytes,
                sent_bytes,
            },
        ] => {
            assert_eq!([opened, peer, closed], [&me; 3]);
            assert_eq!((*length, &data[..]), (8, &b"abcd"[..]));
            assert_eq!((*why, *received_bytes, *sent_bytes), ("peer", 8, 8));
        }
        other => panic!("{other:?}"),
    }
}

fn a_bulk_stream_is_told_byte_for_byte(engine: Engine) {
    let queue = queue();
    let server = bind_with(engine, Some(Arc::clone(&queue)), |_| {});
    server.set_access(Some(u32::MAX - 1));
    server.start().unwrap();
    let client = connect(server.address());
    let data = pattern(3 << 20, 5);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (&client).write_all(&data).unwrap();
            end_output(&client);
        });
        assert!(read_to_end(&client) == data);
    });
    let mut told = Vec::new();
    eventually("the end", || {
        let events = drain(&queue);
        for what in &events {
            if let What::Received { data, .. } = what {
                told.extend_from_slice(data);
            }
        }
        events
            .iter()
            .any(|what| matches!(what, What::Closed { .. }))
    });
    assert!(told == data);
}

fn records_are_told_however_they_come(engine: Engine) {
    let queue = queue();
    let server = bind_with(engine, Some(Arc::clone(&queue)), |config| {
        config.record_bytes = Some(1000);
    });
    server.start().unwrap();
    let client = connect(server.address());
    let data = pattern(300_123, 9);
    for piece in [&data[..1], &data[1..999], &data[999..2_500], &data[2_500..]] {
        exchange(&client, piece);
    }
    end_output(&client);
    assert_eq!(read_to_end(&client), b"");
    eventually("the end", || server.stats().reason("peer") == 1);
    let (mut records, mut rest) = (Vec::new(), Vec::new());
    for what in drain(&queue) {
        match what {
            What::Record { peer, data } => {
                assert_eq!((peer, data.len()), (client.local_addr().unwrap(), 1000));
                records.extend_from_slice(&data);
            }
            What::Unfit { length, data, .. } => {
                assert_eq!(length, data.len());
                rest.extend_from_slice(&data);
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(records == data[..300_000] && rest == data[300_000..]);
    let stats = server.stats();
    assert_eq!((stats.get("records"), stats.get("unfit_records")), (300, 1));
}

on_both_engines!(
    each_connection_is_told_when_asked_for,
    a_bulk_stream_is_told_byte_for_byte,
    records_are_told_however_they_come,
);
