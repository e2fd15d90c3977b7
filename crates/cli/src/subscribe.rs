//! `sipora subscribe`: subscribes to an event, and prints what its notifier tells.

use std::io::{self, Write};
use std::time::SystemTime;

use clap::Args;
use sipora_session_core::message::Uri;
use sipora_session_core::{
    Notification, Resubscribe, SipClient, SipResponse, SubscriptionEnd, SubscriptionHandle,
    SubscriptionState,
};

use crate::arguments::{ClientArguments, SUBSCRIBER_EXIT_STATUSES, token};
use crate::client::{self, Client};
use crate::exit::{Failure, chain};
use crate::notified::Notified;
use crate::output::Report;
use crate::signals::{GOODBYE, Signals};
use crate::wire::time_of_day;

#[derive(Debug, Args)]
#[command(after_help = SUBSCRIBER_EXIT_STATUSES)]
pub(crate) struct SubscribeArguments {
    /// Whom to watch, as in sip:bob@example.com
    #[arg(value_name = "URI")]
    uri: String,

    /// What to watch: presence, message-summary or any other event
    #[arg(long, value_name = "NAME", default_value = "presence", value_parser = token)]
    event: String,

    /// Who watches, as in sip:alice@example.com; unless given, --user in the domain of URI
    #[arg(long, value_name = "URI")]
    from: Option<String>,

    /// Seconds to ask for, refreshed for as long as the program runs; 0 asks for the present state alone
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    expires: u32,

    /// End after this many notifications
    #[arg(
        long,
        value_name = "NUMBER",
        value_parser = clap::value_parser!(u64).range(1..),
    )]
    count: Option<u64>,

    /// Print the bodies alone, as they come; all else goes to standard error
    #[arg(long, conflicts_with = "json")]
    raw: bool,

    #[command(flatten)]
    pub(crate) client: ClientArguments,
}

/// Runs `sipora subscribe`.
pub(crate) async fn run(arguments: SubscribeArguments) -> Result<(), Failure> {
    let target = client::parse_uri("URI", &arguments.uri)?;
    let target = client::with_transport(target, arguments.client.transport)?;
    let identity = match &arguments.from {
        Some(from) => Some(client::parse_uri("--from", from)?),
        None => client::user_of(&arguments.client, &target)?,
    };
    // Before anything is subscribed to: a signal from here on means to unsubscribe.
    let mut signals = Signals::listen()?;
    let client = Client::start(&arguments.client, target.clone(), identity.as_ref()).await?;
    let watch = Watch {
        arguments: &arguments,
        target: &target,
        client: &client,
    };
    let result = watch.run(&mut signals).await;
    client.close().await;
    result
}

struct Watch<'a> {
    arguments: &'a SubscribeArguments,
    target: &'a Uri,
    client: &'a Client,
}

