//! `sipora register`: registers an address-of-record, lists its bindings, or removes them.

use std::io::{self, Write};
use std::time::SystemTime;

use clap::Args;
use sipora_session_core::message::{ContactRef, HeaderName, Method};
use sipora_session_core::{
    Error, RegistrationHandle, RegistrationState, SipClient, SipResponse, UdpKeepAlive,
};

use crate::addresses::Addresses;
use crate::arguments::{ClientArguments, EXIT_STATUSES, udp_keep_alive};
use crate::client::Client;
use crate::exit::{Failure, chain};
use crate::output::{BindingRow, Report};
use crate::signals::{GOODBYE, Signals};
use crate::time::time_of_day;

#[derive(Debug, Args)]
#[command(after_help = EXIT_STATUSES)]
pub(crate) struct RegisterArguments {
    /// Address-of-record, as in sip:alice@example.com
    #[arg(value_name = "URI")]
    pub(crate) uri: String,

    /// Where to send the REGISTER [default: the domain of URI]
    #[arg(long, value_name = "URI")]
    pub(crate) registrar: Option<String>,

    /// Contact to bind, or with --remove the one to remove [default: where this program is reached]
    #[arg(long, value_name = "URI")]
    pub(crate) contact: Option<String>,

    /// Seconds to ask for; the registrar decides
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 3600,
        value_parser = clap::value_parser!(u32).range(1..),
    )]
    expires: u32,

    /// Bind nothing, only list what is bound
    #[arg(long, conflicts_with_all = ["contact", "expires", "remove", "keep"])]
    query: bool,

    /// Remove the binding of --contact or, without it, every binding of the address-of-record
    #[arg(long, conflicts_with_all = ["expires", "keep"])]
    remove: bool,

    /// Stay registered, refreshing, until Ctrl-C or SIGTERM; then unregister
    #[arg(long)]
    keep: bool,

    /// Keep the way of a registration over UDP open through a NAT, by a line end this often; stun:SECONDS asks, for servers that
    /// answer STUN
    #[arg(long, value_name = "SECONDS", value_parser = udp_keep_alive, requires = "keep")]
    udp_keep_alive: Option<UdpKeepAlive>,

    #[command(flatten)]
    pub(crate) client: ClientArguments,
}

/// Runs `sipora register`.
pub(crate) async fn run(arguments: RegisterArguments) -> Result<(), Failure> {
    let addresses = Addresses::from_arguments(&arguments)?;
    // Before anything is bound: with --keep, a signal from here on means to unregister.
    let mut signals = Signals::listen()?;
    let client = Client::start_with(
        &arguments.client,
        addresses.registrar.clone(),
        Some(&addresses.record),
        |builder| match arguments.udp_keep_alive {
            Some(how) => builder.with_udp_keep_alive(how),
            None => builder,
        },
    )
    .await?;
    let session = Session {
        arguments: &arguments,
        addresses: &addresses,
        client: &client,
    };
    let signals = &mut signals;
    let result = match &arguments {
        RegisterArguments { keep: true, .. } => session.keep(signals).await,
        RegisterArguments { query: true, .. } => session.query(signals).await,
        RegisterArguments { remove: true, .. } => session.remove(signals).await,
        _ => session.register(signals).await,
    };
    client.close().await;
    result
}

struct Session<'a> {
    arguments: &'a RegisterArguments,
    addresses: &'a Addresses,
    client: &'a Client,
}

