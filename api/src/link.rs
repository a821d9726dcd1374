//! The way to the daemon of a home, also when one daemon follows another.

use std::time::{Duration, Instant};

use crate::cancel::CancelToken;
use crate::client::{
    CallError, Client, ClientInfo, ConnectError, Incoming, Start, TransportError, take_reply,
};
use crate::error::{ApiError, ErrorCode};
use crate::home::Home;
use crate::operation::{Operation, Response};

/// Most connections that may be lost in a row: a request that kills every daemon must not do so forever.
const LOSSES_MAX: u32 = 5;

/// A connection that lasted so long ends the row.
const STEADY_AFTER: Duration = Duration::from_secs(60);

/// Everything that is needed to connect, and how often a connection was lost.
#[derive(Clone, Debug)]
pub struct Link {
    home: Home,
    info: ClientInfo,
    start: Start,
    losses: u32,
    connected_at: Instant,
}

impl Link {
    /// Returns the way to the daemon of a home.
    #[must_use]
    pub fn new(home: &Home, info: &ClientInfo, start: &Start) -> Self {
        let (home, info, start) = (home.clone(), info.clone(), start.clone());
        Self { home, info, start, losses: 0, connected_at: Instant::now() }
    }

    /// Asks for an operation, and when the daemon goes before it has answered, the next one again.
    ///
    /// That is harmless for an operation that only looks, or that has a request id. What comes before the reply goes to
    /// `observe`. A token that is used ends the operation; its reply then says how.
    ///
    /// # Errors
    ///
    /// When the daemon refuses or fails, when the end was asked for before there was a connection, or when no daemon can
    /// be reached any more.
    pub fn call<O: Operation>(
        &mut self,
        operation: &O,
        cancel: &CancelToken,
        mut observe: impl FnMut(Incoming),
    ) -> Result<O::Response, CallError> {
        let mut client = self.connect()?;
        loop {
            if cancel.is_requested() {
                return Err(CallError::Failed(ApiError::new(ErrorCode::Canceled, "canceled")));
            }
            match ask(&mut client, operation, cancel, &mut observe) {
                Err(TransportError::Lost) => {}
                Ok(reply) if is_stopping(&reply) => {}
                result => return take_reply::<O>(result?),
            }
            client = self.reconnect()?;
        }
    }

    /// Connects for the first time.
    pub(crate) fn connect(&mut self) -> Result<Client, ConnectError> {
        let client = Client::connect(&self.home, &self.info, &self.start)?;
        self.connected_at = Instant::now();
        Ok(client)
    }

    /// Connects after a loss.
    pub(crate) fn reconnect(&mut self) -> Result<Client, CallError> {
        if self.connected_at.elapsed() >= STEADY_AFTER {
            self.losses = 0;
        }
        self.losses += 1;
        if self.losses > LOSSES_MAX {
            return Err(TransportError::Lost.into());
        }
        Ok(self.connect()?)
    }
}

fn ask<O: Operation>(
    client: &mut Client,
    operation: &O,
    cancel: &CancelToken,
    observe: &mut impl FnMut(Incoming),
) -> Result<Result<Response, ApiError>, TransportError> {
    client.send(operation.clone())?;
    cancel.attach(client.sender());
    loop {
        match client.receive()? {
            Incoming::Reply(reply) => return Ok(*reply),
            incoming => observe(incoming),
        }
    }
}

/// Tells whether a daemon ends: what is under way goes on, and the next one takes it over. One whose log has failed does
/// not know itself whether the request is on record; the next one does.
pub(crate) fn is_stopping(reply: &Result<Response, ApiError>) -> bool {
    matches!(reply, Err(error) if matches!(error.code, ErrorCode::DaemonStopping | ErrorCode::LogPoisoned))
}
