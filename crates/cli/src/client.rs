//! What the client commands share: URIs, credentials, the coordinator, and what an error means.

use std::env;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sipora_session_core::message::{HeaderName, Uri};
use sipora_session_core::trace::Tracer;
use sipora_session_core::{
    Credentials, Error, SessionCoordinator, SessionManagerBuilder, SipResponse,
};

use crate::arguments::{ClientArguments, TransportChoice};
use crate::exit::{Failure, chain};
use crate::names;
use crate::output::Report;
use crate::tls;
use crate::trace;

/// Is a SIP client that talks to one peer.
pub(crate) struct Client {
    pub(crate) coordinator: Arc<SessionCoordinator>,
    peer: Uri,
    has_credentials: bool,
    tracer: Option<Arc<Tracer>>,
}

impl Client {
    /// Starts a client on a free port.
    ///
    /// `peer` is where requests will go; `identity` is who sends them, whose user part is the user name where `--user` gives
    /// none.
    pub(crate) async fn start(
        arguments: &ClientArguments,
        peer: Uri,
        identity: Option<&Uri>,
    ) -> Result<Client, Failure> {
        Client::start_with(arguments, peer, identity, |builder| builder).await
    }

    /// As [`Client::start`], with further settings.
    pub(crate) async fn start_with(
        arguments: &ClientArguments,
        peer: Uri,
        identity: Option<&Uri>,
        settings: impl FnOnce(SessionManagerBuilder) -> SessionManagerBuilder,
    ) -> Result<Client, Failure> {
        let proxy = match &arguments.proxy {
            Some(proxy) => Some(parse_uri("--proxy", proxy)?),
            None => None,
        };
        let user = identity.and_then(Uri::user_decoded);
        let credentials = credentials(arguments, user.as_deref())?;
        let has_credentials = credentials.is_some();

        let mut builder = SessionManagerBuilder::new()
            .with_request_timeout(arguments.timeout)
            .with_user_agent(USER_AGENT)
            .enable_sip_client();
        builder = match arguments.keep_alive {
            Some(Duration::ZERO) => builder.without_keep_alive(),
            Some(interval) => builder.with_keep_alive(interval),
            None => builder,
        };
        builder = settings(builder);
        let next = [proxy.as_ref(), Some(&peer)];
        let next: Vec<&Uri> = next.into_iter().flatten().collect();
        let tls = tls::for_client(&arguments.tls, &next)?;
        builder = builder.with_resolver(names::resolver(&arguments.dns_server, tls.is_some())?);
        if let Some(tls) = tls {
            builder = builder.with_tls(tls);
        }
        if let Some(proxy) = &proxy {
            builder = builder.with_outbound_proxy(proxy.as_str());
        }
        if let Some(identity) = identity {
            builder = builder.with_identity(identity.as_str());
        }
        if let Some(credentials) = credentials {
            builder = builder.with_credentials(credentials);
        }
        let tracer = arguments.trace.start(arguments.verbose > 0)?;
        if let Some(tracer) = &tracer {
            builder = builder.with_observer(tracer.clone());
        }
        let coordinator = builder
            .build()
            .await
            .map_err(|error| Failure::Local(chain(&error)))?;
        Ok(Client {
            coordinator,
            peer,
            has_credentials,
            tracer,
        })
    }

    /// Ends the client. What is in flight by now has nobody who waits for it.
    pub(crate) async fn close(self) {
        let _ = tokio::time::timeout(Duration::from_secs(1), self.coordinator.shutdown()).await;
    }

    /// Reports any final answer; one other than 2xx is a failure.
    pub(crate) fn answered(&self, response: &SipResponse) -> Report {
        if response.status().is_success() {
            Report::answer(response)
        } else {
            Report::failure(self.refusal(response), Some(response))
        }
    }

    /// Reports a failed call, with the answer behind it.
    pub(crate) fn failed(&self, error: &Error) -> Report {
        Report::failure(self.failure(error), error.response())
    }

    /// Says what a failed call means for the exit status.
    pub(crate) fn failure(&self, error: &Error) -> Failure {
        let (peer, text) = (&self.peer, chain(error));
        match error {
            Error::Rejected(response) => self.refusal(response),
            Error::AuthenticationFailed { response, .. }
            | Error::ProtocolError { response, .. } => Failure::Refused(format!(
                "{peer}: {text} ({} {})",
                response.status(),
                response.reason()
            )),
            Error::Timeout { .. } | Error::Transport { .. } => {
                Failure::NoAnswer(format!("{peer}: {text}"))
            }
            _ => Failure::Local(text),
        }
    }

