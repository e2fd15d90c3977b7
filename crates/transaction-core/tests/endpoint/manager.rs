//! The awaitable front.

use crate::stage::{Seen, Server, Shared, address, builder, pass, request};
use sipora_message::{Method, Uri};
use sipora_testkit::{Conditions, SimNetwork, for_each_seed, seeds};
use sipora_transaction_core::{
    CommandError, Endpoint, RequestError, TransactionError, TransactionManager,
};
use std::time::Duration;

async fn pair(
    network: &SimNetwork,
    mute: bool,
) -> (Endpoint, Endpoint, TransactionManager, Shared<Seen>) {
    let (mut server, seen) = Server::new(&[Method::Options, Method::Register]);
    server.mute = mute;
    let mut one = builder(network, 1);
    one.add_user(server);
    let mut other = builder(network, 2);
    let manager = TransactionManager::add_to(&mut other);
    (
        one.build().await.unwrap(),
        other.build().await.unwrap(),
        manager,
        seen,
    )
}

#[test]
fn the_final_answer_is_returned_whatever_its_status() {
    for_each_seed(seeds(), |network| async move {
        let (_one, other, manager, _seen) = pair(&network, false).await;
        network.set_conditions(Conditions::rough());
        for (method, status) in [(Method::Options, 200), (Method::Message, 405)] {
            let id = manager
                .create_non_dialog_transaction(request(method, 1), address(1))
                .await
                .unwrap();
            let response = manager
                .wait_for_response(id, Duration::from_secs(32))
                .await
                .unwrap();
            assert_eq!(response.status().as_u16(), status);
            let again = manager.wait_for_response(id, Duration::from_secs(1)).await;
            assert_eq!(again.unwrap_err(), TransactionError::Unknown);
        }
        pass(10).await;
        assert_eq!(other.handle().metrics().client_transactions, 0);
    });
}

#[test]
fn an_answer_that_came_before_the_wait_is_kept_for_a_while() {
    for_each_seed(0..1, |network| async move {
        let (_one, _other, manager, _seen) = pair(&network, false).await;
        let id = manager
            .create_non_dialog_transaction(request(Method::Options, 1), address(1))
            .await
            .unwrap();
        pass(31).await;
        assert!(
            manager
                .wait_for_response(id, Duration::from_secs(1))
                .await
                .is_ok()
        );
        let id = manager
            .create_non_dialog_transaction(request(Method::Options, 2), address(1))
            .await
            .unwrap();
        pass(33).await;
        let late = manager.wait_for_response(id, Duration::from_secs(1)).await;
        assert_eq!(late.unwrap_err(), TransactionError::Unknown);
    });
}

#[test]
fn invite_ack_and_cancel_are_refused() {
    for_each_seed(0..1, |network| async move {
        let (_one, _other, manager, _seen) = pair(&network, false).await;
        for method in [Method::Invite, Method::Ack, Method::Cancel] {
            let name = method.as_str().to_owned();
            let refused = manager
                .create_non_dialog_transaction(request(method, 1), address(1))
                .await;
            assert_eq!(
                refused.unwrap_err(),
                TransactionError::MethodRefused(name.into())
            );
        }
    });
}

#[test]
fn the_timeout_of_the_wait_ends_the_request() {
    for_each_seed(0..1, |network| async move {
        let (_one, other, manager, _seen) = pair(&network, true).await;
        let id = manager
            .create_non_dialog_transaction(request(Method::Options, 1), address(1))
            .await
            .unwrap();
        let start = tokio::time::Instant::now();
        let outcome = manager.wait_for_response(id, Duration::from_secs(3)).await;
        assert_eq!(
            outcome.unwrap_err(),
            TransactionError::Request(RequestError::Timeout)
        );
        assert_eq!(start.elapsed().as_secs(), 3);
        pass(1).await;
        assert_eq!(other.handle().metrics().requests, 0);
        assert_eq!(other.handle().metrics().client_transactions, 0);
    });
}

