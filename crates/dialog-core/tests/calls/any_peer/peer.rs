//! The phone, which does anything, or what it should.

use super::{described_at_random, once_in, one};
use crate::support::*;
use sipora_message::{
    HeaderName, Method, RAck, Request, RequestBuilder, Response, ResponseBuilder, StatusCode,
};
use sipora_testkit::SimNetwork;
use sipora_transaction_core::{RequestId, RequestOptions, Target};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::Instant;

const FORKS: [&str; 3] = ["a", "b", "c"];

/// The To tag of what a fork answers: it has another dialog for each INVITE.
fn tag_for(came: &Request, fork: &str) -> String {
    match to_tag(came).as_str() {
        "" => format!("{fork}{}", number(came)),
        tag => tag.to_owned(),
    }
}

/// An answer to an INVITE of Alice's that makes a dialog.
pub struct Said {
    pub invite: Request,
    pub tag: String,
    pub at: Duration,
    pub accepts: bool,
}

/// The phone, and what it has done.
pub struct Peer {
    network: SimNetwork,
    pub phone: Phone,
    has_called: bool,
    cseq: u32,
    pub sent: Vec<(Request, Option<RequestId>)>,
    pub said: Vec<Said>,
    /// Requests of Alice's with a final answer, by their place among all.
    closed: BTreeSet<usize>,
    rseqs: BTreeMap<(usize, String), u32>,
    acknowledged: BTreeSet<u32>,
    pracked: BTreeSet<(u32, u32)>,
    began: Instant,
}

impl Peer {
    pub async fn new(network: &SimNetwork, has_called: bool) -> Self {
        Peer {
            network: network.clone(),
            phone: Phone::new(network).await,
            has_called,
            cseq: 10,
            sent: Vec::new(),
            said: Vec::new(),
            closed: BTreeSet::new(),
            rseqs: BTreeMap::new(),
            acknowledged: BTreeSet::new(),
            pracked: BTreeSet::new(),
            began: Instant::now(),
        }
    }

    fn once_in(&self, n: u64) -> bool {
        once_in(&self.network, n)
    }

    /// The dialog that it has with Alice, or one of those, as the user agent with this tag.
    pub fn dialog(&self, tag: Option<&str>) -> Option<InDialog> {
        if self.has_called {
            let (_, responses) = self.phone.seen.everything();
            let makes = |it: &&Response| {
                let headers = it.headers();
                let has_tag = headers.to().unwrap().tag().is_some();
                has_tag && headers.contact().unwrap().is_some() && it.status().as_u16() < 300
            };
            return responses.iter().find(makes).map(InDialog::of_response);
        }
        let is_first = |it: &&Said| to_tag(&it.invite).is_empty();
        let firsts: Vec<_> = self.said.iter().filter(is_first).collect();
        let found = match tag {
            Some(tag) => *firsts.iter().find(|it| it.tag == tag)?,
            None if firsts.is_empty() => return None,
            None => one(&self.network, &firsts),
        };
        Some(InDialog::of_invite(&found.invite, &found.tag))
    }

    pub async fn sends(&mut self, request: Request) {
        let target = Target::udp(ALICE.parse().unwrap());
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let copy = request.clone();
        let wish: Wish = Box::new(move |context| {
            let _ = sender.send(context.send(copy, target, RequestOptions::default()).ok());
        });
        self.phone.handle.send(wish).await.unwrap();
        let id = receiver.await.unwrap();
        self.sent.push((request, id));
    }

    pub fn next_number(&mut self) -> u32 {
        self.cseq += 1;
        self.cseq
    }

    /// Any request within a dialog.
    async fn asks(&mut self) {
        use Method::*;
        let Some(dialog) = self.dialog(None) else {
            return;
        };
        let methods = [
            Invite, Invite, Invite, Update, Update, Info, Options, Refer, Notify, Bye,
        ];
        let method = one(&self.network, &methods);
        if method == Bye && !self.once_in(12) {
            return;
        }
        let number = self.next_number();
        let mut builder = dialog.bare(method.clone(), number);
        if matches!(method, Invite | Update) {
            builder = builder.header(HeaderName::Allow, "INVITE, ACK, BYE, PRACK, UPDATE");
            if let Some(body) = described_at_random(&self.network) {
                builder = builder.body("application/sdp", body.bytes);
            }
            if self.once_in(3) {
                builder = builder.header(HeaderName::Supported, "100rel, timer");
            }
            if self.once_in(6) {
                builder = builder.header(HeaderName::SessionExpires, "90;refresher=uac");
            }
        }
        builder = match method {
            Invite if self.once_in(4) => builder.header(HeaderName::Expires, "5"),
            Refer => builder.header(HeaderName::ReferTo, "<sip:carol@192.0.2.3>"),
            Notify => self.notifies(builder),
            _ => builder,
        };
        self.sends(builder.build().unwrap()).await;
    }

