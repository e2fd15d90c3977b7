//! Inputs that a fuzz target stumbled over, one test each.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use sipora_message::{Aor, Uri};

#[test]
fn a_uri_with_a_parameter_given_twice_is_equivalent_to_itself() {
    let uri = Uri::parse("sip:/I@example.com;t=$B;t=$8").unwrap();
    assert!(uri.equivalent(&uri));
    let other = Uri::parse("sip:/I@example.com;t=$B;t=$9").unwrap();
    assert!(!uri.equivalent(&other));
}

#[test]
fn a_key_with_a_control_character_in_its_user_names_a_uri_with_that_key() {
    let uri = Uri::parse("SIP:/R!2%10II@ex;am&.cam&.cG").unwrap();
    let key = Aor::from_uri(&uri).unwrap();
    let again = key.to_uri().unwrap();
    assert_eq!(Aor::from_uri(&again), Ok(key));
}
