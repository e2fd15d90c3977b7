//! Info packages: which each side takes (RFC 6086 §5).

use sipora_message::{HeaderName, Headers};

/// The packages that a side is willing to receive, as its newest Recv-Info says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Packages(Box<[Box<str>]>);

impl Packages {
    /// Reads Recv-Info; nothing where the peer does not know packages. An empty one is a set too: "this informs other UAs that
    /// the UA still supports the Info Package mechanism" (§5.2.2).
    pub(super) fn read(headers: Headers<'_>) -> Option<Self> {
        if !knows_packages(headers) {
            return None;
        }
        let name = recv_info();
        let packages = headers.tokens(&name).map(package);
        Some(Self(packages.take(MOST).map(Box::from).collect()))
    }

    #[cfg(feature = "serde")]
    pub(super) fn of_names(names: Vec<String>) -> Self {
        Self(names.into_iter().map(String::into_boxed_str).collect())
    }

    #[cfg(feature = "serde")]
    pub(super) fn into_names(self) -> Vec<String> {
        self.0.into_iter().map(String::from).collect()
    }

    /// "The Info Package name is case sensitive. Info-package-param is not part of the comparison-checking algorithm" (§7.2).
    pub(super) fn contain(&self, wanted: &str) -> bool {
        self.0.iter().any(|known| **known == *package(wanted))
    }
}

/// Says whether a message has a Recv-Info.
pub(super) fn knows_packages(headers: Headers<'_>) -> bool {
    headers.contains(&recv_info())
}

/// The package of an INFO; none where it has none.
pub(super) fn package_of(headers: Headers<'_>) -> Option<String> {
    let value = headers.text(&info_package())?;
    Some(package(&value).to_owned())
}

pub(super) fn recv_info() -> HeaderName {
    HeaderName::Other("Recv-Info".into())
}

pub(super) fn info_package() -> HeaderName {
    HeaderName::Other("Info-Package".into())
}

/// A package without its parameters.
fn package(value: &str) -> &str {
    value.split(';').next().unwrap_or_default().trim()
}

/// Packages of a peer's that are remembered. Dozens are registered in all.
pub(super) const MOST: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use sipora_message::{Method, Request, Uri};

    fn read(lines: &[&str]) -> Option<Packages> {
        let mut request = Request::builder(Method::Invite, &Uri::parse("sip:h").unwrap())
            .from("<sip:a@h>;tag=1")
            .to("<sip:h>")
            .call_id("c")
            .cseq(1);
        for line in lines {
            request = request.header(recv_info(), line);
        }
        Packages::read(request.build().unwrap().headers())
    }

    #[test]
    fn an_empty_recv_info_is_an_empty_set_and_none_is_none() {
        assert_eq!(read(&[]), None);
        assert!(!read(&[""]).unwrap().contain(""));
    }

    #[test]
    fn packages_of_all_lines_count_by_their_names_case_and_all() {
        let packages = read(&["g.one, g.two;p=1", "g.three"]).unwrap();
        for known in ["g.one", "g.two", "g.three", "g.one;x=y"] {
            assert!(packages.contain(known), "{known}");
        }
        assert!(!packages.contain("G.one") && !packages.contain("g"));
    }

    #[test]
    fn a_peer_cannot_make_the_set_grow_for_ever() {
        let line: Vec<String> = (0..1_000).map(|number| format!("p{number}")).collect();
        let packages = read(&[&line.join(",")]).unwrap();
        assert_eq!(packages.0.len(), MOST);
    }
}
