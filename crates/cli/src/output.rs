//! What the client commands print: text for people, or one JSON object for programs.

use std::io::{self, Write};

use serde::{Serialize, Serializer};
use sipora_session_core::SipResponse;

use crate::exit::Failure;

/// Is what a client command found out. As JSON it always has the same keys; what does not apply is null.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    /// Status code of the final answer.
    status: Option<u16>,
    reason: Option<String>,
    /// Header fields of the final answer, in order.
    headers: Vec<HeaderField>,
    body: Option<String>,
    /// Seconds that were granted.
    pub(crate) expires: Option<u32>,
    /// What the registrar has bound to the address-of-record.
    pub(crate) bindings: Option<Vec<BindingRow>>,
    /// Names what is published.
    pub(crate) entity_tag: Option<String>,
    #[serde(rename = "error", serialize_with = "as_text")]
    failure: Option<Failure>,
}

#[derive(Debug, Serialize)]
struct HeaderField {
    name: String,
    value: String,
}

/// Is one contact that an address-of-record is bound to.
#[derive(Debug, Serialize)]
pub(crate) struct BindingRow {
    pub(crate) uri: String,
    /// Seconds that are left, where the registrar says so.
    pub(crate) expires: Option<u32>,
    pub(crate) q: Option<f32>,
}

impl Report {
    /// Reports a final answer.
    pub(crate) fn answer(response: &SipResponse) -> Report {
        let body = response.body();
        Report {
            status: Some(response.status().as_u16()),
            reason: Some(response.reason().to_string()),
            headers: response
                .headers()
                .map(|(name, value)| HeaderField {
                    name: name.to_string(),
                    value: value.to_string(),
                })
                .collect(),
            body: (!body.is_empty()).then(|| String::from_utf8_lossy(body).into_owned()),
            ..Report::default()
        }
    }

    /// Reports why there is no success, with the final answer if there was one.
    pub(crate) fn failure(failure: Failure, response: Option<&SipResponse>) -> Report {
        Report {
            failure: Some(failure),
            ..response.map(Report::answer).unwrap_or_default()
        }
    }

    /// Prints the report, as JSON or by `text`, and gives back the failure that it reports.
    pub(crate) fn print(
        self,
        json: bool,
        text: impl FnOnce(&Report, &mut dyn Write) -> io::Result<()>,
    ) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        if json {
            serde_json::to_writer(&mut out, &self).map_err(io::Error::from)?;
            writeln!(out)?;
        } else {
            text(&self, &mut out)?;
        }
        out.flush()?;
        self.failure.map_or(Ok(()), Err)
    }

    /// Writes status line, header fields and body, without what only serves the transaction.
    pub(crate) fn write_answer(&self, out: &mut dyn Write) -> io::Result<()> {
        let (Some(status), Some(reason)) = (self.status, &self.reason) else {
            return Ok(());
        };
        writeln!(out, "{status} {}", printable(reason))?;
        for HeaderField { name, value } in &self.headers {
            if !TRANSACTIONAL
                .iter()
                .any(|header| header.eq_ignore_ascii_case(name))
            {
                let line = format!("  {}: {}", printable(name), printable(value));
                writeln!(out, "{}", line.trim_end())?;
            }
        }
        if let Some(body) = &self.body {
            writeln!(out)?;
            for line in body.lines() {
                writeln!(out, "{}", printable(line))?;
            }
        }
        Ok(())
    }

    /// Writes one line a binding.
    pub(crate) fn write_bindings(&self, out: &mut dyn Write) -> io::Result<()> {
        for binding in self.bindings.iter().flatten() {
            write!(out, "  {}", printable(&binding.uri))?;
            if let Some(expires) = binding.expires {
                write!(out, " for {expires} s")?;
            }
            if let Some(q) = binding.q {
                write!(out, ", q={q}")?;
            }
            writeln!(out)?;
        }
        Ok(())
    }

    /// Tells whether the command did what it was asked to.
    pub(crate) fn is_success(&self) -> bool {
        self.failure.is_none()
    }
}

/// A peer's control characters stay out of the terminal.
pub(crate) fn printable(text: &str) -> String {
    let visible = |character: char| match character {
        '\t' => character,
        _ if character.is_control() => char::REPLACEMENT_CHARACTER,
        _ => character,
    };
    text.chars().map(visible).collect()
}

fn as_text<S: Serializer>(failure: &Option<Failure>, serializer: S) -> Result<S::Ok, S::Error> {
    match failure {
        Some(failure) => serializer.collect_str(failure),
        None => serializer.serialize_none(),
    }
}

/// Header fields that matter to the transaction only; `--json` and `-v` show them too.
const TRANSACTIONAL: [&str; 6] = ["Via", "From", "To", "Call-ID", "CSeq", "Content-Length"];
