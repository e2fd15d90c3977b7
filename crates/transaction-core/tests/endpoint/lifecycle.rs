//! Building, ending, and what handles hear of it.

use crate::stage::{Client, Order, Server, address, builder, final_of, pass, request, send};
use sipora_message::{HeaderName, Method, Response, StatusCode};
use sipora_testkit::for_each_seed;
use sipora_transaction_core::{
    Claim, CommandError, Context, Endpoint, EndpointConfig, EndpointError, Event, Gone,
    IncomingRequest, SendError, Target, User,
};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

#[test]
fn shutdown_refuses_new_requests_finishes_old_ones_and_ends() {
    for_each_seed(0..5, |network| async move {
        let (mut server, seen) = Server::new(&[Method::Options]);
        server.mute = true;
        let mut one = builder(&network, 1);
        one.add_user(server);
        let one = one.build().await.unwrap();
        let handle = one.handle();
        let mut other = builder(&network, 2);
        let client = other.add_user(Client::default());
        let _other = other.build().await.unwrap();

        let (_, mut old) = send(
            &client,
            request(Method::Options, 1),
            Target::udp(address(1)),
        )
        .await;
        pass(1).await;
        let ending = tokio::spawn(one.shutdown());
        pass(1).await;
        let (_, mut new) = send(
            &client,
            request(Method::Options, 2),
            Target::udp(address(1)),
        )
        .await;
        let refusal = final_of(&mut new).await;
        assert_eq!(refusal.status().as_u16(), 503);
        assert!(refusal.headers().contains(&HeaderName::RetryAfter));

        let (transaction, request) = seen.lock().unwrap().last.clone().unwrap();
        let answer = Response::for_request(&request, StatusCode::OK)
            .to_tag("x")
            .build()
            .unwrap();
        assert_eq!(
            handle.respond(transaction, answer.clone()).await,
            Ok(Ok(()))
        );
        assert_eq!(final_of(&mut old).await.status().as_u16(), 200);
        let start = tokio::time::Instant::now();
        ending.await.unwrap();
        assert!(
            start.elapsed() < Duration::from_millis(100),
            "nothing is left to wait for"
        );
        assert_eq!(seen.lock().unwrap().shutdowns, 1);
        assert!(handle.is_closed());
        assert_eq!(
            handle.respond(transaction, answer).await,
            Err(CommandError::Closed)
        );
    });
}

#[test]
fn shutdown_does_not_wait_longer_than_it_may() {
    for_each_seed(0..1, |network| async move {
        let (mut server, _seen) = Server::new(&[Method::Options]);
        server.mute = true;
        let mut one = builder(&network, 1);
        one.add_user(server);
        let one = one.build().await.unwrap();
        let mut other = builder(&network, 2);
        let client = other.add_user(Client::default());
        let _other = other.build().await.unwrap();
        let _events = send(
            &client,
            request(Method::Options, 1),
            Target::udp(address(1)),
        )
        .await;
        pass(1).await;
        let start = tokio::time::Instant::now();
        one.shutdown().await;
        let taken = start.elapsed();
        assert!(
            taken >= Duration::from_secs(5) && taken < Duration::from_secs(6),
            "{taken:?}"
        );
    });
}

#[test]
fn an_idle_endpoint_ends_at_once_and_gives_its_port_back() {
    for_each_seed(0..1, |network| async move {
        let host = network.host(crate::stage::ip(1));
        let build = || {
            Endpoint::builder()
                .network(std::sync::Arc::new(host.clone()))
                .listen(sipora_transport::Transport::Udp, address(1))
                .listen(sipora_transport::Transport::Tcp, address(1))
                .build()
        };
        let one = build().await.unwrap();
        let taken = build().await;
        assert!(matches!(taken, Err(EndpointError::Bind(error)) if error.is_in_use()));
        one.shutdown().await;
        let again = build().await.unwrap();
        drop(again);
        pass(1).await;
        build()
            .await
            .expect("a dropped endpoint gives its port back too")
            .shutdown()
            .await;
    });
}

#[test]
fn an_endpoint_without_listeners_is_not_built() {
    for_each_seed(0..1, |_network| async move {
        assert!(matches!(
            Endpoint::builder().build().await,
            Err(EndpointError::NoListener)
        ));
    });
}

#[test]
fn handles_hear_of_a_full_queue_and_of_the_end() {
    for_each_seed(0..1, |network| async move {
        let config = EndpointConfig {
            command_queue: 2,
            ..EndpointConfig::default()
        };
        let mut one = builder(&network, 1).config(config);
        let client = one.add_user(Client::default());
        // Nothing takes the commands yet.
        let order = || Order::Cancel(bogus());
        assert_eq!(client.try_send(order()), Ok(()));
        assert_eq!(client.try_send(order()), Ok(()));
        assert_eq!(client.try_send(order()), Err(CommandError::Full));
        let one = one.build().await.unwrap();
        client.send(order()).await.unwrap();
        one.shutdown().await;
        assert_eq!(client.try_send(order()), Err(CommandError::Closed));
        assert_eq!(client.send(order()).await, Err(CommandError::Closed));
        assert!(client.is_closed());
    });
}