impl Watch<'_> {
    async fn run(&self, signals: &mut Signals) -> Result<(), Failure> {
        let SubscribeArguments { event, expires, .. } = self.arguments;
        let coordinator = &self.client.coordinator;
        let subscribing = coordinator.subscribe(self.target.as_str(), event, *expires);
        let mut subscription = match signals.or(subscribing).await {
            Ok(Ok(subscription)) => subscription,
            Ok(Err(error)) => return self.print(self.client.failed(&error)),
            Err(stopped) => return self.print(Report::failure(stopped, None)),
        };
        self.print(accepted(&subscription))?;
        let mut told = 0;
        while self.arguments.count.is_none_or(|count| told < count) {
            let notification = tokio::select! {
                notification = subscription.next() => notification,
                _ = signals.next() => break,
            };
            let Some(notification) = notification else {
                return self.ended(&subscription.state());
            };
            told += 1;
            self.show(&notification)?;
        }
        self.unsubscribe(&subscription).await
    }

    /// Ends the subscription. What else is told meanwhile is nobody's wish any more.
    async fn unsubscribe(&self, subscription: &SubscriptionHandle) -> Result<(), Failure> {
        // What the notifier has ended, as after a fetch, needs no further word.
        if subscription.state().is_terminal() {
            return Ok(());
        }
        let end = tokio::time::timeout(GOODBYE, subscription.terminate()).await;
        let problem = match end {
            Ok(Ok(())) => return self.note(&format!("unsubscribed from {}", self.target)),
            Ok(Err(error)) => self.client.failure(&error),
            Err(_) => Failure::NoAnswer(format!("{}: no answer, or no last NOTIFY", self.target)),
        };
        Err(problem.in_context("not unsubscribed, the subscription expires by itself"))
    }

    /// Says what the end of a subscription that nobody here asked for means.
    fn ended(&self, state: &SubscriptionState) -> Result<(), Failure> {
        let target = self.target;
        let SubscriptionState::Terminated(end) = state else {
            return Err(Failure::Local("the subscription was given up".to_owned()));
        };
        match end {
            SubscriptionEnd::Unsubscribed => Ok(()),
            SubscriptionEnd::ByNotifier { .. } if self.arguments.expires == 0 => Ok(()),
            SubscriptionEnd::ByNotifier { reason, .. } => {
                let again = match end.resubscribe() {
                    Some(Resubscribe::Now) => "; subscribe again",
                    Some(Resubscribe::After(wait)) => {
                        &format!("; subscribe again after {} s", wait.as_secs())
                    }
                    _ => "",
                };
                let text = format!("{target} ended the subscription: {reason}{again}");
                Err(Failure::Refused(text))
            }
            SubscriptionEnd::Refused { response, .. } => {
                Err(self.client.refusal(&SipResponse::from(response.clone())))
            }
            SubscriptionEnd::NoAnswer(error) => {
                Err(Failure::NoAnswer(format!("{target}: {}", chain(error))))
            }
            SubscriptionEnd::NoNotify => Err(Failure::NoAnswer(format!(
                "{target} accepted the subscription and sent no NOTIFY"
            ))),
            SubscriptionEnd::Expired => Err(Failure::NoAnswer(format!(
                "{target}: the subscription could not be refreshed in time"
            ))),
            _ => Err(Failure::Local("the subscription was given up".to_owned())),
        }
    }

    /// Prints what became of the SUBSCRIBE; without --json, a failure has its line on standard error and nothing here.
    fn print(&self, report: Report) -> Result<(), Failure> {
        // Who only asks once sees the state, and needs no promise of more.
        let is_said = report.is_success() && self.arguments.expires > 0;
        if is_said && self.arguments.raw {
            return self.note(&self.subscribed(&report));
        }
        report.print(self.arguments.client.json, |report, out| match is_said {
            true => writeln!(out, "{}", self.subscribed(report)),
            false => Ok(()),
        })
    }

    fn subscribed(&self, report: &Report) -> String {
        let mut line = format!("subscribed to {} of {}", self.arguments.event, self.target);
        if let Some(seconds) = report.expires {
            line.push_str(&format!(" for {seconds} s"));
        }
        line
    }

    fn show(&self, notification: &Notification) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        if self.arguments.raw {
            out.write_all(notification.body())?;
            return Ok(out.flush()?);
        }
        let notified = Notified::new(notification);
        if self.arguments.client.json {
            serde_json::to_writer(&mut out, &notified).map_err(io::Error::from)?;
            writeln!(out)?;
        } else {
            write!(out, "{} ", time_of_day(SystemTime::now()))?;
            notified.write(&mut out)?;
        }
        Ok(out.flush()?)
    }

    /// Says something beside what is told, and when; with --json and --raw that goes to standard error.
    fn note(&self, text: &str) -> Result<(), Failure> {
        let text = format!("{} {text}", time_of_day(SystemTime::now()));
        if self.arguments.client.json || self.arguments.raw {
            writeln!(io::stderr(), "{text}")?;
        } else {
            writeln!(io::stdout(), "{text}")?;
        }
        Ok(())
    }
}

/// Reports that the notifier has accepted: by a 2xx, or by a NOTIFY where that was lost.
fn accepted(subscription: &SubscriptionHandle) -> Report {
    let Some(response) = subscription.response() else {
        return Report::default();
    };
    let mut report = Report::answer(&response);
    report.expires = response.message().headers().expires().ok().flatten();
    report
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::arguments::Arguments;

    #[test]
    fn what_makes_no_sense_is_wrong_usage() {
        for flags in [
            ["--count", "0"].as_slice(),
            &["--count", "-1"],
            &["--count", "many"],
            &["--expires", "-1"],
            &["--expires", "4294967296"],
            &["--raw", "--json"],
            &["--event"],
        ] {
            let words = ["sipora", "subscribe", "sip:alice@example.com"]
                .iter()
                .chain(flags);
            assert!(Arguments::try_parse_from(words).is_err(), "{flags:?}");
        }
    }
}
