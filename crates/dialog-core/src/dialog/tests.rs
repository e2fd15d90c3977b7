//! What a dialog remembers, and what it takes.

use super::*;
use sipora_message::HeaderName;
use sipora_message::StatusCode;

fn request(start: &str, extra: &str, cseq: &str) -> Request {
    let text = format!(
        "{start} SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: \"A\" <sip:alice@example.com>;tag=a\r\n\
         To: <sip:bob@example.com>\r\nCall-ID: c\r\nCSeq: {cseq}\r\nMax-Forwards: 70\r\n{extra}\r\n"
    );
    Request::parse(text, &Default::default()).unwrap()
}

fn subscribe() -> Request {
    request(
        "SUBSCRIBE sip:bob@example.com",
        "Contact: <sip:alice@192.0.2.1;x=y>\r\nRecord-Route: <sip:p2;lr>, <sip:p1;lr>;q=1\r\n",
        "5 SUBSCRIBE",
    )
}

fn asked() -> Dialog {
    let response = Response::for_request(&subscribe(), StatusCode::OK)
        .to_tag("b")
        .record_route()
        .contact("<sip:bob@192.0.2.2>")
        .build()
        .unwrap();
    Dialog::of_response(&subscribe(), &response).unwrap()
}

fn routes_of(request: &Request) -> Vec<String> {
    let routes = request.headers().routes();
    routes
        .map(|route| route.unwrap().uri().to_string())
        .collect()
}

#[test]
fn what_began_with_a_sips_uri_stays_secure() {
    let extra = "Contact: <sip:alice@192.0.2.1>\r\n";
    let request = request("INVITE sips:bob@example.com", extra, "1 INVITE");
    let response = Response::for_request(&request, StatusCode::OK)
        .to_tag("b")
        .contact("<sip:bob@192.0.2.2:5061>")
        .build()
        .unwrap();
    let mut asked = Dialog::of_response(&request, &response).unwrap();
    assert_eq!(asked.remote_target().as_str(), "sips:bob@192.0.2.2:5061");
    asked.refresh_target(request.headers());
    assert_eq!(asked.remote_target().as_str(), "sips:alice@192.0.2.1");
    let served = Dialog::of_request(&request, "b").unwrap();
    assert_eq!(served.remote_target().as_str(), "sips:alice@192.0.2.1");
}

#[test]
fn the_side_that_asked_reverses_the_record_route_and_counts_on() {
    let mut dialog = asked();
    let request = dialog
        .request(Method::Subscribe, 1)
        .unwrap()
        .build()
        .unwrap();
    assert_eq!(request.uri_text(), "sip:bob@192.0.2.2");
    assert_eq!(routes_of(&request), ["sip:p1;lr", "sip:p2;lr"]);
    assert_eq!(
        request.headers().first(&HeaderName::Route),
        Some(&b"<sip:p1;lr>;q=1"[..])
    );
    assert_eq!(request.headers().cseq().unwrap().number, 6);
    assert_eq!(request.headers().from().unwrap().tag(), Some("a"));
    assert_eq!(request.headers().to().unwrap().tag(), Some("b"));
    assert_eq!(dialog.next_hop().as_str(), "sip:p1;lr");
}

#[test]
fn the_side_that_was_asked_keeps_the_order_and_begins_its_own_numbers() {
    let mut dialog = Dialog::of_request(&subscribe(), "b").unwrap();
    let request = dialog.request(Method::Notify, 31).unwrap().build().unwrap();
    assert_eq!(request.uri_text(), "sip:alice@192.0.2.1;x=y");
    assert_eq!(routes_of(&request), ["sip:p2;lr", "sip:p1;lr"]);
    assert_eq!(request.headers().cseq().unwrap().number, 31);
    assert_eq!(request.headers().from().unwrap().tag(), Some("b"));
    assert_eq!(
        request.headers().from().unwrap().uri().as_str(),
        "sip:bob@example.com"
    );
    assert_eq!(request.headers().to().unwrap().tag(), Some("a"));
}

#[test]
fn a_strict_router_takes_the_request_uri_and_the_target_ends_the_route() {
    let subscribe = request(
        "SUBSCRIBE sip:bob@example.com",
        "Contact: <sip:alice@192.0.2.1>\r\nRecord-Route: <sip:strict>\r\nRecord-Route: <sip:loose;lr>\r\n",
        "5 SUBSCRIBE",
    );
    let mut dialog = Dialog::of_request(&subscribe, "b").unwrap();
    let request = dialog.request(Method::Notify, 1).unwrap().build().unwrap();
    assert_eq!(request.uri_text(), "sip:strict");
    assert_eq!(routes_of(&request), ["sip:loose;lr", "sip:alice@192.0.2.1"]);
    assert_eq!(dialog.next_hop().as_str(), "sip:strict");
}

