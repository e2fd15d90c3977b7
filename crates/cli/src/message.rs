//! `sipora message`: sends an instant message.

use std::io::{self, Read};

use clap::Args;
use sipora_session_core::SipClient;

use crate::arguments::{ClientArguments, EXIT_STATUSES};
use crate::client::{self, Client};
use crate::exit::Failure;
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
        "-" => read(io::stdin().lock())?,
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

fn read(input: impl Read) -> Result<String, Failure> {
    let wrong = |reason: &str| Failure::Local(format!("standard input {reason}"));
    let mut bytes = Vec::new();
    input
        .take(LONGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| wrong(&format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > LONGEST {
        return Err(wrong("is longer than 1 MiB"));
    }
    String::from_utf8(bytes).map_err(|_| wrong("is no text in UTF-8"))
}

/// What a peer of this family takes; others take less.
const LONGEST: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_input_is_read_whole_or_refused() {
        assert_eq!(read(&b"one\ntwo\n"[..]).unwrap(), "one\ntwo\n");
        assert_eq!(read(&[0xff][..]).unwrap_err().status(), 2);
        let longest = vec![b'x'; LONGEST as usize];
        assert_eq!(read(&longest[..]).unwrap().len(), longest.len());
        let longer = vec![b'x'; LONGEST as usize + 1];
        assert_eq!(read(&longer[..]).unwrap_err().status(), 2);
    }
}
