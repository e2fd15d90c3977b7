//! What a message may cost.

/// The sizes past which a message is refused, so that no peer decides how much memory it takes.
///
/// Each field has a default; change the fields that need it:
///
/// ```
/// let limits = sipora_message::Limits { body: 64 * 1024, ..Default::default() };
/// assert_eq!(limits.header_count, 256);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the start line. Default 8 KiB: what web servers allow a request line, and four times the longest
    /// Request-URI with STIR or GRUU parameters that is seen in practice.
    pub start_line: usize,
    /// Bytes of one header field with its folds. Default 16 KiB: an Identity header with a chain of claims is 4 KiB.
    pub header_line: usize,
    /// Number of header lines. Default 256: 70 hops of Via and Record-Route lines fit, with a hundred to spare.
    pub header_count: usize,
    /// Bytes from the first byte to the blank line. Default 64 KiB: no UDP datagram can carry more.
    pub header_bytes: usize,
    /// Bytes of the body. Default 1 MiB: page-mode messages, presence lists and multipart bodies are far smaller.
    pub body: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            start_line: 8 * 1024,
            header_line: 16 * 1024,
            header_count: 256,
            header_bytes: 64 * 1024,
            body: 1024 * 1024,
        }
    }
}

impl Limits {
    /// Nothing but the 32-bit offsets of the index: for messages that this program printed itself.
    pub(crate) const OWN: Limits = Limits {
        start_line: usize::MAX,
        header_line: usize::MAX,
        header_count: usize::MAX,
        header_bytes: usize::MAX,
        body: usize::MAX,
    };
}