    /// Says that a final answer is none that was wished for, and what may help.
    pub(crate) fn refusal(&self, response: &SipResponse) -> Failure {
        if let Some(realm) = refusing_realm(response).filter(|_| self.has_credentials) {
            return Failure::Refused(format!(
                "{}: authentication failed: the credentials for realm \"{realm}\" were rejected ({} {})",
                self.peer,
                response.status(),
                response.reason()
            ));
        }
        let mut text = format!(
            "{} answered {} {}",
            self.peer,
            response.status(),
            response.reason()
        );
        if matches!(response.status().as_u16(), 401 | 407) && !self.has_credentials {
            text.push_str(&format!(
                "; give --user and --password-file or {PASSWORD_VARIABLE}"
            ));
        }
        let reason = response.reason().to_ascii_lowercase();
        if response.status().as_u16() == 403 && reason.contains("too many contacts") {
            text.push_str(
                "; each run without --contact binds a port of its own until that expires: \
                 --remove removes them all, --keep its own at the end",
            );
        }
        Failure::Refused(text)
    }
}

/// What the messages were is written before the program says what came of them.
impl Drop for Client {
    fn drop(&mut self) {
        trace::finish(self.tracer.as_ref());
    }
}

/// Gives the realm that asks for credentials though it was sent some that fit: those of the command line fit every realm. A
/// challenge that cannot be answered, such as one by an algorithm that nobody here knows, is none.
fn refusing_realm(response: &SipResponse) -> Option<String> {
    let name = match response.status().as_u16() {
        401 => HeaderName::WwwAuthenticate,
        407 => HeaderName::ProxyAuthenticate,
        _ => return None,
    };
    let challenges = response.message().headers();
    let mut challenges = challenges.challenges(&name).flatten();
    let challenge = challenges.find(|challenge| {
        let algorithm = challenge.param("algorithm");
        let algorithm = algorithm.as_deref().unwrap_or("MD5").to_ascii_uppercase();
        let plain = algorithm.strip_suffix("-SESS").unwrap_or(&algorithm);
        challenge.is("Digest") && ["MD5", "SHA-256", "SHA-512-256"].contains(&plain)
    })?;
    challenge.param("realm").map(|realm| realm.into_owned())
}

/// Reads a SIP or SIPS URI; `what` names the argument that it came from.
pub(crate) fn parse_uri(what: &str, text: &str) -> Result<Uri, Failure> {
    let shown = without_password(text);
    let wrong =
        |reason: &str| Failure::Local(format!("{what} '{shown}' is not a SIP URI: {reason}"));
    if !SCHEMES.iter().any(|scheme| begins_with(text, scheme)) {
        // Whom to write to and whom to watch (RFC 3860, RFC 3859) is the same person at the same host.
        let abstract_scheme = ABSTRACT_SCHEMES
            .iter()
            .find(|scheme| begins_with(text, scheme));
        let (_, rest) = text.split_at(abstract_scheme.map_or(0, |scheme| scheme.len()));
        let meant = format!("sip:{rest}");
        let example = match Uri::parse(&meant) {
            Ok(_) => without_password(&meant),
            Err(_) => "sip:alice@example.com".to_owned(),
        };
        return Err(wrong(&format!(
            "it begins with sip: or sips:, as in {example}"
        )));
    }
    Uri::parse(text).map_err(|error| {
        wrong(&format!(
            "{} at character {}",
            error.reason(),
            error.offset() + 1
        ))
    })
}

/// Hides what may be a password in a text that is meant to be a URI.
pub(crate) fn without_password(text: &str) -> String {
    let Some((user_info, host)) = text.rsplit_once('@') else {
        return text.to_owned();
    };
    let scheme = SCHEMES.iter().find(|scheme| begins_with(user_info, scheme));
    let (scheme, user_info) = user_info.split_at(scheme.map_or(0, |scheme| scheme.len()));
    match user_info.split_once(':') {
        Some((user, _)) => format!("{scheme}{user}:***@{host}"),
        None => text.to_owned(),
    }
}

fn begins_with(text: &str, scheme: &str) -> bool {
    let start = text.get(..scheme.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(scheme))
}

/// Gives the address-of-record of `--user` in the domain of whom the request is for: a server relays requests of its own
/// users alone.
pub(crate) fn user_of(arguments: &ClientArguments, target: &Uri) -> Result<Option<Uri>, Failure> {
    let Some(name) = &arguments.user else {
        return Ok(None);
    };
    let (user, domain) = match name.rsplit_once('@') {
        Some((user, domain)) => (user, domain),
        None => (name.as_str(), target.host_str()),
    };
    Uri::sip(Some(user), domain, None)
        .map(Some)
        .map_err(|error| Failure::Local(format!("--user '{name}': {}", error.reason())))
}

/// Names the chosen transport in a URI that names none.
pub(crate) fn with_transport(uri: Uri, choice: Option<TransportChoice>) -> Result<Uri, Failure> {
    let Some(choice) = choice else {
        return Ok(uri);
    };
    match uri.transport() {
        Some(named) if named.eq_ignore_ascii_case(choice.as_str()) => Ok(uri),
        Some(named) => Err(Failure::Local(format!(
            "--transport {} contradicts transport={named} in {uri}",
            choice.as_str()
        ))),
        None => uri
            .with_param("transport", Some(choice.as_str()))
            .map_err(|error| Failure::Local(error.to_string())),
    }
}

