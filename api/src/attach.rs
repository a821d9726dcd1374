//! A shell that a client follows or is attached to, through the end of its daemon: when the connection is lost, it goes
//! on with a new daemon at the byte where it was.
//!
//! Both directions are exact. Output goes on at the byte where it was. What was typed is kept until the daemon says that it
//! is recorded, and is sent again under the same ids to the next daemon, which takes each id once.

use std::thread;
use std::time::{Duration, Instant};

use crate::cancel::CancelToken;
use crate::client::{CallError, Client, Incoming, TransportError, take_reply};
use crate::error::{ApiError, ErrorCode};
use crate::frame::Stream;
use crate::keyboard::Keyboard;
use crate::link::{Link, is_stopping};
use crate::message::Progress;
use crate::operation::{Request, Response};
use crate::request::{ShellAttachRequest, ShellFollowRequest, ShellReadRequest};
use crate::response::ShellFollowEnd;

/// How long a client that leaves waits for the daemon's word. It types what was typed before, for which a job that does
/// not read may never make room.
const LEAVE_DEADLINE: Duration = Duration::from_secs(3);

/// What happens in a shell.
#[derive(Clone, Debug, PartialEq)]
pub enum ShellEvent {
    /// The client has joined, and output comes from here on; this is the first event and comes once.
    Joined {
        /// Where the output begins, in bytes.
        cursor: u64,
    },
    /// It printed something. No byte is lost or comes twice.
    Output(Vec<u8>),
    /// The daemon keeps only so much output, and so many bytes are not there any more.
    Gap(u64),
    /// It has ended and all of its output has come, or the client has left and the shell is still `running`.
    Ended(ShellFollowEnd),
}

/// How the client takes part.
#[derive(Clone, Debug)]
enum Wish {
    Follow(ShellFollowRequest),
    Attach(ShellAttachRequest),
}

impl Wish {
    fn at(&self, position: Option<u64>, keyboard: &Keyboard) -> Request {
        match self.clone() {
            Self::Follow(request) => {
                ShellFollowRequest { cursor: position.unwrap_or(request.cursor), ..request }.into()
            }
            Self::Attach(request) => {
                let size = keyboard.tell_size().or(request.size);
                ShellAttachRequest { cursor: position.or(request.cursor), size, ..request }.into()
            }
        }
    }

    fn end(&self, reply: Result<Response, ApiError>) -> Result<ShellFollowEnd, CallError> {
        match self {
            Self::Follow(_) => take_reply::<ShellFollowRequest>(reply),
            Self::Attach(_) => take_reply::<ShellAttachRequest>(reply),
        }
    }

    /// Returns a request that only tells of the shell.
    fn look(&self) -> ShellReadRequest {
        let (workspace_id, shell_id) = match self {
            Self::Follow(request) => (&request.workspace_id, &request.shell_id),
            Self::Attach(request) => (&request.workspace_id, &request.shell_id),
        };
        ShellReadRequest {
            workspace_id: workspace_id.clone(),
            shell_id: shell_id.clone(),
            cursor: u64::MAX,
            max_chars: 1,
            plain: false,
            wait_for_idle_ms: None,
            at: None,
        }
    }
}

/// A client at a shell. Dropping it leaves the shell.
#[derive(Debug)]
pub struct Attachment {
    link: Link,
    wish: Wish,
    keyboard: Keyboard,
    client: Client,
    /// Where the output goes on; `None` until the daemon has said where it begins.
    position: Option<u64>,
    leave_by: Option<Instant>,
}

impl Attachment {
    /// Follows what a shell prints. Of the keyboard only its leaving counts.
    ///
    /// # Errors
    ///
    /// When there is no connection.
    pub fn follow(link: Link, request: ShellFollowRequest, keyboard: &Keyboard) -> Result<Self, CallError> {
        Self::join(link, Wish::Follow(request), keyboard)
    }

    /// Attaches to a shell: it gets the keys of the keyboard and its sizes.
    ///
    /// # Errors
    ///
    /// When there is no connection.
    pub fn attach(link: Link, request: ShellAttachRequest, keyboard: &Keyboard) -> Result<Self, CallError> {
        Self::join(link, Wish::Attach(request), keyboard)
    }

