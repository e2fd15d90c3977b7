//! The clients of the demo: what a SIP client does with a registrar, and what those who watch it see, step by step, on
//! session-core's API alone.
//!
//! Each step prints what went over the wire and checks it. The first that goes wrong ends the program with status 1.

#![allow(clippy::print_stdout, clippy::print_stderr)]

mod wire;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use clap::{Parser, ValueEnum};
use sipora_session_core::message::{HeaderName, Method, Request, StatusCode, Uri};
use sipora_session_core::{
    Answer as Reply, Basic, Credentials, Error, Incoming, Pem, RegistrationHandle,
    RegistrationState, Roots, SessionCoordinator, SessionHandler, SessionManagerBuilder, SipClient,
    SubscriptionHandle, TlsConfig, TlsProvider,
};
use tokio::sync::mpsc;
use wire::What::{self, Answer, Request as Sent};
use wire::Wire;

/// Registers with the demo's server in every way that it knows.
#[derive(Parser)]
struct Arguments {
    /// Transport to use
    #[arg(long, default_value = "udp")]
    transport: Transport,

    /// Root to believe the server by, for tls and wss
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,

    /// Where the server listens
    #[arg(value_name = "HOST:PORT")]
    server: SocketAddr,
}

#[derive(Clone, Copy, ValueEnum)]
enum Transport {
    Udp,
    Tcp,
    Tls,
    Ws,
    Wss,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            println!("   FAILED: {problem}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<(), String> {
    let server = match arguments.transport {
        Transport::Udp => format!("sip:{}", arguments.server),
        Transport::Tcp => format!("sip:{};transport=tcp", arguments.server),
        Transport::Tls => format!("sip:{};transport=tls", arguments.server),
        Transport::Ws => format!("sip:{};transport=ws", arguments.server),
        Transport::Wss => format!("sip:{};transport=wss", arguments.server),
    };
    let alice = format!("sip:alice@{}", arguments.server.ip());
    let wire = Wire::new();
    let start = |identity, credentials| start(&wire, arguments, identity, credentials);

    // A client without credentials, and one with.
    let stranger = start(&alice, None).await?;
    let client = start(&alice, Some(Credentials::new("alice", "wonderland"))).await?;
    let contact = client.contact_uri("alice", &server).await.map_err(told)?;

    let step = wire.step("OPTIONS: is the server there?");
    let answer = stranger.send_options(&server).await.map_err(told)?;
    let methods = answer.header("Allow").unwrap_or_default().into_owned();
    check(methods.contains("REGISTER"), "Allow does not name REGISTER")?;
    step.end(
        &[Sent("OPTIONS"), Answer(200)],
        &format!("it is, and allows {methods}"),
    )?;

    let step = wire.step("REGISTER without credentials: refused");
    let refused = stranger
        .register(&server, &alice, &contact, SHORT)
        .await
        .map(drop);
    let Err(Error::Rejected(answer)) = refused else {
        return Err(format!("expected a refusal, got {refused:?}"));
    };
    check(
        answer.status() == StatusCode::UNAUTHORIZED,
        "the refusal is not a 401",
    )?;
    let challenge = answer
        .header("WWW-Authenticate")
        .unwrap_or_default()
        .into_owned();
    check(
        challenge.starts_with("Digest "),
        "the 401 has no digest challenge",
    )?;
    step.end(&[Sent("REGISTER"), Answer(401)], "401, with a challenge")?;

    let step = wire.step("SUBSCRIBE: bob watches alice, who is not registered");
    let bob = format!("sip:bob@{}", arguments.server.ip());
    let watcher = start(&bob, Some(Credentials::new("bob", "builder"))).await?;
    // The port and the transport of the server lead there; the address is hers all the same.
    let watched = server.replacen("sip:", "sip:alice@", 1);
    let subscription = watcher.subscribe(&watched, "presence", 600).await;
    let mut subscription = subscription.map_err(told)?;
    let basic = told_presence(&mut subscription).await?;
    check(basic == Basic::Closed, "bob is not told that she is away")?;
    let asked = [
        Sent("SUBSCRIBE"),
        Answer(401),
        Sent("SUBSCRIBE"),
        Answer(200),
    ];
    let expected = [&asked[..], &NOTIFIED].concat();
    wire.wait_for(expected.len()).await;
    step.end(&expected, &format!("bob is told: {}", basic.as_str()))?;

    let step = wire.step("REGISTER with digest: accepted, and bob hears of it");
    let registration = client
        .register(&server, &alice, &contact, SHORT)
        .await
        .map_err(told)?;
    let granted = registration.expires;
    check(
        granted == SHORT,
        &format!("granted {granted} s, not {SHORT} s"),
    )?;
    let basic = told_presence(&mut subscription).await?;
    check(basic == Basic::Open, "bob is not told that she is there")?;
    let asked = [Sent("REGISTER"), Answer(401), Sent("REGISTER"), Answer(200)];
    let expected = [&asked[..], &NOTIFIED].concat();
    wire.wait_for(expected.len()).await;
    let outcome = format!(
        "{contact} is bound for {granted} s; bob is told: {}",
        basic.as_str()
    );
    step.end(&expected, &outcome)?;

    let step = wire.step("Wait: the binding is refreshed by itself before it expires");
    refreshed(&registration).await?;
    step.end(
        &[Sent("REGISTER"), Answer(200)],
        "refreshed, with the nonce of before",
    )?;

    let step = wire.step("REGISTER without Contact: what is bound?");
    let bindings = registration.query().await.map_err(told)?;
    let [binding] = bindings.as_slice() else {
        return Err(format!("expected one binding, got {}", bindings.len()));
    };
    check(binding.uri == contact, "the binding is not ours")?;
    let outcome = format!("{} for {} s more", binding.uri, binding.expires);
    step.end(&[Sent("REGISTER"), Answer(200)], &outcome)?;

    let step = wire.step("REGISTER with a wrong password: refused, and not tried forever");
    let wrong = Credentials::new("alice", "looking-glass");
    let refused = stranger
        .register_with_credentials(&server, &alice, &contact, SHORT, wrong)
        .await
        .map(drop);
    let Err(error @ Error::AuthenticationFailed { .. }) = refused else {
        return Err(format!("expected AuthenticationFailed, got {refused:?}"));
    };
    let expected = [Sent("REGISTER"), Answer(401), Sent("REGISTER"), Answer(401)];
    step.end(&expected, &error.to_string())?;

    let step = wire.step("MESSAGE to bob, who is not there");
    let to = server.replacen("sip:", "sip:bob@", 1);
    let answer = send(&client, &to, "Lunch?").await?;
    check(
        answer == StatusCode::TEMPORARILY_UNAVAILABLE,
        &format!("the answer is {answer}, not 480"),
    )?;
    let expected = [Sent("MESSAGE"), Answer(407), Sent("MESSAGE"), Answer(480)];
    step.end(&expected, "480: he has no phone that it could go to")?;

    let step = wire.step("MESSAGE to bob, who has registered: the server carries it, he answers");
    let (reader, mut read) = Reader::new();
    let phone = bobs_phone(arguments, &bob, reader).await?;
    let bobs_contact = phone.contact_uri("bob", &server).await.map_err(told)?;
    let bobs_registration = phone
        .register(&server, &bob, &bobs_contact, 60)
        .await
        .map_err(told)?;
    let answer = send(&client, &to, "Lunch?").await?;
    check(
        answer == StatusCode::OK,
        &format!("the answer is {answer}, not 200"),
    )?;
    let message = read.recv().await.unwrap_or_default();
    check(
        message == format!("{alice}: Lunch?"),
        &format!("bob read {message:?}"),
    )?;
    let expected = [Sent("MESSAGE"), Answer(407), Sent("MESSAGE"), Answer(200)];
    step.end(&expected, &format!("he read it: {message}"))?;
    bobs_registration.unregister().await.map_err(told)?;
    phone.shutdown().await;

    let step = wire.step("Unregister: the binding goes, and bob hears of it");
    registration.unregister().await.map_err(told)?;
    let basic = told_presence(&mut subscription).await?;
    check(basic == Basic::Closed, "bob is not told that she has gone")?;
    let expected = [[Sent("REGISTER"), Answer(200)], NOTIFIED].concat();
    wire.wait_for(expected.len()).await;
    step.end(&expected, &format!("bob is told: {}", basic.as_str()))?;

    let step = wire.step("SUBSCRIBE with Expires: 0: bob has seen enough");
    subscription.terminate().await.map_err(told)?;
    let expected = [[Sent("SUBSCRIBE"), Answer(200)], NOTIFIED].concat();
    wire.wait_for(expected.len()).await;
    step.end(&expected, "the last NOTIFY says that it is over")?;

    let step = wire.step("REGISTER without Contact, as a raw request: what is bound now?");
    let answer = client
        .send_raw_request(
            query(&client, &server, &alice).map_err(|error| error.to_string())?,
            PATIENCE,
        )
        .await
        .map_err(told)?;
    check(
        answer.header("Contact").is_none(),
        "something is still bound",
    )?;
    let expected = [Sent("REGISTER"), Answer(401), Sent("REGISTER"), Answer(200)];
    step.end(&expected, "nothing")?;

    watcher.shutdown().await;
    client.shutdown().await;
    stranger.shutdown().await;
    Ok(())
}

/// Waits for the next NOTIFY, and gives whether she is open or closed.
async fn told_presence(subscription: &mut SubscriptionHandle) -> Result<Basic, String> {
    let next = tokio::time::timeout(PATIENCE, subscription.next()).await;
    let notification = next
        .ok()
        .flatten()
        .ok_or("bob is not told anything in time")?;
    let presence = notification
        .presence()
        .ok_or("the NOTIFY has no document")?;
    let presence = presence.map_err(|error| error.to_string())?;
    presence
        .basic()
        .ok_or_else(|| "the document tells nothing".to_owned())
}

/// Sends a message, and gives the status of the answer.
async fn send(client: &SessionCoordinator, to: &str, text: &str) -> Result<StatusCode, String> {
    let answer = client.send_message(to, text, None).await;
    Ok(answer.map_err(told)?.status())
}

/// Is bob, who reads what he is sent.
struct Reader(mpsc::Sender<String>);

impl Reader {
    fn new() -> (Reader, mpsc::Receiver<String>) {
        let (sender, read) = mpsc::channel(8);
        (Reader(sender), read)
    }
}

#[async_trait]
impl SessionHandler for Reader {
    async fn on_message(&self, incoming: &Incoming<'_>) -> Reply {
        let message = format!("{}: {}", incoming.from(), incoming.text());
        match self.0.send(message).await {
            Ok(()) => Reply::ok(),
            Err(_) => Reply::new(StatusCode::SERVER_INTERNAL_ERROR),
        }
    }
}

/// Starts bob's phone, whose messages are not shown.
async fn bobs_phone(
    arguments: &Arguments,
    identity: &str,
    reader: Reader,
) -> Result<Arc<SessionCoordinator>, String> {
    builder(arguments, identity)?
        .with_credentials(Credentials::new("bob", "builder"))
        .with_handler(Arc::new(reader))
        .build()
        .await
        .map_err(told)
}

/// Starts a client on a free port of the loopback interface.
async fn start(
    wire: &Arc<Wire>,
    arguments: &Arguments,
    identity: &str,
    credentials: Option<Credentials>,
) -> Result<Arc<SessionCoordinator>, String> {
    let mut builder = builder(arguments, identity)?.with_observer(wire.clone());
    if let Some(credentials) = credentials {
        builder = builder.with_credentials(credentials);
    }
    builder.build().await.map_err(told)
}

/// What all clients have in common.
fn builder(arguments: &Arguments, identity: &str) -> Result<SessionManagerBuilder, String> {
    let builder = SessionManagerBuilder::new()
        .with_bind_address(Ipv4Addr::LOCALHOST.into())
        .with_identity(identity)
        .with_request_timeout(PATIENCE)
        .enable_sip_client();
    let Some(root) = &arguments.root else {
        return Ok(builder);
    };
    let roots = Roots::Given(vec![Pem::file(root)]);
    let tls = TlsConfig::new(TlsProvider::Ring).roots(roots).build();
    Ok(builder.with_tls(tls.map_err(|error| error.to_string())?))
}

/// Waits until the registration was refreshed, which must happen before the binding expires.
async fn refreshed(registration: &RegistrationHandle) -> Result<(), String> {
    let mut states = registration.states();
    // The stream begins with the present state. States in between may be missed, the newest never is.
    states.next().await;
    let wait = async {
        while let Some(state) = states.next().await {
            match state {
                RegistrationState::Refreshing { .. } => {}
                RegistrationState::Registered { .. } => return Ok(()),
                other => return Err(other.to_string()),
            }
        }
        Err("the registration ended".to_owned())
    };
    let in_time = Duration::from_secs(SHORT.into());
    tokio::time::timeout(in_time, wait)
        .await
        .unwrap_or_else(|_| Err("it was not refreshed in time".to_owned()))
}

/// Makes a REGISTER that only asks (RFC 3261 §10.2.3). Its To is the address-of-record, not where it goes.
fn query(
    client: &SessionCoordinator,
    registrar: &str,
    address: &str,
) -> Result<Request, Box<dyn std::error::Error>> {
    let request = client
        .request(Method::Register, &Uri::parse(registrar)?)
        .build()?;
    Ok(request
        .edit()
        .set(HeaderName::To, format!("<{address}>"))
        .build()?)
}

fn check(holds: bool, otherwise: &str) -> Result<(), String> {
    if holds {
        Ok(())
    } else {
        Err(otherwise.to_owned())
    }
}

fn told(error: Error) -> String {
    error.to_string()
}

/// Seconds to register for: so few that the refresh, at about half of them, is soon; enough that on a busy machine no
/// other refresh gets between the steps that follow.
const SHORT: u32 = 8;

/// What ends each step that bob hears of.
const NOTIFIED: [What; 2] = [Sent("NOTIFY"), Answer(200)];

/// On the loopback interface an answer takes a millisecond.
const PATIENCE: Duration = Duration::from_secs(5);
