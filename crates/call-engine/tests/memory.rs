//! What a registered contact costs. Alone in its program, since it looks at the memory of the whole process.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs
)]
#![cfg(target_os = "linux")]

use std::fs;

use sipora_call_engine::{
    Change, ContactChange, LocationStore, MemoryStore, Origin, Timestamp, Transport, Update,
};
use sipora_message::Uri;

const BINDINGS: usize = 100_000;

/// Bytes that the process has in memory.
fn resident() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// Binds [`BINDINGS`] contacts, each of its own address, and gives the bytes that each took.
async fn cost(contact: impl Fn(usize) -> ContactChange) -> usize {
    let store = MemoryStore::new();
    let before = resident();
    for number in 0..BINDINGS {
        let origin = Origin {
            transport: Transport::Udp,
            source: "203.0.113.7:61234".parse().unwrap(),
            flow: None,
        };
        let address = format!("sip:user{number:06}@example.com").parse().unwrap();
        let call_id = format!("{number:032x}");
        let change = Change::new(
            address,
            call_id,
            1,
            Update::Contacts(vec![contact(number)]),
            origin,
        );
        store
            .apply(change, Timestamp::from_millis(number as u64))
            .wait()
            .await
            .unwrap();
    }
    assert_eq!(store.count().wait().await.unwrap(), BINDINGS);
    let each = (resident() - before) / BINDINGS;
    // What is freed would hide what the next measurement takes.
    std::mem::forget(store);
    each
}

#[tokio::test]
async fn a_registered_contact_takes_less_than_400_bytes() {
    let phone = |number: usize| {
        let (host, port) = (number % 250, 1024 + number % 60_000);
        let uri = format!("sip:user{number:06}@203.0.113.{host}:{port};transport=udp");
        ContactChange::new(Uri::parse(&uri).unwrap(), 3600)
    };
    let each = cost(phone).await;
    println!("{each} bytes a registered contact");
    assert!(each < 400, "{each} bytes");

    // 63 bytes of instance id come on top as they are.
    let instance =
        |number| format!(";+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-{number:012}>\"");
    let with_instance = cost(|number| phone(number).with_parameters(instance(number))).await;
    println!("{with_instance} bytes one with an instance id");
    assert!(with_instance < each + 128, "{with_instance} bytes");
}