/// Gives the credentials of the command line and the environment, if there are any.
fn credentials(
    arguments: &ClientArguments,
    user: Option<&str>,
) -> Result<Option<Credentials>, Failure> {
    let password = match &arguments.password_file {
        Some(path) => Some(read_password(path)?),
        None => env::var(PASSWORD_VARIABLE).ok(),
    };
    match (arguments.user.as_deref(), password) {
        (Some(user), Some(password)) => Ok(Some(Credentials::new(user, password))),
        (Some(_), None) => Err(Failure::Local(format!(
            "--user needs a password: give --password-file FILE or set {PASSWORD_VARIABLE}"
        ))),
        (None, Some(password)) => match user {
            Some(user) => Ok(Some(Credentials::new(user, password))),
            None if arguments.password_file.is_some() => Err(Failure::Local(
                "--password-file needs --user NAME".to_owned(),
            )),
            // The variable may be there for other commands.
            None => Ok(None),
        },
        (None, None) => Ok(None),
    }
}

/// Takes the first line; the rest may be a comment.
fn read_password(path: &Path) -> Result<String, Failure> {
    let text = fs::read_to_string(path).map_err(|error| {
        Failure::Local(format!(
            "cannot read the password file {}: {error}",
            path.display()
        ))
    })?;
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(line.to_owned()),
        _ => Err(Failure::Local(format!(
            "the password file {} is empty",
            path.display()
        ))),
    }
}

const ABSTRACT_SCHEMES: [&str; 2] = ["pres:", "im:"];
const SCHEMES: [&str; 2] = ["sip:", "sips:"];
const PASSWORD_VARIABLE: &str = "SIPORA_PASSWORD";
const USER_AGENT: &str = concat!("sipora/", env!("CARGO_PKG_VERSION"));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transport_is_added_where_none_is_named() {
        let uri = |text: &str| Uri::parse(text).unwrap();
        let tcp = Some(TransportChoice::Tcp);
        assert_eq!(
            with_transport(uri("sip:a@b.example:5070"), tcp)
                .unwrap()
                .as_str(),
            "sip:a@b.example:5070;transport=tcp"
        );
        assert_eq!(
            with_transport(uri("sip:b.example;transport=TCP"), tcp)
                .unwrap()
                .as_str(),
            "sip:b.example;transport=TCP"
        );
        assert_eq!(
            with_transport(uri("sip:b.example"), None).unwrap().as_str(),
            "sip:b.example"
        );
    }

    #[test]
    fn two_transports_that_differ_are_wrong_usage() {
        let uri = Uri::parse("sip:b.example;transport=udp").unwrap();
        let failure = with_transport(uri, Some(TransportChoice::Tcp)).unwrap_err();
        assert_eq!(failure.status(), 2);
    }

    #[test]
    fn what_is_no_sip_uri_is_wrong_usage_and_quoted() {
        for text in [
            "",
            "alice",
            "alice@example.com",
            "tel:+123",
            "sip:",
            "sip:a b@c",
            "http://a.example",
        ] {
            let failure = parse_uri("URI", text).unwrap_err();
            assert_eq!(failure.status(), 2, "{text}");
            assert!(
                failure.to_string().contains(&format!("'{text}'")),
                "{failure}"
            );
        }
    }

    #[test]
    fn a_scheme_that_is_missing_is_shown_where_it_belongs() {
        for (text, end) in [
            ("127.0.0.1", "as in sip:127.0.0.1"),
            ("alice@127.0.0.1:5070", "as in sip:alice@127.0.0.1:5070"),
            ("tel:+123", "as in sip:alice@example.com"),
            ("pres:bob@example.com", "as in sip:bob@example.com"),
            ("im:bob@example.com:5070", "as in sip:bob@example.com:5070"),
        ] {
            let line = parse_uri("URI", text).unwrap_err().to_string();
            assert!(line.ends_with(end), "{line}");
        }
    }

    #[test]
    fn a_password_in_a_uri_that_is_none_is_not_repeated() {
        for text in [
            "sip:alice:secret@exa mple",
            "alice:secret@example.com",
            "SIPS:a:b@secret@[::1",
        ] {
            let line = parse_uri("URI", text).unwrap_err().to_string();
            assert!(!line.contains("secret"), "{line}");
            assert!(line.contains(":***@"), "{line}");
        }
    }

    #[test]
    fn a_password_is_the_first_line_without_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        for text in ["wonder land ", "wonder land \n", "wonder land \r\nnext\n"] {
            fs::write(&path, text).unwrap();
            assert_eq!(read_password(&path).unwrap(), "wonder land ");
        }
        fs::write(&path, "\n").unwrap();
        assert_eq!(read_password(&path).unwrap_err().status(), 2);
    }
}
