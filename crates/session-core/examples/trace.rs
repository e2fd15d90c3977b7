//! Asks a server what it can do, and keeps what went over the wire in a file for Wireshark, sngrep or tcpdump.
//!
//! ```text
//! cargo run --example trace -- "sip:127.0.0.1:5060;transport=tcp" trace.pcap
//! tcpdump -A -r trace.pcap
//! ```
//!
//! A server does the same: `CallCenterConfig::with_observer`, `EndpointBuilder::observer`, `Transports::with_observer`.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sipora_session_core::trace::{PcapTrace, TextTrace, Tracer};
use sipora_session_core::{SessionManagerBuilder, SipClient};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [uri, file] = &arguments[..] else {
        return Err("usage: trace URI FILE".into());
    };
    let tracer = Arc::new(Tracer::new(vec![
        Box::new(PcapTrace::append(Path::new(file))?),
        Box::new(TextTrace::to(std::io::stderr())),
    ]));
    let coordinator = SessionManagerBuilder::new()
        .with_observer(tracer.clone())
        .enable_sip_client()
        .build()
        .await?;
    let answer = coordinator.send_options(uri).await?;
    coordinator.shutdown().await;

    // A thread of its own writes the trace.
    tracer.flush(Duration::from_secs(2));
    println!("{} {}", answer.status(), answer.reason());
    println!("{:?}", tracer.metrics());
    Ok(())
}
