//! Asks a SIP server what it can do, and shows the whole answer.
//!
//! `cargo run -p sipora-dialog-core --example ask -- sip:127.0.0.1:5060 [USER]`
//!
//! The password of USER comes from the environment variable `SIPORA_PASSWORD`, so that it stands in no process list.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use sipora_auth::Credentials;
use sipora_dialog_core::{DigestAuthorizer, Target, UnifiedDialogApi};
use sipora_message::{Method, Request, Uri};
use sipora_transaction_core::Endpoint;
use sipora_transport::Transport;

const USAGE: &str = "usage: ask URI [USER]\n\nThe password of USER is taken from SIPORA_PASSWORD.";

#[tokio::main]
async fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let result = match words.as_slice() {
        [word] if matches!(word.as_str(), "-h" | "--help") => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        [target] => run(target, None).await,
        [target, user] => {
            let Ok(password) = std::env::var("SIPORA_PASSWORD") else {
                eprintln!("set SIPORA_PASSWORD to the password of {user}");
                return ExitCode::from(2);
            };
            let credentials = Credentials::new(user.as_str(), password);
            run(target, DigestAuthorizer::new([credentials])).await
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ask: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(target: &str, authorizer: Option<DigestAuthorizer>) -> Result<(), Box<dyn Error>> {
    let target = Uri::parse(target)
        .map_err(|_| format!("`{target}` is no SIP URI, as sip:127.0.0.1:5060 is"))?;
    let anywhere = "0.0.0.0:0".parse()?;
    let mut builder = Endpoint::builder()
        .listen(Transport::Udp, anywhere)
        .listen(Transport::Tcp, anywhere);
    let mut ids = builder.split_ids();
    let dialogs = UnifiedDialogApi::add_to(&mut builder);
    let endpoint = builder.build().await?;

    let request = Request::builder(Method::Options, &target)
        .to(format!("<{target}>"))
        .from(format!(
            "<sip:anonymous@anonymous.invalid>;tag={}",
            ids.tag()
        ))
        .call_id(ids.call_id())
        .cseq(1)
        .build()?;
    let target = Target::Uri(target);
    let timeout = Duration::from_secs(10);
    let response = match authorizer {
        None => dialogs.send_request_to(request, target, timeout).await?,
        Some(authorizer) => {
            let exchange = dialogs
                .send_authorized(request, target, Arc::new(authorizer), timeout)
                .await?;
            if let Some(refusal) = &exchange.refusal {
                println!("not authenticated: {refusal}\n");
            }
            exchange.response
        }
    };
    print!("{}", String::from_utf8_lossy(response.as_bytes()));
    endpoint.shutdown().await;
    Ok(())
}
