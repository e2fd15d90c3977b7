//! How a coordinator is put together from its settings.

use std::net::SocketAddr;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sipora_dialog_core::{
    Authorizer, CallConfig, SubscriberApi, SubscriberConfig, UnifiedDialogApi,
};
use sipora_transaction_core::{
    Endpoint, EndpointBuilder, EndpointConfig, EndpointError, IdSource, UserHandle,
};
use sipora_transport::{
    Advertised, BindError, Network, Resolver, SystemResolver, TokioNetwork, Transport,
};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::coordinator::{Inner, Running};
use super::{ListenerAddress, SessionCoordinator, SessionManagerBuilder};
use crate::contacts::Contacts;
use crate::flows::{self, Flows, KeepAlive};
use crate::incoming::{self, Abilities, Desk, SessionUser, WAITING};
use crate::outgoing::{Outbound, authorizer};
use crate::turns::Turns;
use crate::watcher::{Board, Command, WatcherUser};
use crate::{Error, IncomingCalls, Result, SessionHandler, subscription, uri};

impl SessionManagerBuilder {
    pub(super) async fn build_either(
        mut self,
        has_calls: bool,
    ) -> Result<(Arc<SessionCoordinator>, Option<IncomingCalls>)> {
        let identity = uri::address_of_record("with_identity", &self.identity)?;
        let proxy = self.proxy()?;
        let advertised = self.advertised()?;
        self.check_user_agent()?;
        self.check_packages()?;
        self.check_info_packages()?;
        self.check_tls_listener()?;
        let timeout = self.timeout()?;
        let network = self
            .network
            .take()
            .unwrap_or_else(|| Arc::new(TokioNetwork::new()));
        let resolver = self
            .resolver
            .take()
            .unwrap_or_else(|| Arc::new(SystemResolver::new()));
        let mut ids = self.ids.take().unwrap_or_else(IdSource::unpredictable);
        let authorizer = authorizer(self.credentials.iter().cloned());
        let started = self
            .start(
                &network,
                &resolver,
                &advertised,
                ids.split(),
                &authorizer,
                has_calls.then_some(timeout),
            )
            .await?;
        let Started {
            owner,
            dialogs,
            calls,
            subscriber,
            desk,
            watchers,
            board,
        } = started;
        let endpoint = owner.handle();
        let nowhere = format!("{:016x}.invalid", ids.number());
        let flows = Flows {
            board,
            endpoint: endpoint.clone(),
            keep_alive: self.keep_alive,
            udp: self.udp_keep_alive,
        };
        let mut tasks = JoinSet::new();
        if let Some(Waiting {
            jobs,
            handler,
            board,
            watchers,
        }) = desk
        {
            let endpoint = endpoint.clone();
            let desk = Desk {
                jobs,
                handler,
                endpoint,
                board,
                watchers,
            };
            tasks.spawn(desk.serve());
        }
        let listeners: Vec<ListenerAddress> = owner
            .local_addresses()
            .into_iter()
            .map(|(transport, address)| ListenerAddress { transport, address })
            .collect();
        let contacts = Contacts {
            network,
            resolver,
            advertised,
            listeners: listeners.clone(),
            nowhere,
        };
        let outbound = Outbound {
            dialogs,
            subscriber,
            user_agent: self.user_agent,
            identity,
            proxy,
            has_tls: self.tls.is_some(),
            authorizer,
            credentials: self.credentials,
            timeout,
            backoff: self.backoff,
            ids: Mutex::new(ids),
            turns: Turns::default(),
            flows,
            contacts,
        };
        let outbound = Arc::new(outbound);
        let coordinator = SessionCoordinator {
            inner: Inner {
                outbound: outbound.clone(),
                endpoint,
                listeners,
                watchers,
                is_client: self.is_client,
                has_calls,
                running: Mutex::new(Some(Running { owner, tasks })),
                ended: watch::Sender::new(false),
            },
        };
        let calls = calls.map(|calls| IncomingCalls::new(calls, outbound));
        Ok((Arc::new(coordinator), calls))
    }