    fn notifies(&self, builder: RequestBuilder) -> RequestBuilder {
        let refers = self.phone.all(Method::Refer);
        let event = match refers.last() {
            Some(refer) => format!("refer;id={}", number(refer)),
            None => "refer".to_owned(),
        };
        let states = ["active;expires=60", "terminated;reason=noresource"];
        builder
            .header(HeaderName::Event, event)
            .header(HeaderName::SubscriptionState, one(&self.network, &states))
            .body("message/sipfrag", "SIP/2.0 100 Trying\r\n")
    }

    /// The answers to its INVITEs, which it has to acknowledge: 2xx, or reliable ones.
    fn answers(&self, is_it: impl Fn(&Response) -> bool) -> Vec<(Response, Request)> {
        let (_, responses) = self.phone.seen.everything();
        let mut found = Vec::new();
        for response in responses.into_iter().filter(|it| is_it(it)) {
            let cseq = response.headers().cseq().unwrap();
            let is_its =
                |it: &&(Request, _)| number(&it.0) == cseq.number && *it.0.method() == cseq.method;
            if cseq.method != Method::Invite {
                continue;
            }
            if let Some((invite, _)) = self.sent.iter().find(is_its) {
                let invite = invite.clone();
                found.push((response, invite));
            }
        }
        found
    }

    /// Acknowledges the 2xx to its INVITEs that it has not yet, rightly or not.
    async fn acknowledges(&mut self, rightly: bool) {
        for (response, invite) in self.answers(|it| it.status().is_success()) {
            let number = number(&invite);
            if !self.acknowledged.insert(number) {
                continue;
            }
            let dialog = InDialog::of_response(&response);
            let mut ack = dialog.bare(Method::Ack, number);
            let owes = invite.body().is_empty() && !response.body().is_empty();
            if owes == (rightly || !self.once_in(5)) {
                ack = ack.body("application/sdp", sdp("answer").bytes);
            }
            let ack = ack.build().unwrap();
            let target = Target::udp(ALICE.parse().unwrap());
            let wish: Wish = Box::new(move |context| {
                let _ = context.send(ack, target, RequestOptions::default());
            });
            self.phone.handle.send(wish).await.unwrap();
        }
    }

    /// Acknowledges the reliable provisional answers to its INVITEs that it has not yet, rightly or not.
    async fn pracks(&mut self, rightly: bool) {
        let is_reliable = |it: &Response| it.headers().rseq().unwrap_or_default().is_some();
        for (response, invite) in self.answers(is_reliable) {
            let rseq = response.headers().rseq().unwrap().unwrap();
            if self.phone.seen_finals(&invite) > 0 || !self.pracked.insert((number(&invite), rseq))
            {
                continue;
            }
            let wrong = u32::from(!rightly && self.once_in(5));
            let rack = RAck {
                rseq: rseq + wrong,
                cseq: number(&invite),
                method: Method::Invite,
            };
            let cseq = self.next_number();
            let dialog = InDialog::of_response(&response);
            let prack = dialog
                .bare(Method::Prack, cseq)
                .header(HeaderName::RAck, rack.to_string());
            let owes = invite.body().is_empty() && !response.body().is_empty();
            let describes = match rightly {
                true => owes,
                false => owes != self.once_in(4),
            };
            let prack = match describes {
                true => prack.body("application/sdp", sdp("pracked").bytes),
                false => prack,
            };
            self.sends(prack.build().unwrap()).await;
        }
    }

    /// The requests of Alice's that wait for a final answer.
    fn open(&self) -> Vec<(usize, Came)> {
        let (requests, _) = self.phone.seen.everything();
        let all = requests.into_iter().enumerate();
        let is_open = |(place, came): &(usize, Came)| {
            !self.closed.contains(place) && !matches!(came.method(), Method::Ack | Method::Cancel)
        };
        all.filter(is_open).collect()
    }

