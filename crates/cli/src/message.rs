//! `sipora message`: sends an instant message.

use clap::Args;
use sipora_session_core::SipClient;

use crate::arguments::{ClientArguments, EXIT_STATUSES};
use crate::client::{self, Client};
use crate::exit::Failure;
use crate::input;
use crate::output::Report;
use crate::signals::Signals;

#[derive(Debug, Args)]
#[command(after_help = EXIT_STATUSES)]
pub(crate) struct MessageArguments {
    /// Whom to send it to, as in sip:bob@example.com
    #[arg(value_name = "URI")]
    uri: String,

    /// What to send; - reads standard input to its end
    #[arg(value_name = "TEXT", allow_hyphen_values = true)]
    text: String,

    /// Who sends it, as in sip:alice@example.com; unless given, --user in the domain of URI
    #[arg(long, value_name = "URI")]
    from: Option<String>,

    /// What TEXT is
    #[arg(long, value_name = "TYPE", default_value = "text/plain;charset=UTF-8")]
    content_type: String,

    #[command(flatten)]
    pub(crate) client: ClientArguments,
}

/// Runs `sipora message`.
pub(crate) async fn run(arguments: MessageArguments) -> Result<(), Failure> {
    let target = client::parse_uri("URI", &arguments.uri)?;
    let target = client::with_transport(target, arguments.client.transport)?;
    let identity = match &arguments.from {
        Some(from) => Some(client::parse_uri("--from", from)?),
        None => client::user_of(&arguments.client, &target)?,
    };
    let text = match arguments.text.as_str() {
        "-" => input::standard_input()?,
        text => text.to_owned(),
    };
    let mut signals = Signals::listen()?;
    let client = Client::start(&arguments.client, target.clone(), identity.as_ref()).await?;
    let sent =
        client
            .coordinator
            .send_message(target.as_str(), &text, Some(&arguments.content_type));
    let report = match signals.or(sent).await {
        Ok(Ok(response)) => client.answered(&response),
        Ok(Err(error)) => client.failed(&error),
        Err(stopped) => Report::failure(stopped, None),
    };
    let result = report.print(arguments.client.json, |report, out| {
        report.write_answer(out)
    });
    client.close().await;
    result
}