    async fn start(
        &self,
        network: &Arc<dyn Network>,
        resolver: &Arc<dyn Resolver>,
        advertised: &Option<Advertised>,
        ids: IdSource,
        authorizer: &Arc<dyn Authorizer>,
        calls: Option<Duration>,
    ) -> Result<Started> {
        let mut config = EndpointConfig::default();
        config.transactions.timers = self.timers.clone();
        config.transport.advertised = advertised.clone();
        config.transport.tls = self.tls.clone();
        config.transport.keep_alive = match self.keep_alive {
            KeepAlive::Every(interval) => Some(interval),
            KeepAlive::Never | KeepAlive::Sensible => None,
        };
        let mut builder = EndpointBuilder::new()
            .config(config)
            .network(network.clone())
            .resolver(resolver.clone())
            .ids(ids);
        let ports = [
            (Transport::Udp, Some(self.port)),
            (Transport::Tcp, Some(self.port)),
            (Transport::Tls, self.tls_port),
        ];
        for (transport, port) in ports {
            builder = match (port, self.bind_address) {
                (Some(port), Some(ip)) => builder.listen(transport, SocketAddr::new(ip, port)),
                (Some(port), None) => builder.listen_everywhere(transport, port),
                (None, _) => builder,
            };
        }
        if let Some(observer) = &self.observer {
            builder = builder.observer(observer.clone());
        }
        let config = calls.map(|timeout| self.call_config(timeout, authorizer));
        let has_calls = config.is_some();
        let extensions = config.as_ref().map(CallConfig::supported);
        let (dialogs, calls) = match config {
            None => (UnifiedDialogApi::add_to(&mut builder), None),
            Some(config) => {
                let (dialogs, calls) = UnifiedDialogApi::add_with_calls(&mut builder, config);
                (dialogs, Some(calls))
            }
        };
        let subscriber = self.is_client.then(|| {
            let config = SubscriberConfig {
                timer_n: self.timers.transaction_timeout(),
                keep_alive: self.keep_alive.of_subscriptions(),
                leaves_unsolicited: self.handler.is_some(),
                ..SubscriberConfig::default()
            };
            SubscriberApi::add_to(&mut builder, config, subscription::packages())
        });
        let names: Vec<&str> = self.packages.iter().map(|one| one.name()).collect();
        let abilities = Arc::new(Abilities {
            server: self.user_agent.clone(),
            has_handler: self.handler.is_some(),
            is_client: self.is_client,
            has_calls,
            has_transfers: self.has_transfers,
            extensions: extensions.unwrap_or_default().join(", "),
            events: names.join(", "),
        });
        let watchers = Arc::<AtomicUsize>::default();
        let (mut desk, mut sender) = (None, None);
        if let Some(handler) = &self.handler {
            let (jobs, waiting) = mpsc::channel(WAITING);
            let board = Board::default();
            let user = WatcherUser::new(
                self.packages.clone(),
                builder.split_ids(),
                authorizer.clone(),
                jobs.clone(),
                abilities.clone(),
                board.clone(),
                watchers.clone(),
            );
            sender = Some(jobs);
            desk = Some(Waiting {
                jobs: waiting,
                handler: handler.clone(),
                board,
                watchers: builder.add_user(user),
            });
        }
        let flows = Arc::<flows::Board>::default();
        builder.add_user(SessionUser::new(abilities, sender, flows.clone()));
        let owner = builder.build().await.map_err(listen_error)?;
        Ok(Started {
            owner,
            dialogs,
            calls,
            subscriber,
            desk,
            watchers,
            board: flows,
        })
    }

    fn call_config(&self, timeout: Duration, authorizer: &Arc<dyn Authorizer>) -> CallConfig {
        let mut config = CallConfig::default();
        config.t1 = self.timers.t1;
        config.t2 = self.timers.t2;
        config.request_timeout = timeout;
        config.product = Some(self.user_agent.clone());
        config.authorizer = Some(authorizer.clone());
        config.takes_refers = self.has_transfers;
        config.takes_replaces = self.has_transfers;
        config.takes_messages = self.has_messages_in_calls;
        config.info_packages = self.info_packages.clone();
        config
    }
}

struct Started {
    owner: Endpoint,
    dialogs: UnifiedDialogApi,
    calls: Option<sipora_dialog_core::IncomingCalls>,
    subscriber: Option<SubscriberApi>,
    desk: Option<Waiting>,
    watchers: Arc<AtomicUsize>,
    board: Arc<flows::Board>,
}

/// A [`Desk`] but for the endpoint.
struct Waiting {
    jobs: mpsc::Receiver<incoming::Job>,
    handler: Arc<dyn SessionHandler>,
    board: Board,
    watchers: UserHandle<Command>,
}

fn listen_error(error: EndpointError) -> Error {
    match error {
        EndpointError::Bind(BindError {
            transport,
            address,
            source,
        }) => Error::Listen {
            transport,
            address,
            source: Arc::new(source),
        },
        other => Error::setting("with_bind_address", other.to_string()),
    }
}
