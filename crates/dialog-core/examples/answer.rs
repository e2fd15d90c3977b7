//! Answers every call: 180 and 200 at once, and 200 to the BYE.
//!
//! `cargo run -p sipora-dialog-core --example answer -- 5060` listens on UDP 127.0.0.1:5060 until SIGTERM or Ctrl-C.
//! OPTIONS gets 200.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use sipora_dialog_core::{Body, Call, CallConfig, CallError, IncomingCalls, UnifiedDialogApi};
use sipora_transaction_core::Endpoint;
use sipora_transport::Transport;

const USAGE: &str =
    "usage: answer PORT\n\nAnswers every call to UDP 127.0.0.1:PORT; 0 takes a free port.";

/// A session without media: the first port that nobody listens on.
const ANSWER: &str = "v=0\r\no=answer 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
                      m=audio 9 RTP/AVP 0\r\n";

// One thread: one endpoint of one shard has no use for more.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let word = std::env::args().nth(1).unwrap_or_default();
    if matches!(word.as_str(), "-h" | "--help") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let Ok(port) = word.parse() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match run(port).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("answer: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(port: u16) -> Result<(), Box<dyn Error>> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut builder = Endpoint::builder().listen(Transport::Udp, address);
    let mut config = CallConfig::default();
    config.answers_options = true;
    let (dialogs, incoming) = UnifiedDialogApi::add_with_calls(&mut builder, config);
    let endpoint = builder.build().await?;
    let (_, address) = endpoint.handle().local_addresses()[0];
    eprintln!("listening on {address}");

    // A task, and not this function: the runtime wakes that by a system call each time.
    tokio::spawn(answer_all(incoming));
    stop().await;
    eprintln!("{:?}", dialogs.call_metrics());
    endpoint.shutdown().await;
    Ok(())
}

async fn answer_all(mut incoming: IncomingCalls) {
    while let Some(call) = incoming.next().await {
        tokio::spawn(answer(call));
    }
}

async fn answer(mut call: Call) {
    call.take_invite();
    if let Err(error) = take(&call).await {
        // The caller was faster: it has cancelled.
        eprintln!("not answered: {error}");
    }
    call.ended().await;
}

async fn take(call: &Call) -> Result<(), CallError> {
    call.ring().await?;
    call.accept(Body::new("application/sdp", ANSWER)).await
}

/// Waits for SIGTERM or Ctrl-C.
async fn stop() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
            return;
        }
    }
    // Without signals it runs until it is killed.
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}
