//! `sipora options`: asks what a server or user can do.

use clap::Args;
use sipora_session_core::SipClient;

use crate::arguments::{ClientArguments, EXIT_STATUSES};
use crate::client::{self, Client};
use crate::exit::Failure;
use crate::output::Report;
use crate::signals::Signals;

#[derive(Debug, Args)]
#[command(after_help = EXIT_STATUSES)]
pub(crate) struct OptionsArguments {
    /// Whom to ask, as in sip:127.0.0.1:5060 or sip:alice@example.com
    #[arg(value_name = "URI")]
    uri: String,

    #[command(flatten)]
    pub(crate) client: ClientArguments,
}

/// Runs `sipora options`.
pub(crate) async fn run(arguments: OptionsArguments) -> Result<(), Failure> {
    let target = client::parse_uri("URI", &arguments.uri)?;
    let target = client::with_transport(target, arguments.client.transport)?;
    let identity = client::user_of(&arguments.client, &target)?;
    let mut signals = Signals::listen()?;
    let client = Client::start(&arguments.client, target.clone(), identity.as_ref()).await?;
    let answer = client.coordinator.send_options(target.as_str());
    let report = match signals.or(answer).await {
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