#[test]
fn a_dropped_wait_ends_the_request_and_leaves_nothing_behind() {
    for_each_seed(0..1, |network| async move {
        let (_one, other, manager, _seen) = pair(&network, true).await;
        let id = manager
            .create_non_dialog_transaction(request(Method::Options, 1), address(1))
            .await
            .unwrap();
        let wait = manager.wait_for_response(id, Duration::from_secs(30));
        assert!(
            tokio::time::timeout(Duration::from_secs(1), wait)
                .await
                .is_err()
        );
        pass(1).await;
        let metrics = other.handle().metrics();
        assert_eq!(
            (metrics.requests, metrics.client_transactions),
            (0, 0),
            "{metrics:?}"
        );
        pass(60).await;
        let ours = network
            .packets()
            .iter()
            .filter(|packet| packet.source == address(2))
            .count();
        assert_eq!(ours, 2, "nothing is repeated once the wait is over");
    });
}

#[test]
fn a_request_that_nobody_waits_for_ends_by_itself() {
    for_each_seed(0..1, |network| async move {
        let (_one, other, manager, _seen) = pair(&network, true).await;
        manager
            .create_non_dialog_transaction(request(Method::Options, 1), address(1))
            .await
            .unwrap();
        pass(65).await;
        let metrics = other.handle().metrics();
        assert_eq!(
            (
                metrics.requests,
                metrics.client_transactions,
                metrics.timer_entries
            ),
            (0, 0, 0)
        );
    });
}

#[test]
fn the_request_uri_names_the_transport() {
    for_each_seed(0..1, |network| async move {
        let (_one, _other, manager, _seen) = pair(&network, false).await;
        for (uri, transport) in [
            ("sip:server.example.com", "UDP"),
            ("sip:server.example.com;transport=tcp", "TCP"),
        ] {
            let request = request(Method::Options, 1)
                .edit()
                .uri(&Uri::parse(uri).unwrap())
                .build()
                .unwrap();
            let id = manager
                .create_non_dialog_transaction(request, address(1))
                .await
                .unwrap();
            let response = manager
                .wait_for_response(id, Duration::from_secs(5))
                .await
                .unwrap();
            assert_eq!(response.headers().via().unwrap().transport(), transport);
        }
        let uri = Uri::parse("sips:server.example.com").unwrap();
        let request = request(Method::Options, 1)
            .edit()
            .uri(&uri)
            .build()
            .unwrap();
        let id = manager
            .create_non_dialog_transaction(request, address(1))
            .await
            .unwrap();
        let outcome = manager.wait_for_response(id, Duration::from_secs(5)).await;
        assert!(
            matches!(
                outcome,
                Err(TransactionError::Request(RequestError::Transport(_)))
            ),
            "{outcome:?}"
        );
    });
}

#[test]
fn a_refused_connection_is_told_from_a_timeout() {
    for_each_seed(0..1, |network| async move {
        let (_one, _other, manager, _seen) = pair(&network, false).await;
        let uri = Uri::parse("sip:server.example.com;transport=tcp").unwrap();
        let request = request(Method::Options, 1)
            .edit()
            .uri(&uri)
            .build()
            .unwrap();
        let nobody = (crate::stage::ip(1), 9).into();
        let id = manager
            .create_non_dialog_transaction(request, nobody)
            .await
            .unwrap();
        let outcome = manager.wait_for_response(id, Duration::from_secs(5)).await;
        assert!(
            matches!(
                outcome,
                Err(TransactionError::Request(RequestError::Transport(_)))
            ),
            "{outcome:?}"
        );
    });
}

#[test]
fn the_end_of_the_endpoint_ends_waits() {
    for_each_seed(0..1, |network| async move {
        let (_one, other, manager, _seen) = pair(&network, true).await;
        let id = manager
            .create_non_dialog_transaction(request(Method::Options, 1), address(1))
            .await
            .unwrap();
        let waiting = {
            let manager = manager.clone();
            tokio::spawn(
                async move { manager.wait_for_response(id, Duration::from_secs(30)).await },
            )
        };
        pass(1).await;
        drop(other);
        let outcome = waiting.await.unwrap();
        assert_eq!(
            outcome.unwrap_err(),
            TransactionError::Command(CommandError::Closed)
        );
        let refused = manager
            .create_non_dialog_transaction(request(Method::Options, 2), address(1))
            .await;
        assert_eq!(
            refused.unwrap_err(),
            TransactionError::Command(CommandError::Closed)
        );
    });
}