    /// Answers one of Alice's requests, in any way.
    async fn answers_any(&mut self) {
        let open = self.open();
        if open.is_empty() {
            return;
        }
        let (place, came) = one(&self.network, &open);
        let fork = one(&self.network, &FORKS);
        let tag = tag_for(&came, fork);
        let is_invite = *came.method() == Method::Invite;
        if is_invite && !self.once_in(3) {
            return self.provisional(place, &came, &tag).await;
        }
        let refusals = [401, 407, 403, 422, 488, 491, 500, 503];
        let ending = [404, 408, 481, 603];
        let status = match self.network.random(0..=23) {
            0 => one(&self.network, &ending),
            1..=6 => one(&self.network, &refusals),
            _ => 200,
        };
        self.finally(place, &came, (status, &tag), !self.once_in(6))
            .await;
    }

    async fn provisional(&mut self, place: usize, came: &Came, tag: &str) {
        let status = one(&self.network, &[180, 183]);
        let describes = self.once_in(2);
        let is_reliable = self.once_in(2);
        let next = self.rseqs.entry((place, tag.to_owned())).or_insert(100);
        *next += u32::from(is_reliable);
        let rseq = *next;
        self.responds(place, came, (status, tag), |builder| {
            let builder = knows_updates(builder);
            let builder = match describes {
                true => builder.body("application/sdp", sdp("early").bytes),
                false => builder,
            };
            match is_reliable {
                true => reliable(rseq)(builder),
                false => builder,
            }
        })
        .await;
    }

    async fn finally(&mut self, place: usize, came: &Came, (status, tag): (u16, &str), full: bool) {
        let describes = matches!(came.method(), Method::Invite)
            || *came.method() == Method::Update && !came.body().is_empty();
        self.responds(place, came, (status, tag), |builder| match status {
            200 if describes && full => {
                let builder = knows_updates(builder);
                builder.body("application/sdp", sdp("answer").bytes)
            }
            401 => builder.header(HeaderName::WwwAuthenticate, "Word realm=\"b\""),
            407 => builder.header(HeaderName::ProxyAuthenticate, "Word realm=\"b\""),
            422 => builder.header(HeaderName::MinSe, "900"),
            _ => builder,
        })
        .await;
    }

    async fn responds(
        &mut self,
        place: usize,
        came: &Came,
        (status, tag): (u16, &str),
        edit: impl FnOnce(ResponseBuilder) -> ResponseBuilder,
    ) {
        let mut builder =
            Response::for_request(&came.request, StatusCode::new(status).unwrap()).to_tag(tag);
        let is_invite = *came.method() == Method::Invite;
        if matches!(came.method(), Method::Invite | Method::Update) && status < 300 {
            builder = builder.contact(format!("<sip:bob@{BOB}>"));
        }
        let (transaction, response) = (came.transaction, edit(builder).build().unwrap());
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let wish: Wish = Box::new(move |context| {
            let _ = sender.send(context.respond(transaction, response).is_ok());
        });
        self.phone.handle.send(wish).await.unwrap();
        let has_gone = receiver.await.unwrap();
        let forks = is_invite && to_tag(came).is_empty() && status == 200;
        let stays_open = has_gone && (status < 200 || forks);
        if !stays_open {
            self.closed.insert(place);
        }
        if is_invite && status < 300 && has_gone {
            let said = Said {
                invite: came.request.clone(),
                tag: tag.to_owned(),
                at: self.began.elapsed(),
                accepts: status >= 200,
            };
            self.said.push(said);
        }
    }

    /// One step of many.
    pub async fn steps(&mut self) {
        match self.network.random(0..=10) {
            0..=2 => self.answers_any().await,
            3..=5 => self.asks().await,
            6 | 7 => self.acknowledges(false).await,
            8 | 9 => self.pracks(false).await,
            _ => {
                let invites = self
                    .sent
                    .iter()
                    .filter(|it| *it.0.method() == Method::Invite);
                if let Some(id) = invites.last().and_then(|it| it.1)
                    && self.once_in(4)
                {
                    self.phone.cancels(id).await;
                }
            }
        }
    }

    /// Does what a peer should.
    pub async fn behaves(&mut self) {
        for (place, came) in self.open() {
            let tag = tag_for(&came, FORKS[0]);
            let is_it = |it: &Said| it.accepts && number(&it.invite) == number(&came);
            let has_2xx = |it: &Said| is_it(it) && *came.method() == Method::Invite;
            if self.said.iter().any(has_2xx) {
                self.closed.insert(place);
                continue;
            }
            self.finally(place, &came, (200, &tag), true).await;
            self.closed.insert(place);
        }
        self.acknowledges(true).await;
        self.pracks(true).await;
    }

    pub fn sent_bye(&self) -> bool {
        self.sent.iter().any(|it| *it.0.method() == Method::Bye)
    }
}
