//! Answers every call, and is replaced in mid-call: what it is told to end by writes down its calls, and what is started after it
//! goes on with them.
//!
//! `cargo run -p sipora-dialog-core --features serde --example handover -- 5060 calls.json` listens on UDP 127.0.0.1:5060 until
//! SIGTERM or Ctrl-C.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::error::Error;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use sipora_dialog_core::{Body, Call, CallConfig, CallEnd, CallError, CallState, UnifiedDialogApi};
use sipora_transaction_core::Endpoint;
use sipora_transport::Transport;

const USAGE: &str = "usage: handover PORT FILE\n\nAnswers every call to UDP 127.0.0.1:PORT, goes on with the calls in FILE, and writes \
                     down there those that are up in the end.";

/// A session without media: the first port that nobody listens on.
const ANSWER: &str = "v=0\r\no=answer 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
                      m=audio 9 RTP/AVP 0\r\n";

/// How often a call that is not quiet is looked at again, and how long apart.
const LOOKS: u32 = 10;
const APART: Duration = Duration::from_millis(200);

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if matches!(words.first().map(String::as_str), Some("-h" | "--help")) {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let (Some(Ok(port)), Some(file)) = (words.first().map(|port| port.parse()), words.get(1))
    else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match run(port, Path::new(file)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("handover: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(port: u16, file: &Path) -> Result<(), Box<dyn Error>> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut builder = Endpoint::builder().listen(Transport::Udp, address);
    let (dialogs, mut incoming) =
        UnifiedDialogApi::add_with_calls(&mut builder, CallConfig::default());
    let endpoint = builder.build().await?;
    for call in take_over(&dialogs, file).await? {
        eprintln!("going on with call {:?}", call.key());
        tokio::spawn(goes_on(call));
    }

    let stop = stop();
    tokio::pin!(stop);
    loop {
        tokio::select! {
            call = incoming.next() => match call {
                Some(call) => drop(tokio::spawn(answer(call))),
                None => break,
            },
            () = &mut stop => break,
        }
    }
    let handed_over = hand_over(&dialogs, file).await;
    // Whatever could not be handed over is hung up.
    endpoint.shutdown().await;
    handed_over
}

async fn take_over(dialogs: &UnifiedDialogApi, file: &Path) -> Result<Vec<Call>, Box<dyn Error>> {
    let unreadable = |why: &dyn Error| format!("cannot read calls from {}: {why}", file.display());
    let text = match std::fs::read(file) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(&error).into()),
    };
    let written = std::fs::metadata(file)?.modified()?;
    let lay_still = SystemTime::now().duration_since(written);
    // What cannot be read stays where it is, for who can.
    let states: Vec<CallState> =
        serde_json::from_slice(&text).map_err(|error| unreadable(&error))?;
    // They are ours now: nobody else may go on with them.
    std::fs::remove_file(file)?;
    let mut calls = Vec::new();
    for state in states {
        let state = state.after(lay_still.clone().unwrap_or_default());
        match dialogs.restore_call(state, None).await {
            Ok(call) => calls.push(call),
            // The others go on.
            Err(error) => eprintln!("a call is lost: {error}"),
        }
    }
    Ok(calls)
}

async fn hand_over(dialogs: &UnifiedDialogApi, file: &Path) -> Result<(), Box<dyn Error>> {
    // Where it cannot be written, nothing is let go of.
    let mut whole = file.as_os_str().to_owned();
    whole.push(".new");
    let not_written = |error| format!("cannot write calls to {}: {error}", file.display());
    let mut written = File::create(&whole).map_err(not_written)?;
    let mut states = Vec::new();
    for _ in 0..LOOKS {
        states.extend(dialogs.detach_calls().await?);
        if dialogs.call_metrics().calls == 0 {
            break;
        }
        tokio::time::sleep(APART).await;
    }
    let text = serde_json::to_vec(&states)?;
    let is_kept = written
        .write_all(&text)
        .and_then(|()| written.sync_all())
        .and_then(|()| std::fs::rename(&whole, file));
    if let Err(error) = is_kept {
        // Taken back, and hung up with the rest: their peers know then.
        for state in states {
            drop(dialogs.restore_call(state, None).await);
        }
        return Err(not_written(error).into());
    }
    eprintln!("{} calls handed over", states.len());
    Ok(())
}

async fn answer(mut call: Call) {
    call.take_invite();
    if let Err(error) = take(&call).await {
        // The caller was faster: it has cancelled.
        eprintln!("not answered: {error}");
    }
    goes_on(call).await;
}

async fn take(call: &Call) -> Result<(), CallError> {
    call.ring().await?;
    call.accept(Body::new("application/sdp", ANSWER)).await
}

async fn goes_on(mut call: Call) {
    match call.ended().await {
        CallEnd::Detached => {}
        end => eprintln!("call {:?} is over: {end:?}", call.key()),
    }
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
