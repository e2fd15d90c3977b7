//! Watches somebody's presence or mailbox until it ends or Ctrl-C.
//!
//! `cargo run -p sipora-session-core --example watch -- sip:bob@127.0.0.1 [presence|message-summary]`
//!
//! User name and password come from the environment variables `SIP_USER` and `SIP_PASSWORD`.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::process::ExitCode;

use sipora_session_core::{
    Credentials, Error, Notification, SessionManagerBuilder, SipClient, SubscriptionState,
};

#[tokio::main]
async fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (target, event) = match words.as_slice() {
        [target] => (target.as_str(), "presence"),
        [target, event] => (target.as_str(), event.as_str()),
        _ => {
            eprintln!("usage: watch URI [EVENT]");
            return ExitCode::from(2);
        }
    };
    match run(target, event).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(target: &str, event: &str) -> Result<(), Error> {
    let mut builder = SessionManagerBuilder::new().enable_sip_client();
    if let (Ok(user), Ok(password)) = (std::env::var("SIP_USER"), std::env::var("SIP_PASSWORD")) {
        builder = builder.with_credentials(Credentials::new(user, password));
    }
    let coordinator = builder.build().await?;
    let mut subscription = coordinator.subscribe(target, event, 3600).await?;
    loop {
        tokio::select! {
            notification = subscription.next() => match notification {
                Some(notification) => show(&notification),
                None => break,
            },
            _ = tokio::signal::ctrl_c() => {
                subscription.terminate().await?;
                break;
            }
        }
    }
    if let SubscriptionState::Terminated(end) = subscription.state() {
        println!("over: {end:?}; subscribe again: {:?}", end.resubscribe());
    }
    coordinator.shutdown().await;
    Ok(())
}

fn show(notification: &Notification) {
    if let Some(Ok(presence)) = notification.presence() {
        println!(
            "{}: {:?} {:?}",
            presence.entity,
            presence.basic(),
            presence.notes
        );
    } else if let Some(Ok(summary)) = notification.message_summary() {
        println!("waiting: {} {:?}", summary.waiting, summary.counts);
    } else {
        println!("{}", String::from_utf8_lossy(notification.body()));
    }
}
