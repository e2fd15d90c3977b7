//! `sipora subscribe`: subscribes to an event, and prints what its notifier tells.

use std::io::{self, Write};
use std::time::{Duration, Instant, SystemTime};

use clap::Args;
use sipora_session_core::message::Uri;
use sipora_session_core::{
    Error, Notification, Resubscribe, SipClient, SipResponse, SubscriptionEnd, SubscriptionHandle,
    SubscriptionState,
};

use crate::arguments::{ClientArguments, SUBSCRIBER_EXIT_STATUSES, token};
use crate::client::{self, Client};
use crate::exit::{Failure, chain};
use crate::notified::Notified;
use crate::output::Report;
use crate::signals::{GOODBYE, Signals};
use crate::time::time_of_day;

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
    let mut watch = Watch {
        arguments: &arguments,
        target: &target,
        client: &client,
        told: 0,
        ends_in_line: true,
    };
    let result = watch.run(&mut signals).await;
    client.close().await;
    result
}

struct Watch<'a> {
    arguments: &'a SubscribeArguments,
    target: &'a Uri,
    client: &'a Client,
    /// How many notifications were printed.
    told: u64,
    /// Whether the body that --raw printed last had an end of line at its end.
    ends_in_line: bool,
}

impl Watch<'_> {
    async fn run(&mut self, signals: &mut Signals) -> Result<(), Failure> {
        let mut subscription = match signals.or(self.subscribe()).await {
            Ok(Ok(subscription)) => subscription,
            Ok(Err(error)) => return self.print(self.client.failed(&error)),
            Err(stopped) => return self.print(Report::failure(stopped, None)),
        };
        self.print(accepted(&subscription))?;
        let mut pace = Pace::default();
        loop {
            let began = Instant::now();
            if !self.follow(&mut subscription, signals).await? {
                return self.unsubscribe(&subscription).await;
            }
            let state = subscription.state();
            let Some((reason, wait)) = self.comes_again(&state) else {
                return self.ended(&state);
            };
            pace.has_lasted(began.elapsed());
            let why = format!("{} ended the subscription: {reason}", self.target);
            subscription = match self.subscribe_again(why, wait, &mut pace, signals).await? {
                Some(subscription) => subscription,
                None => return Ok(()),
            };
        }
    }

    /// Prints what is told until the subscription is over, which is true, or nobody wants to hear more.
    async fn follow(
        &mut self,
        subscription: &mut SubscriptionHandle,
        signals: &mut Signals,
    ) -> Result<bool, Failure> {
        while self.arguments.count.is_none_or(|count| self.told < count) {
            let notification = tokio::select! {
                notification = subscription.next() => notification,
                _ = signals.next() => return Ok(false),
            };
            let Some(notification) = notification else {
                return Ok(true);
            };
            self.told += 1;
            self.show(&notification)?;
        }
        Ok(false)
    }

    async fn subscribe(&self) -> Result<SubscriptionHandle, Error> {
        let SubscribeArguments { event, expires, .. } = self.arguments;
        let coordinator = &self.client.coordinator;
        coordinator
            .subscribe(self.target.as_str(), event, *expires)
            .await
    }

    /// Tells why a notifier ended the subscription, and how long it wants to be left alone, where it wants another
    /// (RFC 6665 §4.1.3). Who counts notifications or wants the present state alone has an end in mind.
    fn comes_again(&self, state: &SubscriptionState) -> Option<(String, Duration)> {
        if self.arguments.count.is_some() || self.arguments.expires == 0 {
            return None;
        }
        let SubscriptionState::Terminated(end @ SubscriptionEnd::ByNotifier { reason, .. }) = state
        else {
            return None;
        };
        let wait = match end.resubscribe() {
            Some(Resubscribe::Now) => Duration::ZERO,
            Some(Resubscribe::After(wait)) => wait,
            _ => return None,
        };
        Some((reason.to_string(), wait))
    }

    /// Subscribes anew until that is accepted, or refused for good; none where a signal came first.
    async fn subscribe_again(
        &self,
        mut why: String,
        mut wait: Duration,
        pace: &mut Pace,
        signals: &mut Signals,
    ) -> Result<Option<SubscriptionHandle>, Failure> {
        loop {
            let pause = wait.max(pace.next());
            self.note(&match pause.as_secs() {
                0 => format!("{why}; subscribing again"),
                seconds => format!("{why}; subscribing again in {seconds} s"),
            })?;
            let attempt = async {
                tokio::time::sleep(pause).await;
                self.subscribe().await
            };
            let error = tokio::select! {
                attempt = attempt => match attempt {
                    Ok(subscription) => {
                        self.note(&self.subscribed("subscribed again", &accepted(&subscription)))?;
                        return Ok(Some(subscription));
                    }
                    Err(error) => error,
                },
                _ = signals.next() => return Ok(None),
            };
            let failure = self.client.failure(&error);
            if !error.is_temporary() {
                return Err(failure.in_context("could not subscribe again"));
            }
            why = failure.to_string();
            wait = error.retry_after().unwrap_or_default();
        }
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
            Ok(Err(error)) if is_gone(&error) => {
                return self.note(&format!("already ended at the server: {}", self.target));
            }
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
            SubscriptionEnd::Expired { cause } => {
                let cause = cause.as_ref().map(|cause| format!(": {}", chain(&**cause)));
                Err(Failure::NoAnswer(format!(
                    "{target}: the subscription could not be refreshed in time{}",
                    cause.unwrap_or_default()
                )))
            }
            _ => Err(Failure::Local("the subscription was given up".to_owned())),
        }
    }

    /// Prints what became of the SUBSCRIBE; without --json, a failure has its line on standard error and nothing here.
    fn print(&self, report: Report) -> Result<(), Failure> {
        // Who only asks once sees the state, and needs no promise of more.
        let is_said = report.is_success() && self.arguments.expires > 0;
        if is_said && self.arguments.raw {
            return self.note(&self.subscribed("subscribed", &report));
        }
        report.print(self.arguments.client.json, |report, out| match is_said {
            true => writeln!(out, "{}", self.subscribed("subscribed", report)),
            false => Ok(()),
        })
    }

    fn subscribed(&self, what: &str, report: &Report) -> String {
        let mut line = format!("{what} to {} of {}", self.arguments.event, self.target);
        if let Some(seconds) = report.expires {
            line.push_str(&format!(" for {seconds} s"));
        }
        line
    }

    fn show(&mut self, notification: &Notification) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        if self.arguments.raw {
            self.ends_in_line = write_raw(&mut out, notification.body(), self.ends_in_line)?;
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

/// Paces subscriptions that take each other's place: a notifier that ends each at once is not asked all the time.
#[derive(Debug, Default)]
struct Pace {
    attempts: u32,
}

impl Pace {
    /// Gives the pause before the next SUBSCRIBE: none at first, then 1 s, 2 s and so on up to a minute.
    fn next(&mut self) -> Duration {
        let seconds = match self.attempts {
            0 => 0,
            attempts => 1 << (attempts - 1).min(6),
        };
        self.attempts = self.attempts.saturating_add(1);
        Duration::from_secs(seconds).min(LONGEST_PAUSE)
    }

    /// Begins from the start after a subscription that was of use.
    fn has_lasted(&mut self, time: Duration) {
        if time >= LONGEST_PAUSE {
            self.attempts = 0;
        }
    }
}

const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Tells whether a refusal to end a subscription says that there is none any more (RFC 6665 §4.1.2.2).
fn is_gone(error: &Error) -> bool {
    let status = error.response().map(|response| response.status().as_u16());
    status == Some(481)
}

/// Writes a body as it came, on a line of its own; gives whether it ends its last line. Nothing follows the last body.
fn write_raw(out: &mut impl Write, body: &[u8], is_new_line: bool) -> io::Result<bool> {
    let Some(last) = body.last() else {
        return Ok(is_new_line);
    };
    if !is_new_line {
        out.write_all(b"\n")?;
    }
    out.write_all(body)?;
    Ok(*last == b'\n')
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

    use super::*;
    use crate::arguments::Arguments;

    #[test]
    fn pauses_grow_to_a_minute_and_begin_anew_after_a_subscription_that_lasted() {
        let mut pace = Pace::default();
        let mut pauses =
            |count: usize| -> Vec<u64> { (0..count).map(|_| pace.next().as_secs()).collect() };
        assert_eq!(pauses(9), [0, 1, 2, 4, 8, 16, 32, 60, 60]);
        pace.has_lasted(Duration::from_secs(59));
        assert_eq!(pace.next(), LONGEST_PAUSE);
        pace.has_lasted(Duration::from_secs(60));
        assert_eq!(pace.next(), Duration::ZERO);
    }

    #[test]
    fn raw_bodies_begin_on_lines_of_their_own_and_are_else_as_they_came() {
        let mut out = Vec::new();
        let mut is_new_line = true;
        for body in ["<a/>", "", "<b/>\r\n", "<c/>\n", "<d/>"] {
            is_new_line = write_raw(&mut out, body.as_bytes(), is_new_line).unwrap();
        }
        assert_eq!(out, b"<a/>\n<b/>\r\n<c/>\n<d/>");
    }

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
