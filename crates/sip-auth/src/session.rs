//! One realm's nonce as a client uses it: chosen algorithm, chosen qop, and the count.

use crate::algorithm::Qop;
use crate::answer::{AlgorithmName, DigestResponse, SentProtection};
use crate::calculation::{Covered, Hex, base_secret};
use crate::challenge::Challenge;
use crate::challenger::Challenger;
use crate::credentials::Credentials;

/// An authentication session (RFC 7616 §3.6): it lasts until the same realm challenges again.
pub(crate) struct Session {
    pub(crate) challenger: Challenger,
    pub(crate) scope: Scope,
    challenge: Challenge,
    username: String,
    base: Hex,
    /// Kept for `-sess`: A1 holds the first cnonce, and a server that takes it from each request agrees when it never changes.
    session_cnonce: Option<String>,
    uses: u32,
    /// The nonce came by `nextnonce`, so its first use is not an answer to a challenge.
    announced: bool,
}

/// Where a session's credentials may go without being asked for.
pub(crate) struct Scope {
    /// The Request-URI's host, in lower case.
    pub(crate) host: String,
    /// The host of the first Route, else the Request-URI's.
    pub(crate) first_hop: String,
    pub(crate) call_id: String,
    /// The credentials name this realm, so a proxy's may cross dialogs (RFC 3261 §22.3).
    pub(crate) configured: bool,
}

impl Session {
    pub(crate) fn start(
        challenger: Challenger,
        challenge: Challenge,
        credentials: &Credentials,
        scope: Scope,
    ) -> Self {
        let base = base_secret(
            challenge.algorithm.hash(),
            credentials.username(),
            &challenge.realm,
            credentials.password(),
        );
        Session {
            challenger,
            scope,
            challenge,
            username: credentials.username().to_owned(),
            base,
            session_cnonce: None,
            uses: 0,
            announced: false,
        }
    }

    /// Goes on counting where the server issued the same nonce again, as Kamailio does within a second.
    pub(crate) fn go_on(&mut self, before: Session) {
        if before.challenge.nonce == self.challenge.nonce {
            self.uses = before.uses;
            self.session_cnonce = before.session_cnonce;
        }
    }

    pub(crate) fn is(&self, challenger: Challenger, realm: &str) -> bool {
        self.challenger == challenger && self.challenge.realm == realm
    }

    pub(crate) fn nonce(&self) -> &str {
        &self.challenge.nonce
    }

    /// Goes on with the nonce that the server announced (RFC 7616 §3.5).
    ///
    /// Kamailio may announce the nonce that is in use; its count goes on then.
    pub(crate) fn adopt(&mut self, next_nonce: &str) {
        if next_nonce == self.challenge.nonce {
            return;
        }
        self.challenge.nonce = next_nonce.to_owned();
        self.session_cnonce = None;
        self.uses = 0;
        self.announced = true;
    }

    /// Tells whether `sent`, made by this session or an earlier one, was the first answer with its nonce.
    ///
    /// Without qop there is no count in the message, so the session's own stands in.
    pub(crate) fn was_first_answer(session: Option<&Session>, sent: &DigestResponse) -> bool {
        let current = session.filter(|session| session.nonce() == sent.nonce());
        if current.is_some_and(|session| session.announced) {
            return false;
        }
        match sent.nonce_count() {
            Some(count) => count <= 1,
            None => current.is_none_or(|session| session.uses <= 1),
        }
    }

    /// Computes the next credentials with this nonce; `None` once the count is used up.
    ///
    /// RFC 7616 §3.4: nc counts the requests sent with the nonce, this one included.
    pub(crate) fn authorize(
        &mut self,
        covered: Covered<'_>,
        cnonce: &str,
    ) -> Option<DigestResponse> {
        self.uses = self.uses.checked_add(1)?;
        let algorithm = self.challenge.algorithm;
        let cnonce = match algorithm.is_session() {
            true => self
                .session_cnonce
                .get_or_insert_with(|| cnonce.to_owned())
                .clone(),
            false => cnonce.to_owned(),
        };
        let protection = preferred(&self.challenge.qops).map(|qop| SentProtection {
            qop: Some(qop),
            qop_text: qop.as_str().to_owned(),
            nc_text: format!("{:08x}", self.uses),
            nc: self.uses,
            cnonce,
        });
        let mut answer = DigestResponse {
            username: self.username.clone(),
            realm: self.challenge.realm.clone(),
            nonce: self.challenge.nonce.clone(),
            uri: covered.uri.to_owned(),
            response: String::new(),
            opaque: self.challenge.opaque.clone(),
            userhash: self.challenge.userhash.then_some(false),
            // A challenge without qop comes from a server that may know no `algorithm` parameter either.
            algorithm: match protection.is_none() && algorithm == crate::Algorithm::Md5 {
                true => AlgorithmName::Absent,
                false => AlgorithmName::Known(algorithm),
            },
            protection,
        };
        let response = answer.expected(algorithm, &self.base, covered)?;
        response.as_str().clone_into(&mut answer.response);
        Some(answer)
    }
}

/// Prefers `auth`: whatever rewrites a body on the way (a NAT helper, a proxy) breaks `auth-int`.
fn preferred(offered: &[Qop]) -> Option<Qop> {
    [Qop::Auth, Qop::AuthInt]
        .into_iter()
        .find(|qop| offered.contains(qop))
}
