//! How the program ends: its exit statuses, and the one line that tells why.

use std::error::Error;
use std::fmt;
use std::io;
use std::process::ExitCode;

use clap::error::ErrorKind;

/// Says why a command did not succeed; each kind has its exit status.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The peer gave a final answer other than 2xx.
    Refused(String),
    /// The command line, a file or the local system is at fault: nothing that the peer said.
    Local(String),
    /// The peer gave no final answer.
    NoAnswer(String),
}

impl Failure {
    /// Gives the exit status. These numbers are part of the program's interface.
    pub(crate) fn status(&self) -> u8 {
        match self {
            Failure::Refused(_) => 1,
            Failure::Local(_) => 2,
            Failure::NoAnswer(_) => 3,
        }
    }

    /// Puts what could not be done in front of why.
    pub(crate) fn in_context(self, context: &str) -> Failure {
        match self {
            Failure::Refused(text) => Failure::Refused(format!("{context}: {text}")),
            Failure::Local(text) => Failure::Local(format!("{context}: {text}")),
            Failure::NoAnswer(text) => Failure::NoAnswer(format!("{context}: {text}")),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Refused(text) | Failure::Local(text) | Failure::NoAnswer(text) => {
                f.write_str(&one_line(text))
            }
        }
    }
}

impl From<Failure> for ExitCode {
    fn from(failure: Failure) -> ExitCode {
        ExitCode::from(failure.status())
    }
}

/// An output that cannot be written, such as a full disk, is a local error.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Local(format!("cannot write the output: {error}"))
    }
}

/// Turns what clap has to say about a command line into one line.
pub(crate) fn usage(error: &clap::Error) -> Failure {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return Failure::Local(
            "a command is missing: serve, options, register, message, subscribe or publish (try --help)".to_owned(),
        );
    }
    let text = error.render().to_string();
    let lines = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"))
        .filter(|line| !line.is_empty());
    let text = lines.collect::<Vec<_>>().join(" ").replace(" tip: ", "; ");
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    Failure::Local(format!("{text} (try --help)"))
}

/// Gives an error and what caused it on one line, each cause once.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.contains(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        cause = error.source();
    }
    one_line(&text)
}

/// Folds line breaks and control characters, which a peer may have put into a reason phrase, into spaces.
fn one_line(text: &str) -> String {
    let words: Vec<&str> = text
        .split(|character: char| character.is_control() || character == ' ')
        .filter(|word| !word.is_empty())
        .collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::arguments::Arguments;

    fn usage_line(arguments: &[&str]) -> String {
        let error = Arguments::try_parse_from(arguments).unwrap_err();
        usage(&error).to_string()
    }

    #[test]
    fn statuses_are_those_of_the_manual() {
        assert_eq!(Failure::Refused(String::new()).status(), 1);
        assert_eq!(Failure::Local(String::new()).status(), 2);
        assert_eq!(Failure::NoAnswer(String::new()).status(), 3);
    }

    #[test]
    fn an_unknown_flag_is_one_line() {
        let line = usage_line(&["sipora", "options", "--colour", "sip:a.example"]);
        assert!(
            line.starts_with("unexpected argument '--colour' found"),
            "{line}"
        );
        assert!(line.ends_with("(try --help)"), "{line}");
        assert!(!line.contains('\n'), "{line}");
    }

    #[test]
    fn a_missing_argument_is_named_on_the_line() {
        let line = usage_line(&["sipora", "options"]);
        assert!(line.contains("<URI>"), "{line}");
        assert!(!line.contains('\n'), "{line}");
    }

    #[test]
    fn no_command_at_all_is_one_line() {
        let line = usage_line(&["sipora"]);
        assert!(line.starts_with("a command is missing"), "{line}");
    }

    #[test]
    fn a_cause_is_added_once() {
        #[derive(Debug)]
        struct Outer(io::Error, &'static str);
        impl fmt::Display for Outer {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.1)
            }
        }
        impl Error for Outer {
            fn source(&self) -> Option<&(dyn Error + 'static)> {
                Some(&self.0)
            }
        }
        let cause = || io::Error::other("disk on fire");
        assert_eq!(
            chain(&Outer(cause(), "cannot bind")),
            "cannot bind: disk on fire"
        );
        assert_eq!(
            chain(&Outer(cause(), "cannot bind: disk on fire")),
            "cannot bind: disk on fire"
        );
    }

    #[test]
    fn a_reason_phrase_cannot_break_the_line() {
        let failure = Failure::Refused("403 Go\r\naway\u{1b}[31m".to_owned());
        assert_eq!(failure.to_string(), "403 Go away [31m");
    }
}
