//! A notifier whose state is what is typed: each line goes to everybody who has subscribed to `presence` here.
//!
//! `cargo run -p sipora-dialog-core --example notifier -- 127.0.0.1:5060`, then watch it with
//! `cargo run -p sipora-session-core --example watch -- sip:anybody@127.0.0.1:5060`
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::error::Error;
use std::io::BufRead;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use sipora_dialog_core::{
    Body, Decision, EventSource, NotifierApi, NotifierConfig, NotifierSubscription, Offer,
    PresencePackage,
};
use sipora_message::Uri;
use sipora_transaction_core::Endpoint;
use sipora_transport::Transport;

const USAGE: &str = "usage: notifier ADDRESS\n\nNotifies from ADDRESS, as 127.0.0.1:5060, over UDP and TCP; what is typed is the state.";

struct Line(Arc<Mutex<String>>);

impl EventSource for Line {
    fn on_subscribe(&mut self, offer: &Offer) -> Decision {
        println!(
            "{} watches {} for {} s",
            offer.source(),
            offer.resource(),
            offer.expires()
        );
        Decision::Active
    }

    fn state(&mut self, subscription: &NotifierSubscription) -> Option<Body> {
        let line = self.0.lock().map(|line| line.clone()).unwrap_or_default();
        let note = line.replace('&', "&amp;").replace('<', "&lt;");
        let entity = subscription
            .resource
            .to_string()
            .replace('&', "&amp;")
            .replace('"', "&quot;");
        let document = format!(
            "<presence xmlns=\"urn:ietf:params:xml:ns:pidf\" entity=\"{entity}\"><tuple id=\"t\"><status>\
             <basic>open</basic></status></tuple><note>{note}</note></presence>"
        );
        Some(Body::new("application/pidf+xml", document))
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let word = std::env::args().nth(1).unwrap_or_default();
    if matches!(word.as_str(), "-h" | "--help") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let Ok(address) = word.parse() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match run(address).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("notifier: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(address: SocketAddr) -> Result<(), Box<dyn Error>> {
    let mut builder = Endpoint::builder()
        .listen(Transport::Udp, address)
        .listen(Transport::Tcp, address);
    let line = Arc::new(Mutex::new(String::new()));
    let source = Line(line.clone());
    let config = NotifierConfig::default();
    let packages: Vec<Arc<dyn sipora_dialog_core::EventPackage>> = vec![Arc::new(PresencePackage)];
    let notifier = NotifierApi::add_to(&mut builder, config, packages, source, None);
    let endpoint = builder.build().await?;

    let watched = Uri::parse(&format!("sip:anybody@{address}"))?;
    let lines = tokio::task::spawn_blocking(|| std::io::stdin().lock().lines().next());
    let mut lines = lines.await?;
    while let Some(Ok(text)) = lines {
        if let Ok(mut line) = line.lock() {
            *line = text;
        }
        notifier.changed("presence", &watched).await?;
        lines = tokio::task::spawn_blocking(|| std::io::stdin().lock().lines().next()).await?;
    }
    endpoint.shutdown().await;
    Ok(())
}