#[test]
fn a_sips_target_makes_sips_uris_of_the_route_set() {
    let routes =
        "Record-Route: \"p\" <sip:p1;transport=tcp;lr>;x=1\r\nRecord-Route: <sips:p2;lr>\r\n";
    let extra = format!("Contact: <sips:alice@a.example.com>\r\n{routes}");
    let subscribe = request("SUBSCRIBE sips:bob@example.com", &extra, "5 SUBSCRIBE");
    let mut dialog = Dialog::of_request(&subscribe, "b").unwrap();
    let notify = dialog.request(Method::Notify, 1).unwrap().build().unwrap();
    assert_eq!(dialog.next_hop().as_str(), "sips:p1;transport=tcp;lr");
    assert_eq!(
        routes_of(&notify),
        ["sips:p1;transport=tcp;lr", "sips:p2;lr"]
    );

    // What moves to SIPS takes its route along.
    let extra = format!("Contact: <sip:alice@a.example.com>\r\n{routes}");
    let subscribe = request("SUBSCRIBE sip:bob@example.com", &extra, "5 SUBSCRIBE");
    let mut dialog = Dialog::of_request(&subscribe, "b").unwrap();
    assert_eq!(dialog.next_hop().as_str(), "sip:p1;transport=tcp;lr");
    let moved = "Contact: <sips:alice@a.example.com>\r\n";
    dialog.refresh_target(request("SUBSCRIBE sips:bob@b", moved, "6 SUBSCRIBE").headers());
    assert_eq!(dialog.next_hop().as_str(), "sips:p1;transport=tcp;lr");
}

#[test]
fn numbers_may_be_left_out_and_must_go_up() {
    let mut dialog = Dialog::of_request(&subscribe(), "b").unwrap();
    let mut receive = |number: u32| {
        dialog.receive(&request(
            "SUBSCRIBE sip:bob@h",
            "",
            &format!("{number} SUBSCRIBE"),
        ))
    };
    assert_eq!(receive(9), Ok(()));
    let late = |received| Err(DialogError::OutOfOrder { received, last: 9 });
    assert_eq!(receive(9), late(9));
    assert_eq!(receive(8), late(8));
    assert_eq!(receive(10), Ok(()));
    let mut dialog = asked();
    let any = request("NOTIFY sip:alice@h", "", "0 NOTIFY");
    assert_eq!(
        dialog.receive(&any),
        Ok(()),
        "the peer begins where it likes"
    );
}

#[test]
fn numbers_end_at_2_to_the_31() {
    let mut dialog = asked();
    dialog.sent(MAX_CSEQ - 1);
    dialog.sent(7);
    assert!(dialog.request(Method::Subscribe, 1).is_some());
    assert!(dialog.request(Method::Subscribe, 1).is_none());
}

#[test]
fn a_contact_moves_the_target_and_its_absence_does_not() {
    let mut dialog = asked();
    dialog.refresh_target(request("NOTIFY sip:a@h", "", "1 NOTIFY").headers());
    assert_eq!(dialog.remote_target().as_str(), "sip:bob@192.0.2.2");
    let moved = request(
        "NOTIFY sip:a@h",
        "Contact: <sip:bob@192.0.2.3>\r\n",
        "1 NOTIFY",
    );
    dialog.refresh_target(moved.headers());
    assert_eq!(dialog.remote_target().as_str(), "sip:bob@192.0.2.3");
}

#[test]
fn a_target_has_neither_method_nor_headers() {
    let mut dialog = asked();
    let moved = "Contact: <sip:bob@192.0.2.3;method=BYE;x=1?Subject=a>\r\n";
    dialog.refresh_target(request("NOTIFY sip:a@h", moved, "2 NOTIFY").headers());
    assert_eq!(dialog.remote_target().as_str(), "sip:bob@192.0.2.3;x=1");
}

#[test]
fn what_lacks_contact_or_tag_makes_no_dialog() {
    let bare = request("SUBSCRIBE sip:bob@h", "", "1 SUBSCRIBE");
    assert_eq!(
        Dialog::of_request(&bare, "b").unwrap_err(),
        DialogError::Missing("Contact")
    );
    assert_eq!(
        Dialog::of_notify(&bare, 1).unwrap_err(),
        DialogError::Missing("the tag of To")
    );
    assert!(DialogId::of_incoming(&bare).is_none());
}
