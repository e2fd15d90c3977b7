//! The server of the demo: two users, free ports, and short registrations allowed so that a refresh is soon.
//!
//! It is the README's server with a log of its messages. `sipora serve` is the one to deploy.

#![allow(clippy::print_stdout, clippy::print_stderr)]

mod certificate;

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use sipora_call_engine::{CallCenterConfig, CallCenterEngine, PresenceConfig};
use sipora_session_core::{Direction, MessageObserver, Observed};
use tokio::signal::unix::{SignalKind, signal};

/// A server with two users: alice, whose password is wonderland, and bob, whose password is builder.
#[derive(Parser)]
struct Arguments {
    /// Address to listen at, over UDP, TCP, TLS, and WebSocket plain and secure
    #[arg(long, default_value_t = IpAddr::from(Ipv4Addr::LOCALHOST))]
    address: IpAddr,

    /// Port to listen at over UDP and TCP, and the three above it for TLS, ws and wss; 0 takes free ones
    #[arg(long, default_value_t = 0)]
    port: u16,

    /// File to write the root to that clients have to believe, over TLS and wss
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );

    let mut names = vec![IpAddr::from(Ipv4Addr::LOCALHOST)];
    names.extend(address_in_the_network());
    let tls = certificate::make(&names, arguments.root.as_deref())?;
    let address = |above: u16| {
        let port = match arguments.port {
            0 => 0,
            port => port.saturating_add(above),
        };
        SocketAddr::new(arguments.address, port).to_string()
    };
    let config = CallCenterConfig::new()
        .with_udp_listener(address(0))
        .with_tcp_listener(address(0))
        .with_tls_listener(address(1))
        .with_ws_listener(address(2))
        .with_wss_listener(address(3))
        .with_tls(tls)
        .with_user("alice", "wonderland")
        .with_user("bob", "builder")
        .with_expires(3600, SHORTEST, 7200)
        .with_presence(PresenceConfig::new().with_notify_interval(PACE))
        .with_observer(Arc::new(Log(Instant::now())));
    let engine = CallCenterEngine::new(config).await?;

    for listener in engine.listeners() {
        println!("listening on {listener}");
    }
    if arguments.address.is_unspecified() {
        print_phone_settings(&engine);
    }

    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    engine.shutdown().await;
    Ok(())
}

/// Tells what to enter into a phone that is in the same network.
fn print_phone_settings(engine: &CallCenterEngine) {
    let host = address_in_the_network().unwrap_or(Ipv4Addr::LOCALHOST.into());
    println!(
        "phone: To register a phone in the same network, enter (bob, builder for a second one)"
    );
    println!("phone:   user name  alice");
    println!("phone:   password   wonderland");
    println!("phone:   domain     {host}");
    for listener in engine.listeners() {
        let server = SocketAddr::new(host, listener.address.port());
        println!("phone:   server     {server} over {}", listener.transport);
    }
}

/// Gives the address that the way out of this machine begins with. Connecting a UDP socket sends nothing.
fn address_in_the_network() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect(DOCUMENTATION_ADDRESS).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// Writes every message to standard error.
struct Log(Instant);

impl MessageObserver for Log {
    fn on_message(&self, message: &Observed<'_>) {
        let arrow = match message.direction {
            Direction::In => "<<<",
            Direction::Out => ">>>",
        };
        let time = message.now.instant.duration_since(self.0).as_secs_f64();
        let text = String::from_utf8_lossy(message.bytes);
        eprintln!(
            "{arrow} {time:.3} s {} {}\n{text}",
            message.flow.transport, message.flow.remote
        );
    }
}

/// Seconds below which the registrar answers 423. A real one has 60.
const SHORTEST: u32 = 5;

/// From one NOTIFY to the next. A real server has 5 s.
const PACE: Duration = Duration::from_secs(1);

/// Reserved by RFC 5737: nobody is there.
const DOCUMENTATION_ADDRESS: (Ipv4Addr, u16) = (Ipv4Addr::new(192, 0, 2, 1), 9);
