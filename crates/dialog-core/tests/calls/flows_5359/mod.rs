//! The flows of RFC 5359 §2, each on a good network and on a bad one.

mod conference;
mod forwarding;
mod hold;
mod outside;
mod pickup;
mod transfer;

use crate::support::*;
use sipora_dialog_core::{Call, CallConfig, CallEnd, CallEvent, DialogId};
use sipora_message::{HeaderName, Uri};
use sipora_testkit::{Conditions, SimNetwork};

const CAROL: &str = "192.0.2.3:5060";

/// Every other seed is a bad network.
fn set(network: &SimNetwork) {
    if network.seed() % 2 == 1 {
        network.set_conditions(Conditions::rough());
    }
}

fn able() -> CallConfig {
    let mut config = CallConfig::default();
    config.takes_refers = true;
    config.max_refers_outside = 10;
    config.takes_replaces = true;
    config
}

async fn agents(network: &SimNetwork) -> [Agent; 3] {
    set(network);
    [
        Agent::with(network, ALICE, 1, able()).await,
        Agent::with(network, BOB, 2, able()).await,
        Agent::with(network, CAROL, 3, able()).await,
    ]
}

async fn quiet(agents: &[Agent]) {
    pass(400_000).await;
    for agent in agents {
        agent.assert_idle();
    }
}

/// Takes the next call, and says yes to whatever is wanted of it until it ends, but to REFER.
async fn agrees(agent: &mut Agent) -> (Call, CallEnd) {
    let mut call = agent.incoming.next().await.unwrap();
    call.accept(sdp("answer")).await.unwrap();
    let end = listens(&mut call).await;
    (call, end)
}

async fn listens(call: &mut Call) -> CallEnd {
    loop {
        match call.next().await.unwrap() {
            CallEvent::Reinvited(_) => call.accept(sdp("agreed")).await.unwrap(),
            CallEvent::Ended(end) => return end,
            _ => {}
        }
    }
}

/// Changes the session, and waits until it is changed.
async fn changes(call: &mut Call, what: &str) {
    call.reinvite(Some(sdp(what))).await.unwrap();
    loop {
        match call.next().await.unwrap() {
            CallEvent::ReinviteAccepted(_) => return,
            CallEvent::ReinviteRefused(response) => panic!("{}", response.status()),
            CallEvent::Ended(end) => panic!("{end:?}"),
            _ => {}
        }
    }
}

/// Waits for the ACK: no offer is made before it.
async fn acknowledged(call: &mut Call) {
    loop {
        match call.next().await {
            Some(CallEvent::Acknowledged(_)) => return,
            Some(CallEvent::Ended(end)) => panic!("{end:?}"),
            Some(_) => {}
            None => panic!("it had ended before"),
        }
    }
}

/// Accepts a call, talks for two seconds, and hangs up.
async fn talks_and_hangs_up(mut call: Call) -> CallEnd {
    call.accept(sdp("answer")).await.unwrap();
    acknowledged(&mut call).await;
    pass(2_000).await;
    call.hang_up().await.unwrap();
    call.ended().await
}

/// A URI whose INVITE takes the place of a call that its user is in, by the other side's name of the dialog.
fn in_place_of(user: &str, address: &str, dialog: &DialogId) -> Uri {
    let replaces = dialog.replaces().unwrap().to_string();
    let replaces = replaces.replace(';', "%3B").replace('=', "%3D");
    let replaces = replaces.replace('@', "%40");
    uri(&format!("sip:{user}@{address}?Replaces={replaces}"))
}

/// Calls whom such a URI names.
async fn takes_over(agent: &Agent, place: &Uri) -> Call {
    let plain = uri(place.as_str().split('?').next().unwrap());
    let contact = uri(&format!("sip:own@{}", agent.address));
    let replaces: sipora_message::DialogId = place.header("Replaces").unwrap().parse().unwrap();
    let invite = sipora_dialog_core::Invite::new(plain, uri("sip:own@example.com"), contact)
        .replaces(&replaces)
        .body(sdp("offer"));
    agent.dialogs.invite(invite, None).await.unwrap()
}