    fn join(mut link: Link, wish: Wish, keyboard: &Keyboard) -> Result<Self, CallError> {
        let client = link.connect()?;
        let keyboard = keyboard.clone();
        let mut joined = Self { link, wish, keyboard, client, position: None, leave_by: None };
        let hands = joined.keyboard.clone();
        thread::Builder::new()
            .name("keyboard".to_owned())
            .spawn(move || hands.send_all())
            .map_err(TransportError::from)?;
        match joined.submit() {
            Err(TransportError::Lost) => joined.reconnect()?,
            result => result?,
        }
        Ok(joined)
    }

    /// Waits for the next event; there is none after [`ShellEvent::Ended`] or an error.
    ///
    /// # Errors
    ///
    /// When the daemon refuses or fails, or when none can be reached any more.
    pub fn next_event(&mut self) -> Result<ShellEvent, CallError> {
        loop {
            if !self.wait().map_err(TransportError::from)? {
                return self.end_without_a_word();
            }
            let incoming = match self.client.receive() {
                Err(TransportError::Lost) => {
                    self.reconnect()?;
                    continue;
                }
                result => result?,
            };
            match incoming {
                Incoming::Progress(Progress::Joined { cursor }) if self.position.is_none() => {
                    self.position = Some(cursor);
                    return Ok(ShellEvent::Joined { cursor });
                }
                Incoming::Progress(Progress::Joined { cursor }) => self.check_position(cursor)?,
                Incoming::Progress(Progress::Typed { request_id }) => self.keyboard.acknowledge(request_id),
                Incoming::Output(Stream::Stdout, bytes) => {
                    let Some(position) = &mut self.position else {
                        return Err(TransportError::Unexpected { what: "output from nowhere" }.into());
                    };
                    *position += u64::try_from(bytes.len()).expect("a frame is shorter than 2^64");
                    return Ok(ShellEvent::Output(bytes));
                }
                Incoming::Progress(Progress::Gap { stream: Stream::Stdout, from, to, .. })
                    if self.position == Some(from) =>
                {
                    self.position = Some(to.max(from));
                    return Ok(ShellEvent::Gap(to.saturating_sub(from)));
                }
                Incoming::Output(Stream::Stderr, _) | Incoming::Progress(_) | Incoming::Event(_) => {
                    return Err(
                        TransportError::Unexpected { what: "something that no shell leads to" }.into()
                    );
                }
                Incoming::Reply(reply) if is_stopping(&reply) => self.reconnect()?,
                Incoming::Reply(reply) => {
                    let end = self.wish.end(*reply)?;
                    self.check_position(end.next_cursor)?;
                    return Ok(ShellEvent::Ended(end));
                }
            }
        }
    }

    /// Waits for something of the daemon; `false` when the client leaves and has waited long enough.
    fn wait(&mut self) -> std::io::Result<bool> {
        loop {
            if self.leave_by.is_none() && self.keyboard.is_leaving() {
                self.leave_by = Some(Instant::now() + LEAVE_DEADLINE);
            }
            let (left, limit) = match self.leave_by {
                None => (Some(self.keyboard.left()), None),
                Some(by) => (None, Some(by.saturating_duration_since(Instant::now()))),
            };
            if self.client.wait(left, limit)? {
                return Ok(true);
            }
            if self.leave_by.is_some_and(|by| by <= Instant::now()) {
                return Ok(false);
            }
        }
    }

    fn submit(&mut self) -> Result<(), TransportError> {
        self.client.send(self.wish.at(self.position, &self.keyboard))?;
        self.keyboard.connect(self.client.sender());
        Ok(())
    }

    fn reconnect(&mut self) -> Result<(), CallError> {
        loop {
            self.client.shut_down();
            self.client = self.link.reconnect()?;
            match self.submit() {
                Err(TransportError::Lost) => {}
                result => return Ok(result?),
            }
        }
    }

    /// The daemon sends all output, and goes on where it was asked to; anything else would be a silent loss.
    fn check_position(&self, cursor: u64) -> Result<(), CallError> {
        match self.position {
            Some(position) if position != cursor => {
                let message = format!(
                    "output is incomplete: it came up to byte {position}, and goes on at byte {cursor}"
                );
                Err(CallError::Failed(ApiError::new(ErrorCode::Internal, message)))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Ends for a client that leaves while the daemon does not read from this connection.
    fn end_without_a_word(&mut self) -> Result<ShellEvent, CallError> {
        self.client.shut_down();
        let told = self.link.call(&self.wish.look(), &CancelToken::new(), drop)?;
        let next_cursor = self.position.unwrap_or(told.cursor);
        Ok(ShellEvent::Ended(ShellFollowEnd { shell: told.shell, next_cursor }))
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.keyboard.close();
        self.client.shut_down();
    }
}
