//! Several shards, beside one: whatever comes, over whatever socket or connection, finds those that it is for.

use crate::slow::Slow;
use crate::stage::{
    Client, Order, Seen, Server, Shared, address, builder, final_of, ip, pass, request, send,
};
use async_trait::async_trait;
use sipora_message::{Message, Method, StatusCode, Uri};
use sipora_testkit::{Conditions, SimHost, SimNetwork, for_each_seed, seeds};
use sipora_transaction_core::{
    Claim, Config, Context, Endpoint, EndpointBuilder, EndpointConfig, EndpointError, Event,
    IncomingRequest, Metrics, Target, User,
};
use sipora_transport::{
    DatagramSocket, Destination, Flow, InboundReceiver, Network, Now, Payload, Stream,
    StreamListener, Transport, Transports, UdpListener,
};
use std::collections::{HashMap, HashSet};
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

/// Systems: how many shards, and whether there is a socket for each.
const LAYOUTS: [(usize, bool); 3] = [(1, true), (4, true), (4, false)];

/// A network like that of systems that do not divide a port among sockets.
#[derive(Debug)]
struct OneSocket(SimHost);

#[async_trait]
impl Network for OneSocket {
    fn now(&self) -> Now {
        self.0.now()
    }

    fn local_ip_for(&self, remote: SocketAddr) -> io::Result<IpAddr> {
        self.0.local_ip_for(remote)
    }

    fn bind_datagram(&self, local: SocketAddr, _sockets: usize) -> io::Result<Vec<DatagramSocket>> {
        self.0.bind_datagram(local, 1)
    }

    fn listen(&self, local: SocketAddr) -> io::Result<Box<dyn StreamListener>> {
        self.0.listen(local)
    }

    async fn connect(
        &self,
        local: Option<IpAddr>,
        remote: SocketAddr,
    ) -> io::Result<Box<dyn Stream>> {
        self.0.connect(local, remote).await
    }
}

/// Begins an endpoint at 192.0.2.1.
fn sharded(network: &SimNetwork, (shards, divides): (usize, bool)) -> EndpointBuilder {
    let host = network.host(ip(1));
    let host: Arc<dyn Network> = match divides {
        true => Arc::new(host),
        false => Arc::new(OneSocket(host)),
    };
    Endpoint::builder()
        .network(host)
        .config(EndpointConfig {
            shards,
            ..EndpointConfig::default()
        })
        .listen(Transport::Udp, address(1))
        .listen(Transport::Tcp, address(1))
}

/// Puts a server like this in each shard; they share what they have seen.
fn serve(builder: &mut EndpointBuilder, adjust: impl Fn(&mut Server)) -> Shared<Seen> {
    let seen = Shared::<Seen>::default();
    builder.add_users(|_| {
        let (mut server, _) = Server::new(&[Method::Invite, Method::Ack, Method::Register]);
        server.seen = Arc::clone(&seen);
        adjust(&mut server);
        server
    });
    seen
}

/// A peer at 192.0.2.2 that sends what it is told to, over several ways.
struct Peer {
    transports: Transports,
    sockets: Vec<UdpListener>,
    inbound: InboundReceiver,
    ways: Vec<Flow>,
}

impl Peer {
    async fn new(network: &SimNetwork) -> Self {
        network.auditor().turn_off();
        let host = Arc::new(network.host(ip(2)));
        let (transports, inbound) = Transports::new(host, Default::default());
        let bind = |port| transports.bind_udp((ip(2), port).into(), 1).unwrap();
        let sockets: Vec<_> = (6000..6012).flat_map(bind).collect();
        let tcp = transports
            .open(&Destination::tcp(address(1)))
            .await
            .unwrap();
        let over = |socket: &UdpListener| Flow {
            id: socket.id(),
            transport: Transport::Udp,
            remote: address(1),
        };
        Self {
            ways: sockets.iter().map(over).chain([tcp]).collect(),
            transports,
            sockets,
            inbound,
        }
    }

    fn send(&self, way: usize, text: &str) {
        let way = &self.ways[way % self.ways.len()];
        self.transports
            .try_send(way, text.to_owned().into())
            .unwrap();
    }

