//! Lets others subscribe to what is typed: each line goes to everybody who watches `presence` here.
//!
//! `cargo run -p sipora-session-core --example station -- 5080`, then watch it with
//! `cargo run -p sipora-session-core --example watch -- sip:anybody@127.0.0.1:5080`
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::error::Error;
use std::io::BufRead;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use sipora_session_core::{
    Basic, Incoming, Presence, PresencePackage, SessionHandler, SessionManagerBuilder,
    SubscribeAnswer, Tuple, Watcher,
};

#[derive(Default)]
struct Station(Mutex<State>);

#[derive(Default)]
struct State {
    line: String,
    watchers: Vec<Watcher>,
}

fn tell(watcher: &Watcher, line: &str) -> sipora_session_core::Result<()> {
    let tuple = Tuple::new("station").with_basic(Basic::Open);
    let presence = Presence::new(watcher.resource().to_string())
        .with_tuple(tuple)
        .with_note(line);
    watcher.notify(Presence::CONTENT_TYPE, presence.to_xml())
}

#[async_trait]
impl SessionHandler for Station {
    async fn on_subscribe(&self, incoming: &Incoming<'_>, watcher: Watcher) -> SubscribeAnswer {
        println!("{} watches from {}", incoming.from(), incoming.source());
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = tell(&watcher, &state.line);
        state.watchers.retain(|other| other.end().is_none());
        state.watchers.push(watcher);
        SubscribeAnswer::Active
    }
}

impl Station {
    fn say(&self, line: String) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Who has gone is forgotten.
        state
            .watchers
            .retain(|watcher| tell(watcher, &line).is_ok());
        println!("told {}", state.watchers.len());
        state.line = line;
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let port = std::env::args().nth(1).ok_or("usage: station PORT")?;
    let station = Arc::new(Station::default());
    let coordinator = SessionManagerBuilder::new()
        .with_sip_port(port.parse()?)
        .with_event_package(PresencePackage)
        .with_handler(station.clone())
        .build()
        .await?;
    println!("listening on {}", coordinator.local_address());
    let next = || tokio::task::spawn_blocking(|| std::io::stdin().lock().lines().next());
    while let Some(Ok(line)) = next().await? {
        station.say(line);
    }
    coordinator.shutdown().await;
    Ok(())
}
