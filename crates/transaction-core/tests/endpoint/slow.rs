//! What takes time delays nobody else.

use crate::stage::{Client, Outbox, Server, address, builder, final_of, ip, pass, request, send};
use sipora_message::{Message, Method, Uri};
use sipora_testkit::for_each_seed;
use sipora_transaction_core::{
    Direction, EndpointConfig, Event, MessageObserver, Observed, Target,
};
use sipora_transport::{Destination, ResolveError, Resolver, StaticResolver};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// Knows `server.example.com` at once, and of all others nothing for an hour.
#[derive(Debug, Default)]
pub struct Slow {
    pub asked: Arc<AtomicUsize>,
}

impl Resolver for Slow {
    // What `async_trait` would make of it.
    fn resolve<'own, 'target, 'found>(
        &'own self,
        target: &'target Uri,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<Destination>, ResolveError>> + Send + 'found>>
    where
        'own: 'found,
        'target: 'found,
    {
        Box::pin(async move {
            if target.host_str() != "server.example.com" {
                self.asked.fetch_add(1, Ordering::Relaxed);
                pass(3_600).await;
            }
            StaticResolver::new()
                .with("server.example.com", ip(1))
                .resolve(target)
                .await
        })
    }
}

fn uri(text: &str) -> Target {
    Target::Uri(Uri::parse(text).unwrap())
}

#[test]
fn names_that_take_long_and_peers_that_do_not_answer_delay_nobody() {
    for_each_seed(0..1, |network| async move {
        let mut one = builder(&network, 1);
        one.add_user(Server::new(&[Method::Options]).0);
        let _one = one.build().await.unwrap();
        let mut other = builder(&network, 2).resolver(Arc::new(Slow::default()));
        let client = other.add_user(Client::default());
        let _other = other.build().await.unwrap();
        let mut stuck = Vec::new();
        for number in 0..1_000 {
            let options = request(Method::Options, number);
            let target = match number % 2 {
                0 => uri("sip:b@slow.example.com"),
                _ => Target::tcp(address(99)),
            };
            stuck.push(send(&client, options, target).await);
        }
        let options = request(Method::Options, 1_000);
        let (_, mut events) = send(&client, options, uri("sip:b@server.example.com")).await;
        let start = Instant::now();
        assert_eq!(final_of(&mut events).await.status().as_u16(), 200);
        let waited = start.elapsed();
        assert!(waited < Duration::from_millis(500), "{waited:?}");
        for (_, mut events) in stuck {
            let ended = timeout(Duration::from_secs(40), events.recv())
                .await
                .unwrap();
            assert!(matches!(ended, Some(Event::Failed { .. })), "{ended:?}");
        }
    });
}

#[test]
fn names_for_which_nobody_waits_any_more_are_not_looked_up() {
    for_each_seed(0..1, |network| async move {
        let resolver = Slow::default();
        let asked = Arc::clone(&resolver.asked);
        let config = EndpointConfig {
            slow_tasks: 2,
            ..EndpointConfig::default()
        };
        let mut other = builder(&network, 2)
            .config(config)
            .resolver(Arc::new(resolver));
        let client = other.add_user(Client::default());
        let other = other.build().await.unwrap();
        for number in 0..100 {
            let options = request(Method::Options, number);
            let (id, mut events) = send(&client, options, uri("sip:b@slow.example.com")).await;
            client.send(crate::stage::Order::Cancel(id)).await.unwrap();
            assert!(matches!(events.recv().await, Some(Event::Failed { .. })));
        }
        assert_eq!(other.handle().metrics().requests, 0);
        pass(20 * 3_600).await;
        assert_eq!(asked.load(Ordering::Relaxed), 2, "those that had begun");
    });
}

/// Keeps what came in.
#[derive(Default)]
struct Inbox(Mutex<Vec<Vec<u8>>>);

impl MessageObserver for Inbox {
    fn on_message(&self, message: &Observed<'_>) {
        if message.direction == Direction::In {
            self.0.lock().unwrap().push(message.bytes.to_vec());
        }
    }
}

#[test]
fn an_observer_sees_what_was_on_the_wire() {
    for_each_seed(0..1, |network| async move {
        let (inbox, outbox) = (Arc::new(Inbox::default()), Arc::new(Outbox::default()));
        let mut one = builder(&network, 1).observer(Arc::clone(&inbox) as _);
        one.add_user(Server::new(&[Method::Options]).0);
        let _one = one.build().await.unwrap();
        let mut other = builder(&network, 2).observer(Arc::clone(&outbox) as _);
        let client = other.add_user(Client::default());
        let _other = other.build().await.unwrap();
        for (number, target) in [Target::udp(address(1)), Target::tcp(address(1))]
            .into_iter()
            .enumerate()
        {
            let options = request(Method::Options, number as u32);
            let (_, mut events) = send(&client, options, target).await;
            final_of(&mut events).await;
        }
        let sent = outbox.sent.lock().unwrap();
        let sent: Vec<&[u8]> = sent.iter().map(Message::as_bytes).collect();
        assert_eq!(*inbox.0.lock().unwrap(), sent);
    });
}