#[test]
fn an_answer_that_comes_too_late_is_told_gone() {
    for_each_seed(0..1, |network| async move {
        let (server, seen) = Server::new(&[Method::Options]);
        let mut one = builder(&network, 1);
        one.add_user(server);
        let one = one.build().await.unwrap();
        let mut other = builder(&network, 2);
        let client = other.add_user(Client::default());
        let _other = other.build().await.unwrap();
        let (_, mut events) = send(
            &client,
            request(Method::Options, 1),
            Target::udp(address(1)),
        )
        .await;
        final_of(&mut events).await;
        let (transaction, request) = seen.lock().unwrap().last.clone().unwrap();
        let answer = Response::for_request(&request, StatusCode::OK)
            .to_tag("x")
            .build()
            .unwrap();
        assert_eq!(
            one.handle().respond(transaction, answer).await,
            Ok(Err(Gone))
        );
    });
}

/// Wakes up when it is told to, and twice more, a second apart.
struct Ticker {
    next: Option<Instant>,
    ticks: mpsc::UnboundedSender<Instant>,
    left: u32,
}

impl User for Ticker {
    type Command = Duration;

    fn on_request(&mut self, _context: &mut Context<'_>, _request: &IncomingRequest) -> Claim {
        Claim::Passed
    }

    fn on_event(&mut self, _context: &mut Context<'_>, _event: Event) {}

    fn on_command(&mut self, context: &mut Context<'_>, wait: Duration) {
        self.next = Some(context.now().instant + wait);
    }

    fn on_timeout(&mut self, context: &mut Context<'_>) {
        self.ticks.send(context.now().instant).unwrap();
        self.left -= 1;
        self.next = (self.left > 0).then(|| context.now().instant + Duration::from_secs(1));
    }

    fn next_timeout(&self) -> Option<Instant> {
        self.next
    }
}

#[test]
fn users_are_woken_when_they_asked_to_be() {
    for_each_seed(0..1, |network| async move {
        let (sender, mut ticks) = mpsc::unbounded_channel();
        let mut one = builder(&network, 1);
        let ticker = one.add_user(Ticker {
            next: None,
            ticks: sender,
            left: 3,
        });
        let _one = one.build().await.unwrap();
        let start = tokio::time::Instant::now().into_std();
        // A nearer alarm takes the place of a farther one.
        ticker.send(Duration::from_secs(100)).await.unwrap();
        tokio::task::yield_now().await;
        ticker.send(Duration::from_secs(1)).await.unwrap();
        for second in 1..=3 {
            let late = ticks.recv().await.unwrap() - start - Duration::from_secs(second);
            assert!(late < Duration::from_millis(10), "{late:?}");
        }
        pass(5).await;
        assert!(ticks.try_recv().is_err());
    });
}

#[test]
fn requests_cannot_be_sent_during_shutdown() {
    for_each_seed(0..1, |network| async move {
        let (mut server, _seen) = Server::new(&[Method::Options]);
        server.mute = true;
        let mut one = builder(&network, 1);
        one.add_user(server);
        let _one = one.build().await.unwrap();
        let mut other = builder(&network, 2);
        let client = other.add_user(Client::default());
        let other = other.build().await.unwrap();
        let _events = send(
            &client,
            request(Method::Options, 1),
            Target::udp(address(1)),
        )
        .await;
        other.handle().begin_shutdown();
        pass(1).await;
        let (events, _receiver) = mpsc::unbounded_channel();
        let (reply, id) = tokio::sync::oneshot::channel();
        let order = Order::Send(
            Box::new(request(Method::Options, 2)),
            Target::udp(address(1)),
            events,
            reply,
        );
        client.send(order).await.unwrap();
        assert_eq!(id.await.unwrap(), Err(SendError::ShuttingDown));
        let start = tokio::time::Instant::now();
        other.shutdown().await;
        assert!(start.elapsed() <= Duration::from_secs(5));
    });
}

/// The id of a request that no endpoint ever sent.
fn bogus() -> sipora_transaction_core::RequestId {
    let mut layer = sipora_transaction_core::TransactionLayer::new(
        Default::default(),
        sipora_transaction_core::IdSource::from_number(1),
    );
    let target = sipora_transport::Destination::udp(address(9));
    let outgoing = sipora_transaction_core::OutgoingRequest::new(
        request(Method::Options, 1),
        target,
        sipora_transaction_core::Owner(0),
    );
    layer
        .send_request(sipora_transport::Now::from_system(), outgoing)
        .unwrap()
}
