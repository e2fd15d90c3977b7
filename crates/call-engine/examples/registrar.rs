//! A registrar on the loopback interface that shows its bindings as they come and go.
//!
//! ```sh
//! cargo run -p sipora-call-engine --example registrar -- [HOST:PORT]
//! ```
//!
//! Register `sip:alice@127.0.0.1` with the password `wonderland` to see one.
#![allow(clippy::print_stdout)]

use std::time::Duration;

use sipora_call_engine::{CallCenterConfig, CallCenterEngine, Error};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let address = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:5060".to_owned());
    let config = CallCenterConfig::new()
        .with_udp_listener(&address)
        .with_tcp_listener(&address)
        .with_user("alice", "wonderland");
    let engine = CallCenterEngine::new(config).await?;
    for listener in engine.listeners() {
        println!("listening on {listener}");
    }

    let mut stop = std::pin::pin!(tokio::signal::ctrl_c());
    let mut shown = Vec::new();
    loop {
        tokio::select! {
            _ = &mut stop => break,
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
        let page = engine.bindings_page(None, 100).await?;
        let bindings: Vec<String> = page
            .addresses
            .iter()
            .flat_map(|(address, bindings)| {
                bindings
                    .iter()
                    .map(move |binding| format!("{address} at {}", binding.uri()))
            })
            .collect();
        if bindings != shown {
            println!("{} bound", bindings.len());
            bindings.iter().for_each(|line| println!("  {line}"));
            shown = bindings;
        }
    }
    engine.shutdown().await;
    println!("{:#?}", engine.metrics().registrar);
    Ok(())
}
