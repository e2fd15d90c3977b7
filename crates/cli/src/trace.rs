//! What becomes of messages: shown as text, written into a capture file, sent to a collector.

use std::fs;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use sipora_session_core::trace::{HepTrace, PcapTrace, TextTrace, TraceSink, Tracer};

use crate::exit::Failure;

/// Where messages are shown.
#[derive(Args, Clone, Debug, Default, PartialEq)]
pub(crate) struct TraceArguments {
    /// Add each message to FILE as text, credentials too; - is standard error
    #[arg(long, value_name = "FILE")]
    pub(crate) trace: Option<PathBuf>,

    /// Add each message to FILE as a packet, for Wireshark and sngrep; in clear, where it came over TLS too
    #[arg(long, value_name = "FILE")]
    pub(crate) pcap: Option<PathBuf>,

    /// Send each message to a collector such as Homer, as HEP over UDP; in clear
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) hep: Option<String>,

    /// What the collector knows this program by [default: 1]
    #[arg(long, value_name = "NUMBER")]
    pub(crate) hep_id: Option<u32>,

    /// File whose first line is the password that the collector wants
    #[arg(long, value_name = "FILE")]
    pub(crate) hep_password_file: Option<PathBuf>,
}

impl TraceArguments {
    /// Fills in what is not given.
    pub(crate) fn or(self, other: TraceArguments) -> TraceArguments {
        TraceArguments {
            trace: self.trace.or(other.trace),
            pcap: self.pcap.or(other.pcap),
            hep: self.hep.or(other.hep),
            hep_id: self.hep_id.or(other.hep_id),
            hep_password_file: self.hep_password_file.or(other.hep_password_file),
        }
    }

    /// Opens what messages are to be shown in, if anything; `shows` adds standard error. Looks the collector's name up, which
    /// blocks.
    pub(crate) fn start(&self, shows: bool) -> Result<Option<Arc<Tracer>>, Failure> {
        if self.hep.is_none() && (self.hep_id.is_some() || self.hep_password_file.is_some()) {
            return Err(Failure::Local(
                "--hep-id and --hep-password-file need a collector: give --hep HOST:PORT"
                    .to_owned(),
            ));
        }
        let mut sinks: Vec<Box<dyn TraceSink>> = Vec::new();
        let to_standard_error = self.trace.as_deref() == Some(Path::new(STANDARD_ERROR));
        if shows || to_standard_error {
            sinks.push(Box::new(TextTrace::to(io::stderr())));
        }
        if let Some(path) = self.trace.as_deref().filter(|_| !to_standard_error) {
            let text = TextTrace::append(path).map_err(|error| cannot("--trace", path, &error))?;
            sinks.push(Box::new(text));
        }
        if let Some(path) = &self.pcap {
            let pcap = PcapTrace::append(path).map_err(|error| cannot("--pcap", path, &error))?;
            sinks.push(Box::new(pcap));
        }
        if let Some(collector) = &self.hep {
            sinks.push(Box::new(self.hep(collector)?));
        }
        Ok((!sinks.is_empty()).then(|| Arc::new(Tracer::new(sinks))))
    }

    fn hep(&self, collector: &str) -> Result<HepTrace, Failure> {
        let wrong = |reason: String| Failure::Local(format!("--hep '{collector}': {reason}"));
        let addresses = collector
            .to_socket_addrs()
            .map_err(|error| wrong(error.to_string()))?;
        let address = reachable(addresses).ok_or_else(|| wrong("there is no way to it".into()))?;
        let mut hep = HepTrace::to(address).map_err(|error| wrong(error.to_string()))?;
        if let Some(id) = self.hep_id {
            hep = hep.capture_id(id);
        }
        if let Some(path) = &self.hep_password_file {
            let text = fs::read_to_string(path)
                .map_err(|error| cannot("--hep-password-file", path, &error))?;
            hep = hep.password(text.lines().next().unwrap_or_default());
        }
        Ok(hep)
    }
}

/// Waits until the trace is written, as a program that ends does.
pub(crate) fn finish(tracer: Option<&Arc<Tracer>>) {
    if let Some(tracer) = tracer
        && !tracer.flush(PATIENCE)
    {
        tracing::warn!("the end of the trace is missing, as it is written too slowly");
    }
}

/// Chooses an address of a family that this machine has. Connecting sends nothing.
fn reachable(mut addresses: impl Iterator<Item = SocketAddr>) -> Option<SocketAddr> {
    addresses.find(|address| {
        let any = if address.is_ipv4() {
            "0.0.0.0:0"
        } else {
            "[::]:0"
        };
        UdpSocket::bind(any).is_ok_and(|socket| socket.connect(address).is_ok())
    })
}

fn cannot(flag: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::Local(format!("{flag} {}: {error}", path.display()))
}

/// What stands for standard error in the place of a file.
pub(crate) const STANDARD_ERROR: &str = "-";

/// How long the end of a trace may take: a disk that is busy, and no more.
const PATIENCE: Duration = Duration::from_secs(2);
