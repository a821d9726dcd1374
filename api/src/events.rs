//! Events of the log. Who follows them goes on with the next daemon when one dies.

use crate::cancel::CancelToken;
use crate::client::{CallError, Client, ClientInfo, Incoming, Start, TransportError, take_reply};
use crate::home::Home;
use crate::log_point::LogPoint;
use crate::message::Progress;
use crate::request::LogRequest;
use crate::response::LogEvent;

/// Most daemons that may die in a row without having sent an event: a follower must not start them for ever.
const DEATHS_MAX: u32 = 5;

/// What comes of waiting for an event.
#[derive(Clone, Debug, PartialEq)]
pub enum NextEvent {
    /// An event.
    Event(Box<LogEvent>),
    /// All events that were there have come; those that come now are new.
    CaughtUp,
    /// There are no more events.
    End,
}

/// The events that a request asks for, in their order. None comes twice.
#[derive(Debug)]
pub struct Events {
    home: Home,
    info: ClientInfo,
    start: Start,
    request: LogRequest,
    cancel: CancelToken,
    client: Client,
    /// Number of the last event that came; `None` before the first.
    last: Option<u64>,
    /// That number when the connection was made.
    last_before: Option<u64>,
    /// Everything up to this event came or is not wanted; `None` while that is not known of any.
    cursor: Option<u64>,
    deaths: u32,
}

impl Events {
    /// Asks for the events.
    ///
    /// # Errors
    ///
    /// When there is no connection.
    pub fn start(
        home: &Home,
        info: &ClientInfo,
        start: &Start,
        request: LogRequest,
        cancel: &CancelToken,
    ) -> Result<Self, CallError> {
        let client = Client::connect(home, info, start)?;
        let mut events = Self {
            home: home.clone(),
            info: info.clone(),
            start: start.clone(),
            request,
            cancel: cancel.clone(),
            client,
            last: None,
            last_before: None,
            cursor: None,
            deaths: 0,
        };
        events.submit()?;
        Ok(events)
    }

    /// Tells whether at least the beginning of what comes next is here already.
    #[must_use]
    pub fn has_buffered(&self) -> bool {
        self.client.has_buffered()
    }

    /// Waits for the next event. There is nothing after [`NextEvent::End`] or an error.
    ///
    /// # Errors
    ///
    /// When the daemon refuses or fails, when the end was asked for, or when the connection is lost and the events are
    /// not followed, or lost too often.
    pub fn next_event(&mut self) -> Result<NextEvent, CallError> {
        loop {
            match self.client.receive() {
                Ok(Incoming::Event(event)) => {
                    self.last = Some(event.seq);
                    self.cursor = self.last;
                    return Ok(NextEvent::Event(Box::new(event)));
                }
                Ok(Incoming::Reply(reply)) => {
                    return take_reply::<LogRequest>(*reply).map(|_| NextEvent::End);
                }
                Ok(Incoming::Progress(Progress::CaughtUp { seq })) => {
                    self.cursor = self.cursor.max(Some(seq));
                    return Ok(NextEvent::CaughtUp);
                }
                Ok(Incoming::Progress(_) | Incoming::Output(..)) => {}
                Err(TransportError::Lost) if self.request.follow && self.deaths < DEATHS_MAX => {
                    self.reconnect()?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn submit(&mut self) -> Result<(), TransportError> {
        self.client.send(self.request.clone())?;
        self.cancel.attach(self.client.sender());
        Ok(())
    }

    fn reconnect(&mut self) -> Result<(), CallError> {
        self.deaths = if self.last == self.last_before { self.deaths + 1 } else { 0 };
        self.last_before = self.last;
        // A time that nothing has reached yet stays what is asked for.
        let waits = self.last.is_none() && matches!(self.request.since, Some(LogPoint::Time(_)));
        if let Some(cursor) = self.cursor.filter(|_| !waits) {
            self.request.since = Some(LogPoint::after(cursor));
            self.request.limit = None;
        }
        self.client = Client::connect(&self.home, &self.info, &self.start)?;
        Ok(self.submit()?)
    }
}