    /// The statuses and methods of the answers that come within two seconds.
    async fn answers(&mut self) -> Vec<(u16, Method)> {
        let mut answers = Vec::new();
        loop {
            let next = poll_fn(|cx| {
                for socket in &mut self.sockets {
                    if let Poll::Ready(inbound) = socket.poll_recv(cx) {
                        return Poll::Ready(inbound);
                    }
                }
                self.inbound.poll_recv(cx).map(Option::unwrap)
            });
            let Ok(inbound) = tokio::time::timeout(Duration::from_secs(2), next).await else {
                return answers;
            };
            let response = match inbound.payload {
                Payload::Message(Message::Response(response)) => response,
                // The connection has not been used for long.
                Payload::Closed(_) => continue,
                other => panic!("{other:?}"),
            };
            let method = response.headers().cseq().unwrap().method;
            answers.push((response.status().as_u16(), method));
        }
    }
}

/// A request of the call with this number, outside its dialog.
fn message(method: &str, call: usize, branch: &str) -> String {
    message_to(method, call, branch, "<sip:bob@example.com>")
}

fn message_to(method: &str, call: usize, branch: &str, to: &str) -> String {
    format!(
        "{method} sip:bob@example.com SIP/2.0\r\n\
         Via: SIP/2.0/UDP 192.0.2.2:6000;branch=z9hG4bK{branch}\r\nMax-Forwards: 70\r\n\
         From: <sip:alice@example.com>;tag=88sja8x{call}\r\nTo: {to}\r\n\
         Call-ID: call-{call}@192.0.2.2\r\nCSeq: 1 {method}\r\nContact: <sip:alice@192.0.2.2:6000>\r\n\
         Content-Length: 0\r\n\r\n"
    )
}

fn metrics(endpoint: &Endpoint) -> Metrics {
    endpoint.handle().metrics()
}

#[test]
fn copies_cancel_and_ack_find_their_invite_over_any_socket_and_connection() {
    for layout in LAYOUTS {
        for_each_seed(seeds().take(5), |network| async move {
            let mut one = sharded(&network, layout);
            let seen = serve(&mut one, |_| {});
            let one = one.build().await.unwrap();
            let mut peer = Peer::new(&network).await;
            for call in 0..13 {
                let invite = message("INVITE", call, &format!("call{call}"));
                for way in 0..5 {
                    peer.send(call + way, &invite);
                }
            }
            let ringing = peer.answers().await;
            assert!(ringing.iter().all(|(status, _)| *status == 180));
            for call in 0..13 {
                peer.send(call + 5, &message("CANCEL", call, &format!("call{call}")));
            }
            let ended = peer.answers().await;
            let of = |status, method| {
                let wanted = (status, method);
                ended.iter().filter(|answer| **answer == wanted).count()
            };
            assert_eq!(of(200, Method::Cancel), 13, "{ended:?}");
            assert!(of(487, Method::Invite) >= 13, "{ended:?}");
            for call in 0..13 {
                peer.send(call + 6, &message("ACK", call, &format!("call{call}")));
            }
            pass(1).await;
            let seen = seen.lock().unwrap();
            assert_eq!((seen.cancelled, seen.acknowledged), (13, 13));
            assert_eq!(seen.offered.len(), 13);
            assert!(seen.offered.values().all(|times| *times == 1), "{seen:?}");
            let metrics = metrics(&one);
            assert_eq!(metrics.requests_received, 26, "{metrics:?}");
            assert_eq!(metrics.retransmissions_received, 13 * 4, "{metrics:?}");
            assert_eq!(metrics.passed_on > 0, layout.0 > 1, "{metrics:?}");
        });
    }
}

#[test]
fn a_merged_invite_is_refused_over_whatever_way_it_comes() {
    for layout in LAYOUTS {
        for_each_seed(seeds().take(2), |network| async move {
            let mut one = sharded(&network, layout);
            let seen = serve(&mut one, |server| server.refuses_merged = true);
            let _one = one.build().await.unwrap();
            let mut peer = Peer::new(&network).await;
            for call in 0..13 {
                peer.send(call, &message("INVITE", call, &format!("first{call}")));
                pass(1).await;
                peer.send(call + 1, &message("INVITE", call, &format!("second{call}")));
            }
            let answers = peer.answers().await;
            let merged = answers.iter().filter(|(status, _)| *status == 482);
            assert!(merged.count() >= 13, "{answers:?}");
            let seen = seen.lock().unwrap();
            assert!(seen.offered.values().all(|times| *times == 1), "{seen:?}");
            assert_eq!(seen.offered.len(), 13);
        });
    }
}

