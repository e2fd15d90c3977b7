//! Answers OPTIONS, or asks with it.
//!
//! ```sh
//! cargo run --example ask_and_serve -- serve 127.0.0.1:5060
//! cargo run --example ask_and_serve -- ask sip:127.0.0.1:5060
//! cargo run --example ask_and_serve -- ask "sip:127.0.0.1:5060;transport=tcp"
//! ```
#![allow(clippy::print_stdout)]

use sipora_message::{HeaderName, Method, Request, StatusCode, Uri};
use sipora_transaction_core::{
    Claim, Context, Direction, Endpoint, Event, IdSource, IncomingRequest, MessageObserver,
    Observed, TransactionManager, User,
};
use sipora_transport::Transport;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Answers OPTIONS with what it can do (RFC 3261 §11.2).
struct Capabilities;

impl User for Capabilities {
    type Command = ();

    fn on_request(&mut self, context: &mut Context<'_>, incoming: &IncomingRequest) -> Claim {
        if *incoming.request.method() != Method::Options {
            return Claim::Passed;
        }
        let answer = context
            .answer(&incoming.request, StatusCode::OK)
            .header(HeaderName::Allow, "OPTIONS");
        if let Ok(answer) = answer.build() {
            // It cannot come too late: the request has only just come.
            let _ = context.respond(incoming.transaction, answer);
        }
        Claim::Taken
    }

    fn on_event(&mut self, _context: &mut Context<'_>, _event: Event) {}

    fn on_command(&mut self, _context: &mut Context<'_>, (): ()) {}

    fn methods(&self) -> Vec<Method> {
        vec![Method::Options]
    }
}

/// Prints the first line of every message.
struct Trace;

impl MessageObserver for Trace {
    fn on_message(&self, message: &Observed<'_>) {
        let text = String::from_utf8_lossy(message.bytes);
        let arrow = match message.direction {
            Direction::In => "<-",
            Direction::Out => "->",
        };
        println!(
            "{arrow} {} {}  {}",
            message.flow.transport,
            message.flow.remote,
            text.lines().next().unwrap_or("")
        );
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", address] => serve(address.parse()?).await,
        ["ask", uri] => ask(&Uri::parse(uri)?).await,
        _ => Err("usage: options serve ADDRESS | options ask URI".into()),
    }
}

async fn serve(address: SocketAddr) -> Result<(), Box<dyn Error>> {
    let mut builder = Endpoint::builder()
        .listen(Transport::Udp, address)
        .listen(Transport::Tcp, address)
        .observer(Arc::new(Trace));
    builder.add_user(Capabilities);
    let endpoint = builder.build().await?;
    println!("listening on {:?}", endpoint.local_addresses());
    endpoint.handle().closed().await;
    Ok(())
}

async fn ask(uri: &Uri) -> Result<(), Box<dyn Error>> {
    let mut builder = Endpoint::builder()
        .listen(Transport::Udp, "0.0.0.0:0".parse()?)
        .observer(Arc::new(Trace));
    let manager = TransactionManager::add_to(&mut builder);
    let endpoint = builder.build().await?;

    let mut ids = IdSource::unpredictable();
    let request = Request::builder(Method::Options, uri)
        .max_forwards(70)
        .from(format!(
            "<sip:anonymous@anonymous.invalid>;tag={}",
            ids.tag()
        ))
        .to(format!("<{uri}>"))
        .call_id(ids.call_id())
        .cseq(1)
        .build()?;
    let targets = endpoint.handle().resolve(uri).await?;
    let target = targets.first().ok_or("the URI leads nowhere")?.address;
    let id = manager
        .create_non_dialog_transaction(request, target)
        .await?;
    let answer = manager
        .wait_for_response(id, Duration::from_secs(32))
        .await?;
    let allow = answer.headers().text(&HeaderName::Allow);
    println!("{} {}", answer.status().as_u16(), answer.reason());
    println!("allows: {}", allow.as_deref().unwrap_or("does not say"));
    endpoint.shutdown().await;
    Ok(())
}
