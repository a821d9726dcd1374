//! What one client wants to be told of, and who tells it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyro_api::{ApiError, ErrorCode};
use rmcp::model::ResourceUpdatedNotificationParam;
use rmcp::service::{Peer, RoleServer, SubscriptionSink};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

use crate::call::Way;
use crate::change::Change;
use crate::notices::{Notice, Notices};
use crate::uri::Address;
use crate::watch::{Lease, Source, Watch};

/// Most resources that a client is told of: each costs a look at every change.
pub(crate) const SUBSCRIPTIONS_MAX: usize = 64;

/// What a client wants to be told of.
#[derive(Debug, Default)]
pub(crate) struct Interests {
    /// Held as long as anything is wanted.
    log: Option<Arc<Lease>>,
    /// Whether that workspaces come and go.
    list: bool,
    /// Resources by the names that the client has for them.
    wanted: BTreeMap<String, Wanted>,
}

#[derive(Debug)]
struct Wanted {
    address: Address,
    /// What a terminal shows changes without an event.
    _screen: Option<Arc<Lease>>,
}

/// What must be watched for a resource.
#[derive(Debug)]
pub(crate) struct Leases {
    log: Arc<Lease>,
    screen: Option<Arc<Lease>>,
}

impl Leases {
    /// Has everything watched that a resource depends on, which has its whole ids. Blocks.
    ///
    /// # Errors
    ///
    /// When the resource is not there, too much is watched, or no daemon can be reached.
    pub(crate) fn of(address: &Address, watch: &Watch, way: &Way) -> Result<Self, ApiError> {
        let screen = match address {
            Address::Screen { workspace, shell } => {
                let source = Source::Shell { workspace: workspace.clone(), shell: shell.clone() };
                Some(watch.lease(source, way)?)
            }
            Address::Workspaces | Address::Workspace(_) | Address::Output { .. } | Address::Log => None,
        };
        Ok(Self { log: watch.lease(Source::Log, way)?, screen })
    }
}

impl Interests {
    /// Adds the list of resources.
    pub(crate) fn add_list(&mut self, log: Arc<Lease>) {
        self.log = Some(log);
        self.list = true;
    }

    /// Adds a resource by its whole ids.
    ///
    /// # Errors
    ///
    /// When there are too many.
    pub(crate) fn add(&mut self, uri: String, address: Address, leases: Leases) -> Result<(), ApiError> {
        if self.wanted.len() >= SUBSCRIPTIONS_MAX && !self.wanted.contains_key(&uri) {
            let message = format_args!("a client is told of {SUBSCRIPTIONS_MAX} resources at most");
            return Err(ApiError::new(ErrorCode::LimitReached, message)
                .with_hint("pyro://workspaces and pyro://log tell of all workspaces"));
        }
        self.log = Some(leases.log);
        self.wanted.insert(uri, Wanted { address, _screen: leases.screen });
        Ok(())
    }

    /// Removes a resource, if it is there.
    pub(crate) fn remove(&mut self, uri: &str) {
        self.wanted.remove(uri);
        if self.wanted.is_empty() && !self.list {
            self.log = None;
        }
    }

    /// Returns what is to be told of a change.
    fn notices(&self, change: &Change) -> Vec<Notice> {
        let list = (self.list && change.lists()).then_some(Notice::List);
        let updated = self.wanted.iter().filter(|(_, wanted)| change.concerns(&wanted.address));
        list.into_iter().chain(updated.map(|(uri, _)| Notice::Updated(uri.clone()))).collect()
    }

    fn wants(&self, notice: &Notice) -> bool {
        match notice {
            Notice::List => self.list,
            Notice::Updated(uri) => self.wanted.contains_key(uri),
        }
    }
}

/// The subscriptions of one client. When they go, nobody tells it of anything any more.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    interests: Arc<Mutex<Interests>>,
    teller: Mutex<Option<AbortHandle>>,
}

impl Drop for Subscriptions {
    fn drop(&mut self) {
        if let Some(teller) = lock(&self.teller).take() {
            teller.abort();
        }
    }
}

impl Subscriptions {
    /// Returns what the client wants to be told of. Nobody may wait for anything with it.
    pub(crate) fn interests(&self) -> MutexGuard<'_, Interests> {
        lock(&self.interests)
    }

    /// Begins to tell the client, if nobody does so yet.
    pub(crate) fn tell(&self, watch: &Watch, client: &Peer<RoleServer>) {
        let mut teller = lock(&self.teller);
        if teller.is_none() {
            let (interests, client) = (Arc::clone(&self.interests), Outlet::Client(client.clone()));
            let telling = tell(watch.changes(), interests, client, None);
            *teller = Some(tokio::spawn(telling).abort_handle());
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where notices go.
#[derive(Debug)]
pub(crate) enum Outlet {
    /// To the client as such.
    Client(Peer<RoleServer>),
    /// As the answers to a request that stays open.
    Request(SubscriptionSink),
}

/// A client that cannot be told of anything any more.
struct Gone;

impl Outlet {
    async fn give(&self, notice: Notice) -> Result<(), Gone> {
        let given = match (self, notice) {
            (Self::Client(client), Notice::List) => client.notify_resource_list_changed().await.is_ok(),
            (Self::Client(client), Notice::Updated(uri)) => {
                client.notify_resource_updated(ResourceUpdatedNotificationParam::new(uri)).await.is_ok()
            }
            (Self::Request(sink), Notice::List) => sink.notify_resource_list_changed().await.is_ok(),
            (Self::Request(sink), Notice::Updated(uri)) => sink.notify_resource_updated(uri).await.is_ok(),
        };
        if given { Ok(()) } else { Err(Gone) }
    }
}

/// Tells a client of what it is interested in, until it is gone; of `first` before anything else. One that is slow is told less
/// often, and of nothing twice.
pub(crate) async fn tell(
    mut changes: broadcast::Receiver<Change>,
    interests: Arc<Mutex<Interests>>,
    outlet: Outlet,
    first: Option<Change>,
) {
    let mut notices = Notices::default();
    for notice in first.iter().flat_map(|change| lock(&interests).notices(change)) {
        notices.cause(notice, Instant::now());
    }
    loop {
        let due = notices.next_due();
        tokio::select! {
            change = changes.recv() => {
                let change = match change {
                    Ok(change) => change,
                    Err(RecvError::Lagged(_)) => Change::Unknown,
                    Err(RecvError::Closed) => return,
                };
                for notice in lock(&interests).notices(&change) {
                    notices.cause(notice, Instant::now());
                }
            }
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                for notice in notices.take(Instant::now()) {
                    let is_wanted = lock(&interests).wants(&notice);
                    if is_wanted && outlet.give(notice).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}
