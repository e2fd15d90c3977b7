//! `sipora` registers with Kamailio: a registrar and a digest implementation that we did not write.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    unreachable_pub
)]

mod common;

use std::process::Command;

use common::kamailio::Kamailio;
use common::{
    Outcome, PATIENCE, Process, SIPORA, password_of, peer_is_installed, run, sipora, write,
};

/// `sipora register` for alice, whose password Kamailio derives from her name.
fn command(kamailio: &Kamailio, transport: &str, password: &str, arguments: &[&str]) -> Command {
    let password_file = write(kamailio.files.path(), "password", &format!("{password}\n"));
    let uri = format!(
        "sip:alice@127.0.0.1:{};transport={transport}",
        kamailio.port
    );
    let mut command = Command::new(SIPORA);
    command.args(["register", &uri, "--user", "alice", "--password-file"]);
    command.arg(password_file).args(arguments);
    command
}

fn register(kamailio: &Kamailio, transport: &str, password: &str, arguments: &[&str]) -> Outcome {
    run(
        &mut command(kamailio, transport, password, arguments),
        PATIENCE,
    )
}

#[test]
fn the_program_registers_queries_and_removes_over_udp_and_tcp() {
    if !peer_is_installed("kamailio") {
        return;
    }
    let kamailio = Kamailio::start();
    let password = password_of("alice");
    for transport in ["udp", "tcp"] {
        let contact = format!("sip:alice@127.0.0.1:9;transport={transport}");
        let registered = register(&kamailio, transport, &password, &["--contact", &contact]);
        assert_eq!(registered.code(), 0, "{transport}: {registered}");

        let queried = register(&kamailio, transport, &password, &["--query"]);
        assert_eq!(queried.code(), 0, "{transport}: {queried}");
        assert!(queried.stdout.contains(&contact), "{transport}: {queried}");

        let removed = register(&kamailio, transport, &password, &["--remove"]);
        assert_eq!(removed.code(), 0, "{transport}: {removed}");

        let queried = register(&kamailio, transport, &password, &["--query"]);
        assert_eq!(queried.code(), 0, "{transport}: {queried}");
        assert!(!queried.stdout.contains(&contact), "{transport}: {queried}");
    }
}

#[test]
fn a_registration_that_is_kept_is_refreshed_and_in_the_end_removed() {
    if !peer_is_installed("kamailio") {
        return;
    }
    for transport in ["udp", "tcp"] {
        let kamailio = Kamailio::start();
        let arguments = ["--expires", "4", "--keep"];
        let client = Process::start(&mut command(
            &kamailio,
            transport,
            &password_of("alice"),
            &arguments,
        ));
        kamailio.wait_for_saves(3);
        let saves = kamailio.saves();
        for pair in saves.windows(2) {
            assert_eq!(
                pair[0].call_id, pair[1].call_id,
                "{transport}: a refresh keeps its Call-ID: {saves:?}"
            );
            assert!(
                pair[0].cseq < pair[1].cseq,
                "{transport}: a refresh raises CSeq: {saves:?}"
            );
        }

        let ended = client.terminate(PATIENCE);
        assert_eq!(ended.code(), 0, "{transport}: {ended}");
        let queried = register(&kamailio, transport, &password_of("alice"), &["--query"]);
        assert_eq!(queried.code(), 0, "{transport}: {queried}");
        assert!(
            queried.stdout.contains(" has 0 bindings"),
            "{transport}: {queried}"
        );
    }
}

#[test]
fn a_wrong_password_at_kamailio_is_reported_clearly() {
    if !peer_is_installed("kamailio") {
        return;
    }
    let kamailio = Kamailio::start();
    let refused = register(&kamailio, "udp", "wrong", &[]);
    assert_eq!(refused.code(), 1, "{refused}");
    let lines = refused.error_lines();
    assert_eq!(lines.len(), 1, "one clear line: {refused}");
    assert!(
        lines[0].contains("401"),
        "the line names the status: {refused}"
    );
    // One challenge, one answer: a password that is wrong is not tried again.
    assert_eq!(
        kamailio.requests("REGISTER"),
        2,
        "{}",
        kamailio.process.printed()
    );
    assert!(
        kamailio.saves().is_empty(),
        "{}",
        kamailio.process.printed()
    );
}

#[test]
fn a_password_never_appears_in_what_is_printed() {
    if !peer_is_installed("kamailio") {
        return;
    }
    let kamailio = Kamailio::start();
    let password = password_of("alice");
    let registered = register(&kamailio, "udp", &password, &["-v"]);
    assert_eq!(registered.code(), 0, "{registered}");
    assert!(!format!("{registered}").contains(&password), "{registered}");
}

#[test]
fn options_at_kamailio_gets_its_200() {
    if !peer_is_installed("kamailio") {
        return;
    }
    let kamailio = Kamailio::start();
    for transport in ["udp", "tcp"] {
        let pinged = sipora([
            "options",
            &format!("sip:127.0.0.1:{};transport={transport}", kamailio.port),
        ]);
        assert_eq!(pinged.code(), 0, "{transport}: {pinged}");
    }
}

#[test]
fn a_final_answer_other_than_2xx_is_status_1() {
    if !peer_is_installed("kamailio") {
        return;
    }
    let kamailio = Kamailio::start();
    let pinged = sipora([
        "options",
        &format!("sip:nobody@127.0.0.1:{}", kamailio.port),
    ]);
    assert_eq!(pinged.code(), 1, "{pinged}");
    assert!(format!("{pinged}").contains("404"), "{pinged}");
}