impl Session<'_> {
    /// Binds the contact and leaves it bound until it expires.
    async fn register(&self, signals: &mut Signals) -> Result<(), Failure> {
        let report = match signals.or(self.bind()).await {
            Ok(Ok(registration)) => self.bound(&registration),
            Ok(Err(error)) => self.client.failed(&error),
            Err(stopped) => Report::failure(stopped, None),
        };
        self.print_bound(report)
    }

    /// Binds the contact, keeps it bound until a signal comes, and removes it.
    async fn keep(&self, signals: &mut Signals) -> Result<(), Failure> {
        let registration = match signals.or(self.bind()).await {
            Ok(Ok(registration)) => registration,
            Ok(Err(error)) => return self.print_bound(self.client.failed(&error)),
            Err(stopped) => return self.print_bound(Report::failure(stopped, None)),
        };
        self.print_bound(self.bound(&registration))?;
        let mut states = registration.states();
        let mut reported = true;
        loop {
            let state = tokio::select! {
                state = states.next() => state,
                _ = signals.next() => break,
            };
            match state {
                // The stream begins with the state that was just reported.
                Some(RegistrationState::Registered { .. }) if reported => {}
                Some(state) => self.show(&state)?,
                None => return Err(Failure::NoAnswer("the registration ended".to_owned())),
            }
            reported = false;
        }
        let removal = tokio::time::timeout(GOODBYE, registration.unregister()).await;
        let problem = match removal {
            Ok(Ok(())) => return self.note(&format!("unregistered {}", self.addresses.record)),
            Ok(Err(error)) => self.client.failure(&error),
            Err(_) => Failure::NoAnswer(format!("{}: no final answer", self.addresses.registrar)),
        };
        Err(problem.in_context("not unregistered, the binding expires by itself"))
    }

    /// Lists the bindings, by a REGISTER without Contact (RFC 3261 §10.2.3).
    async fn query(&self, signals: &mut Signals) -> Result<(), Failure> {
        let report = self.send(None, signals).await;
        self.print(report, |report, out| {
            let count = report.bindings.as_ref().map_or(0, Vec::len);
            let noun = if count == 1 { "binding" } else { "bindings" };
            writeln!(out, "{} has {count} {noun}", self.addresses.record)?;
            report.write_bindings(out)
        })
    }

    /// Removes one contact, or all of them by `*` (RFC 3261 §10.2.2).
    async fn remove(&self, signals: &mut Signals) -> Result<(), Failure> {
        let contact = self.addresses.contact.as_ref();
        let removal = contact.map_or("*".to_owned(), |contact| format!("<{contact}>"));
        let report = self.send(Some(&removal), signals).await;
        self.print(report, |report, out| {
            let record = &self.addresses.record;
            match contact {
                Some(contact) => writeln!(out, "unregistered {contact} from {record}")?,
                None => writeln!(out, "unregistered {record}")?,
            }
            report.write_bindings(out)
        })
    }

    async fn bind(&self) -> Result<RegistrationHandle, Error> {
        let Addresses {
            record,
            registrar,
            contact,
        } = self.addresses;
        let contact = match contact {
            Some(contact) => contact.as_str().to_owned(),
            None => {
                self.client
                    .coordinator
                    .contact_uri(&self.addresses.user(), registrar.as_str())
                    .await?
            }
        };
        let expires = self.arguments.expires;
        self.client
            .coordinator
            .register(registrar.as_str(), record.as_str(), &contact, expires)
            .await
    }

    /// Sends a REGISTER that binds nothing: without `removal` it only asks, with it that contact is removed.
    async fn send(&self, removal: Option<&str>, signals: &mut Signals) -> Report {
        let Addresses {
            record, registrar, ..
        } = self.addresses;
        let coordinator = &self.client.coordinator;
        let mut request = coordinator.request(Method::Register, registrar);
        if let Some(contact) = removal {
            request = request.contact(contact).expires(0);
        }
        // Where a request goes and whom it is about are two things for REGISTER alone (RFC 3261 §10.2).
        let request = request.build().and_then(|request| {
            let to = format!("<{record}>");
            request.edit().set(HeaderName::To, to).build()
        });
        let request = match request {
            Ok(request) => request,
            Err(error) => return Report::failure(Failure::Local(chain(&error)), None),
        };
        let timeout = self.arguments.client.timeout;
        match signals
            .or(coordinator.send_raw_request(request, timeout))
            .await
        {
            Ok(Ok(response)) => {
                let mut report = self.client.answered(&response);
                if report.is_success() {
                    report.bindings = bindings(&response);
                }
                report
            }
            Ok(Err(error)) => self.client.failed(&error),
            Err(stopped) => Report::failure(stopped, None),
        }
    }

    fn bound(&self, registration: &RegistrationHandle) -> Report {
        let response = registration.response();
        let mut report = Report::answer(&response);
        report.expires = Some(registration.granted());
        report.bindings = bindings(&response);
        report
    }

    /// Prints a report; without --json, a failure has its line on standard error and nothing here.
    fn print(
        &self,
        report: Report,
        text: impl FnOnce(&Report, &mut dyn Write) -> io::Result<()>,
    ) -> Result<(), Failure> {
        report.print(self.arguments.client.json, |report, out| {
            if report.is_success() {
                text(report, out)
            } else {
                Ok(())
            }
        })
    }

    fn print_bound(&self, report: Report) -> Result<(), Failure> {
        self.print(report, |report, out| {
            let expires = report.expires.unwrap_or_default();
            writeln!(out, "registered {} for {expires} s", self.addresses.record)?;
            report.write_bindings(out)
        })
    }

    /// Tells what became of a registration that is kept.
    fn show(&self, state: &RegistrationState) -> Result<(), Failure> {
        match state {
            RegistrationState::Refreshing { .. } => Ok(()),
            RegistrationState::Failed(error) => Err(self.client.failure(error)),
            _ => self.note(&state.to_string()),
        }
    }

    /// Says something beside the report, and when; with --json that goes to standard error.
    fn note(&self, text: &str) -> Result<(), Failure> {
        let text = format!("{} {text}", time_of_day(SystemTime::now()));
        if self.arguments.client.json {
            writeln!(io::stderr(), "{text}")?;
        } else {
            writeln!(io::stdout(), "{text}")?;
        }
        Ok(())
    }
}

/// Reads the bindings that a registrar lists in its 2xx; none where its Contact cannot be read.
fn bindings(response: &SipResponse) -> Option<Vec<BindingRow>> {
    let contacts = response.message().headers().contacts().ok()?;
    let row = |contact: &ContactRef<'_>| BindingRow {
        uri: contact.uri().as_str().to_owned(),
        expires: contact.expires(),
        q: contact.q().map(|q| f32::from(q.thousandths()) / 1000.0),
    };
    Some(contacts.as_slice().iter().map(row).collect())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::arguments::Arguments;

    #[test]
    fn what_excludes_each_other_is_wrong_usage() {
        for flags in [
            ["--query", "--remove"].as_slice(),
            &["--query", "--keep"],
            &["--query", "--contact", "sip:a@b"],
            &["--remove", "--keep"],
            &["--remove", "--expires", "60"],
            &["--expires", "0"],
        ] {
            let words = ["sipora", "register", "sip:alice@example.com"]
                .iter()
                .chain(flags);
            assert!(Arguments::try_parse_from(words).is_err(), "{flags:?}");
        }
    }
}
