//! Text that a client command sends: from standard input or from a file.

use std::fs::File;
use std::io::{self, Read};

use crate::exit::Failure;

/// Reads standard input to its end.
pub(crate) fn standard_input() -> Result<String, Failure> {
    read("standard input", io::stdin().lock())
}

/// Reads a file; `-` is standard input.
pub(crate) fn file(path: &str) -> Result<String, Failure> {
    if path == "-" {
        return standard_input();
    }
    let file = File::open(path)
        .map_err(|error| Failure::Local(format!("{path} cannot be read: {error}")))?;
    read(path, file)
}

fn read(what: &str, input: impl Read) -> Result<String, Failure> {
    let wrong = |reason: &str| Failure::Local(format!("{what} {reason}"));
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
    fn what_is_sent_is_read_whole_or_refused() {
        let read = |bytes: &[u8]| read("standard input", bytes);
        assert_eq!(read(b"one\ntwo\n").unwrap(), "one\ntwo\n");
        assert_eq!(read(&[0xff]).unwrap_err().status(), 2);
        let longest = vec![b'x'; LONGEST as usize];
        assert_eq!(read(&longest).unwrap().len(), longest.len());
        let longer = vec![b'x'; LONGEST as usize + 1];
        assert_eq!(read(&longer).unwrap_err().status(), 2);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        for path in ["/nonexistent/body.xml", env!("CARGO_MANIFEST_DIR")] {
            let failure = file(path).unwrap_err();
            assert_eq!(failure.status(), 2);
            assert!(failure.to_string().starts_with(path), "{failure}");
        }
    }
}