/// What came to which shard, by Call-ID.
type Places = Arc<Mutex<HashMap<String, Vec<(Method, usize)>>>>;

/// Takes everything, and notes where.
struct Noting {
    shard: usize,
    places: Places,
}

impl User for Noting {
    type Command = ();

    fn on_request(&mut self, context: &mut Context<'_>, incoming: &IncomingRequest) -> Claim {
        let request = &incoming.request;
        let call_id = request.headers().call_id().unwrap().to_owned();
        let place = (request.method().clone(), self.shard);
        let mut places = self.places.lock().unwrap();
        places.entry(call_id).or_default().push(place);
        if *request.method() != Method::Ack {
            let answer = context.answer(request, StatusCode::OK).build().unwrap();
            context.respond(incoming.transaction, answer).unwrap();
        }
        Claim::Taken
    }

    fn on_event(&mut self, _: &mut Context<'_>, _: Event) {}

    fn on_command(&mut self, _: &mut Context<'_>, (): ()) {}
}

#[test]
fn what_belongs_to_a_call_comes_to_one_shard_and_what_belongs_to_none_stays() {
    for_each_seed(seeds().take(5), |network| async move {
        let mut one = sharded(&network, (4, true));
        let places = Places::default();
        one.add_users(|shard| Noting {
            shard,
            places: Arc::clone(&places),
        });
        let _one = one.build().await.unwrap();
        let mut peer = Peer::new(&network).await;
        let methods = [
            "INVITE",
            "ACK",
            "PRACK",
            "UPDATE",
            "BYE",
            "SUBSCRIBE",
            "NOTIFY",
            "REFER",
        ];
        for call in 0..16 {
            for (way, method) in methods.into_iter().enumerate() {
                peer.send(way, &message(method, call, &format!("{method}{call}")));
            }
            let to = "<sip:bob@example.com>;tag=1";
            for method in ["MESSAGE", "INFO", "OPTIONS"] {
                let text = message_to(method, call, &format!("{method}{call}"), to);
                peer.send(call + 9, &text);
            }
        }
        for call in 100..116 {
            for number in 0..3 {
                peer.send(
                    call,
                    &message("REGISTER", call, &format!("{call}a{number}")),
                );
            }
        }
        peer.answers().await;
        let places = places.lock().unwrap();
        assert_eq!(places.len(), 32);
        for (call_id, places) in places.iter() {
            let shards: HashSet<usize> = places.iter().map(|(_, shard)| *shard).collect();
            assert_eq!(shards.len(), 1, "{call_id}: {places:?}");
        }
        let used: HashSet<usize> = places.values().map(|places| places[0].1).collect();
        assert!(used.len() > 1, "{used:?}");
    });
}

#[test]
fn where_there_is_one_socket_requests_are_spread_by_their_senders() {
    for_each_seed(seeds().take(2), |network| async move {
        let mut one = sharded(&network, (4, false));
        let places = Places::default();
        one.add_users(|shard| Noting {
            shard,
            places: Arc::clone(&places),
        });
        let _one = one.build().await.unwrap();
        let mut peer = Peer::new(&network).await;
        for way in 0..12 {
            for copy in 0..2 {
                peer.send(way, &message("REGISTER", way, &format!("{way}a{copy}")));
            }
        }
        let answers = peer.answers().await;
        assert_eq!(answers.len(), 24);
        let places = places.lock().unwrap();
        let alike = |places: &Vec<(Method, usize)>| places[0] == places[1];
        assert!(places.values().all(alike), "{places:?}");
        let used: HashSet<usize> = places.values().map(|places| places[0].1).collect();
        assert!(used.len() > 1, "{used:?}");
    });
}

#[test]
fn answers_come_to_the_shard_that_asked_over_a_rough_network() {
    for layout in LAYOUTS {
        for_each_seed(seeds(), |network| async move {
            let mut one = sharded(&network, layout);
            let clients = one.add_users(|_| Client::default());
            let one = one.build().await.unwrap();
            let mut servers = Vec::new();
            for last in 2..5 {
                let mut server = builder(&network, last);
                server.add_user(Server::new(&[Method::Options]).0);
                servers.push(server.build().await.unwrap());
            }
            network.set_conditions(Conditions::rough());
            let mut all = Vec::new();
            for number in 0..24 {
                let client = &clients[number % clients.len()];
                let last = 2 + u8::try_from(number % 3).unwrap();
                let target = match number % 2 {
                    0 => Target::udp(address(last)),
                    _ => Target::tcp(address(last)),
                };
                let options = request(Method::Options, u32::try_from(number).unwrap());
                all.push(send(client, options, target).await.1);
            }
            for events in &mut all {
                assert_eq!(final_of(events).await.status().as_u16(), 200);
            }
            pass(70).await;
            let metrics = metrics(&one);
            assert_eq!(metrics.requests_sent, 24);
            assert_eq!((metrics.requests, metrics.client_transactions), (0, 0));
            assert_eq!(metrics.passed_on > 0, layout.0 > 1, "{metrics:?}");
        });
    }
}

#[test]
fn invites_are_cancelled_and_acknowledged_between_shards_over_a_rough_network() {
    for layout in LAYOUTS {
        for_each_seed(seeds(), |network| async move {
            let mut one = sharded(&network, layout);
            let seen = serve(&mut one, |_| {});
            let one = one.build().await.unwrap();
            let mut other = builder(&network, 2).config(EndpointConfig {
                shards: layout.0,
                ..EndpointConfig::default()
            });
            let clients = other.add_users(|_| Client::default());
            let _other = other.build().await.unwrap();
            network.set_conditions(Conditions::rough());
            let mut all = Vec::new();
            for number in 0..12 {
                let client = &clients[number % clients.len()];
                let invite = request(Method::Invite, u32::try_from(number).unwrap());
                let (id, events) = send(client, invite, Target::udp(address(1))).await;
                let wait = Duration::from_millis(network.random(0..=3_000));
                tokio::time::sleep(wait).await;
                client.send(Order::Cancel(id)).await.unwrap();
                all.push(events);
            }
            for events in &mut all {
                assert_eq!(final_of(events).await.status().as_u16(), 487);
            }
            pass(70).await;
            let seen = seen.lock().unwrap();
            assert_eq!((seen.cancelled, seen.acknowledged), (12, 12), "{seen:?}");
            assert!(seen.offered.values().all(|times| *times == 1), "{seen:?}");
            let metrics = metrics(&one);
            assert_eq!((metrics.server_transactions, metrics.timer_entries), (0, 0));
        });
    }
}

#[test]
fn a_user_that_is_there_once_gets_its_requests_from_every_shard() {
    for layout in LAYOUTS {
        for_each_seed(seeds().take(5), |network| async move {
            let mut one = sharded(&network, layout);
            let seen = serve(&mut one, |server| server.methods = vec![Method::Register]);
            let (alone, seen_alone) = Server::new(&[Method::Message, Method::Invite]);
            one.add_user(alone);
            let one = one.build().await.unwrap();
            let mut peer = Peer::new(&network).await;
            for number in 0..13 {
                for method in ["MESSAGE", "REGISTER"] {
                    let text = message(method, number, &format!("{method}{number}"));
                    // Over UDP: over a connection nobody sends twice, and nobody remembers an answer.
                    peer.send(number % 12, &text);
                }
                peer.send(
                    number,
                    &message("INVITE", 20 + number, &format!("i{number}")),
                );
                peer.send(
                    number,
                    &message("PUBLISH", 20 + number, &format!("p{number}")),
                );
            }
            peer.answers().await;
            for number in 0..13 {
                // Copies, over other ways.
                let text = message("MESSAGE", number, &format!("MESSAGE{number}"));
                peer.send((number + 1) % 12, &text);
                peer.send(
                    number,
                    &message("CANCEL", 20 + number, &format!("i{number}")),
                );
            }
            let answers = peer.answers().await;
            let refused = answers.iter().filter(|(status, _)| *status == 487).count();
            assert!(refused >= 13, "{answers:?}");
            assert_eq!(seen.lock().unwrap().offered.len(), 13);
            let seen = seen_alone.lock().unwrap();
            assert_eq!((seen.offered.len(), seen.cancelled), (26, 13));
            assert!(seen.offered.values().all(|times| *times == 1), "{seen:?}");
            // REGISTER, MESSAGE, INVITE, PUBLISH, CANCEL: each begun once, wherever it was received.
            assert_eq!(metrics(&one).requests_received, 5 * 13);
        });
    }
}

#[test]
fn what_is_too_much_for_another_shard_is_dropped_or_refused_and_counted() {
    for_each_seed(seeds().take(5), |network| async move {
        let mut one = sharded(&network, (4, true)).config(EndpointConfig {
            shards: 4,
            shard_queue: 4,
            ..EndpointConfig::default()
        });
        let seen = serve(&mut one, |server| server.invite = Some(486));
        let one = one.build().await.unwrap();
        let mut peer = Peer::new(&network).await;
        let tcp = peer.ways.len() - 1;
        for call in 0..64 {
            peer.send(tcp, &message("INVITE", call, &format!("call{call}")));
        }
        let answers = peer.answers().await;
        let of = |status| answers.iter().filter(|answer| answer.0 == status).count();
        let not_passed_on = metrics(&one).not_passed_on;
        assert!(not_passed_on > 0);
        assert_eq!(of(503) as u64, not_passed_on, "{answers:?}");
        assert_eq!(seen.lock().unwrap().offered.len(), 64 - of(503));
        for call in 100..164 {
            peer.send(0, &message("INVITE", call, &format!("call{call}")));
        }
        let answers = peer.answers().await;
        assert!(
            answers.iter().all(|(status, _)| *status != 503),
            "{answers:?}"
        );
        let dropped = metrics(&one).not_passed_on - not_passed_on;
        assert!(dropped > 0);
        let offered = seen.lock().unwrap().offered.len() as u64;
        assert_eq!(offered + not_passed_on + dropped, 128);
    });
}

#[test]
fn the_end_of_a_connection_is_told_in_every_shard() {
    for_each_seed(seeds().take(2), |network| async move {
        let mut one = sharded(&network, (4, true));
        let seen = serve(&mut one, |_| {});
        let _one = one.build().await.unwrap();
        let peer = Peer::new(&network).await;
        peer.send(12, &message("REGISTER", 1, "a"));
        pass(1).await;
        assert_eq!(network.reset(ip(1), ip(2)), 1);
        pass(1).await;
        assert_eq!(seen.lock().unwrap().closed, 4);
    });
}

/// Answers one request over each connection, and closes it at once.
async fn answer_and_close(network: &SimNetwork, last: u8) -> Transports {
    let host = Arc::new(network.host(ip(last)));
    let (transports, mut inbound) = Transports::new(host, Default::default());
    transports.listen_tcp(address(last)).unwrap();
    let server = transports.clone();
    tokio::spawn(async move {
        while let Some(inbound) = inbound.recv().await {
            let Payload::Message(Message::Request(request)) = inbound.payload else {
                continue;
            };
            let answer = sipora_message::Response::for_request(&request, StatusCode::OK);
            let answer = answer.to_tag("1").build().unwrap();
            let flow = inbound.flow;
            server.try_send(&flow, answer.to_bytes()).unwrap();
            server.close(flow.id);
        }
    });
    transports
}

#[test]
fn an_answer_is_not_overtaken_by_the_end_of_its_connection() {
    for_each_seed(seeds().take(5), |network| async move {
        network.auditor().turn_off();
        let mut one = sharded(&network, (4, true));
        let clients = one.add_users(|_| Client::default());
        let _one = one.build().await.unwrap();
        let mut servers = Vec::new();
        let mut all = Vec::new();
        for last in 2..34 {
            servers.push(answer_and_close(&network, last).await);
            let client = &clients[usize::from(last) % clients.len()];
            let options = request(Method::Options, u32::from(last));
            all.push(send(client, options, Target::tcp(address(last))).await.1);
        }
        for events in &mut all {
            assert_eq!(final_of(events).await.status().as_u16(), 200);
        }
    });
}

/// Waits for so many requests over connections, and answers them together, each with these statuses one after the other.
async fn answer_together(network: &SimNetwork, many: usize, statuses: &'static [u16]) {
    let host = Arc::new(network.host(ip(2)));
    let (transports, mut inbound) = Transports::new(host, Default::default());
    transports.listen_tcp(address(2)).unwrap();
    tokio::spawn(async move {
        let mut requests = Vec::new();
        while requests.len() < many {
            let inbound = inbound.recv().await.unwrap();
            if let Payload::Message(Message::Request(request)) = inbound.payload {
                requests.push((request, inbound.flow));
            }
        }
        for &status in statuses {
            let status = StatusCode::new(status).unwrap();
            for (request, flow) in &requests {
                let answer = sipora_message::Response::for_request(request, status);
                let answer = answer.to_tag("1").build().unwrap();
                transports.try_send(flow, answer.to_bytes()).unwrap();
            }
        }
        if requests
            .iter()
            .all(|(request, _)| *request.method() != Method::Invite)
        {
            transports.close(requests[0].1.id);
        }
        while inbound.recv().await.is_some() {}
    });
}

#[test]
fn answers_over_a_connection_wait_for_room_in_their_shard_and_keep_their_order() {
    const MANY: u32 = 64;
    for (method, statuses) in [
        (Method::Invite, &[180, 183, 486][..]),
        // The connection ends behind these.
        (Method::Options, &[200]),
    ] {
        for_each_seed(seeds().take(5), |network| {
            let method = method.clone();
            async move {
                network.auditor().turn_off();
                let mut one = sharded(&network, (4, true)).config(EndpointConfig {
                    shards: 4,
                    shard_queue: 1,
                    ..EndpointConfig::default()
                });
                let clients = one.add_users(|_| Client::default());
                let one = one.build().await.unwrap();
                answer_together(&network, MANY as usize, statuses).await;
                let mut all = Vec::new();
                for number in 0..MANY {
                    let client = &clients[number as usize % clients.len()];
                    let request = request(method.clone(), number);
                    all.push(send(client, request, Target::tcp(address(2))).await.1);
                }
                for events in &mut all {
                    for &status in statuses {
                        let Some(Event::Response { response, .. }) = events.recv().await else {
                            panic!("no {status}");
                        };
                        assert_eq!(response.status().as_u16(), status);
                    }
                }
                pass(1).await;
                let metrics = metrics(&one);
                assert!(metrics.held_back > 0);
                assert_eq!(metrics.not_passed_on, 0);
            }
        });
    }
}

#[test]
fn what_shards_remember_and_begin_is_limited_for_all_of_them_together() {
    for_each_seed(seeds().take(1), |network| async move {
        let resolver = Slow::default();
        let asked = Arc::clone(&resolver.asked);
        let mut one = sharded(&network, (4, true)).resolver(Arc::new(resolver));
        one = one.config(EndpointConfig {
            shards: 4,
            slow_tasks: 8,
            transactions: Config {
                max_avoided: 8,
                ..Config::default()
            },
            ..EndpointConfig::default()
        });
        let clients = one.add_users(|_| Client::default());
        let one = one.build().await.unwrap();
        let mut all = Vec::new();
        for number in 0..40 {
            let options = request(Method::Options, number);
            let nobody = Target::tcp(address(100 + number as u8));
            all.push(send(&clients[number as usize % 4], options, nobody).await.1);
        }
        for events in &mut all {
            assert!(matches!(events.recv().await, Some(Event::Failed { .. })));
        }
        assert_eq!(metrics(&one).targets_avoided, 8);
        for number in 40..80 {
            let options = request(Method::Options, number);
            let slow = Target::Uri(Uri::parse("sip:b@slow.example.com").unwrap());
            all.push(send(&clients[number as usize % 4], options, slow).await.1);
        }
        pass(1).await;
        assert_eq!(asked.load(Ordering::Relaxed), 8);
    });
}

/// May claim INVITE, and never does.
struct Shy;

impl User for Shy {
    type Command = ();

    fn on_request(&mut self, _: &mut Context<'_>, _: &IncomingRequest) -> Claim {
        Claim::Passed
    }

    fn on_event(&mut self, _: &mut Context<'_>, _: Event) {}

    fn on_command(&mut self, _: &mut Context<'_>, (): ()) {}

    fn methods(&self) -> Vec<Method> {
        vec![Method::Invite]
    }
}

#[test]
fn what_a_user_for_all_shards_passes_goes_on_where_its_call_is() {
    for_each_seed(seeds().take(5), |network| async move {
        let mut one = sharded(&network, (4, true));
        one.add_user(Shy);
        let places = Places::default();
        one.add_users(|shard| Noting {
            shard,
            places: Arc::clone(&places),
        });
        let one = one.build().await.unwrap();
        let mut peer = Peer::new(&network).await;
        for call in 0..16 {
            for method in ["INVITE", "ACK", "PRACK", "BYE"] {
                let text = message(method, call, &format!("{method}{call}"));
                peer.send(call % 12, &text);
                pass(1).await;
                if method != "ACK" {
                    // A copy, over another way.
                    peer.send((call + 1) % 12, &text);
                    pass(1).await;
                }
            }
        }
        peer.answers().await;
        let places = places.lock().unwrap();
        assert_eq!(places.len(), 16);
        for (call_id, places) in places.iter() {
            let shards: HashSet<usize> = places.iter().map(|(_, shard)| *shard).collect();
            assert_eq!(
                (shards.len(), places.len()),
                (1, 4),
                "{call_id}: {places:?}"
            );
        }
        let used: HashSet<usize> = places.values().map(|places| places[0].1).collect();
        assert!(used.len() > 1, "{used:?}");
        // ACK takes no transaction.
        assert_eq!(metrics(&one).requests_received, 3 * 16);
    });
}

#[test]
fn answers_from_outside_find_the_shard_of_their_transaction() {
    for_each_seed(seeds().take(2), |network| async move {
        let mut one = sharded(&network, (4, true));
        let seen = serve(&mut one, |server| server.mute = true);
        let one = one.build().await.unwrap();
        let mut peer = Peer::new(&network).await;
        for call in 0..13 {
            peer.send(call, &message("REGISTER", call, &format!("r{call}")));
            pass(1).await;
            let (transaction, request) = seen.lock().unwrap().last.clone().unwrap();
            let answer = sipora_message::Response::for_request(&request, StatusCode::OK);
            let answer = answer.to_tag("1").build().unwrap();
            let outcome = one.handle().respond(transaction, answer).await;
            assert_eq!(outcome, Ok(Ok(())));
        }
        let answers = peer.answers().await;
        assert_eq!(
            answers.iter().filter(|(status, _)| *status == 200).count(),
            13
        );
    });
}

#[test]
fn a_shutdown_waits_for_what_any_shard_has_begun_and_refuses_the_rest_in_all() {
    for_each_seed(seeds().take(5), |network| async move {
        let mut one = sharded(&network, (4, true));
        let seen = serve(&mut one, |server| server.mute = true);
        let one = one.build().await.unwrap();
        let handle = one.handle();
        let mut peer = Peer::new(&network).await;
        peer.send(3, &message("REGISTER", 1, "first"));
        pass(1).await;
        let ending = tokio::spawn(one.shutdown());
        pass(1).await;
        assert_eq!(seen.lock().unwrap().shutdowns, 4);
        for way in 0..13 {
            peer.send(way, &message("REGISTER", way + 10, &format!("late{way}")));
            peer.send(way, &message("INVITE", way + 30, &format!("later{way}")));
        }
        let mut answers = peer.answers().await;
        // The one that waits has its 100 by now (RFC 4320 §4.1).
        answers.retain(|(status, _)| *status != 100);
        assert_eq!(answers.len(), 26, "{answers:?}");
        assert!(answers.iter().all(|(status, _)| *status == 503));
        assert!(!handle.is_closed() && !ending.is_finished());
        let (transaction, request) = seen.lock().unwrap().last.clone().unwrap();
        let answer = sipora_message::Response::for_request(&request, StatusCode::OK);
        let answer = answer.to_tag("1").build().unwrap();
        handle.respond(transaction, answer).await.unwrap().unwrap();
        let start = tokio::time::Instant::now();
        ending.await.unwrap();
        handle.closed().await;
        assert!(
            start.elapsed() < Duration::from_secs(1),
            "nothing is waited for"
        );
        assert!(network.host(ip(9)).listen((ip(9), 1).into()).is_ok());
    });
}

#[test]
fn the_number_of_shards_does_not_change_once_users_are_there() {
    for_each_seed(0..1, |network| async move {
        let mut one = sharded(&network, (4, true));
        serve(&mut one, |_| {});
        let one = one.config(EndpointConfig::default());
        let error = one.build().await.unwrap_err();
        assert!(matches!(error, EndpointError::ShardsChanged), "{error}");
    });
}
